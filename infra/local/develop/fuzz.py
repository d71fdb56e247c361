"""Fuzzes the running system with valid and invalid requests that are generated from infra/openapi.json.

There are two sources. Schemathesis sends requests by an HTTP client; its rounds differ in the caller: an admin, an
anonymous caller, a user, someone who has signed up but not registered, and a user who has been deleted. tests/fuzz
defines which responses are failures. `raw` builds requests byte by byte.
"""

import json
import random
import re
import secrets
import subprocess
import time
import urllib.parse
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from infra.local.develop import raw
from infra.local.lifecycle import registry
from infra.local.progress import console, duration
from infra.local.settings import LOCAL, ROOT, CommandError, client, environment
from infra.local.story.story import Person, Story

SCHEMATHESIS = LOCAL / "fuzz" / "bin" / "schemathesis"
CASES = re.compile(r"^\s*(\d+) generated", re.MULTILINE)
# The number of random requests to each operation in a round, in addition to those enumerated from its schema.
EXAMPLES = 30
# The seed of the first rounds of `make test`, so that they are the same each time. `make fuzz` uses random seeds.
SEED = 20261124
# The raw requests between two rounds of `make fuzz`.
RAW_ROUND = 1000


@dataclass
class Caller:
    """The caller in whose name a round sends its requests."""

    description: str
    token: str | None
    profile: str = "has"  # "had" if it was deleted, "never" if the caller has not registered


def run(outputs: dict, minimum: int) -> None:
    """Runs rounds until there were at least `minimum` requests, and at least one round for each caller. Raises
    `CommandError` after printing the requests that show a failure."""
    outputs = _with_services(outputs)
    began, cases, seed = time.monotonic(), 0, SEED
    # Each round is a process that alternates between work and waiting. Three of them keep two processors busy.
    pool = ThreadPoolExecutor(max_workers=3)
    try:
        while cases < minimum:
            rounds = [pool.submit(_round, outputs, make_caller, seed) for make_caller in CALLERS]
            cases += sum(done.result() for done in as_completed(rounds))
            seed += 1
    finally:
        pool.shutdown(cancel_futures=True)
    console.print(f"{cases} passed, 0 failed", markup=False)
    console.print(f"[dim]in {duration(time.monotonic() - began)}[/]")


def run_raw(outputs: dict, numbers: Sequence[int], seed: int = SEED) -> None:
    """Sends the raw requests with these numbers. Raises `CommandError` after printing those that show a failure."""
    began = time.monotonic()
    report = _raw(outputs, numbers, seed)
    console.print(f"{report.sent} passed, 0 failed", markup=False)
    console.print(f"[dim]in {duration(time.monotonic() - began)}[/]")


def run_until_interrupted(outputs: dict) -> None:
    """Runs rounds until Ctrl-C, or until one fails."""
    outputs = _with_services(outputs)
    began, cases, rounds = time.monotonic(), 0, 0
    console.print("Fuzzing until Ctrl-C, which stops after the current request")
    with suppress(KeyboardInterrupt):
        while True:
            cases += _raw(outputs, range(RAW_ROUND), random.randrange(2**32)).sent
            cases += _round(outputs, CALLERS[rounds % len(CALLERS)], random.randrange(2**32))
            rounds += 1
    console.print(f"\n{cases} requests in {rounds} complete rounds found no failure")
    console.print(f"[dim]in {duration(time.monotonic() - began)}[/]")


