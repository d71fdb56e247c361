"""The dashboard and the alarms: they refer to existing metrics, and the alarms say what to do."""

import json
import re

import pytest
from stacks import EVERY_FUNCTION, LONGEST_PAUSE, PSEUDO, RETRIED_FOR, ROOT, SERVICES, STACKS, label

STACK = STACKS["observability"]
PAGE = (ROOT / "infra/observability.md").read_text()
EVERY_ALARM = [(stack, alarm) for stack in STACKS.values() for alarm in stack.of_type("AWS::CloudWatch::Alarm")]
ALARMS = pytest.mark.parametrize("stack, alarm", EVERY_ALARM, ids=label)
OWN_ALARMS = pytest.mark.parametrize("alarm", STACK.of_type("AWS::CloudWatch::Alarm"))
WAKE, MAIL = "Worth waking for: ", "For the next morning: "

# The metrics of AWS services that are used here, by namespace and dimensions. Source: the page of each service under
# https://docs.aws.amazon.com/<service>/latest/<guide>/…metrics….html
AWS_METRICS = {
    "AWS/ApiGateway": {("ApiId",): {"Count", "4xx", "5xx", "Latency"}},
    "AWS/DynamoDB": {
        ("TableName",): {
            "ConsumedReadCapacityUnits",
            "ConsumedWriteCapacityUnits",
            "ReadThrottleEvents",
            "WriteThrottleEvents",
        }
    },
    # Rules on the default bus have only their name as a dimension.
    "AWS/Events": {("EventBusName", "RuleName"): {"FailedInvocations"}, ("RuleName",): {"FailedInvocations"}},
    "AWS/Lambda": {
        (): {"ConcurrentExecutions", "Throttles"},
        ("FunctionName",): {"Duration", "Errors", "Invocations", "IteratorAge", "Throttles"},
    },
    "AWS/Logs": {("LogGroupName",): {"IncomingBytes"}},
    "AWS/SQS": {("QueueName",): {"ApproximateAgeOfOldestMessage", "ApproximateNumberOfMessagesVisible"}},
    "AWS/States": {
        ("StateMachineArn",): {
            "ExecutionThrottled",
            "ExecutionTime",
            "ExecutionsAborted",
            "ExecutionsFailed",
            "ExecutionsStarted",
            "ExecutionsSucceeded",
            "ExecutionsTimedOut",
        },
        ("ServiceMetric",): {"ThrottledEvents"},
    },
}


def read_own_metrics():
    """The metrics that the functions write: the constant in the code, the kind (Count or Time) and the dimensions."""
    source = "".join(path.read_text() for path in sorted((ROOT / "functions").glob("*/src/**/metrics.rs")))
    found = re.findall(r'pub const (\w+): (Count|Time) = \w+::(?:new|by)\("(\w+)"(?:, "(\w+)")?\);', source)
    assert len(found) == len(re.findall(r"pub const \w+: (?:Count|Time)", source))
    return {name: (constant, kind, (dimension,) if dimension else ()) for constant, kind, name, dimension in found}


OWN_METRICS = read_own_metrics()


def exists(namespace, name, dimensions):
    if namespace == "Madang":
        return name in OWN_METRICS and OWN_METRICS[name][2] == tuple(dimensions)
    return name in AWS_METRICS[namespace].get(tuple(sorted(dimensions)), ())


def substituted(value):
    """The text of the dashboard after CloudFormation's substitutions."""
    text, given = value["Fn::Sub"]
    given = {name: each["Fn::Sub"] if isinstance(each, dict) else each for name, each in given.items()}
    for values in (given, PSEUDO, {"ApiId": "abcdefghij"}):
        text = re.sub(r"\$\{([\w:]+)}", lambda m, values=values: values.get(m[1], m[0]), text)
    return text


DASHBOARD = json.loads(substituted(STACK.resources["Dashboard"]["Properties"]["DashboardBody"]))
WIDGETS = DASHBOARD["widgets"]
GRAPHS = [widget["properties"] for widget in WIDGETS if widget["type"] == "metric"]


