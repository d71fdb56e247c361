"""`make logs` in the running system."""

import json
import os
import signal
import subprocess
import time

import pytest
from commands import Person, command, environment, eventually, make

from infra.local.settings import ROOT


@pytest.fixture(scope="module")
def declined(ara: Person, sku: str) -> str:
    """The id of an order whose card was declined."""
    wanted = {"items": [{"sku": sku, "quantity": 1}], "payment_method": "pm_card_chargeDeclined"}
    order = ara.request("POST", "/orders", wanted).json()["id"]

    def settled() -> str | None:
        status = ara.request("GET", f"/orders/{order}").json()["status"]
        return status if status != "PENDING" else None

    assert eventually("the order is settled", settled) == "REJECTED"
    return order


def test_the_lines_of_all_functions_show_why_an_order_was_rejected(declined):
    def complete() -> list[str]:
        lines = make("logs", check=False, ID=declined).stdout.splitlines()
        return lines if any(" orders-reject " in line for line in lines) else []

    lines = eventually("the last step has written its line", complete)
    assert all(declined in line for line in lines)
    functions = [line.split()[3] for line in lines]
    # An endpoint writes its line when it answers. The relay may be faster, but the saga's third step is not.
    assert functions.index("orders-place") < functions.index("payments-authorize")
    assert functions.index("payments-authorize") < functions.index("orders-abort") < functions.index("orders-reject")
    refusals = [line for line in lines if " payments-authorize " in line and "Payment.Declined" in line]
    assert len(refusals) == 1, lines
    assert [line[:23] for line in lines] == sorted(line[:23] for line in lines)


def test_only_one_functions_lines_are_printed_and_unformatted_by_raw(declined):
    lines = make("logs", F="payments-authorize", ID=f"urn:uuid:{declined}", RAW="1").stdout.splitlines()
    entries = [json.loads(line) for line in lines]
    assert {(entry["function"], entry["order_id"]) for entry in entries} == {("payments-authorize", declined)}


def test_a_request_is_found_by_the_instance_of_its_problem(ara):
    problem = ara.request("GET", "/posts/00000000-0000-7000-8000-000000000000")
    assert problem.status_code == 404
    instance = problem.json()["instance"]
    line = eventually("the line is there", lambda: make("logs", check=False, ID=instance).stdout)
    assert " posts-get " in line and instance.removeprefix("urn:uuid:") in line


def test_all_functions_are_listed_if_none_is_given(system):
    listed = [line.split()[0] for line in make("logs").stdout.splitlines()[:-2]]
    assert listed == sorted(system["functions"])


def test_an_unknown_function_is_refused_with_similar_names():
    done = make("logs", check=False, F="order-place")
    assert (done.returncode != 0, done.stdout) == (True, "")
    assert "(did you mean orders-place" in done.stderr


def test_new_lines_are_printed_until_ctrl_c(ara):
    with subprocess.Popen(
        command("logs", F="users-get", FOLLOW="1", SINCE="1s"),
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as following:
        time.sleep(2)
        answer = ara.request("GET", "/users/00000000-0000-7000-8000-00000000abcd")
        instance = answer.json()["instance"].removeprefix("urn:uuid:")
        lines = iter(following.stdout.readline, "")
        assert any(instance in line for line in lines)
        # A terminal sends Ctrl-C to the whole process group.
        os.killpg(following.pid, signal.SIGINT)
