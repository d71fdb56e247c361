"""Every function of every stack: its name, binary, log group, table and permissions."""

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
# The actions whose resources may contain a wildcard, and the reason for each.
OPEN_ENDED = {
    # An execution's ARN ends in its name, which is the order's id.
    "states:DescribeExecution": re.compile(r":execution:order-saga:\*$"),
    # Secrets Manager appends six random characters to a secret's ARN.
    "secretsmanager:GetSecretValue": re.compile(r":secret:\$\{StripeSecret}-\?{6}$"),
    # The path ends in the user's id.
    "execute-api:Invoke": re.compile(r"/\$default/GET/internal/users/\*$"),
    # Lambda names the objects: https://docs.aws.amazon.com/lambda/latest/dg/services-dynamodb-errors.html
    "s3:PutObject": re.compile(r"^\$\{[A-Za-z]+RelayUnpublished\.Arn}/\*$"),
    # Cloud Map generates the services' ids.
    "servicediscovery:RegisterInstance": re.compile(r":service/\*$"),
    "servicediscovery:DeregisterInstance": re.compile(r":service/\*$"),
}
# Actions that support no resource, so that the resource is a star. If AWS supports a condition, it is required.
NO_RESOURCE = {
    "servicediscovery:DiscoverInstances": {"servicediscovery:NamespaceName"},
    "servicediscovery:ListServices": set(),
    "servicediscovery:GetOperation": set(),
}
# Actions on a table. Actions on its stream are the relay's.
TABLE_ACTIONS = {
    f"dynamodb:{name}"
    for name in ("GetItem", "BatchGetItem", "Query", "PutItem", "UpdateItem", "DeleteItem", "ConditionCheckItem")
}
LOGS_ONLY = "arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole"
TRACES_ONLY = "arn:aws:iam::aws:policy/AWSXrayWriteOnlyAccess"


@FUNCTIONS
def test_a_functions_name_starts_with_its_service(stack, function):
    name = stack.functions[function]["FunctionName"]
    need(
        name == stack.name or name.startswith(f"{stack.name}-"),
        f"{stack.file}: {function} has the FunctionName {name}, which has to start with {stack.name}-.",
    )
    expected = "".join(part.capitalize() for part in name.split("-"))
    need(
        function == expected,
        f"{stack.file}: the function {name} has the logical id {function}. Change it to {expected}.",
    )


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
        f"{source}, the binary of {function} in {stack.file}, is missing. Copy another binary of the service.",
    )


@FUNCTIONS
def test_a_function_runs_on_the_architecture_of_the_parameter(stack, function):
    properties = stack.functions[function]
    assert properties["Architectures"] == [{"Ref": "Architecture"}]
    assert (properties["Runtime"], properties["Handler"]) == ("provided.al2023", "bootstrap")


def cascading(service):
    """The functions of a service that send messages to their own queue, because their consumer calls `cascade`,
    directly or through another function of the same file."""
    folder = ROOT / f"functions/{service}/src"
    if not (folder / "consumers.rs").is_file():
        return set()
    _, *parts = re.split(r"^(?:pub )?async fn (\w+)", (folder / "consumers.rs").read_text(), flags=re.MULTILINE)
    bodies = dict(zip(parts[::2], parts[1::2], strict=True))
    found, more = set(), {name for name, body in bodies.items() if ".cascade(" in body}
    while more - found:
        found |= more
        more = {name for name, body in bodies.items() if any(re.search(rf"\b{helper}\(", body) for helper in found)}
    binaries = {path.stem: path.read_text() for path in sorted((folder / "bin").glob("*.rs"))}
    return {name for name, source in binaries.items() if found & set(re.findall(r"\bconsumers::(\w+)", source))}


def test_lambda_stops_loops_except_those_of_cascades():
    allowed = {
        stack.functions[function]["FunctionName"]
        for stack, function in EVERY_FUNCTION
        if stack.functions[function].get("RecursiveLoop", "Terminate") == "Allow"
    }
    cascades = set().union(*map(cascading, SERVICES))
    assert len(cascades) >= 4, "the patterns have to find the cascades in the sources"
    missing = [f"add `RecursiveLoop: Allow` to {name}, whose cascades Lambda would stop" for name in cascades - allowed]
    unused = [f"remove `RecursiveLoop: Allow` from {name}, which has no cascade" for name in allowed - cascades]
    if missing or unused:
        fail(*(f"infra/*.yaml: {what}." for what in sorted(missing + unused)))


@FUNCTIONS
def test_a_function_has_its_own_log_group_with_a_retention(stack, function):
    properties = stack.functions[function]
    need(
        "LoggingConfig" in properties,
        f"{stack.file}: {function} has no LoggingConfig. Add `LoggingConfig: {{LogGroup: !Ref {function}Logs}}`.",
    )
    name = target(properties["LoggingConfig"]["LogGroup"])
    logs = stack.of_type("AWS::Logs::LogGroup").get(name)
    if logs is None:
        fail(f"{stack.file}: {function} has no log group. Copy another function's as {name}.")
    expected = f"/aws/lambda/{properties['FunctionName']}"
    need(
        logs["LogGroupName"] == expected,
        f"{stack.file}: {name}, the log group of {function}, has the LogGroupName {logs['LogGroupName']}. Change it to "
        f"{expected}.",
    )
    need(
        logs.get("RetentionInDays") == {"Ref": "LogRetentionDays"},
        f"{stack.file}: {name} would keep its lines for ever. Add `RetentionInDays: !Ref LogRetentionDays`.",
    )


