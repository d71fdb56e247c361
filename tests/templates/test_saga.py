"""The order saga: its definition, its permissions, and the schedule and alarms for orders that it does not settle."""

import json
import re
from statistics import NormalDist

import pytest
from cfnlint.api import ManualArgs, lint
from stacks import EVERY_FUNCTION, PSEUDO, ROOT, SAGA, SERVICES, STACKS, STEPS, as_list, label, target

ORDERS = STACKS["orders"]
DEFINITION_FILE = ROOT / "infra/order-saga.asl.json"
README = ROOT / "functions/orders/README.md"
DEFINITION = json.loads(DEFINITION_FILE.read_text()) if DEFINITION_FILE.is_file() else {"StartAt": "", "States": {}}
STATES = DEFINITION["States"]
EVERY_STATE = pytest.mark.parametrize("name", STATES)
# The step that parks an order for an operator. Only this step lets the execution fail.
LAST_RESORT = "Park"
# If one of these steps fails permanently, the order is parked.
PARKED_ON_FAILURE = {
    "CapturePayment",
    "CommitInventory",
    "AbortOrder",
    "CancelPayment",
    "ReleaseInventory",
    "RejectOrder",
}

# The error of a step if its table, another service or the payment provider does not answer or throttles.
UNAVAILABLE = re.search(
    r'const UNAVAILABLE: &str = "(\w+)"', (ROOT / "functions/runtime/src/serve/mod.rs").read_text()
)[1]
# Lambda's errors after which an invocation may succeed:
# https://docs.aws.amazon.com/step-functions/latest/dg/bp-lambda-serviceexception.html
OF_LAMBDA = {
    "Lambda.AWSLambdaException",
    "Lambda.ClientExecutionTimeoutException",
    "Lambda.SdkClientException",
    "Lambda.ServiceException",
    "Lambda.TooManyRequestsException",
    "Lambda.Unknown",
}
# Step Functions' limit: https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html
MAX_HISTORY_EVENTS = 25_000
# In seconds, how late CloudWatch evaluates a period.
CLOUDWATCH = 120


def successors(state):
    """The possible next states. None stands for the end."""
    after = {state.get("Next"), *(handler["Next"] for handler in state.get("Catch", []))}
    return after - {None} | ({None} if state.get("End") else set())


EDGES = {("[*]", DEFINITION["StartAt"])} | {
    (name, after or "[*]") for name, state in STATES.items() for after in successors(state)
}


def errors(handlers):
    return [error for handler in handlers for error in handler["ErrorEquals"]]


def refusals():
    """The public names of refusals in the functions' code."""
    source = (ROOT / "functions/kernel/src/saga.rs").read_text()
    return set(re.findall(r'Self::\w+ => "([A-Z]\w*\.[A-Z]\w*)",', source))


# the definition -------------------------------------------------------------------------------------------------------


def test_every_step_is_a_task_that_invokes_its_function():
    assert DEFINITION["QueryLanguage"] == "JSONata"
    for name, state in STATES.items():
        assert (state["Type"], state["Resource"]) == ("Task", "arn:aws:states:::lambda:invoke"), name
        assert "QueryLanguage" not in state, name
    assert {name: function_behind(name) for name in STATES} == {
        "ValidateUser": "orders-validate-user",
        "ReserveInventory": "inventory-reserve",
        "AuthorizePayment": "payments-authorize",
        "ConfirmOrder": "orders-confirm",
        "CapturePayment": "payments-capture",
        "CommitInventory": "inventory-commit",
        "AbortOrder": "orders-abort",
        "CancelPayment": "payments-cancel",
        "ReleaseInventory": "inventory-release",
        "RejectOrder": "orders-reject",
        "Park": "orders-park",
    }


def function_behind(name):
    """The FunctionName of the function that a step invokes."""
    return STEPS[re.fullmatch(r"\$\{(\w+)}", STATES[name]["Arguments"]["FunctionName"])[1]]


def test_placeholders_and_substitutions_correspond():
    assert set(re.findall(r"\$\{(\w+)}", DEFINITION_FILE.read_text())) == set(STEPS)
    for placeholder, function in STEPS.items():
        assert placeholder == "".join(part.capitalize() for part in function.split("-"))