def _round(outputs: dict, make_caller: Callable[[dict], Caller], seed: int) -> int:
    """Runs one round. Returns the number of requests that it has sent."""
    caller = make_caller(outputs)
    with _temporary_service() as service:
        settings = {"outputs": outputs, "service": service, "token": caller.token, "profile": caller.profile}
        command = [SCHEMATHESIS, "--config-file", ROOT / "tests" / "fuzz" / "schemathesis.toml", "run"]
        command += [ROOT / "infra" / "openapi.json", "--url", outputs["api_url"]]
        command += ["--max-examples", str(EXAMPLES), "--seed", str(seed), "--no-color"]
        done = subprocess.run(
            list(map(str, command)),
            cwd=ROOT,
            env=environment() | {"MADANG_FUZZ": json.dumps(settings), "PYTHONHASHSEED": "0", "COLUMNS": "120"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
    found = CASES.search(done.stdout)
    if done.returncode != 0 or not found:
        console.print(done.stdout, markup=False, highlight=False)
        raise CommandError(
            f"The system does not match its description (caller: {caller.description}, seed {seed}). See above."
        )
    console.print(f"  as {caller.description}: {found[1]} requests")
    return int(found[1])


def _raw(outputs: dict, numbers: Sequence[int], seed: int) -> raw.Report:
    """Sends raw requests, and verifies that they were answered well."""
    url = urllib.parse.urlsplit(outputs["api_url"])
    with _temporary_service() as service:
        world = _world(outputs, url, service)
        report = raw.fuzz(raw.Description.committed(), world, (url.hostname or "", url.port or 80), seed, numbers)
    report.show()
    report.verify()
    return report


def _world(outputs: dict, url: urllib.parse.SplitResult, service: str) -> raw.World:
    """People, and things that exist, for raw requests to name."""
    story, user = _register(outputs)
    _, leaving = _register(outputs)
    post, doomed = (
        story.request("POST", "/posts", user, {"title": "Fuzz", "body": "Fuzz"}, expect=(201,)).body["id"] for _ in "ab"
    )
    values = {"posts": post, "DELETE posts": doomed, "registry": service, "inventory": f"FUZZ-{secrets.token_hex(4)}"}
    tokens = {
        "user": user.token,
        "leaving": leaving.token,
        "admin": _admin(outputs).token or "",
        "unregistered": _unregistered(outputs).token or "",
    }
    return raw.World(url.path.rstrip("/"), url.netloc, tokens, values)


def _with_services(outputs: dict) -> dict:
    """Adds the names of the services in the registry to the outputs. The rounds must not change these services."""
    return outputs | {"services": sorted(registry.read())}


@contextmanager
def _temporary_service() -> Iterator[str]:
    """Creates a service in the registry that a round may change, because nothing calls it. Deletes it afterwards."""
    cloud_map, name = client("servicediscovery"), f"fuzz-{secrets.token_hex(4)}"
    service = cloud_map.create_service(Name=name, NamespaceId=registry.namespace(cloud_map))["Service"]["Id"]
    try:
        yield name
    finally:
        for page in cloud_map.get_paginator("list_instances").paginate(ServiceId=service):
            for instance in page["Instances"]:
                cloud_map.deregister_instance(ServiceId=service, InstanceId=instance["Id"])
        cloud_map.delete_service(Id=service)


def _admin(outputs: dict) -> Caller:
    story, admin = _register(outputs)
    story.make_admin(admin)
    return Caller("an admin", admin.token)


def _user(outputs: dict) -> Caller:
    return Caller("a user", _register(outputs)[1].token)


def _unregistered(outputs: dict) -> Caller:
    return Caller("someone who has not registered", Story(outputs).sign_up("Fuzz").token, profile="never")


def _deleted_user(outputs: dict) -> Caller:
    story, person = _register(outputs)
    story.request("DELETE", "/users/me", person, expect=(202,))
    return Caller("a deleted user", person.token, profile="had")


def _register(outputs: dict) -> tuple[Story, Person]:
    story = Story(outputs)
    person = story.sign_up("Fuzz")
    story.request("POST", "/users", person, {"name": "Fuzz"}, expect=(201,))
    return story, person


def _anonymous(_: dict) -> Caller:
    return Caller("an anonymous caller", None)


CALLERS = (_admin, _anonymous, _user, _unregistered, _deleted_user)
