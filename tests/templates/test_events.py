"""Rules, queues, consumers and relays: permissions, retries, dead letters and alarms."""

import json

import pytest
from stacks import (
    EVERY_DEAD_LETTER_QUEUE,
    EVERY_RULE,
    LONGEST_PAUSE,
    QUEUE_MAPPINGS,
    RETRIED_FOR,
    ROOT,
    ROOT_TEMPLATE,
    SERVICES,
    STACKS,
    STREAM_MAPPINGS,
    TOMBSTONE_LIFE,
    WITH_TABLE,
    as_list,
    consumes_events,
    label,
    read,
    target,
)

# The time for which a table's stream keeps a record, in seconds:
# https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Streams.html
STREAM_RETENTION = 24 * 3600
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
    # A rule for events sends to a queue and to its dead-letter queue, a rule for unpublished records to one queue.
    for_events = sum(consumes_events(rule) for rule in stack.of_type("AWS::Events::Rule").values())
    others = len(stack.of_type("AWS::Events::Rule")) - for_events
    assert len(stack.of_type("AWS::SQS::QueuePolicy")) == 2 * for_events + others


@QUEUES
def test_a_message_that_was_delivered_too_often_goes_to_a_dead_letter_queue_with_the_longest_retention(stack, queue):
    properties = stack.queues[queue]
    assert properties["SqsManagedSseEnabled"] is True
    if queue in stack.dead_letter_queues:
        assert "RedrivePolicy" not in properties
        assert properties["MessageRetentionPeriod"] == 14 * 24 * 3600, "a dead letter has to be kept for SQS's maximum"
    else:
        dead_letters = target(properties["RedrivePolicy"]["deadLetterTargetArn"])
        assert stack.queues[dead_letters]["QueueName"] == f"{properties['QueueName']}-dead-letters"


@pytest.mark.parametrize("stack, mapping", QUEUE_MAPPINGS, ids=label)
def test_only_a_message_that_kills_its_function_every_time_is_delivered_too_often(stack, mapping):
    queue = stack.queues[target(stack.resources[mapping]["Properties"]["EventSourceArn"])]
    deliveries = queue["RedrivePolicy"]["maxReceiveCount"]
    # If Lambda throttles or kills every invocation, the message returns after the visibility timeout each time. The
    # consumer has to be able to give it up first, with its reason, even if it is rarely invoked.
    assert deliveries * queue["VisibilityTimeout"] >= 1.2 * RETRIED_FOR
    # The queue has to move the message before it deletes it.
    assert deliveries * queue["VisibilityTimeout"] < queue["MessageRetentionPeriod"]
    # If the function reports the failures, pauses double from two seconds. None is shorter than half of its maximum.
    pause, waited, reported = 2, 0, 1
    while waited < RETRIED_FOR:
        waited, reported, pause = waited + pause / 2, reported + 1, min(2 * pause, LONGEST_PAUSE)
    assert reported < deliveries / 2


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
    of_its_queue = {
        "sqs:ReceiveMessage",
        "sqs:DeleteMessage",
        "sqs:ChangeMessageVisibility",
        "sqs:GetQueueAttributes",
    }
    # Only a cascade sends messages to itself: the rest of its work. test_functions.py tells which functions have one.
    if stack.functions[function].get("RecursiveLoop") == "Allow":
        of_its_queue.add("sqs:SendMessage")
    assert allowed == {queue: of_its_queue, dead_letters: {"sqs:SendMessage"}}
    variables = stack.functions[function]["Environment"]["Variables"]
    assert (variables["QUEUE_URL"], variables["DEAD_LETTER_QUEUE_URL"]) == ({"Ref": queue}, {"Ref": dead_letters})


