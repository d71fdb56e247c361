import re

import pytest
from stacks import (
    EVERY_FUNCTION,
    ROOT,
    SERVICES,
    TEMPLATES,
    WITH_TABLE,
    as_list,
    fail,
    label,
    need,
    referenced,
    target,
)

FUNCTIONS = pytest.mark.parametrize("stack, function", EVERY_FUNCTION, ids=label)
# What a resource may leave open, and why.
OPEN_ENDED = {
    # An execution's ARN ends in its name, which is the order's id.
    "states:DescribeExecution": re.compile(r":execution:order-saga:\*$"),
    # A secret's ARN ends in six characters that Secrets Manager gives it.
    "secretsmanager:GetSecretValue": re.compile(r":secret:\$\{StripeSecret}-\?{6}$"),
    # A user's id ends the path.
    "execute-api:Invoke": re.compile(r"/\$default/GET/internal/users/\*$"),
    # Cloud Map gives services their ids.
    "servicediscovery:RegisterInstance": re.compile(r":service/\*$"),
    "servicediscovery:DeregisterInstance": re.compile(r":service/\*$"),
}
# Actions that take no resource: AWS wants a star here, and where it knows a condition, that says what is meant.
NO_RESOURCE = {
    "servicediscovery:DiscoverInstances": {"servicediscovery:NamespaceName"},
    "servicediscovery:ListServices": set(),
    "servicediscovery:GetOperation": set(),
}
# What is done with a table itself; its stream is the relay's.
TABLE_ACTIONS = {
    f"dynamodb:{name}"
    for name in ("GetItem", "BatchGetItem", "Query", "PutItem", "UpdateItem", "DeleteItem", "ConditionCheckItem")
}
LOGS_ONLY = "arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole"
TRACES_ONLY = "arn:aws:iam::aws:policy/AWSXrayWriteOnlyAccess"


@FUNCTIONS
def test_a_function_is_named_for_its_service(stack, function):
    name = stack.functions[function]["FunctionName"]
    need(
        name == stack.name or name.startswith(f"{stack.name}-"),
        f"{stack.file}: {function} has the FunctionName {name}, which has to begin with {stack.name}-.",
    )
    expected = "".join(part.capitalize() for part in name.split("-"))
    need(function == expected, f"{stack.file}: the function {name} has the logical id {function}: call it {expected}.")


@FUNCTIONS
def test_a_function_is_built_from_a_binary_that_exists(stack, function):
    name = stack.functions[function]["FunctionName"]
    uri = stack.template["Resources"][function]["Properties"].get("CodeUri", "")
    built = re.fullmatch(r"\.\./target/lambda/([a-z-]+)/bootstrap\.zip", uri)
    expected = "relay" if name.endswith("-relay") else name
    need(
        built and built[1] == expected,
        f"{stack.file}: {function} needs the CodeUri ../target/lambda/{expected}/bootstrap.zip, not {uri or 'none'}.",
    )
    source = "functions/relay/src/bin/relay.rs" if expected == "relay" else f"functions/{stack.name}/src/bin/{name}.rs"
    need(
        (ROOT / source).is_file(),
        f"{source} is missing, the binary of {function} in {stack.file}: copy another binary of the service.",
    )


@FUNCTIONS
def test_a_function_runs_on_the_architecture_that_the_parameter_says(stack, function):
    properties = stack.functions[function]
    assert properties["Architectures"] == [{"Ref": "Architecture"}]
    assert (properties["Runtime"], properties["Handler"]) == ("provided.al2023", "bootstrap")


@FUNCTIONS
def test_a_function_writes_to_a_log_group_of_its_own_that_forgets(stack, function):
    properties = stack.functions[function]
    need(
        "LoggingConfig" in properties,
        f"{stack.file}: {function} does not say where it logs: add `LoggingConfig: {{LogGroup: !Ref {function}Logs}}`.",
    )
    name = target(properties["LoggingConfig"]["LogGroup"])
    logs = stack.of_type("AWS::Logs::LogGroup").get(name)
    if logs is None:
        fail(f"{stack.file}: {function} has no log group: copy another function's as {name}.")
    expected = f"/aws/lambda/{properties['FunctionName']}"
    need(
        logs["LogGroupName"] == expected,
        f"{stack.file}: {name} is the log group of {function} and has the LogGroupName {logs['LogGroupName']}: make it "
        f"{expected}.",
    )
    need(
        logs.get("RetentionInDays") == {"Ref": "LogRetentionDays"},
        f"{stack.file}: {name} would keep its lines for ever: add `RetentionInDays: !Ref LogRetentionDays`.",
    )


@pytest.mark.parametrize("stack", SERVICES.values(), ids=label)
def test_a_log_group_is_for_a_function(stack):
    configured = [
        properties["LoggingConfig"] for properties in stack.functions.values() if "LoggingConfig" in properties
    ]
    used = {target(logging["LogGroup"]) for logging in configured}
    for name in set(stack.of_type("AWS::Logs::LogGroup")) - used:
        fail(f"{stack.file}: no function writes to {name}: remove it, or name it in the LoggingConfig of a function.")


@FUNCTIONS
def test_a_function_knows_its_service_and_its_log_level(stack, function):
    variables = stack.functions[function]["Environment"]["Variables"]
    assert variables["SERVICE"] == stack.name
    assert variables["LOG_LEVEL"] == {"Ref": "LogLevel"}