def metrics_shown():
    """Namespace, name, dimensions and their values (for a search: its conditions) of each metric on the dashboard."""
    for graph in GRAPHS:
        for *metric, options in [m if isinstance(m[-1], dict) else [*m, {}] for m in graph["metrics"]]:
            if "expression" in options:
                assert not metric
                [(schema, conditions, _)] = re.findall(r"SEARCH\('\{([^}]+)} ([^']*)', '(\w+)'", options["expression"])
                namespace, *dimensions = schema.split(",")
                yield namespace, re.search(r'MetricName="(\w+)"', conditions)[1], dimensions, conditions
            else:
                namespace, name, *pairs = metric
                yield namespace, name, pairs[::2], dict(zip(pairs[::2], pairs[1::2], strict=True))


def metrics_watched(properties):
    """Namespace, name and dimensions of each metric that an alarm watches."""
    if "Metrics" not in properties:
        yield properties["Namespace"], properties["MetricName"], [d["Name"] for d in properties.get("Dimensions", [])]
    for query in properties.get("Metrics", []):
        if "MetricStat" in query:
            metric = query["MetricStat"]["Metric"]
            yield metric["Namespace"], metric["MetricName"], [d["Name"] for d in metric.get("Dimensions", [])]
        elif query["Expression"].startswith("SELECT"):
            select = re.fullmatch(r"SELECT (?:SUM|MAX)\((\w+)\) FROM SCHEMA\(([\w, ]+)\)", query["Expression"])
            name, schema = select.groups()
            namespace, *dimensions = schema.split(", ")
            yield namespace, name, dimensions


# every alarm ----------------------------------------------------------------------------------------------------------


@ALARMS
def test_an_alarm_says_what_happened_and_what_to_do_and_notifies_the_topic(stack, alarm):
    properties = stack.resources[alarm]["Properties"]
    assert properties["AlarmActions"] == [{"Ref": "AlarmTopicArn"}]
    what_happened, _, what_to_do = properties["AlarmDescription"].partition("First: ")
    assert len(what_happened) > 40 and len(what_to_do) > 40
    # CloudWatch's limit.
    assert len(properties["AlarmDescription"]) <= 1024
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)+", properties["AlarmName"])


@ALARMS
def test_missing_data_triggers_only_the_alarm_of_the_scheduled_job(stack, alarm):
    properties = stack.resources[alarm]["Properties"]
    # No data means no traffic, except for a job that runs every minute.
    scheduled = properties["AlarmName"] == "orders-reconcile-errors"
    assert properties["TreatMissingData"] == ("breaching" if scheduled else "notBreaching")


@ALARMS
def test_an_alarm_watches_existing_metrics(stack, alarm):
    watched = list(metrics_watched(stack.resources[alarm]["Properties"]))
    assert watched
    for namespace, name, dimensions in watched:
        assert exists(namespace, name, dimensions), name


@ALARMS
def test_our_own_metrics_that_an_alarm_watches_are_written_by_the_code(stack, alarm):
    sources = "".join(path.read_text() for path in (ROOT / "functions").rglob("*.rs") if path.name != "metrics.rs")
    for namespace, name, _ in metrics_watched(stack.resources[alarm]["Properties"]):
        if namespace == "Madang":
            constant, kind, dimensions = OWN_METRICS[name]
            call = {"Count": "increment", "Time": "record"}[kind] + ("_for" if dimensions else "")
            assert re.search(rf"\b{constant}\s*\.{call}\(", sources), name


def test_no_two_alarms_have_the_same_name_or_watch_the_same_metrics():
    names = [stack.resources[alarm]["Properties"]["AlarmName"] for stack, alarm in EVERY_ALARM]
    assert sorted(names) == sorted(set(names))
    watched = [
        json.dumps([p.get("Namespace"), p.get("MetricName"), p.get("Dimensions"), p.get("Metrics")])
        for stack, alarm in EVERY_ALARM
        for p in [stack.resources[alarm]["Properties"]]
    ]
    assert sorted(watched) == sorted(set(watched))


