"""How services find and call each other: their registrations, and the permissions and variables of callers."""

import pytest
from stacks import EVERY_FUNCTION, ROOT_TEMPLATE, STACKS, WITH_TABLE, as_list, function_named, label, read

LOOKUP = {"Fn::Sub": "arn:${AWS::Partition}:lambda:${AWS::Region}:${AWS::AccountId}:function:users-lookup"}
ROUTE = {
    "Fn::Sub": "arn:${AWS::Partition}:execute-api:${AWS::Region}:${AWS::AccountId}:"
    "${ApiId}/$default/GET/internal/users/*"
}
BY_RPC = {"posts-author", "posts-create", "comments-create", "orders-place"}
BY_HTTP = {"orders-validate-user", "notifications-email"}

CALLERS = pytest.mark.parametrize(
    "stack, function",
    [(stack, f) for stack, f in EVERY_FUNCTION if stack.functions[f]["FunctionName"] in BY_RPC | BY_HTTP],
    ids=label,
)


def allowed(stack, function, action):
    """The statements that allow a function an action."""
    return [s for s in stack.statements_of(function) if action in as_list(s["Action"])]


def functions_allowed(action, resource):
    return {
        stack.functions[function]["FunctionName"]
        for stack, function in EVERY_FUNCTION
        for statement in allowed(stack, function, action)
        if resource in as_list(statement["Resource"])
    }


@pytest.mark.parametrize("stack", WITH_TABLE.values(), ids=label)
def test_a_service_registers_the_addresses_of_its_deployment_under_its_name(stack):
    [(service, properties)] = stack.of_type("AWS::ServiceDiscovery::Service").items()
    assert (properties["Name"], properties["NamespaceId"]) == (stack.name, {"Ref": "NamespaceId"})
    # Callers ask for healthy instances, and without a health check no instance is ever HEALTHY.
    assert properties["HealthCheckCustomConfig"] == {"FailureThreshold": 1}
    [instance] = stack.of_type("AWS::ServiceDiscovery::Instance").values()
    assert (instance["ServiceId"], instance["InstanceId"]) == ({"Ref": service}, "deployed")
    attributes = dict(instance["InstanceAttributes"])
    assert attributes.pop("url") == {"Ref": "ApiUrl"}
    lookups = [f for f in stack.functions if stack.functions[f]["FunctionName"] == f"{stack.name}-lookup"]
    assert attributes == ({"function_arn": {"Fn::GetAtt": [lookups[0], "Arn"]}} if lookups else {})


def test_functions_use_the_name_of_the_namespace():
    [namespace] = STACKS["platform"].of_type("AWS::ServiceDiscovery::HttpNamespace").values()
    for stack, function in EVERY_FUNCTION:
        name = stack.functions[function]["Environment"]["Variables"].get("NAMESPACE", "madang")
        assert name == namespace["Name"]


def test_only_the_functions_listed_here_may_call_users_lookup():
    assert functions_allowed("lambda:InvokeFunction", LOOKUP) == BY_RPC
    assert functions_allowed("execute-api:Invoke", ROUTE) == BY_HTTP
    for stack, function in EVERY_FUNCTION:
        for statement in allowed(stack, function, "execute-api:Invoke"):
            assert as_list(statement["Resource"]) == [ROUTE]
        for statement in allowed(stack, function, "lambda:InvokeFunction"):
            assert {function_named(stack, arn) for arn in as_list(statement["Resource"])} == {"users-lookup"}


@CALLERS
def test_a_caller_can_find_users_statically_and_dynamically_for_its_transport(stack, function):
    properties = stack.functions[function]
    variables = properties["Environment"]["Variables"]
    assert variables["DISCOVERY"] == {"Ref": "Discovery"}
    assert variables["NAMESPACE"] == "madang"
    by_rpc = properties["FunctionName"] in BY_RPC
    assert (variables.get("USERS_LOOKUP"), variables.get("USERS_URL")) == (
        (LOOKUP, None) if by_rpc else (None, {"Ref": "ApiUrl"})
    )
    [statement] = allowed(stack, function, "servicediscovery:DiscoverInstances")
    assert statement["Condition"] == {
        "StringEqualsIfExists": {
            "servicediscovery:NamespaceName": "madang",
            "servicediscovery:ServiceName": "users",
        }
    }


def test_only_callers_and_the_registry_may_use_cloud_map():
    allowed_actions = {
        stack.functions[function]["FunctionName"]: sorted(
            action
            for statement in stack.statements_of(function)
            for action in as_list(statement["Action"])
            if action.startswith("servicediscovery:")
        )
        for stack, function in EVERY_FUNCTION
    }
    find = ["servicediscovery:GetOperation", "servicediscovery:ListServices"]
    assert {name: actions for name, actions in allowed_actions.items() if actions} == {
        **{name: ["servicediscovery:DiscoverInstances"] for name in BY_RPC | BY_HTTP | {"registry-resolve"}},
        "registry-register": [*find, "servicediscovery:RegisterInstance"],
        "registry-deregister": ["servicediscovery:DeregisterInstance", *find],
    }


def test_discovery_is_dynamic_by_default():
    [declared] = {
        str((parameters["Discovery"]["Default"], parameters["Discovery"]["AllowedValues"]))
        for parameters in [read(ROOT_TEMPLATE)["Parameters"], *(s.parameters for s in STACKS.values())]
        if "Discovery" in parameters
    }
    assert declared == str(("cloudmap", ["cloudmap", "static"]))


def test_services_call_each_other_at_the_base_url_from_the_platform():
    [url] = [
        parameter["Value"]
        for parameter in STACKS["platform"].of_type("AWS::SSM::Parameter").values()
        if parameter["Name"] == "/madang/api-url"
    ]
    own, assigned = {"Ref": "ApiUrl"}, {"Fn::Sub": "https://${Api}.execute-api.${AWS::Region}.${AWS::URLSuffix}"}
    assert url == {"Fn::If": ["OwnAddress", own, assigned]}
