"""Runs the whole system on one machine. `make help` lists the usual ways in."""

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
from infra.local.settings import CLOUD_LOG, LOCAL, OUTPUTS, ROOT, TRACE_URL, Trouble
from infra.local.story import demo


def up(_: argparse.Namespace) -> None:
    """Build the functions, start the local cloud and deploy what has changed, in two seconds if nothing has. The port
    is MADANG_PORT, or 4566 if it is not set; traces are at the port after it. What an interrupted run has left is
    repaired."""
    started = time.monotonic()
    with only_one():
        wanted, names = stacks.read(), build.names()
        stacks.check_uploads(wanted, names)
        began = time.monotonic()
        if checked := lint.check([stacks.ROOT_TEMPLATE, *(stack.template for stack in wanted)]):
            console.print(f"{checked} templates checked {since(began)}")
        state = "started" if cloud.start() else "already runs"
        console.print(f"The local cloud {state} {since(started)}")

        began = time.monotonic()
        console.print("Building the functions")
        build.functions(names)
        console.print(f"{len(names)} functions built {since(began)}")

        console.print("Deploying the stacks")
        with Progress([stack.name for stack in wanted]) as progress:
            everything = deploy.everything(wanted, progress)
        found = outputs.write(wanted, everything)
    console.print(f"\n[bold green]Madang is up[/] {since(started)}: {found['api_url']}")
    console.print(f"  curl {found['api_url']}/posts")
    console.print(f"  {found['api_url']}/docs shows the API, and each call can be tried there")
    console.print(f"  {TRACE_URL} shows the traces")
    registry.show()


def down(_: argparse.Namespace) -> None:
    """Stop the local cloud. What it has stored is there again after `up`."""
    began = time.monotonic()
    stopped = cloud.stop()
    console.print(f"The local cloud is down, its state is kept {since(began)}" if stopped else "Nothing was running")


def clean(arguments: argparse.Namespace) -> None:
    """Stop the local cloud and forget what it has stored, with the traces."""
    cloud.stop()
    cloud.forget()
    OUTPUTS.unlink(missing_ok=True)
    if arguments.all:
        shutil.rmtree(LOCAL)
    console.print("Everything local is gone, tools included" if arguments.all else "The local state is gone")


def play(arguments: argparse.Namespace) -> None:
    """Play the story through the API, after bringing the system up if it is not. The exit status tells whether all of
    it happened."""
    try:
        found = has_to_be_up("make demo")
    except Trouble:
        up(arguments)
        console.print()
        found = outputs.read()
    demo.play(found)


def retry_order(arguments: argparse.Namespace) -> None:
    """Make the saga of an order go on where it stopped, and follow it to its end."""
    order = retry.order_id(arguments.order)
    retry.run(has_to_be_up("make order-retry"), order)


def show_traces(arguments: argparse.Namespace) -> None:
    """Print the traces that an id is in, as waterfalls: the id of an order, a post or a user, of a request (the header
    `traceresponse` of its answer, or the `instance` of a problem document), or of a trace, in any form. Without an id,
    list the latest traces. Works while the system is down."""
    trace.run(arguments.id, arguments.all)


def print_token(arguments: argparse.Namespace) -> None:
    found = has_to_be_up("make token")
    token.run(found, arguments.email, arguments.name, bool(arguments.admin))


def show_logs(arguments: argparse.Namespace) -> None:
    found = has_to_be_up("make logs")
    chosen = arguments.function, arguments.id, arguments.since
    logs.run(found, *chosen, follow=bool(arguments.follow), raw=bool(arguments.raw))


def show_dead_letters(arguments: argparse.Namespace) -> None:
    found = has_to_be_up("make dead-letters")
    dead_letters.show(found, arguments.queue, arguments.id, delete=bool(arguments.delete))


def redrive(arguments: argparse.Namespace) -> None:
    found = has_to_be_up("make redrive")
    dead_letters.redrive(found, arguments.queue, arguments.id)


def develop(_: argparse.Namespace) -> None:
    """Serve the endpoints from the code being edited on port 9000, until Ctrl-C, with the local system behind them. A
    function that does not compile answers 502 with the compiler's words."""
    watch.run(has_to_be_up("make watch"))


def measure(_: argparse.Namespace) -> None:
    """Print sizes and cold starts of the deployed functions, beside a function that does nothing."""
    starts.run()