@ALARMS
def test_observability_md_has_a_row_for_each_alarm(stack, alarm):
    name = stack.resources[alarm]["Properties"]["AlarmName"]
    rows = set(re.findall(r"^\| `([^`]+)` ", PAGE.partition("## Alarms")[2], re.MULTILINE))
    # The alarms that each queue or each relay has share one row.
    kinds = {name, re.sub(r"^.*-(dead-letters)$", r"…-\1", name), re.sub(r"^.*-(relay-behind)$", r"…-\1", name)}
    assert kinds & rows


def test_observability_md_names_only_existing_alarms_and_exactly_our_own_metrics():
    rows = set(re.findall(r"^\| `([^`]+)` ", PAGE.partition("## Alarms")[2].partition("\n## ")[0], re.MULTILINE))
    names = {stack.resources[alarm]["Properties"]["AlarmName"] for stack, alarm in EVERY_ALARM}
    assert rows - names == {"…-dead-letters", "…-relay-behind"}
    metrics = PAGE.partition("## Metrics")[2].partition("\n## ")[0]
    cells = [row.split("|")[1] for row in metrics.splitlines() if row.startswith("| `")]
    assert sorted(name for cell in cells for name in re.findall(r"`(\w+)`", cell)) == sorted(OWN_METRICS)


@ALARMS
def test_an_alarm_says_whether_it_is_worth_waking_someone_and_the_dashboard_agrees(stack, alarm):
    properties = stack.resources[alarm]["Properties"]
    description = properties["AlarmDescription"]
    assert description.startswith((WAKE, MAIL))
    assert (properties["AlarmName"] in named_by("Alarms worth waking for")) == description.startswith(WAKE)


# the alarms of this stack ---------------------------------------------------------------------------------------------


@OWN_ALARMS
def test_an_alarm_says_what_is_normal(alarm):
    description = STACK.resources[alarm]["Properties"]["AlarmDescription"]
    assert "ormal is " in description, "the description has to say what is normal, to compare the threshold with"


@OWN_ALARMS
def test_an_alarm_that_the_emulator_does_not_support_exists_only_on_aws(alarm):
    resource = STACK.resources[alarm]
    assert (resource.get("Condition") == "OnAws") == ("Metrics" in resource["Properties"])


def test_the_condition_emulator_is_false_on_aws():
    conditions = STACK.template["Conditions"]
    # The ids that API Gateway generates have ten characters.
    assert conditions["Emulator"] == {"Fn::Equals": [{"Ref": "ApiId"}, "5c0ffee5"]}
    assert conditions["OnAws"] == {"Fn::Not": [{"Condition": "Emulator"}]}


@OWN_ALARMS
def test_an_alarm_has_one_result_whose_expression_uses_every_other_query(alarm):
    queries = STACK.resources[alarm]["Properties"].get("Metrics", [])
    results = [query for query in queries if query.get("ReturnData", True)]
    assert len(results) == (1 if queries else 0)
    # CloudWatch's limit.
    assert len([query for query in queries if "MetricStat" in query]) <= 10
    for result in results:
        if not result["Expression"].startswith("SELECT"):
            used = set(re.findall(r"\b[a-z]\w*\b", result["Expression"]))
            assert used == {query["Id"] for query in queries} - {result["Id"]}


def present(values):
    return [value for value in values if value is not None]


# The CloudWatch functions that are used here. Those over several metrics ignore metrics without data
# (https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/using-metric-math.html).
FUNCTIONS = {
    "IF": lambda condition, then, otherwise: then if condition else otherwise,
    "MAX": lambda values: max(present(values), default=None),
    "SUM": lambda values: sum(present(values)),
}


