"""The people, requests and effects of a story, each printed as it happens."""

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from email.header import decode_header, make_header
from typing import Any
from urllib.parse import urljoin

import requests
from rich.markup import escape

from infra.local.operate import saga, token
from infra.local.operate.token import EVENT_TIMEOUT
from infra.local.progress import console, duration
from infra.local.settings import CommandError
from infra.local.story.traced import Traced
from infra.local.traces import store


@dataclass
class Person:
    name: str
    email: str
    token: str


@dataclass
class Answer:
    status: int
    etag: str | None
    location: str | None
    body: Any
    # The trace of the request, 32 hexadecimal digits. Empty if no function has answered.
    trace_id: str = ""


@dataclass
class Story:
    outputs: dict
    session: requests.Session = field(default_factory=requests.Session)
    # The requests other than GET.
    traced: list[Traced] = field(default_factory=list)
    title: str = ""

    def chapter(self, title: str) -> None:
        self.title = title
        console.print(f"\n[bold]{escape(title)}[/]")

    def sign_up(self, name: str) -> Person:
        """Signs a person up with Cognito, confirms them by the code from the mail, and signs them in."""
        email = f"{name.lower()}-{secrets.token_hex(4)}@example.com"
        began = time.monotonic()
        token.sign_up(self.outputs, email)
        access_token = token.sign_in(self.outputs, email)
        self._line("Cognito", f"SignUp, ConfirmSignUp, InitiateAuth as {email}", "200", _since(began))
        return Person(name, email, access_token)

    def make_admin(self, person: Person) -> None:
        """Puts a person into the group `admin`, and signs them in again for a token that says so."""
        began = time.monotonic()
        token.make_admin(self.outputs, person.email)
        person.token = token.sign_in(self.outputs, person.email)
        self._line("Cognito", "AdminAddUserToGroup admin, InitiateAuth", "200", _since(began))

    def request(
        self,
        method: str,
        path: str,
        person: Person | None = None,
        body: dict | None = None,
        if_match: str | None = None,
        if_none_match: str | None = None,
        expect: tuple[int, ...] = (200,),
    ) -> Answer:
        """Sends one request through the API and prints it. A status that is not expected ends the story."""
        began = time.monotonic()
        who = person.name if person else "anyone"
        step = Traced(self.title, who, f"{method} {path}")
        if method != "GET":
            self.traced.append(step)
        answer = self._send(method, path, person, body, if_match, if_none_match)
        step.trace_id = answer.trace_id
        self._line(who, f"{method} {path}", str(answer.status), _since(began))
        if answer.status not in expect:
            wanted = " or ".join(map(str, expect))
            raise CommandError(f"{method} {path} answered {answer.status} instead of {wanted}: {answer.body}")
        return answer

    def effect(self, event: str, consumer: str, what: str, happened: Callable[[], Any]) -> Any:
        """Waits for an effect of an event, and prints how long that took."""
        began = time.monotonic()
        while not (result := happened()):
            if time.monotonic() - began > EVENT_TIMEOUT:
                raise CommandError(
                    f"“{what}” did not happen within {EVENT_TIMEOUT} s of {event}: see `make logs F={consumer}`."
                )
            time.sleep(0.1)
        console.print(f"    [magenta]{event}[/] → [cyan]{consumer}[/]: {escape(what)} [dim]({_since(began)})[/]")
        return result

    def settle(self, order: str, expected: list[str]) -> None:
        """Follows an order through its state machine, and prints each step."""
        console.print("    [cyan]order-saga[/]")
        steps = saga.follow(saga.arn(self.outputs["state_machine_arn"], order), indent=6, timeout=EVENT_TIMEOUT)
        taken = [str(step) for step in steps]
        self.claim(taken == expected, f"The saga of order {order} took the steps {taken} instead of {expected}.")

    def claim(self, so: bool, otherwise: str) -> None:
        """Ends the story if something that it says is not true."""
        if not so:
            raise CommandError(otherwise)

    def peek(self, path: str, person: Person | None = None) -> Answer:
        """Sends a GET that is repeated until its answer changes, so it is not printed."""
        return self._send("GET", path, person)

    def mails_to(self, email: str, subject: str) -> list[dict]:
        """The mails to this address with this subject, which in SES is the text of the header."""
        answer = self.session.get(f"{self.outputs['endpoint_url']}/_ministack/ses/messages", timeout=10)
        mails = [mail for account in answer.json()["messages"].values() for mail in account if email in mail["To"]]
        shown = [{**mail, "Subject": str(make_header(decode_header(mail["Subject"])))} for mail in mails]
        return [mail for mail in shown if mail["Subject"] == subject]

    def note(self, text: str) -> None:
        console.print(f"    {escape(text)}")

    def _send(
        self,
        method: str,
        path: str,
        person: Person | None,
        body: dict | None = None,
        if_match: str | None = None,
        if_none_match: str | None = None,
    ) -> Answer:
        named = {"if-match": if_match, "if-none-match": if_none_match}
        headers = {name: value for name, value in named.items() if value is not None}
        if person:
            headers["authorization"] = f"Bearer {person.token}"
        try:
            answer = self.session.request(
                method, self.outputs["api_url"] + path, json=body, headers=headers, timeout=30
            )
        except requests.RequestException as error:
            raise CommandError(f"{method} {path} got no answer: {error}") from None
        location = answer.headers.get("location")
        is_json = "json" in answer.headers.get("content-type", "")
        return Answer(
            status=answer.status_code,
            etag=answer.headers.get("etag"),
            location=location and urljoin(answer.url, location).removeprefix(self.outputs["api_url"]),
            body=answer.json() if is_json and answer.content else answer.text,
            trace_id=store.trace_id(answer.headers.get("traceresponse", "")),
        )

    def _line(self, who: str, what: str, status: str, took: str) -> None:
        colour = "green" if status.startswith("2") else "yellow"
        console.print(f"  {who:<8}{escape(what)} → [{colour}]{status}[/] [dim]({took})[/]")


def _since(began: float) -> str:
    return duration(time.monotonic() - began)