@pytest.mark.parametrize("stack", SERVICES.values(), ids=label)
def test_no_two_functions_share_a_role(stack):
    roles = [stack.role_of(function) for function in stack.functions]
    assert sorted(roles) == sorted(set(roles))
    assert set(roles) | stack.machine_roles | stack.schedule_roles == set(stack.of_type("AWS::IAM::Role"))
    assert len(roles) + len(stack.machine_roles) + len(stack.schedule_roles) == len(stack.of_type("AWS::IAM::Role"))
    assert not stack.of_type("AWS::IAM::Policy") and not stack.of_type("AWS::IAM::ManagedPolicy")


@FUNCTIONS
def test_a_function_may_only_do_what_its_own_policy_names(stack, function):
    role = stack.of_type("AWS::IAM::Role")[stack.role_of(function)]
    shared = [LOGS_ONLY, TRACES_ONLY]
    assert role["ManagedPolicyArns"] == shared, "writing logs and traces are the permissions that all share"
    # The documentation is part of its function.
    needs_none = function == "ApiDocs"
    need(
        bool(stack.statements_of(function)) is not needs_none,
        f"{stack.file}: {function} has {'Policies and needs none' if needs_none else 'no Policies: name its actions'}.",
    )


@FUNCTIONS
def test_no_permission_has_a_wildcard(stack, function):
    for statement in stack.statements_of(function):
        assert statement["Effect"] == "Allow"
        assert not {"NotAction", "NotResource"} & set(statement)
        for action in as_list(statement["Action"]):
            assert re.fullmatch(r"[a-z-]+:[A-Za-z]+", action), action
        if set(as_list(statement["Action"])) <= set(NO_RESOURCE):
            assert statement["Resource"] == "*"
            conditions = set().union(*statement.get("Condition", {}).values())
            assert conditions >= set().union(*(NO_RESOURCE[action] for action in as_list(statement["Action"])))
            continue
        for resource in as_list(statement["Resource"]):
            closed = without_open_end(as_list(statement["Action"]), on_aws(resource))
            assert not {"*", "?"} & set(str(closed)), f"{statement['Sid']}: {resource}"


@FUNCTIONS
def test_a_function_touches_no_table_but_that_of_its_service(stack, function):
    for statement in stack.statements_of(function):
        if any(action.startswith("dynamodb:") for action in as_list(statement["Action"])):
            assert referenced(statement["Resource"]) == {"Table"}, statement["Sid"]
    assert stack.functions[function]["Environment"]["Variables"].get("TABLE", {"Ref": "Table"}) == {"Ref": "Table"}


@FUNCTIONS
def test_a_function_that_may_use_the_table_knows_its_name_and_no_other_does(stack, function):
    may_use_it = any(action in TABLE_ACTIONS for s in stack.statements_of(function) for action in as_list(s["Action"]))
    knows_it = "TABLE" in stack.functions[function]["Environment"]["Variables"]
    need(
        knows_it or not may_use_it,
        f"{stack.file}: {function} may use the table and lacks its name: add `TABLE: !Ref Table` to its Variables.",
    )
    need(
        may_use_it or not knows_it,
        f"{stack.file}: {function} has the variable TABLE and no action on the table: add it to its Policies.",
    )


def test_every_service_has_a_table_but_the_registry_and_the_documentation():
    assert {name for name, stack in SERVICES.items() if stack.of_type("AWS::DynamoDB::Table")} == set(WITH_TABLE)


@pytest.mark.parametrize("stack", WITH_TABLE.values(), ids=label)
def test_an_index_that_a_function_queries_exists(stack):
    table = stack.resources["Table"]["Properties"]
    existing = {
        index["IndexName"] for kind in ("Global", "Local") for index in table.get(f"{kind}SecondaryIndexes", [])
    }
    queried = set(re.findall(r"\$\{Table\.Arn}/index/(\w+)", str([stack.statements_of(f) for f in stack.functions])))
    assert queried == existing


@pytest.mark.parametrize("stack", WITH_TABLE.values(), ids=label)
def test_a_table_outlives_its_stack_and_can_be_protected(stack):
    [(logical_id, table)] = stack.of_type("AWS::DynamoDB::Table").items()
    resource = stack.resources[logical_id]
    assert resource["DeletionPolicy"] in ("Retain", "RetainExceptOnCreate")
    assert resource["UpdateReplacePolicy"] == "Retain"
    conditions = stack.template["Conditions"]
    protection, recovery = (
        table["DeletionProtectionEnabled"],
        table["PointInTimeRecoverySpecification"]["PointInTimeRecoveryEnabled"],
    )
    for value, parameter in ((protection, "DeletionProtection"), (recovery, "PointInTimeRecovery")):
        condition, *branches = value["Fn::If"]
        assert branches == [True, False]
        assert conditions[condition] == {"Fn::Equals": [{"Ref": parameter}, "true"]}
    assert table["TableName"] == stack.name
    assert table["StreamSpecification"] == {"StreamViewType": "NEW_AND_OLD_IMAGES"}


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.stem)
def test_no_template_injects_faults(template):
    # Debug builds read the variable; no function that a template describes may.
    assert "FAULTS" not in template.read_text()


def without_open_end(actions, resource):
    match actions, resource:
        case [action], {"Fn::Sub": str(arn)} if action in OPEN_ENDED:
            return OPEN_ENDED[action].sub("", arn)
    return resource


def on_aws(value):
    """What is left of a value where the Emulator condition is false."""
    match value:
        case {"Fn::If": ["Emulator", _, otherwise]}:
            return otherwise
    return value


def test_the_emulator_condition_cannot_hold_on_aws():
    for stack in SERVICES.values():
        # API Gateway's own ids have ten characters.
        assert stack.template.get("Conditions", {}).get("Emulator", {"Fn::Equals": [{"Ref": "ApiId"}, "5c0ffee5"]}) == {
            "Fn::Equals": [{"Ref": "ApiId"}, "5c0ffee5"]
        }
