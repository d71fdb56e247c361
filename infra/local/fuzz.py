"""Asks the running system everything that its description allows, and much that it does not.

Schemathesis makes requests of infra/openapi.json, in rounds: as a person of the group admin, and as nobody. What the
system must never do is written in tests/fuzz.
"""

import json
import random
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from . import registry
from .progress import console, duration
from .settings import LOCAL, ROOT, Trouble, client, environment
from .story import Story

SCHEMATHESIS = LOCAL / "fuzz" / "bin" / "schemathesis"
CASES = re.compile(r"^\s*(\d+) generated", re.MULTILINE)
# How many requests each operation gets in a round, beside those that are counted out from its schema.
EXAMPLES = 30
# The first rounds of `make test` are the same each time; `make fuzz` goes where nobody has been.
SEED = 20261124
# What instances are registered for: a service that nobody calls.
SERVICE = "fuzz"


def run(outputs: dict, at_least: int) -> None:
    """Rounds until there were so many cases: a failure of the system ends it with the requests that show it."""
    began, cases = time.monotonic(), 0
    seed = SEED
    with _service():
        while cases < at_least:
            for nobody in (False, True):
                cases += _round(outputs, nobody, seed)
            seed += 1
    console.print(f"{cases} passed, 0 failed", markup=False)
    console.print(f"[dim]in {duration(time.monotonic() - began)}[/]")


def endless(outputs: dict) -> None:
    """Rounds until somebody says stop, or one fails."""
    began, cases, rounds = time.monotonic(), 0, 0
    console.print("Rounds without an end: Ctrl-C stops after the request under way")
    with suppress(KeyboardInterrupt), _service():
        while True:
            cases += _round(outputs, rounds % 2 == 1, random.randrange(2**32))
            rounds += 1
    console.print(f"\n{cases} requests in {rounds} whole rounds found nothing")
    console.print(f"[dim]in {duration(time.monotonic() - began)}[/]")


def _round(outputs: dict, nobody: bool, seed: int) -> int:
    """One round; answers how many cases it had."""
    who = "nobody" if nobody else "an admin"
    token = None if nobody else _token(outputs)
    settings = {"outputs": outputs | {"services": sorted(registry.read())}, "token": token, "service": SERVICE}
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
        raise Trouble(f"As {who}, seed {seed}: the system or its description is wrong, see above.")
    console.print(f"  as {who}: {found[1]} requests")
    return int(found[1])


@contextmanager
def _service() -> Iterator[None]:
    """A service in the registry for as long as requests are made."""
    cloud_map = client("servicediscovery")
    if SERVICE not in registry.read():
        namespaces = cloud_map.list_namespaces()["Namespaces"]
        [namespace] = [namespace["Id"] for namespace in namespaces if namespace["Name"] == registry.NAMESPACE]
        cloud_map.create_service(Name=SERVICE, NamespaceId=namespace)
    [service] = [one["Id"] for one in cloud_map.list_services()["Services"] if one["Name"] == SERVICE]
    try:
        yield
    finally:
        for instance in registry.read()[SERVICE]:
            cloud_map.deregister_instance(ServiceId=service, InstanceId=instance)
        cloud_map.delete_service(Id=service)


def _token(outputs: dict) -> str:
    """The access token of a person who may do everything that people may."""
    story = Story(outputs)
    admin = story.sign_up("Fuzz")
    story.make_admin(admin)
    story.request("POST", "/users", admin, {"name": "Fuzz"}, expect=(201,))
    return admin.token