@pytest.mark.parametrize("parameters", [STACKS["platform"].parameters, read(ROOT_TEMPLATE)["Parameters"]])
def test_an_event_is_archived_no_longer_than_a_tombstone_lives(parameters):
    # Otherwise a replay could bring back what was deleted. Our consumers refuse what is older; others may not.
    assert parameters["EventArchiveDays"]["MaxValue"] * 24 * 3600 <= TOMBSTONE_LIFE
    # In EventBridge 0 means for ever. Here it has to mean that there is no archive.
    assert parameters["EventArchiveDays"]["MinValue"] == 0
    condition = {"Fn::Not": [{"Fn::Equals": [{"Ref": "EventArchiveDays"}, 0]}]}
    platform = STACKS["platform"].template
    assert platform["Conditions"]["KeepEventArchive"] == condition
    [archive] = [r for r in platform["Resources"].values() if r["Type"] == "AWS::Events::Archive"]
    assert archive["Condition"] == "KeepEventArchive"
    assert archive["Properties"]["RetentionDays"] == {"Ref": "EventArchiveDays"}


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
def test_a_relay_retries_a_record_until_shortly_before_the_stream_drops_it(stack, mapping):
    properties = stack.resources[mapping]["Properties"]
    assert properties["EventSourceArn"] == {"Fn::GetAtt": ["Table", "StreamArn"]}
    assert properties["StartingPosition"] == "TRIM_HORIZON"
    assert properties["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert properties["BisectBatchOnFunctionError"] is True
    assert properties["MaximumRetryAttempts"] == -1
    # Lambda looks at the age between two attempts, of which each takes up to the function's timeout.
    left = STREAM_RETENTION - properties["MaximumRecordAgeInSeconds"]
    assert max(3600, 100 * stack.functions[target(properties["FunctionName"])]["Timeout"]) <= left <= 3 * 3600
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


# records that a relay did not publish ---------------------------------------------------------------------------------

RELAYS = pytest.mark.parametrize("stack", WITH_TABLE.values(), ids=label)


def bucket_of(stack):
    """The logical id of the bucket in which Lambda keeps the records that a relay did not publish in time."""
    return f"{stack.name.capitalize()}RelayUnpublished"


def arn_of_objects(bucket):
    return {"Fn::Sub": f"${{{bucket}.Arn}}/*"}


def without_sid(statement):
    return {key: value for key, value in statement.items() if key != "Sid"}


@pytest.mark.parametrize("stack, mapping", STREAM_MAPPINGS, ids=label)
def test_records_that_were_not_published_in_time_are_kept_whole_in_a_bucket(stack, mapping):
    # For a queue or a topic Lambda sends only the records' numbers, by which the stream does not find them any more:
    # https://docs.aws.amazon.com/lambda/latest/dg/services-dynamodb-errors.html
    destination = stack.resources[mapping]["Properties"]["DestinationConfig"]["OnFailure"]["Destination"]
    assert destination == {"Fn::GetAtt": [bucket_of(stack), "Arn"]}
    assert set(stack.of_type("AWS::S3::Bucket")) == {bucket_of(stack)}


@RELAYS
def test_a_relay_may_write_to_its_bucket_in_this_account_and_list_it(stack):
    bucket = bucket_of(stack)
    statements = [
        without_sid(statement)
        for statement in stack.statements_of(f"{stack.name.capitalize()}Relay")
        if any(action.startswith("s3:") for action in as_list(statement["Action"]))
    ]
    # Without the condition, the records would go to whoever creates a bucket with this name after ours was deleted.
    here = {"StringEquals": {"s3:ResourceAccount": {"Ref": "AWS::AccountId"}}}
    assert statements == [
        {"Effect": "Allow", "Action": ["s3:PutObject"], "Resource": arn_of_objects(bucket), "Condition": here},
        {
            "Effect": "Allow",
            "Action": ["s3:ListBucket"],
            "Resource": {"Fn::GetAtt": [bucket, "Arn"]},
            "Condition": here,
        },
    ]


@RELAYS
def test_a_bucket_of_unpublished_records_is_encrypted_private_and_kept(stack):
    bucket = bucket_of(stack)
    resource = stack.resources[bucket]
    assert resource["DeletionPolicy"] in ("Retain", "RetainExceptOnCreate")
    assert resource["UpdateReplacePolicy"] == "Retain"
    properties = resource["Properties"]
    assert "BucketName" not in properties, "names are unique in all of AWS, so a fixed one may be in use"
    [encryption] = properties["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert encryption == {"ServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}
    assert properties["PublicAccessBlockConfiguration"] == dict.fromkeys(
        ("BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls", "RestrictPublicBuckets"), True
    )
    [policy] = stack.of_type("AWS::S3::BucketPolicy").values()
    assert policy["Bucket"] == {"Ref": bucket}
    [statement] = policy["PolicyDocument"]["Statement"]
    assert without_sid(statement) == {
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:*",
        "Resource": [{"Fn::GetAtt": [bucket, "Arn"]}, arn_of_objects(bucket)],
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }


@RELAYS
def test_unpublished_records_are_deleted_only_after_their_dead_letter(stack):
    bucket, queue = bucket_of(stack), stack.queues[f"{stack.name.capitalize()}RelayDeadLetters"]
    expiry, uploads = stack.resources[bucket]["Properties"]["LifecycleConfiguration"]["Rules"]
    assert {key: value for key, value in expiry.items() if key != "Id"} == {"Status": "Enabled", "ExpirationInDays": 90}
    assert expiry["ExpirationInDays"] * 24 * 3600 > 2 * queue["MessageRetentionPeriod"]
    assert {key: value for key, value in uploads.items() if key != "Id"} == {
        "Status": "Enabled",
        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7},
    }


@RELAYS
def test_each_object_with_unpublished_records_is_reported_to_the_relays_dead_letter_queue(stack):
    bucket, queue = bucket_of(stack), f"{stack.name.capitalize()}RelayDeadLetters"
    notifications = stack.resources[bucket]["Properties"]["NotificationConfiguration"]
    # S3's own notifications begin with a test message, which would trigger the alarm:
    # https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html
    assert notifications == {"EventBridgeConfiguration": {"EventBridgeEnabled": True}}
    [(name, rule)] = [
        (name, rule) for name, rule in stack.of_type("AWS::Events::Rule").items() if not consumes_events(rule)
    ]
    # https://docs.aws.amazon.com/AmazonS3/latest/userguide/ev-events.html
    assert rule["EventPattern"] == {
        "source": ["aws.s3"],
        "detail-type": ["Object Created"],
        "detail": {"bucket": {"name": [{"Ref": bucket}]}},
    }
    assert rule.get("State", "ENABLED") == "ENABLED"
    [delivery] = rule["Targets"]
    assert set(delivery) == {"Id", "Arn"}
    assert target(delivery["Arn"]) == queue
    relay = stack.functions[f"{stack.name.capitalize()}Relay"]
    assert relay["Environment"]["Variables"]["DEAD_LETTER_QUEUE_URL"] == {"Ref": queue}
    [policy] = [p for p in stack.of_type("AWS::SQS::QueuePolicy").values() if {"Ref": queue} in p["Queues"]]
    assert policy["Queues"] == [{"Ref": queue}]
    [statement] = policy["PolicyDocument"]["Statement"]
    assert without_sid(statement) == {
        "Effect": "Allow",
        "Principal": {"Service": "events.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": {"Fn::GetAtt": [queue, "Arn"]},
        "Condition": {"ArnEquals": {"aws:SourceArn": {"Fn::GetAtt": [name, "Arn"]}}},
    }
