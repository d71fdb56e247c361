"""Measures calls between services for `make bench`: how long it takes to resolve a service whose address is cached, and
how much longer it takes to get a user by RPC or HTTP than to read the service's own copy.

The calls go to the local cloud, which has to be up. On AWS the times differ, but their order is the same."""

import http.server
import json
import os
import statistics
import subprocess
import threading
import time
from pathlib import Path

import requests
from rich.table import Table

from infra.local.lifecycle import cloud, outputs
from infra.local.progress import console
from infra.local.settings import AWS_ENVIRONMENT, OUTPUTS, ROOT, CommandError, client
from infra.local.story.story import Story

# The measuring programs in functions/runtime/examples/.
PROGRAMS = ("resolve", "calls")
# The number of calling processes. Each makes one first call, so this is also the number of first calls.
PROCESSES = 7
MAX_RESOLUTION = 1000  # nanoseconds


def run(programs: dict[str, Path]) -> None:
    resolution(programs["resolve"])
    if cloud.running() and OUTPUTS.exists():
        calls(programs["calls"])
    else:
        console.print("Calls between services were not measured, because the local cloud is not running (`make up`)")


def resolution(program: Path) -> None:
    """Resolves a service a million times from the cache. Cloud Map has to be called only once."""
    requests_received = []

    class CloudMap(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            requests_received.append(self.headers["x-amz-target"])
            instance = {"InstanceId": "deployed", "Attributes": {"url": "https://users.example"}}
            body = json.dumps({"Instances": [instance]}).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), CloudMap) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        endpoint = f"http://127.0.0.1:{server.server_port}"
        settings = {"DISCOVERY": "cloudmap", "NAMESPACE": "madang", "AWS_ENDPOINT_URL": endpoint}
        nanoseconds = int(_output(program, settings)[0])
        server.shutdown()
    calls_to_cloud_map = len(requests_received) - 1  # the first one fills the cache
    console.print(f"\nResolving a cached service: {nanoseconds} ns, {calls_to_cloud_map} calls to Cloud Map")
    if nanoseconds >= MAX_RESOLUTION or calls_to_cloud_map:
        raise CommandError(
            f"Resolving a cached service takes {nanoseconds} ns and {calls_to_cloud_map} calls to Cloud Map. It has to "
            f"take less than {MAX_RESOLUTION} ns and no call."
        )


def calls(program: Path) -> None:
    found = outputs.read()
    user = _create_user(found)
    settings = {"DISCOVERY": "cloudmap", "NAMESPACE": "madang", "TABLE": "posts"}
    runs = [[list(map(float, line.split())) for line in _output(program, settings, user)] for _ in range(PROCESSES)]
    table = Table("a user's name", "first ms", "then ms", "99 of 100 ms", "added ms", box=None, padding=(0, 2))
    medians = []
    for row, method in enumerate(("from a copy", "by RPC", "by HTTP")):
        first = statistics.median(times[row][0] for times in runs)
        then = sorted(time for times in runs for time in times[row][1:])
        medians.append(statistics.median(then))
        added = f"{medians[-1] - medians[0]:.1f}" if row else ""
        table.add_row(method, f"{first:.1f}", f"{medians[-1]:.1f}", f"{then[len(then) * 99 // 100]:.1f}", added)
    console.print()
    console.print(table)
    console.print(
        f"Medians on the local cloud, {PROCESSES} processes with {len(runs[0][0])} calls each. The first call of a "
        "process opens connections.\nThe first call by RPC also includes a call to Cloud Map."
    )


def _create_user(found: dict) -> str:
    """Registers a user and waits until posts has a copy. Returns the user's id."""
    with console.capture():  # `sign_up` prints its steps, which do not belong here
        person = Story(found).sign_up("Bench")
    headers = {"authorization": f"Bearer {person.token}"}
    answer = requests.post(f"{found['api_url']}/users", headers=headers, json={"name": person.name}, timeout=30)
    answer.raise_for_status()
    user = answer.json()["id"]
    key = {"pk": {"S": f"user#{user}"}, "sk": {"S": "user"}}
    for _ in range(300):
        if "Item" in client("dynamodb").get_item(TableName="posts", Key=key):
            return user
        time.sleep(0.1)
    raise CommandError("user.created did not reach posts within 30 s.")


def _output(program: Path, settings: dict[str, str], *arguments: str) -> list[str]:
    environment = {"PATH": os.defpath} | AWS_ENVIRONMENT | settings
    done = subprocess.run([program, *arguments], env=environment, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    if done.returncode != 0:
        raise CommandError(f"{program.name} failed. See its message above.")
    return done.stdout.splitlines()