@pytest.mark.parametrize(
    "name, values, triggered",
    [
        ("api-5xx", {"failed": 3, "requests": 100}, True),
        ("api-5xx", {"failed": 3, "requests": 1000}, False),
        ("api-5xx", {"failed": 2, "requests": 2}, False),
        ("order-executions-cut-off", {"stopped": 1, "timed_out": None}, True),
        ("order-executions-cut-off", {"stopped": None, "timed_out": 1}, True),
        ("order-executions-cut-off", {"stopped": 0, "timed_out": 0}, False),
        ("emails-failing", {"failed": 3, "sent": None}, True),
        ("emails-failing", {"failed": 3, "sent": 3}, True),
        ("emails-failing", {"failed": 3, "sent": 4}, False),
        ("emails-failing", {"failed": 2, "sent": None}, False),
        ("events-waiting", {"queue_users_on_user": None, "queue_orders_on_user": 601}, True),
        ("events-waiting", {"queue_users_on_user": 600, "queue_orders_on_user": None}, False),
    ],
)
def test_an_expression_triggers_its_alarm_as_expected(name, values, triggered):
    [alarm] = [p for p in STACK.of_type("AWS::CloudWatch::Alarm").values() if p["AlarmName"] == name]
    [expression] = [query["Expression"] for query in alarm["Metrics"] if query.get("ReturnData", True)]
    watched = dict.fromkeys(query["Id"] for query in alarm["Metrics"] if "MetricStat" in query)
    assert values.keys() <= watched.keys()
    value = eval(expression, FUNCTIONS | watched | values)
    beyond = {"GreaterThanThreshold": value > alarm["Threshold"]}
    assert beyond.get(alarm["ComparisonOperator"], value >= alarm["Threshold"]) == triggered


def test_an_event_that_fails_for_over_ten_minutes_triggers_an_alarm_long_before_it_is_a_dead_letter():
    [alarm] = [p for p in STACK.of_type("AWS::CloudWatch::Alarm").values() if p["AlarmName"] == "consumers-failing"]
    [query] = alarm["Metrics"]
    assert query["Expression"] == "SELECT MAX(RetryAge) FROM SCHEMA(Madang, consumer)"
    assert (alarm["ComparisonOperator"], alarm["Threshold"]) == ("GreaterThanThreshold", 10 * 60 * 1000)
    # Otherwise there would be periods without data between two deliveries of the event.
    assert query["Period"] >= LONGEST_PAUSE
    # The first delivery after ten minutes is followed by the end of its period.
    rings = alarm["Threshold"] / 1000 + LONGEST_PAUSE + alarm["EvaluationPeriods"] * query["Period"]
    assert rings < RETRIED_FOR / 4


def test_every_expression_is_tested_above():
    with_expression = {
        p["AlarmName"]
        for p in STACK.of_type("AWS::CloudWatch::Alarm").values()
        for query in p.get("Metrics", [])
        if not query.get("Expression", "SELECT").startswith("SELECT")
    }
    [parameters] = test_an_expression_triggers_its_alarm_as_expected.pytestmark
    assert with_expression == {name for name, *_ in parameters.args[1]}


def test_an_alarm_watches_the_age_of_messages_in_every_consumers_queue():
    [alarm] = [p for p in STACK.of_type("AWS::CloudWatch::Alarm").values() if p["AlarmName"] == "events-waiting"]
    watched = [
        query["MetricStat"]["Metric"]["Dimensions"][0]["Value"] for query in alarm["Metrics"] if "MetricStat" in query
    ]
    consumed = [
        properties["QueueName"]
        for stack in SERVICES.values()
        for queue, properties in stack.queues.items()
        if queue not in stack.dead_letter_queues
    ]
    assert sorted(watched) == sorted(consumed)


# the dashboard --------------------------------------------------------------------------------------------------------


def named_by(title):
    [widget] = [w["properties"] for w in WIDGETS if w["type"] == "alarm" and w["properties"]["title"] == title]
    arn = "arn:aws:cloudwatch:us-east-1:123456789012:alarm:"
    assert all(alarm.startswith(arn) for alarm in widget["alarms"])
    return [alarm.removeprefix(arn) for alarm in widget["alarms"]]


