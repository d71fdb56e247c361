"""The order saga: what its definition says, and what the templates give it and what watches it."""

import json
import re

import pytest
from cfnlint.api import ManualArgs, lint
from stacks import EVERY_FUNCTION, PSEUDO, ROOT, SAGA, SERVICES, STACKS, STEPS, as_list, label, target

ORDERS = STACKS["orders"]
DEFINITION_FILE = ROOT / "infra/order-saga.asl.json"
README = ROOT / "functions/orders/README.md"
DEFINITION = json.loads(DEFINITION_FILE.read_text()) if DEFINITION_FILE.is_file() else {"StartAt": "", "States": {}}
STATES = DEFINITION["States"]
EVERY_STATE = pytest.mark.parametrize("name", STATES)
# A step that fails for good here hands the order to a person; only this one lets the execution fail.
LAST_RESORT = "Park"
CALLS_A_PERSON = {
    "CapturePayment",
    "CommitInventory",
    "AbortOrder",
    "CancelPayment",
    "ReleaseInventory",
    "RejectOrder",
}


def successors(state):
    """Where a state leads, the end being None."""
    after = {state.get("Next"), *(handler["Next"] for handler in state.get("Catch", []))}
    return after - {None} | ({None} if state.get("End") else set())


EDGES = {("[*]", DEFINITION["StartAt"])} | {
    (name, after or "[*]") for name, state in STATES.items() for after in successors(state)
}


def errors(handlers):
    return [error for handler in handlers for error in handler["ErrorEquals"]]


def refusals():
    """The public error names as the functions know them."""
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
    """The function that a step invokes, by its plain name."""
    return STEPS[re.fullmatch(r"\$\{(\w+)}", STATES[name]["Arguments"]["FunctionName"])[1]]


def test_every_placeholder_has_a_substitution_and_the_reverse():
    assert set(re.findall(r"\$\{(\w+)}", DEFINITION_FILE.read_text())) == set(STEPS)
    for placeholder, function in STEPS.items():
        assert placeholder == "".join(part.capitalize() for part in function.split("-"))


def test_every_step_leads_to_one_that_exists_and_is_led_to():
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
def test_from_every_step_there_is_a_way_to_the_end(name):
    reached, found = set(), [name]
    while found:
        step = found.pop()
        if step is not None and step not in reached:
            found += successors(STATES[step])
        reached.add(step)
    assert None in reached


@EVERY_STATE
def test_a_step_goes_on_or_ends_and_not_both(name):
    assert ("Next" in STATES[name]) != ("End" in STATES[name])
    assert STATES[name].get("End", True) is True


def test_an_order_that_goes_well_takes_at_most_six_steps():
    path = [DEFINITION["StartAt"]]
    while "Next" in STATES[path[-1]]:
        path.append(STATES[path[-1]]["Next"])
        assert len(path) <= 6, path
    assert STATES[path[-1]]["End"] is True


def test_the_saga_as_a_whole_has_a_time_out_that_leaves_room_for_every_retry():
    # Until it is parked an order goes through no step twice.
    assert DEFINITION["TimeoutSeconds"] >= sum(map(longest, STATES.values()))


def longest(state):
    """How many seconds a step may take with all its retries."""
    return state["TimeoutSeconds"] * (1 + len(pauses(state))) + sum(pauses(state))


def pauses(state):
    """The seconds before each further attempt, at their longest."""
    transient = state["Retry"][-1]
    return [
        min(transient["IntervalSeconds"] * transient["BackoffRate"] ** attempt, transient["MaxDelaySeconds"])
        for attempt in range(transient["MaxAttempts"])
    ]


@EVERY_STATE
def test_a_step_waits_longer_than_its_function_may_run(name):
    # Otherwise a step is tried again, or undone, beside an attempt that is still at work.
    [time_out] = [
        properties["Timeout"]
        for stack, function in EVERY_FUNCTION
        for properties in [stack.functions[function]]
        if properties["FunctionName"] == function_behind(name)
    ]
    assert STATES[name]["TimeoutSeconds"] > time_out


@EVERY_STATE
def test_a_refusal_is_final_and_all_else_is_tried_again_with_growing_pauses_of_random_length(name):
    *final, transient = STATES[name]["Retry"]
    assert set(errors(final)) == refusals()
    assert all(retrier["MaxAttempts"] == 0 for retrier in final)
    assert transient["ErrorEquals"] == ["States.ALL"], "what is not named is worth another attempt"
    assert transient["MaxAttempts"] >= 1
    assert transient["BackoffRate"] > 1
    assert transient["JitterStrategy"] == "FULL"


@EVERY_STATE
def test_a_buyer_waits_for_less_than_a_minute_and_a_person_is_called_after_more_than_ten(name):
    if name in CALLS_A_PERSON | {LAST_RESORT}:
        assert sum(pauses(STATES[name])) > 600
    else:
        assert sum(pauses(STATES[name])) < 60


@EVERY_STATE
def test_what_a_step_cannot_do_leads_somewhere(name):
    if name == LAST_RESORT:
        assert "Catch" not in STATES[name], "an order that is parked is an execution that failed"
        return
    *named, last = STATES[name]["Catch"]
    assert last["ErrorEquals"] == ["States.ALL"]
    assert set(errors(named)) <= refusals()