def test_every_step_is_reachable_and_leads_to_an_existing_step():
    assert DEFINITION["StartAt"] in STATES
    leads_to = {after for _, after in EDGES}
    assert leads_to - {"[*]"} <= set(STATES)
    reached, found = set(), [DEFINITION["StartAt"]]
    while found:
        name = found.pop()
        if name not in reached:
            reached.add(name)
            found += successors(STATES[name]) - {None}
    assert reached == set(STATES)


@EVERY_STATE
def test_every_step_has_a_path_to_the_end(name):
    reached, found = set(), [name]
    while found:
        step = found.pop()
        if step is not None and step not in reached:
            found += successors(STATES[step])
        reached.add(step)
    assert None in reached


@EVERY_STATE
def test_a_step_has_either_a_next_step_or_the_end(name):
    assert ("Next" in STATES[name]) != ("End" in STATES[name])
    assert STATES[name].get("End", True) is True


def test_a_successful_order_takes_at_most_six_steps():
    path = [DEFINITION["StartAt"]]
    while "Next" in STATES[path[-1]]:
        path.append(STATES[path[-1]]["Next"])
        assert len(path) <= 6, path
    assert STATES[path[-1]]["End"] is True


def test_the_sagas_timeout_allows_for_every_retry():
    def longest(state):
        limits = [limit for retrier in state["Retry"] for limit in pauses(retrier)]
        return state["TimeoutSeconds"] * (1 + len(limits)) + sum(limits)

    assert DEFINITION["TimeoutSeconds"] >= most_on_a_path(longest)


def test_the_longest_execution_stays_below_the_limit_of_its_history():
    def events(state):
        attempts = 1 + sum(retrier["MaxAttempts"] for retrier in state["Retry"])
        # An attempt is scheduled, started and submitted, and fails or succeeds. A state is entered and exited.
        return 5 * attempts + 2

    # The execution itself starts and ends.
    assert most_on_a_path(events) + 2 < MAX_HISTORY_EVENTS


def most_on_a_path(cost, name=DEFINITION["StartAt"], before=frozenset()):
    """The largest sum of a state's cost on any path through the saga until it is parked."""
    before |= {name}
    after = set() if name == LAST_RESORT else successors(STATES[name]) - {None} - before
    return cost(STATES[name]) + max((most_on_a_path(cost, state, before) for state in after), default=0)


def pauses(retrier):
    """The limit of the pause before each retry, in seconds."""
    return [
        min(retrier["IntervalSeconds"] * retrier["BackoffRate"] ** attempt, retrier["MaxDelaySeconds"])
        for attempt in range(retrier["MaxAttempts"])
    ]


def total_pause(retrier):
    """The distribution of the sum of a retrier's pauses, in seconds.

    With `JitterStrategy` FULL each pause is drawn uniformly between zero and its limit. The sum of so many is
    distributed almost normally."""
    limits = pauses(retrier)
    return NormalDist(sum(limits) / 2, (sum(limit**2 for limit in limits) / 12) ** 0.5)


def outlasted(retrier):
    """The outage in seconds that a retrier outlasts with a probability of 99 %, even if each attempt fails at once."""
    return total_pause(retrier).inv_cdf(0.01)


@EVERY_STATE
def test_a_steps_timeout_exceeds_its_functions(name):
    # Otherwise a step could be retried or undone while an attempt is still running.
    [timeout] = [
        properties["Timeout"]
        for stack, function in EVERY_FUNCTION
        for properties in [stack.functions[function]]
        if properties["FunctionName"] == function_behind(name)
    ]
    assert STATES[name]["TimeoutSeconds"] > timeout


@EVERY_STATE
def test_a_refusal_is_not_retried_and_any_other_error_is_retried_with_backoff_and_jitter(name):
    *final, unavailable, other = STATES[name]["Retry"]
    assert set(errors(final)) == refusals()
    assert all(retrier["MaxAttempts"] == 0 for retrier in final)
    # Each retrier counts its own attempts, and the first one that names an error retries it.
    assert set(unavailable["ErrorEquals"]) == {UNAVAILABLE} | OF_LAMBDA
    assert other["ErrorEquals"] == ["States.ALL"], "unknown errors have to be retried"
    for retrier in (unavailable, other):
        assert retrier["MaxAttempts"] >= 1
        assert retrier["BackoffRate"] > 1
        assert retrier["JitterStrategy"] == "FULL"