def test_the_dashboard_shows_the_state_of_every_alarm_once():
    shown = named_by("Alarms worth waking for") + named_by("Alarms for the next morning")
    assert sorted(shown) == sorted(stack.resources[alarm]["Properties"]["AlarmName"] for stack, alarm in EVERY_ALARM)


def test_the_dashboard_has_no_placeholder_left():
    assert "${" not in json.dumps(DASHBOARD)


def test_widgets_fill_the_grid_and_do_not_overlap():
    cells = [
        (x, y)
        for widget in WIDGETS
        for x in range(widget["x"], widget["x"] + widget["width"])
        for y in range(widget["y"], widget["y"] + widget["height"])
    ]
    assert len(cells) == len(set(cells))
    assert set(cells) == {(x, y) for x in range(24) for y in range(max(y for _, y in cells) + 1)}


@pytest.mark.parametrize("graph", GRAPHS, ids=lambda graph: graph["title"])
def test_a_graph_has_a_region_and_a_statistic_for_each_metric(graph):
    assert graph["region"] == PSEUDO["AWS::Region"]
    for metric in graph["metrics"]:
        options = metric[-1] if isinstance(metric[-1], dict) else {}
        assert "expression" in options or "stat" in options or "stat" in graph


def test_the_dashboard_shows_metrics_that_exist():
    shown = list(metrics_shown())
    assert len(shown) > 50
    for namespace, name, dimensions, _ in shown:
        assert exists(namespace, name, dimensions), f"{namespace} {name} {dimensions}"


def test_the_dashboard_shows_every_metric_that_the_functions_write():
    assert {name for namespace, name, _, _ in metrics_shown() if namespace == "Madang"} == set(OWN_METRICS)


def test_a_search_includes_every_service_and_dimensions_have_existing_values():
    names = {
        "StateMachineArn": {"arn:aws:states:us-east-1:123456789012:stateMachine:order-saga"},
        "ApiId": {"abcdefghij"},
        "ServiceMetric": {"StateTransition"},
        "LogGroupName": {STACKS["platform"].resources["ApiLogs"]["Properties"]["LogGroupName"]},
    }
    for _, _, _, conditions in metrics_shown():
        if isinstance(conditions, dict):
            assert all(value in names[dimension] for dimension, value in conditions.items())
        for any_of in re.findall(r"=\(([^)]*)\)", str(conditions)):
            # SEARCH finds a name with a hyphen by its last part.
            assert set(any_of.split(" OR ")) == {name.split("-")[-1] for name in SERVICES}


def test_the_graph_of_gb_seconds_uses_the_functions_memory_size():
    sizes = {stack.functions[function]["MemorySize"] for stack, function in EVERY_FUNCTION}
    [expression] = [m[-1]["expression"] for g in GRAPHS if "GB-seconds" in g["title"] for m in g["metrics"]]
    assert [size / 1024 for size in sizes] == [float(expression.split(" * ")[0])]


def test_the_sections_that_the_dashboard_names_exist():
    texts = " ".join(widget["properties"]["markdown"] for widget in WIDGETS if widget["type"] == "text")
    headings = set(re.findall(r"^## (.+)$", PAGE, re.MULTILINE))
    sections = set(re.findall(r"\*([A-Z][^*]+)\*", texts.replace("**", "")))
    assert sections and sections <= headings


# traces ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stack, function", EVERY_FUNCTION, ids=label)
def test_every_function_is_traced_and_uses_the_log_format_text(stack, function):
    properties = stack.functions[function]
    assert properties["TracingConfig"] == {"Mode": "Active"}
    # The functions write JSON themselves: see infra/observability.md.
    assert set(properties.get("LoggingConfig", {"LogGroup": "test_functions.py checks it"})) == {"LogGroup"}


def test_the_saga_is_traced():
    [machine] = STACKS["orders"].of_type("AWS::StepFunctions::StateMachine").values()
    assert machine["TracingConfiguration"] == {"Enabled": True}
