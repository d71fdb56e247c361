"""Reads the templates and expands them with the SAM translator, which AWS uses too."""

import copy
import math
import os
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

import pytest
from samtranslator.translator.transform import transform
from samtranslator.yaml_helper import yaml_parse

ROOT = Path(__file__).parents[2]
ROOT_TEMPLATE = ROOT / "template.yaml"
NESTED = {path.stem: path for path in sorted((ROOT / "infra").glob("*.yaml"))}
TEMPLATES = [ROOT_TEMPLATE, *NESTED.values()]

# The values of pseudo parameters in the ARNs that tests compare.
PSEUDO = {"AWS::Partition": "aws", "AWS::Region": "us-east-1", "AWS::AccountId": "123456789012"}

# In seconds, for how long a consumer retries a message, and its longest pause: functions/runtime/src/serve/queue.rs.
QUEUE = (ROOT / "functions/runtime/src/serve/queue.rs").read_text()
RETRIED_FOR = 3600 * int(re.search(r"const RETRY_FOR: Duration = Duration::from_hours\((\d+)\)", QUEUE)[1])
LONGEST_PAUSE = 60 * int(re.search(r"const MAX_PAUSE: Duration = Duration::from_mins\((\d+)\)", QUEUE)[1])
# For how long a tombstone refuses late events, in seconds: functions/runtime/src/table/aggregate.rs. Consumers refuse
# events that are older.
AGGREGATE = (ROOT / "functions/runtime/src/table/aggregate.rs").read_text()
TOMBSTONE_LIFE = math.prod(
    int(factor) for factor in re.search(r"const TOMBSTONE_LIFE: i64 = ([\d* ]+);", AGGREGATE)[1].split("*")
)


@dataclass(frozen=True)
class Stack:
    name: str
    template: dict[str, Any]  # not expanded

    @property
    def file(self) -> str:
        return f"infra/{self.name}.yaml"

    @cached_property
    def parameters(self) -> dict[str, Any]:
        return self.template.get("Parameters", {})

    @cached_property
    def resources(self) -> dict[str, Any]:
        """The resources after SAM has expanded them: functions have roles, and Globals are applied."""
        if "Transform" not in self.template:
            return self.template["Resources"]
        template = copy.deepcopy(self.template)
        for resource in template["Resources"].values():
            if resource["Type"] == "AWS::Serverless::Function":
                # A deployment uploads the file and writes its S3 address here.
                resource["Properties"]["CodeUri"] = "s3://bucket/key"
            elif resource["Type"] == "AWS::Serverless::StateMachine":
                resource["Properties"]["DefinitionUri"] = "s3://bucket/key"
        os.environ.setdefault("AWS_DEFAULT_REGION", PSEUDO["AWS::Region"])
        return transform(template, {}, _NoManagedPolicies())["Resources"]

    def of_type(self, kind: str) -> dict[str, dict[str, Any]]:
        """The properties of the resources of a type, by logical id."""
        return {
            logical_id: resource.get("Properties", {})
            for logical_id, resource in self.resources.items()
            if resource["Type"] == kind
        }

    @cached_property
    def functions(self) -> dict[str, dict[str, Any]]:
        return self.of_type("AWS::Lambda::Function")

    def role_of(self, function: str) -> str:
        return target(self.functions[function]["Role"])

    def statements_of(self, function: str) -> list[dict[str, Any]]:
        return self.statements_of_role(self.role_of(function))

    def statements_of_role(self, role: str) -> list[dict[str, Any]]:
        properties = self.resources[role]["Properties"]
        return [s for policy in properties.get("Policies", []) for s in policy["PolicyDocument"]["Statement"]]

    @cached_property
    def machine_roles(self) -> set[str]:
        """The roles of the state machines."""
        machines = self.of_type("AWS::StepFunctions::StateMachine").values()
        return {target(machine["RoleArn"]) for machine in machines}

    @cached_property
    def schedule_roles(self) -> set[str]:
        """The roles of the schedules."""
        return {target(schedule["Target"]["RoleArn"]) for schedule in self.of_type("AWS::Scheduler::Schedule").values()}

    @cached_property
    def scheduled(self) -> set[str]:
        """The functions that a schedule invokes."""
        return {target(schedule["Target"]["Arn"]) for schedule in self.of_type("AWS::Scheduler::Schedule").values()}

    @cached_property
    def dead_letter_queues(self) -> set[str]:
        """Queues that something names as the place for what failed."""
        found = {
            target(queue["RedrivePolicy"]["deadLetterTargetArn"])
            for queue in self.queues.values()
            if "RedrivePolicy" in queue
        }
        for rule in self.of_type("AWS::Events::Rule").values():
            if consumes_events(rule):
                found.update(target(t["DeadLetterConfig"]["Arn"]) for t in rule["Targets"] if "DeadLetterConfig" in t)
            else:
                found.update(target(t["Arn"]) for t in rule["Targets"])
        return found

    @cached_property
    def queues(self) -> dict[str, dict[str, Any]]:
        return self.of_type("AWS::SQS::Queue")


