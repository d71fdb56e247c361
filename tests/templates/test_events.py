"""Rules, queues, consumers and relays: permissions, retries, dead letters and alarms."""

import json

import pytest
from stacks import (
    EVERY_DEAD_LETTER_QUEUE,
    EVERY_RULE,
    QUEUE_MAPPINGS,
    ROOT,
    SERVICES,
    STACKS,
    STREAM_MAPPINGS,
    WITH_TABLE,
    as_list,
    label,
    target,
)

RULES = pytest.mark.parametrize("stack, rule", EVERY_RULE, ids=label)
QUEUES = pytest.mark.parametrize(
    "stack, queue", [(stack, queue) for stack in STACKS.values() for queue in stack.queues], ids=label
)
DEAD_LETTER_QUEUES = pytest.mark.parametrize("stack, queue", EVERY_DEAD_LETTER_QUEUE, ids=label)


def publications(service):
    """The event source and the event types with which a service's relay may publish."""
    stack = SERVICES[service]
    [put] = [
        s for s in stack.statements_of(f"{service.capitalize()}Relay") if "events:PutEvents" in as_list(s["Action"])
    ]
    condition = put["Condition"]["StringEqualsIfExists"]
    return condition["events:source"], as_list(condition["events:detail-type"])


@pytest.mark.parametrize("service", WITH_TABLE)
def test_a_service_publishes_only_existing_events_and_only_with_its_own_source(service):
    source, types = publications(service)
    assert source == f"madang.{service}"
    for kind in types:
        assert (ROOT / f"events/schemas/{kind}.v1.json").is_file(), kind


def test_only_relays_publish():
    publishers = [
        stack.functions[function]["FunctionName"]
        for stack in SERVICES.values()
        for function in stack.functions
        if any(action.startswith("events:") for s in stack.statements_of(function) for action in as_list(s["Action"]))
    ]
    assert publishers == [f"{service}-relay" for service in WITH_TABLE]


@RULES
def test_a_rule_matches_existing_events_of_the_service_that_publishes_them(stack, rule):
    properties = stack.resources[rule]["Properties"]
    assert properties["EventBusName"] == {"Ref": "EventBus"}
    assert set(properties["EventPattern"]) == {"source", "detail-type"}
    [source] = properties["EventPattern"]["source"]
    published_as, types = publications(source.removeprefix("madang."))
    assert published_as == source
    for kind in properties["EventPattern"]["detail-type"]:
        assert kind in types
        assert (ROOT / f"events/schemas/{kind}.v1.json").is_file(), kind


@RULES
def test_a_rule_has_one_queue_and_sends_failed_deliveries_to_its_dead_letter_queue(stack, rule):
    [queue] = stack.resources[rule]["Properties"]["Targets"]
    redrive = stack.queues[target(queue["Arn"])]["RedrivePolicy"]
    assert target(queue["DeadLetterConfig"]["Arn"]) == target(redrive["deadLetterTargetArn"])


@RULES
def test_only_its_rule_may_send_to_a_queue(stack, rule):
    [delivery] = stack.resources[rule]["Properties"]["Targets"]
    for queue in (target(delivery["Arn"]), target(delivery["DeadLetterConfig"]["Arn"])):
        [policy] = [p for p in stack.of_type("AWS::SQS::QueuePolicy").values() if {"Ref": queue} in p["Queues"]]
        assert policy["Queues"] == [{"Ref": queue}]
        [statement] = policy["PolicyDocument"]["Statement"]
        assert {key: value for key, value in statement.items() if key != "Sid"} == {
            "Effect": "Allow",
            "Principal": {"Service": "events.amazonaws.com"},
            "Action": "sqs:SendMessage",
            # SQS accepts only one resource per statement.
            "Resource": {"Fn::GetAtt": [queue, "Arn"]},
            "Condition": {"ArnEquals": {"aws:SourceArn": {"Fn::GetAtt": [rule, "Arn"]}}},
        }


@pytest.mark.parametrize("stack", STACKS.values(), ids=label)
def test_every_queue_policy_is_for_a_rule(stack):
    assert len(stack.of_type("AWS::SQS::QueuePolicy")) == 2 * len(stack.of_type("AWS::Events::Rule"))


@QUEUES
def test_a_message_that_fails_five_times_goes_to_a_dead_letter_queue_with_the_longest_retention(stack, queue):
    properties = stack.queues[queue]
    assert properties["SqsManagedSseEnabled"] is True
    if queue in stack.dead_letter_queues:
        assert "RedrivePolicy" not in properties
        assert properties["MessageRetentionPeriod"] == 14 * 24 * 3600, "a dead letter has to be kept for SQS's maximum"
    else:
        dead_letters = target(properties["RedrivePolicy"]["deadLetterTargetArn"])
        assert properties["RedrivePolicy"]["maxReceiveCount"] == 5
        assert stack.queues[dead_letters]["QueueName"] == f"{properties['QueueName']}-dead-letters"