@pytest.mark.parametrize("stack", SERVICES.values(), ids=label)
def test_every_log_group_belongs_to_a_function(stack):
    configured = [
        properties["LoggingConfig"] for properties in stack.functions.values() if "LoggingConfig" in properties
    ]
    used = {target(logging["LogGroup"]) for logging in configured}
    for name in set(stack.of_type("AWS::Logs::LogGroup")) - used:
        fail(f"{stack.file}: no function writes to {name}. Remove it, or name it in the LoggingConfig of a function.")


@FUNCTIONS
def test_a_function_has_the_variables_service_and_log_level(stack, function):
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
def test_a_function_has_only_the_permissions_of_its_own_policy(stack, function):
    role = stack.of_type("AWS::IAM::Role")[stack.role_of(function)]
    shared = [LOGS_ONLY, TRACES_ONLY]
    assert role["ManagedPolicyArns"] == shared, "functions share only the permissions to write logs and traces"
    # The documentation is part of the function's binary.
    needs_none = function == "ApiDocs"
    problem = "has Policies but needs none. Remove them" if needs_none else "has no Policies. Add its actions"
    need(bool(stack.statements_of(function)) is not needs_none, f"{stack.file}: {function} {problem}.")


@FUNCTIONS
def test_a_permission_has_no_wildcard_without_a_reason(stack, function):
    for statement in stack.statements_of(function):
        assert statement["Effect"] == "Allow"
        assert not {"NotAction", "NotResource"} & set(statement)
        for action in as_list(statement["Action"]):
            assert re.fullmatch(r"[a-z0-9-]+:[A-Za-z]+", action), action
        if set(as_list(statement["Action"])) <= set(NO_RESOURCE):
            assert statement["Resource"] == "*"
            conditions = set().union(*statement.get("Condition", {}).values())
            assert conditions >= set().union(*(NO_RESOURCE[action] for action in as_list(statement["Action"])))
            continue
        for resource in as_list(statement["Resource"]):
            checked = without_allowed_wildcard(as_list(statement["Action"]), on_aws(resource))
            assert not {"*", "?"} & set(str(checked)), f"{statement['Sid']}: {resource}"


@FUNCTIONS
def test_a_function_accesses_only_the_table_of_its_service(stack, function):
    for statement in stack.statements_of(function):
        if any(action.startswith("dynamodb:") for action in as_list(statement["Action"])):
            assert referenced(statement["Resource"]) == {"Table"}, statement["Sid"]
    assert stack.functions[function]["Environment"]["Variables"].get("TABLE", {"Ref": "Table"}) == {"Ref": "Table"}


@FUNCTIONS
def test_exactly_the_functions_with_actions_on_the_table_have_its_name(stack, function):
    has_actions = any(action in TABLE_ACTIONS for s in stack.statements_of(function) for action in as_list(s["Action"]))
    has_name = "TABLE" in stack.functions[function]["Environment"]["Variables"]
    need(
        has_name or not has_actions,
        f"{stack.file}: {function} may use the table but has no variable TABLE. Add `TABLE: !Ref Table` to its "
        "Variables.",
    )
    need(
        has_actions or not has_name,
        f"{stack.file}: {function} has the variable TABLE but no action on the table. Add the action to its Policies.",
    )


def test_every_service_except_the_registry_and_the_documentation_has_a_table():
    assert {name for name, stack in SERVICES.items() if stack.of_type("AWS::DynamoDB::Table")} == set(WITH_TABLE)


@pytest.mark.parametrize("stack", WITH_TABLE.values(), ids=label)
def test_exactly_the_existing_indexes_are_queried(stack):
    table = stack.resources["Table"]["Properties"]
    existing = {
        index["IndexName"] for kind in ("Global", "Local") for index in table.get(f"{kind}SecondaryIndexes", [])
    }
    queried = set(re.findall(r"\$\{Table\.Arn}/index/(\w+)", str([stack.statements_of(f) for f in stack.functions])))
    assert queried == existing


@pytest.mark.parametrize("stack", WITH_TABLE.values(), ids=label)
def test_a_table_survives_the_deletion_of_its_stack_and_can_be_protected(stack):
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
def test_no_template_injects_faults_or_changes_the_speed_of_time(template):
    # Debug builds read these variables, so no template may set them.
    assert not re.search("FAULTS|TIME_SCALE", template.read_text())


def without_allowed_wildcard(actions, resource):
    match actions, resource:
        case [action], {"Fn::Sub": str(arn)} if action in OPEN_ENDED:
            return OPEN_ENDED[action].sub("", arn)
    return resource


def on_aws(value):
    """The value of an expression if the condition Emulator is false."""
    match value:
        case {"Fn::If": ["Emulator", _, otherwise]}:
            return otherwise
    return value


def test_the_condition_emulator_is_false_on_aws():
    for stack in SERVICES.values():
        # The ids that API Gateway generates have ten characters.
        assert stack.template.get("Conditions", {}).get("Emulator", {"Fn::Equals": [{"Ref": "ApiId"}, "5c0ffee5"]}) == {
            "Fn::Equals": [{"Ref": "ApiId"}, "5c0ffee5"]
        }
