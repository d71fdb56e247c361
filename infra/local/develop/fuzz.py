"""Asks the running system everything that its description allows, and much that it does not.

Schemathesis makes requests of infra/openapi.json, in rounds: as a person of the group admin, as nobody, as a person
like others, as one who has not registered, and as one who has left. What the system must never do is written in
tests/fuzz.
"""

import json
import random
import re
import secrets
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from infra.local.lifecycle import registry
from infra.local.progress import console, duration
from infra.local.settings import LOCAL, ROOT, Trouble, client, environment
from infra.local.story.story import Person, Story

SCHEMATHESIS = LOCAL / "fuzz" / "bin" / "schemathesis"
CASES = re.compile(r"^\s*(\d+) generated", re.MULTILINE)
# How many requests each operation gets in a round, beside those that are counted out from its schema.
EXAMPLES = 30
# The first rounds of `make test` are the same each time; `make fuzz` goes where nobody has been.
SEED = 20261124


@dataclass
class Asker:
    """Who makes the requests of a round."""

    who: str
    token: str | None
    profile: str = "has"  # or "had", or "never"


def run(outputs: dict, at_least: int) -> None:
    """Rounds until there were so many cases, and one by everybody at least: a failure of the system ends it with the
    requests that show it."""
    outputs = _with_services(outputs)
    began, cases, seed = time.monotonic(), 0, SEED
    # Each round is a process that makes requests and then waits for the answers: three keep two processors busy.
    pool = ThreadPoolExecutor(max_workers=3)
    try:
        while cases < at_least:
            rounds = [pool.submit(_round, outputs, asker, seed) for asker in ASKERS]
            cases += sum(done.result() for done in as_completed(rounds))
            seed += 1
    finally:
        pool.shutdown(cancel_futures=True)
    console.print(f"{cases} passed, 0 failed", markup=False)
    console.print(f"[dim]in {duration(time.monotonic() - began)}[/]")


def endless(outputs: dict) -> None:
    """Rounds until somebody says stop, or one fails."""
    outputs = _with_services(outputs)
    began, cases, rounds = time.monotonic(), 0, 0
    console.print("Rounds without an end: Ctrl-C stops after the request under way")
    with suppress(KeyboardInterrupt):
        while True:
            cases += _round(outputs, ASKERS[rounds % len(ASKERS)], random.randrange(2**32))
            rounds += 1
    console.print(f"\n{cases} requests in {rounds} whole rounds found nothing")
    console.print(f"[dim]in {duration(time.monotonic() - began)}[/]")


def _round(outputs: dict, make_asker: Callable[[dict], Asker], seed: int) -> int:
    """One round; answers how many cases it had."""
    asker = make_asker(outputs)
    with _service() as service:
        settings = {"outputs": outputs, "service": service, "token": asker.token, "profile": asker.profile}
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
        raise Trouble(f"As {asker.who}, seed {seed}: the system or its description is wrong, see above.")
    console.print(f"  as {asker.who}: {found[1]} requests")
    return int(found[1])


def _with_services(outputs: dict) -> dict:
    """With the services that are found in the registry: what the rounds change there has to be none of them."""
    return outputs | {"services": sorted(registry.read())}


@contextmanager
def _service() -> Iterator[str]:
    """A service of a round's own in the registry, for as long as requests are made: nobody calls it."""
    cloud_map, name = client("servicediscovery"), f"fuzz-{secrets.token_hex(4)}"
    service = cloud_map.create_service(Name=name, NamespaceId=registry.namespace(cloud_map))["Service"]["Id"]
    try:
        yield name
    finally:
        for page in cloud_map.get_paginator("list_instances").paginate(ServiceId=service):
            for instance in page["Instances"]:
                cloud_map.deregister_instance(ServiceId=service, InstanceId=instance["Id"])
        cloud_map.delete_service(Id=service)


def _admin(outputs: dict) -> Asker:
    """Who may do everything that people may."""
    story, admin = _registered(outputs)
    story.make_admin(admin)
    return Asker("an admin", admin.token)


def _person(outputs: dict) -> Asker:
    return Asker("a person", _registered(outputs)[1].token)


def _stranger(outputs: dict) -> Asker:
    return Asker("somebody who has not registered", Story(outputs).sign_up("Fuzz").token, profile="never")


def _leaver(outputs: dict) -> Asker:
    story, person = _registered(outputs)
    story.request("DELETE", "/users/me", person, expect=(202,))
    return Asker("somebody who has left", person.token, profile="had")


def _registered(outputs: dict) -> tuple[Story, Person]:
    story = Story(outputs)
    person = story.sign_up("Fuzz")
    story.request("POST", "/users", person, {"name": "Fuzz"}, expect=(201,))
    return story, person


def _nobody(_: dict) -> Asker:
    return Asker("nobody", None)


ASKERS = (_admin, _nobody, _person, _stranger, _leaver)