def test_only_what_nobody_may_leave_undone_is_handed_to_a_person():
    assert {name for name, state in STATES.items() if LAST_RESORT in successors(state)} == CALLS_A_PERSON


def test_before_the_pivot_every_failure_is_undone_and_in_one_order():
    for name in ("ValidateUser", "ReserveInventory", "AuthorizePayment", "ConfirmOrder"):
        assert STATES[name]["Catch"][-1]["Next"] == "AbortOrder", name
    undoing = ["AbortOrder", "CancelPayment", "ReleaseInventory", "RejectOrder"]
    assert [STATES[name].get("Next") for name in undoing] == [*undoing[1:], None]


@EVERY_STATE
def test_the_example_input_of_a_step_is_what_the_saga_hands_over(name):
    example = json.loads((ROOT / f"events/invoke/{function_behind(name)}.json").read_text())
    assert set(example) == set(STATES[name]["Arguments"]["Payload"])


def test_the_error_names_are_those_of_the_functions():
    names = {error for state in STATES.values() for error in errors(state.get("Retry", []) + state.get("Catch", []))}
    assert len(refusals()) >= 10, "the names were found"
    assert {name for name in names if not name.startswith("States.")} == refusals()


def test_cfn_lint_knows_every_word_of_the_definition():
    # The templates name a file, which cfn-lint does not read; here it stands in the template itself.
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
    assert len(set(shown)) == len(shown), "an arrow is there twice"


# what the template gives it -------------------------------------------------------------------------------------------


def test_the_state_machine_is_a_standard_one_with_the_name_that_others_know():
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


def test_the_state_machine_may_invoke_its_steps_write_its_traces_and_do_nothing_else():
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
    assert (traces["Effect"], traces["Resource"]) == ("Allow", "*"), "X-Ray knows no resources for these"
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


def test_those_who_start_a_saga_know_its_name_and_may_do_no_more():
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


# what looks after it --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stack", SERVICES.values(), ids=label)
def test_a_schedule_may_invoke_its_function_and_do_nothing_else(stack):
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


def test_orders_are_reconciled_every_minute_and_one_run_ends_before_the_next():
    [schedule] = ORDERS.of_type("AWS::Scheduler::Schedule").values()
    assert ORDERS.scheduled == {"OrdersReconcile"}
    assert schedule["ScheduleExpression"] == "rate(1 minute)"
    assert schedule["FlexibleTimeWindow"] == {"Mode": "OFF"}
    assert schedule["Target"]["RetryPolicy"]["MaximumEventAgeInSeconds"] == 60
    assert schedule.get("State", "ENABLED") == "ENABLED"
    assert ORDERS.functions["OrdersReconcile"]["Timeout"] < 60
    [repeats] = ORDERS.of_type("AWS::Lambda::EventInvokeConfig").values()
    assert (target(repeats["FunctionName"]), repeats["MaximumRetryAttempts"]) == ("OrdersReconcile", 0)


def test_an_alarm_rings_when_orders_are_not_reconciled():
    [alarm] = alarms(without_data="breaching", MetricName="Errors")
    assert alarm["Namespace"] == "AWS/Lambda"
    assert alarm["Dimensions"] == [{"Name": "FunctionName", "Value": {"Ref": "OrdersReconcile"}}]
    assert (alarm["ComparisonOperator"], alarm["Threshold"]) == ("GreaterThanThreshold", 0)


def test_an_alarm_rings_for_one_parked_order():
    [alarm] = alarms(AlarmName="orders-parked")
    assert (alarm["Statistic"], alarm["Period"], alarm["EvaluationPeriods"]) == ("Sum", 60, 1)
    assert (alarm["ComparisonOperator"], alarm["Threshold"]) == ("GreaterThanThreshold", 0)
    # The functions count it themselves: a metric filter on the line "parked" would count each order twice.
    assert (alarm["Namespace"], alarm["MetricName"]) == ("Madang", "OrdersParked")
    assert not ORDERS.of_type("AWS::Logs::MetricFilter")


def test_the_step_and_the_reconciler_count_a_parked_order_and_write_the_line_that_tells_which():
    for source in ("tasks.rs", "reconciler.rs"):
        text = (ROOT / "functions/orders/src" / source).read_text()
        assert re.search(
            r'ORDERS_PARKED\.increment\(\);\s*tracing::error!\([^;]*\border_id\b[^;]*\bcause\b[^;]*, "parked"\);', text
        ), source


def alarms(without_data="notBreaching", **properties):
    """The orders' alarms of this kind. Each says what to do first and rings the topic."""
    every = ORDERS.of_type("AWS::CloudWatch::Alarm").values()
    found = [alarm for alarm in every if all(alarm[name] == value for name, value in properties.items())]
    for alarm in found:
        assert "First: " in alarm["AlarmDescription"]
        assert alarm["AlarmActions"] == [{"Ref": "AlarmTopicArn"}]
        assert alarm["TreatMissingData"] == without_data
    return found


def trust(role):
    """The one statement about who may take the role, without its name."""
    [statement] = role["AssumeRolePolicyDocument"]["Statement"]
    return {key: value for key, value in statement.items() if key != "Sid"}