@EVERY_STATE
def test_a_step_outlasts_an_outage_of_minutes_before_the_pivot_and_of_hours_behind_it(name):
    *_, unavailable, other = STATES[name]["Retry"]
    if name in PARKED_ON_FAILURE | {LAST_RESORT}:
        # The money is held or the order is decided, so there is time to repair what is down.
        assert outlasted(unavailable) > 3 * 3600
        assert outlasted(other) > 20 * 60
    else:
        # The buyer waits. A fault of our own is not likely to pass.
        assert outlasted(unavailable) > 10 * 60
        assert total_pause(unavailable).mean < 20 * 60
        assert 10 <= total_pause(other).mean <= 20


@pytest.mark.parametrize("name", sorted(PARKED_ON_FAILURE | {LAST_RESORT}))
def test_failing_steps_page_someone_before_the_first_order_is_parked(name):
    [alarm] = [
        properties
        for properties in STACKS["observability"].of_type("AWS::CloudWatch::Alarm").values()
        if properties["AlarmName"] == "saga-steps-failing"
    ]
    [query] = alarm["Metrics"]
    *_, unavailable, other = STATES[name]["Retry"]
    for retrier in (unavailable, other):
        # The steps of a single order fail often enough in each period, even if each attempt takes its whole time-out.
        slowest = STATES[name]["TimeoutSeconds"] + retrier["MaxDelaySeconds"]
        assert alarm["Threshold"] * slowest <= query["Period"]
        # The first failure is somewhere in a period, of which the rest may be too short to count.
        assert (1 + alarm["DatapointsToAlarm"]) * query["Period"] + CLOUDWATCH < outlasted(retrier)
    assert alarm["ComparisonOperator"] == "GreaterThanOrEqualToThreshold"
    assert alarm["DatapointsToAlarm"] <= alarm["EvaluationPeriods"]


@EVERY_STATE
def test_a_step_catches_every_error(name):
    if name == LAST_RESORT:
        assert "Catch" not in STATES[name], "the execution of a parked order has to fail"
        return
    *named, last = STATES[name]["Catch"]
    assert last["ErrorEquals"] == ["States.ALL"]
    assert set(errors(named)) <= refusals()


def test_only_steps_that_have_to_succeed_park_the_order():
    assert {name for name, state in STATES.items() if LAST_RESORT in successors(state)} == PARKED_ON_FAILURE


def test_a_failure_before_the_pivot_leads_to_compensation_in_a_fixed_order():
    for name in ("ValidateUser", "ReserveInventory", "AuthorizePayment", "ConfirmOrder"):
        assert STATES[name]["Catch"][-1]["Next"] == "AbortOrder", name
    undoing = ["AbortOrder", "CancelPayment", "ReleaseInventory", "RejectOrder"]
    assert [STATES[name].get("Next") for name in undoing] == [*undoing[1:], None]


@EVERY_STATE
def test_the_example_input_of_a_step_has_the_fields_that_the_saga_passes(name):
    example = json.loads((ROOT / f"events/invoke/{function_behind(name)}.json").read_text())
    assert set(example) == set(STATES[name]["Arguments"]["Payload"])


def test_the_definition_has_exactly_the_functions_error_names():
    names = {error for state in STATES.values() for error in errors(state.get("Retry", []) + state.get("Catch", []))}
    assert len(refusals()) >= 10, "the pattern has to find the names in the source"
    assert {name for name in names if not name.startswith("States.")} == refusals() | {UNAVAILABLE} | OF_LAMBDA