class _NoManagedPolicies:
    """SAM's policy templates and managed policies by name are not used here."""

    def load(self) -> dict[str, str]:
        return {}


def fail(*sentences: str) -> NoReturn:
    """Fails a test with instructions, one per line. conftest.py repeats them at the end of the run."""
    pytest.fail("\n".join(sentences), pytrace=False)


def need(condition: object, sentence: str) -> None:
    """Fails a test with an instruction if the condition is false."""
    if not condition:
        fail(sentence)


def target(value: Any) -> str:
    """The logical id in a Ref or GetAtt."""
    match value:
        case {"Ref": logical_id}:
            return logical_id
        case {"Fn::GetAtt": [logical_id, *_]}:
            return logical_id
        case {"Fn::GetAtt": str(path)}:
            return path.split(".")[0]
    raise AssertionError(f"neither Ref nor GetAtt: {value}")


def consumes_events(rule: dict[str, Any]) -> bool:
    """Whether a rule is for events of the services. The others are on the default bus, for new objects in a bucket."""
    return "EventBusName" in rule


def referenced(value: Any) -> set[str]:
    """Every logical id, parameter or pseudo parameter that a value mentions."""
    match value:
        case {"Ref": name}:
            return {name}
        case {"Fn::GetAtt": _}:
            return {target(value)}
        case {"Fn::Sub": str(text)}:
            return {name.split(".")[0] for name in re.findall(r"\$\{([^!}]+)}", text)}
        case dict():
            return set().union(*map(referenced, value.values()))
        case list():
            return set().union(*map(referenced, value))
    return set()


def substituted(value: dict[str, str]) -> str:
    """The text of a Sub with the pseudo parameters replaced. Other ${…} are unchanged."""
    return re.sub(r"\$\{([^}]+)}", lambda m: PSEUDO.get(m[1], m[0]), value["Fn::Sub"])


def function_named(stack: Stack, arn: Any) -> str:
    """The FunctionName of the function with this ARN, which is in this stack or, referred to by its name, in
    another."""
    if "Fn::Sub" in arn:
        return re.fullmatch(r"arn:aws:lambda:us-east-1:123456789012:function:([a-z-]+)", substituted(arn))[1]
    assert arn["Fn::GetAtt"][1:] == ["Arn"]
    return stack.functions[target(arn)]["FunctionName"]


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def read(path: Path) -> dict[str, Any]:
    return yaml_parse(path.read_text())


STACKS = {name: Stack(name, read(path)) for name, path in NESTED.items()}
SERVICES = {name: stack for name, stack in STACKS.items() if name not in ("platform", "observability")}
# The registry's data is stored in Cloud Map, and the documentation is part of its function. They have no table and
# publish no events.
WITH_TABLE = {name: stack for name, stack in SERVICES.items() if name not in ("registry", "api-docs")}
# The order saga's state machine, and the function that each placeholder in its definition stands for.
[SAGA] = STACKS["orders"].of_type("AWS::StepFunctions::StateMachine").values()
STEPS = {
    placeholder: function_named(STACKS["orders"], arn) for placeholder, arn in SAGA["DefinitionSubstitutions"].items()
}
EVERY_FUNCTION = [(stack, logical_id) for stack in SERVICES.values() for logical_id in stack.functions]
EVERY_DEAD_LETTER_QUEUE = [(stack, queue) for stack in STACKS.values() for queue in sorted(stack.dead_letter_queues)]
EVERY_RULE = [
    (stack, rule)
    for stack in STACKS.values()
    for rule, properties in stack.of_type("AWS::Events::Rule").items()
    if consumes_events(properties)
]
EVERY_MAPPING = [
    (stack, mapping) for stack in SERVICES.values() for mapping in stack.of_type("AWS::Lambda::EventSourceMapping")
]
QUEUE_MAPPINGS = [
    (stack, mapping)
    for stack, mapping in EVERY_MAPPING
    if target(stack.resources[mapping]["Properties"]["EventSourceArn"]) in stack.queues
]
STREAM_MAPPINGS = [pair for pair in EVERY_MAPPING if pair not in QUEUE_MAPPINGS]
EVERY_ROUTE = [(stack, route) for stack in SERVICES.values() for route in stack.of_type("AWS::ApiGatewayV2::Route")]


def label(value: Any) -> str:
    """The id of a test case: the name of its stack or resource."""
    return value.name if isinstance(value, Stack) else str(value)
