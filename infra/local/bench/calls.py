"""Measures calls between services, for `make bench`: how long it takes to find one whose place is known, and what it
costs to ask for a user by RPC and by HTTP instead of reading a copy of one's own.

The calls go to the local cloud, which has to be up. What they cost on AWS is another number, but the order is the
same."""

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
from infra.local.settings import AWS_ENVIRONMENT, OUTPUTS, ROOT, Trouble, client
from infra.local.story.story import Story

# The programs in functions/runtime/examples/ that do the work.
PROGRAMS = ("resolve", "calls")
# Processes that call: one first call each.
PROCESSES = 7
SLOWEST_RESOLUTION = 1000  # nanoseconds


def run(programs: dict[str, Path]) -> None:
    resolution(programs["resolve"])
    if cloud.running() and OUTPUTS.exists():
        calls(programs["calls"])
    else:
        console.print("Calls between services were not measured: that needs the local cloud (`make up`)")


def resolution(program: Path) -> None:
    """A directory that has its answer is asked a million times, and Cloud Map once."""
    asked = []

    class CloudMap(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            asked.append(self.headers["x-amz-target"])
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
    console.print(f"\nFinding a service whose place is known: {nanoseconds} ns, {len(asked) - 1} calls to Cloud Map")
    if nanoseconds >= SLOWEST_RESOLUTION or len(asked) != 1:
        raise Trouble(f"A warm resolution takes {nanoseconds} ns and {len(asked) - 1} calls: less than 1000 and none")


def calls(program: Path) -> None:
    found = outputs.read()
    user = _somebody(found)
    settings = {"DISCOVERY": "cloudmap", "NAMESPACE": "madang", "TABLE": "posts"}
    runs = [[list(map(float, line.split())) for line in _output(program, settings, user)] for _ in range(PROCESSES)]
    table = Table("a user's name", "first ms", "then ms", "99 of 100 ms", "added ms", box=None, padding=(0, 2))
    medians = []
    for place, way in enumerate(("from a copy", "by RPC", "by HTTP")):
        first = statistics.median(times[place][0] for times in runs)
        then = sorted(time for times in runs for time in times[place][1:])
        medians.append(statistics.median(then))
        added = f"{medians[-1] - medians[0]:.1f}" if place else ""
        table.add_row(way, f"{first:.1f}", f"{medians[-1]:.1f}", f"{then[len(then) * 99 // 100]:.1f}", added)
    console.print()
    console.print(table)
    console.print(
        f"Medians on the local cloud, {PROCESSES} processes with {len(runs[0][0])} calls each. The first call of a "
        "process opens connections;\nby RPC, the first of the two, it also asks Cloud Map"
    )


def _somebody(found: dict) -> str:
    """The id of a user of whom posts has a copy."""
    with console.capture():  # the story is told elsewhere
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
    raise Trouble("user.created did not reach posts within 30 s.")


def _output(program: Path, settings: dict[str, str], *arguments: str) -> list[str]:
    environment = {"PATH": os.defpath} | AWS_ENVIRONMENT | settings
    done = subprocess.run([program, *arguments], env=environment, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    if done.returncode != 0:
        raise Trouble(f"{program.name} failed: see its message above.")
    return done.stdout.splitlines()