def test_cfn_lint_accepts_the_definition():
    # cfn-lint does not read a definition from a file, so the test includes it in a template.
    definition = json.loads(
        re.sub(r"\$\{(\w+)}", "arn:aws:lambda:us-east-1:123456789012:function:step", DEFINITION_FILE.read_text())
    )
    machine = {
        "Type": "AWS::StepFunctions::StateMachine",
        "Properties": {"RoleArn": "arn:aws:iam::123456789012:role/saga", "Definition": definition},
    }
    template = json.dumps({"AWSTemplateFormatVersion": "2010-09-09", "Resources": {"Saga": machine}})
    assert [str(match) for match in lint(template, config=ManualArgs(regions=[PSEUDO["AWS::Region"]]))] == []


def test_the_diagram_in_the_readme_shows_the_saga():
    [diagram] = re.findall(r"```mermaid\n\s*stateDiagram-v2\n(.*?)```", README.read_text(), re.DOTALL)
    shown = re.findall(r"^\s*(\S+)\s*-->\s*([^\s:]+)", diagram, re.MULTILINE)
    assert set(shown) == EDGES
    assert len(set(shown)) == len(shown), "an arrow is duplicated"


# the template ---------------------------------------------------------------------------------------------------------


def test_the_state_machine_is_a_standard_one_called_order_saga():
    assert (SAGA["StateMachineName"], SAGA["StateMachineType"]) == ("order-saga", "STANDARD")
    [written] = [
        resource["Properties"]
        for resource in ORDERS.template["Resources"].values()
        if resource["Type"] == "AWS::Serverless::StateMachine"
    ]
    assert ROOT / "infra" / written["DefinitionUri"] == DEFINITION_FILE


def test_every_step_is_a_function_of_some_stack():
    existing = {stack.functions[function]["FunctionName"] for stack, function in EVERY_FUNCTION}
    assert set(STEPS.values()) <= existing