@DEAD_LETTER_QUEUES
def test_an_alarm_is_triggered_by_one_dead_letter_and_says_what_to_do(stack, queue):
    [alarm] = [
        alarm
        for alarm in stack.of_type("AWS::CloudWatch::Alarm").values()
        if alarm.get("Dimensions") == [{"Name": "QueueName", "Value": {"Fn::GetAtt": [queue, "QueueName"]}}]
    ]
    assert (alarm["Namespace"], alarm["MetricName"]) == ("AWS/SQS", "ApproximateNumberOfMessagesVisible")
    assert (alarm["ComparisonOperator"], alarm["Threshold"]) == ("GreaterThanThreshold", 0)
    assert alarm["AlarmActions"] == [{"Ref": "AlarmTopicArn"}]
    assert "First: " in alarm["AlarmDescription"]


@pytest.mark.parametrize("stack, mapping", QUEUE_MAPPINGS, ids=label)
def test_a_consumer_reports_partial_failures_and_has_a_maximum_concurrency(stack, mapping):
    properties = stack.resources[mapping]["Properties"]
    assert properties["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert 2 <= properties["ScalingConfig"]["MaximumConcurrency"] <= 50


@pytest.mark.parametrize("stack, mapping", QUEUE_MAPPINGS, ids=label)
def test_the_visibility_timeout_is_six_times_the_consumers_timeout(stack, mapping):
    properties = stack.resources[mapping]["Properties"]
    queue = stack.queues[target(properties["EventSourceArn"])]
    function = stack.functions[target(properties["FunctionName"])]
    assert queue["VisibilityTimeout"] >= 6 * function["Timeout"]
    assert queue["QueueName"] == function["FunctionName"]


@pytest.mark.parametrize("stack, mapping", QUEUE_MAPPINGS, ids=label)
def test_a_consumer_may_only_use_its_queue_and_send_to_its_dead_letter_queue(stack, mapping):
    properties = stack.resources[mapping]["Properties"]
    queue, function = target(properties["EventSourceArn"]), target(properties["FunctionName"])
    dead_letters = target(stack.queues[queue]["RedrivePolicy"]["deadLetterTargetArn"])
    allowed = {
        target(statement["Resource"]): set(as_list(statement["Action"]))
        for statement in stack.statements_of(function)
        if as_list(statement["Action"])[0].startswith("sqs:")
    }
    assert allowed == {
        queue: {
            "sqs:ReceiveMessage",
            "sqs:DeleteMessage",
            "sqs:ChangeMessageVisibility",
            "sqs:GetQueueAttributes",
            "sqs:SendMessage",
        },
        dead_letters: {"sqs:SendMessage"},
    }
    variables = stack.functions[function]["Environment"]["Variables"]
    assert (variables["QUEUE_URL"], variables["DEAD_LETTER_QUEUE_URL"]) == ({"Ref": queue}, {"Ref": dead_letters})


def test_every_queue_of_a_rule_has_one_consumer():
    for stack, rule in EVERY_RULE:
        [delivery] = stack.resources[rule]["Properties"]["Targets"]
        consumers = [
            mapping
            for consumer, mapping in QUEUE_MAPPINGS
            if consumer is stack and stack.resources[mapping]["Properties"]["EventSourceArn"] == delivery["Arn"]
        ]
        assert len(consumers) == 1, rule


def test_every_table_has_one_relay():
    assert [
        (stack.name, target(stack.resources[mapping]["Properties"]["FunctionName"]))
        for stack, mapping in STREAM_MAPPINGS
    ] == [(service, f"{service.capitalize()}Relay") for service in WITH_TABLE]


@pytest.mark.parametrize("stack, mapping", STREAM_MAPPINGS, ids=label)
def test_a_relay_retries_for_as_long_as_the_stream_keeps_a_record(stack, mapping):
    properties = stack.resources[mapping]["Properties"]
    assert properties["EventSourceArn"] == {"Fn::GetAtt": ["Table", "StreamArn"]}
    assert properties["StartingPosition"] == "TRIM_HORIZON"
    assert properties["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert properties["BisectBatchOnFunctionError"] is True
    assert (properties["MaximumRetryAttempts"], properties["MaximumRecordAgeInSeconds"]) == (-1, 24 * 3600)
    [pattern] = [json.loads(entry["Pattern"]) for entry in properties["FilterCriteria"]["Filters"]]
    assert pattern["eventName"] == ["INSERT", "MODIFY"]


@pytest.mark.parametrize("stack, mapping", STREAM_MAPPINGS, ids=label)
def test_an_alarm_is_triggered_if_a_relay_falls_behind(stack, mapping):
    function = stack.resources[mapping]["Properties"]["FunctionName"]
    [alarm] = [
        alarm
        for alarm in stack.of_type("AWS::CloudWatch::Alarm").values()
        if alarm["MetricName"] == "IteratorAge" and alarm["Dimensions"] == [{"Name": "FunctionName", "Value": function}]
    ]
    assert alarm["AlarmActions"] == [{"Ref": "AlarmTopicArn"}]
    assert "First: " in alarm["AlarmDescription"]
