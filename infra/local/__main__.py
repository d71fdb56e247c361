"""Runs the whole system on one machine. Most commands have a recipe in the Makefile: see `make help`."""

import argparse
import fcntl
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import requests
from botocore.exceptions import ConnectionError, HTTPClientError

from infra.local.bench import starts
from infra.local.develop import fuzz, gates, watch
from infra.local.lifecycle import build, cloud, deploy, lint, outputs, registry, stacks
from infra.local.operate import dead_letters, logs, retry, token, trace
from infra.local.progress import Progress, console, notes
from infra.local.settings import CLOUD_LOG, LOCAL, OUTPUTS, ROOT, TRACE_URL, CommandError
from infra.local.story import demo


def up(_: argparse.Namespace) -> None:
    """Build the functions, start the local cloud and deploy the stacks that have changed. It takes two seconds if
    nothing has changed. The port is MADANG_PORT, by default 4566; the trace viewer uses the next port. A run that was
    interrupted is completed by the next one."""
    started = time.monotonic()
    with deployment_lock():
        wanted, names = stacks.read(), build.names()
        stacks.check_uploads(wanted, names)
        began = time.monotonic()
        if checked := lint.check([stacks.ROOT_TEMPLATE, *(stack.template for stack in wanted)]):
            console.print(f"{checked} templates checked {elapsed(began)}")
        state = "started" if cloud.start() else "is already running"
        console.print(f"The local cloud {state} {elapsed(started)}")

        began = time.monotonic()
        console.print("Building the functions")
        build.functions(names)
        console.print(f"{len(names)} functions built {elapsed(began)}")

        console.print("Deploying the stacks")
        with Progress([stack.name for stack in wanted]) as progress:
            deployed = deploy.deploy_changed(wanted, progress)
        found = outputs.write(wanted, deployed)
    console.print(f"\n[bold green]Madang is up[/] {elapsed(started)}: {found['api_url']}")
    console.print(f"  curl {found['api_url']}/posts")
    console.print(f"  {found['api_url']}/docs describes the API and lets you try each call")
    console.print(f"  {TRACE_URL} shows the traces")
    registry.show()


def down(_: argparse.Namespace) -> None:
    """Stop the local cloud and keep its state: `up` continues with the stored data."""
    began = time.monotonic()
    stopped = cloud.stop()
    message = f"The local cloud is down and its state is kept {elapsed(began)}" if stopped else "Nothing was running"
    console.print(message)


def clean(arguments: argparse.Namespace) -> None:
    """Stop the local cloud and delete its state and the traces."""
    cloud.stop(discard=True)
    cloud.delete_state()
    OUTPUTS.unlink(missing_ok=True)
    if arguments.all:
        shutil.rmtree(LOCAL)
    message = "The local state and the tools are deleted" if arguments.all else "The local state is deleted"
    console.print(message)


def play(arguments: argparse.Namespace) -> None:
    """Play the story through the API, and start the system first if it is not running. The exit status is 0 if every
    step of the story succeeded."""
    try:
        found = require_running_system("make demo")
    except CommandError:
        up(arguments)
        console.print()
        found = outputs.read()
    demo.play(found)


def retry_order(arguments: argparse.Namespace) -> None:
    """Resume an order's saga at the step where it stopped, and follow it to the end."""
    order = retry.order_id(arguments.order)
    retry.run(require_running_system("make order-retry"), order)


def show_traces(arguments: argparse.Namespace) -> None:
    """Print every trace that contains an id, as a waterfall. The id can be that of an order, a post or a user, of a
    request (the header `traceresponse` of its response, or the `instance` of a problem document), or of a trace in any
    format. Without an id, list the latest traces. This works while the system is down."""
    trace.run(arguments.id, arguments.all)


def print_token(arguments: argparse.Namespace) -> None:
    found = require_running_system("make token")
    token.run(found, arguments.email, arguments.name, bool(arguments.admin))


def show_logs(arguments: argparse.Namespace) -> None:
    found = require_running_system("make logs")
    chosen = arguments.function, arguments.id, arguments.since
    logs.run(found, *chosen, follow=bool(arguments.follow), raw=bool(arguments.raw))


def show_dead_letters(arguments: argparse.Namespace) -> None:
    found = require_running_system("make dead-letters")
    dead_letters.show(found, arguments.queue, arguments.id, delete=bool(arguments.delete))


def redrive(arguments: argparse.Namespace) -> None:
    found = require_running_system("make redrive")
    dead_letters.redrive(found, arguments.queue, arguments.id)


def run_watch(_: argparse.Namespace) -> None:
    """Serve the endpoints from the code being edited on port 9000 until Ctrl-C, backed by the local system. A function
    that does not compile answers 502 with the compiler's message."""
    watch.run(require_running_system("make watch"))


def run_bench(_: argparse.Namespace) -> None:
    """Measure artifact sizes, cold starts, the cost of tracing, and calls between services. Sizes and cold starts are
    compared with those of a function that does nothing."""
    starts.run()


