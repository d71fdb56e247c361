"""Deploys the stacks with the real `sam deploy`, in parallel. Each waits for the stacks that it depends on."""

import subprocess
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from graphlib import TopologicalSorter

from botocore.exceptions import ClientError

from infra.local.lifecycle.stacks import Stack, resolve
from infra.local.progress import Progress
from infra.local.settings import BUCKET, LOCAL, LOGS, REGION, ROOT, SAM, CommandError, client, environment

# A stack in one of these states was never created completely and cannot be updated. It is deleted and created again.
NEVER_CREATED = ("CREATE_FAILED", "ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "DELETE_FAILED", "REVIEW_IN_PROGRESS")
# Maximum time to wait for an operation that an interrupted deployment has started.
SETTLE_SECONDS = 30

# `sam deploy` prints this when the uploads are complete.
PACKAGED = "Initiating deployment"


class DeploymentFailed(Exception):
    """A stack could not be deployed. The message is the reason."""


def deploy_changed(stacks: list[Stack], progress: Progress) -> dict[str, dict[str, str]]:
    """Deploys the stacks that have changed. Returns the outputs of every stack by logical id."""
    LOGS.mkdir(parents=True, exist_ok=True)
    (LOCAL / "samconfig.toml").write_text("version = 0.1\n")  # so that SAM does not read the samconfig.toml for AWS
    with suppress(client("s3").exceptions.BucketAlreadyOwnedByYou):
        client("s3").create_bucket(Bucket=BUCKET)

    by_id = {stack.logical_id: stack for stack in stacks}
    order = TopologicalSorter({stack.logical_id: stack.depends_on for stack in stacks})
    order.prepare()
    outputs: dict[str, dict[str, str]] = {}
    failures: dict[str, str] = {}
    running: dict[Future, str] = {}
    with ThreadPoolExecutor() as pool:
        while order.is_active() and (running or not failures):
            if not failures:
                for logical_id in order.get_ready():
                    stack = by_id[logical_id]
                    values = resolve(stack, outputs)
                    inherited = {k: v for other in stack.depends_on for k, v in outputs[other].items()}
                    digest = stack.digest(values, inherited)
                    running[pool.submit(_deploy, stack, values, digest, progress)] = logical_id
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                logical_id = running.pop(future)
                try:
                    outputs[logical_id] = future.result()
                    order.done(logical_id)
                except DeploymentFailed as failure:
                    failures[by_id[logical_id].name] = str(failure)
    if failures:
        reasons = "\n".join(f"{name} could not be deployed: {reason}" for name, reason in sorted(failures.items()))
        raise CommandError(reasons)
    return outputs


def _deploy(stack: Stack, values: dict[str, str], digest: str, progress: Progress) -> dict[str, str]:
    description = _wait_until_settled(stack.name)
    status = description.get("StackStatus")
    if status in NEVER_CREATED or (status and status.endswith("_IN_PROGRESS")):
        progress.update(stack.name, "deleting the remains of a failed deployment")
        _delete(stack.name)
        status = None
    elif status and _read_digest(stack) == digest:
        progress.finish(stack.name, "unchanged")
        return _outputs(description)

    progress.update(stack.name, "packaging")
    _sam_deploy(stack, values, lambda: progress.update(stack.name, "deploying"), lambda: progress.fail(stack.name))
    # The digest is stored in the local cloud itself, so that it is lost whenever the stack is.
    client("ssm").put_parameter(Name=_digest_parameter(stack), Value=digest, Type="String", Overwrite=True)
    progress.finish(stack.name, "updated" if status else "created")
    return _outputs(_describe(stack.name))


def _sam_deploy(stack: Stack, values: dict[str, str], packaged: Callable, failed: Callable) -> None:
    command = [str(SAM), "deploy", "--stack-name", stack.name, "--template-file", str(stack.template)]
    command += ["--s3-bucket", BUCKET, "--region", REGION, "--config-file", str(LOCAL / "samconfig.toml")]
    command += ["--capabilities", "CAPABILITY_IAM", "CAPABILITY_NAMED_IAM", "CAPABILITY_AUTO_EXPAND"]
    command += ["--no-confirm-changeset", "--no-fail-on-empty-changeset", "--no-progressbar"]
    if values:
        command += ["--parameter-overrides", *(f'{name}="{value}"' for name, value in values.items())]
    log = LOGS / f"{stack.name}.log"
    settings = {"SAM_CLI_TELEMETRY": "0", "SAM_CLI_POLL_DELAY": "1", "PYTHONUNBUFFERED": "1"}
    started = time.time()
    with log.open("w") as file:
        sam = subprocess.Popen(
            command, cwd=ROOT, env=environment() | settings, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        last = ""
        for line in sam.stdout or ():
            file.write(line)
            last = line.strip() or last
            if PACKAGED in line:
                packaged()
    if sam.wait() != 0:
        failed()
        raise DeploymentFailed(f"{_failure_reason(stack.name, started) or last}\n  (log: {log.relative_to(ROOT)})")


def _failure_reason(name: str, since: float) -> str | None:
    """Why the deployment failed: the first resource that failed since it was started."""
    with suppress(ClientError):
        events = client("cloudformation").describe_stack_events(StackName=name)["StackEvents"]
        for event in reversed(events):
            if event["Timestamp"].timestamp() >= since - 1 and event["ResourceStatus"].endswith("_FAILED"):
                reason = event.get("ResourceStatusReason", "no reason given")
                return f"{event['LogicalResourceId']} ({event['ResourceType']}): {reason}"
    return None


def _describe(name: str) -> dict:
    """The description of the stack, or an empty one if it does not exist."""
    try:
        return client("cloudformation").describe_stacks(StackName=name)["Stacks"][0]
    except ClientError as error:
        if "does not exist" in str(error):
            return {}
        raise


def _wait_until_settled(name: str) -> dict:
    """Waits until no operation on the stack is in progress, for SETTLE_SECONDS at most. Returns its description."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while description := _describe(name):
        status = description["StackStatus"]
        if status in NEVER_CREATED or not status.endswith("_IN_PROGRESS") or time.monotonic() > deadline:
            return description
        time.sleep(0.5)
    return {}


def _delete(name: str) -> None:
    cloudformation = client("cloudformation")
    cloudformation.delete_stack(StackName=name)
    cloudformation.get_waiter("stack_delete_complete").wait(StackName=name, WaiterConfig={"Delay": 1})


def _outputs(description: dict) -> dict[str, str]:
    return {output["OutputKey"]: output["OutputValue"] for output in description.get("Outputs", [])}


def _digest_parameter(stack: Stack) -> str:
    return f"/madang-local/{stack.name}"


def _read_digest(stack: Stack) -> str | None:
    ssm = client("ssm")
    with suppress(ssm.exceptions.ParameterNotFound):
        return ssm.get_parameter(Name=_digest_parameter(stack))["Parameter"]["Value"]
    return None