def search(arguments: argparse.Namespace) -> None:
    """Ask the running system everything that its description allows, and more."""
    found = has_to_be_up("make fuzz")
    if arguments.cases:
        fuzz.run(found, arguments.cases)
    else:
        fuzz.endless(found)


def check(_: argparse.Namespace) -> None:
    gates.check()


def test(_: argparse.Namespace) -> None:
    gates.test()


# The Makefile passes what its caller has given, and an empty text for what was not.
OPTIONS = {
    "token": {
        "--email": "whose token it is",
        "--name": "the name to register with",
        "--admin": "whether to become a member of the group admin",
    },
    "logs": {
        "--function": "whose lines; without it, those of all",
        "--id": "of an order, a request, a trace, a user, …",
        "--since": "10m, 2h, 14:30 or a date",
        "--follow": "whether to go on with what comes",
        "--raw": "whether to print the lines as they were written",
    },
    "dead-letters": {
        "--queue": "the consumer or its queue; without it, lists all",
        "--id": "of a message or an event",
        "--delete": "whether to delete what is shown",
    },
    "redrive": {"--queue": "the consumer or its queue", "--id": "of a message or an event; without it, all"},
}

COMMANDS = {
    "up": (up, "build, start the local cloud, deploy what has changed"),
    "down": (down, "stop the local cloud and keep its state"),
    "clean": (clean, "stop it and forget its state"),
    "demo": (play, "play the story through the API"),
    "order-retry": (retry_order, "make an order's saga go on where it stopped"),
    "trace": (show_traces, "print the traces that an id is in, or list the latest"),
    "check": (check, "all that has to pass and needs no running system"),
    "test": (test, "all that has to pass"),
    "token": (print_token, "print an access token"),
    "logs": (show_logs, "print what the functions have logged"),
    "dead-letters": (show_dead_letters, "show the messages that were given up"),
    "redrive": (redrive, "put messages back that were given up"),
    "watch": (develop, "serve the endpoints from the code being edited, on port 9000"),
    "fuzz": (search, "ask the system everything that its description allows, and more"),
    "bench": (measure, "print sizes and cold starts of the deployed functions"),
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m infra.local", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, (run, description) in COMMANDS.items():
        command = commands.add_parser(name, help=description, description=run.__doc__ or description)
        command.set_defaults(run=run)
        if name == "clean":
            command.add_argument("--all", action="store_true", help="the tools under .local/ too")
        if name == "fuzz":
            command.add_argument("--cases", type=int, help="how many requests at least; without an end otherwise")
        if name == "order-retry":
            command.add_argument("order", nargs="?", default="", help="the order's id")
        if name == "trace":
            command.add_argument("id", nargs="?", default="", help="of an order, a post, a trace, a request, …")
            command.add_argument("--all", action="store_true", help="list scheduled runs that found nothing to do, too")
        for option, meaning in OPTIONS.get(name, {}).items():
            command.add_argument(option, default="", help=meaning)
    arguments = parser.parse_args()
    console.only_shows = arguments.command in ("logs", "trace")
    try:
        arguments.run(arguments)
    except Trouble as trouble:
        notes.print(str(trouble), style="bold red", markup=False)
        return 1
    except (ConnectionError, HTTPClientError, requests.RequestException):
        words = f"The local cloud does not answer any more: run `make down`, then `make up` (log: {CLOUD_LOG})."
        notes.print(words, style="bold red", markup=False)
        return 1
    except KeyboardInterrupt:
        console.print("\nInterrupted. `make down` stops the local cloud if it runs.")
        return 130
    return 0


def has_to_be_up(command: str) -> dict[str, Any]:
    """What is known of the running system, for a command that needs it."""
    if not cloud.running():
        raise Trouble(f"The system has to be up for `{command}`: run `make up` first.")
    cloud.same_port()
    return outputs.read()


def since(start: float) -> str:
    return f"[dim]({time.monotonic() - start:.1f} s)[/]"


@contextmanager
def only_one() -> Iterator[None]:
    """Two deployments at once would get into each other's way."""
    LOCAL.mkdir(exist_ok=True)
    with (LOCAL / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Trouble(f"Another `make up` is at work in {ROOT}: wait for it to end.") from None
        yield


if __name__ == "__main__":
    sys.exit(main())