def test_the_state_machine_may_only_invoke_its_steps_and_write_traces():
    [role] = ORDERS.machine_roles
    properties = ORDERS.resources[role]["Properties"]
    assert trust(properties) == {
        "Effect": "Allow",
        "Principal": {"Service": "states.amazonaws.com"},
        "Action": "sts:AssumeRole",
        "Condition": {"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}},
    }
    assert not properties.get("ManagedPolicyArns")
    [statement, traces] = ORDERS.statements_of_role(role)
    assert (traces["Effect"], traces["Resource"]) == ("Allow", "*"), "X-Ray supports no resources for these actions"
    # https://docs.aws.amazon.com/step-functions/latest/dg/xray-iam.html
    assert sorted(traces["Action"]) == [
        "xray:GetSamplingRules",
        "xray:GetSamplingTargets",
        "xray:PutTelemetryRecords",
        "xray:PutTraceSegments",
    ]
    assert set(statement) == {"Sid", "Effect", "Action", "Resource"}
    assert (statement["Effect"], as_list(statement["Action"])) == ("Allow", ["lambda:InvokeFunction"])
    named = sorted(map(str, statement["Resource"]))
    assert named == sorted(map(str, SAGA["DefinitionSubstitutions"].values()))


def test_functions_that_start_the_saga_have_its_arn_and_only_the_necessary_permissions():
    arn = {"Fn::Sub": "arn:${AWS::Partition}:states:${AWS::Region}:${AWS::AccountId}:stateMachine:order-saga"}
    allowed = {
        stack.functions[function]["FunctionName"]: {
            action
            for statement in stack.statements_of(function)
            for action in as_list(statement["Action"])
            if action.startswith("states:")
        }
        for stack, function in EVERY_FUNCTION
        if "STATE_MACHINE" in stack.functions[function]["Environment"]["Variables"]
    }
    assert allowed == {
        "orders-place": {"states:StartExecution"},
        "orders-reconcile": {"states:StartExecution", "states:DescribeExecution"},
    }
    for stack, function in EVERY_FUNCTION:
        variables = stack.functions[function]["Environment"]["Variables"]
        assert variables.get("STATE_MACHINE", arn) == arn
        for statement in stack.statements_of(function):
            actions = as_list(statement["Action"])
            if any(action.startswith("states:") for action in actions):
                assert "STATE_MACHINE" in variables, function
            if "states:StartExecution" in actions:
                assert statement["Resource"] == arn


# schedules and alarms -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stack", SERVICES.values(), ids=label)
def test_a_schedule_may_only_invoke_its_function(stack):
    for schedule in stack.of_type("AWS::Scheduler::Schedule").values():
        role = target(schedule["Target"]["RoleArn"])
        properties = stack.resources[role]["Properties"]
        group = "arn:${AWS::Partition}:scheduler:${AWS::Region}:${AWS::AccountId}:schedule-group/default"
        assert trust(properties) == {
            "Effect": "Allow",
            "Principal": {"Service": "scheduler.amazonaws.com"},
            "Action": "sts:AssumeRole",
            "Condition": {
                "StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}, "aws:SourceArn": {"Fn::Sub": group}}
            },
        }
        assert not properties.get("ManagedPolicyArns")
        [statement] = stack.statements_of_role(role)
        assert set(statement) == {"Sid", "Effect", "Action", "Resource"}
        assert as_list(statement["Action"]) == ["lambda:InvokeFunction"]
        assert statement["Resource"] == schedule["Target"]["Arn"]
        assert target(schedule["Target"]["Arn"]) in stack.functions


def test_orders_are_reconciled_every_minute_without_overlapping_runs():
    [schedule] = ORDERS.of_type("AWS::Scheduler::Schedule").values()
    assert ORDERS.scheduled == {"OrdersReconcile"}
    assert schedule["ScheduleExpression"] == "rate(1 minute)"
    assert schedule["FlexibleTimeWindow"] == {"Mode": "OFF"}
    assert schedule["Target"]["RetryPolicy"]["MaximumEventAgeInSeconds"] == 60
    assert schedule.get("State", "ENABLED") == "ENABLED"
    assert ORDERS.functions["OrdersReconcile"]["Timeout"] < 60
    [retries] = ORDERS.of_type("AWS::Lambda::EventInvokeConfig").values()
    assert (target(retries["FunctionName"]), retries["MaximumRetryAttempts"]) == ("OrdersReconcile", 0)


def test_an_alarm_is_triggered_if_orders_are_not_reconciled():
    [alarm] = alarms(without_data="breaching", MetricName="Errors")
    assert alarm["Namespace"] == "AWS/Lambda"
    assert alarm["Dimensions"] == [{"Name": "FunctionName", "Value": {"Ref": "OrdersReconcile"}}]
    assert (alarm["ComparisonOperator"], alarm["Threshold"]) == ("GreaterThanThreshold", 0)


def test_an_alarm_is_triggered_by_one_parked_order():
    [alarm] = alarms(AlarmName="orders-parked")
    assert (alarm["Statistic"], alarm["Period"], alarm["EvaluationPeriods"]) == ("Sum", 60, 1)
    assert (alarm["ComparisonOperator"], alarm["Threshold"]) == ("GreaterThanThreshold", 0)
    # The functions write this metric themselves. A metric filter on the line "parked" would count each order twice.
    assert (alarm["Namespace"], alarm["MetricName"]) == ("Madang", "OrdersParked")
    assert not ORDERS.of_type("AWS::Logs::MetricFilter")


def test_the_step_and_the_reconciler_count_a_parked_order_and_log_its_id_and_cause():
    for source in ("tasks.rs", "reconciler.rs"):
        text = (ROOT / "functions/orders/src" / source).read_text()
        assert re.search(
            r'ORDERS_PARKED\.increment\(\);\s*tracing::error!\([^;]*\border_id\b[^;]*\bcause\b[^;]*, "parked"\);', text
        ), source


def alarms(without_data="notBreaching", **properties):
    """The alarms in the orders stack with these properties. Checks that each says what to do and notifies the topic."""
    every = ORDERS.of_type("AWS::CloudWatch::Alarm").values()
    found = [alarm for alarm in every if all(alarm[name] == value for name, value in properties.items())]
    for alarm in found:
        assert "First: " in alarm["AlarmDescription"]
        assert alarm["AlarmActions"] == [{"Ref": "AlarmTopicArn"}]
        assert alarm["TreatMissingData"] == without_data
    return found


def trust(role):
    """The single statement about who may assume the role, without its Sid."""
    [statement] = role["AssumeRolePolicyDocument"]["Statement"]
    return {key: value for key, value in statement.items() if key != "Sid"}