def run_fuzz(arguments: argparse.Namespace) -> None:
    """Send the running system valid and invalid requests that are generated from the API description."""
    found = require_running_system("make fuzz")
    if arguments.number is not None:
        fuzz.run_raw(found, [arguments.number], arguments.seed)
    elif arguments.cases or arguments.raw:
        if arguments.cases:
            fuzz.run(found, arguments.cases)
        if arguments.raw:
            fuzz.run_raw(found, range(arguments.raw), arguments.seed)
    else:
        fuzz.run_until_interrupted(found)


def check(_: argparse.Namespace) -> None:
    gates.check()


def test(_: argparse.Namespace) -> None:
    gates.test()


# The Makefile passes every option. An option that the user has not given is an empty string.
OPTIONS = {
    "token": {
        "--email": "the user's e-mail address",
        "--name": "the user's name, if the user is not registered yet",
        "--admin": "if not empty, add the user to the group admin",
    },
    "logs": {
        "--function": "print only this function's lines",
        "--id": "print only lines that contain this id of an order, a request, a trace, a user, …",
        "--since": "print only lines since this time: 10m, 2h, 14:30 or a date",
        "--follow": "if not empty, keep printing new lines",
        "--raw": "if not empty, print the lines unformatted, as they were logged",
    },
    "dead-letters": {
        "--queue": "the consumer or relay, or its queue; without it, every queue that has messages is listed",
        "--id": "show only the messages with this message id, event id or subject",
        "--delete": "if not empty, delete the messages that are shown",
    },
    "redrive": {
        "--queue": "the consumer or relay, or its queue",
        "--id": "put back only the messages with this message id, event id or subject",
    },
}

COMMANDS = {
    "up": (up, "build, start the local cloud, deploy the stacks that have changed"),
    "down": (down, "stop the local cloud and keep its state"),
    "clean": (clean, "stop the local cloud and delete its state"),
    "demo": (play, "play the story through the API"),
    "order-retry": (retry_order, "resume an order's saga at the step where it stopped"),
    "trace": (show_traces, "print the traces that contain an id, or list the latest"),
    "check": (check, "run every check that needs no running system"),
    "test": (test, "run every check and every test"),
    "token": (print_token, "print an access token"),
    "logs": (show_logs, "print the functions' log lines"),
    "dead-letters": (show_dead_letters, "show the messages in the dead-letter queues"),
    "redrive": (redrive, "put dead letters back into their queue"),
    "watch": (run_watch, "serve the endpoints from the code being edited, on port 9000"),
    "fuzz": (run_fuzz, "send the system valid and invalid requests generated from the API description"),
    "bench": (
        run_bench,
        "measure artifact sizes, cold starts, first answers, the cost of tracing, and calls between services",
    ),
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m infra.local", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, (run, description) in COMMANDS.items():
        command = commands.add_parser(name, help=description, description=run.__doc__ or description)
        command.set_defaults(run=run)
        if name == "clean":
            command.add_argument("--all", action="store_true", help="delete the tools under .local/ as well")
        if name == "fuzz":
            command.add_argument("--cases", type=int, help="minimum number of requests that Schemathesis sends")
            command.add_argument("--raw", type=int, help="number of raw requests; without both, run until Ctrl-C")
            command.add_argument("--seed", type=int, default=fuzz.SEED, help="the seed of the raw requests")
            command.add_argument("--number", type=int, help="send only the raw request with this number")
        if name == "order-retry":
            command.add_argument("order", nargs="?", default="", help="the order's id")
        if name == "trace":
            command.add_argument("id", nargs="?", default="", help="id of an order, a post, a trace, a request, …")
            command.add_argument(
                "--all", action="store_true", help="also list idle scheduled runs, polls and requests of the page /docs"
            )
        for option, meaning in OPTIONS.get(name, {}).items():
            command.add_argument(option, default="", help=meaning)
    arguments = parser.parse_args()
    console.only_displays = arguments.command in ("logs", "trace")
    try:
        arguments.run(arguments)
    except CommandError as error:
        notes.print(str(error), style="bold red", markup=False)
        return 1
    except (ConnectionError, HTTPClientError, requests.RequestException):
        message = f"The local cloud does not answer any more. Run `make down`, then `make up` (log: {CLOUD_LOG})."
        notes.print(message, style="bold red", markup=False)
        return 1
    except KeyboardInterrupt:
        console.print("\nInterrupted. If the local cloud is running, `make down` stops it.")
        return 130
    return 0


def require_running_system(command: str) -> dict[str, Any]:
    """The outputs of the running system. Raises `CommandError` if it is not running, or runs on another port."""
    if not cloud.running():
        raise CommandError(f"`{command}` needs the running system. Run `make up` first.")
    cloud.check_port()
    return outputs.read()


def elapsed(start: float) -> str:
    return f"[dim]({time.monotonic() - start:.1f} s)[/]"


@contextmanager
def deployment_lock() -> Iterator[None]:
    """Holds a lock, because two deployments at the same time would interfere with each other."""
    LOCAL.mkdir(exist_ok=True)
    with (LOCAL / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CommandError(f"Another `make up` is running in {ROOT}. Wait until it has ended.") from None
        yield


if __name__ == "__main__":
    sys.exit(main())
