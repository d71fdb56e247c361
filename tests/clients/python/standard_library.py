"""An example of a client of the API in Python: it signs in, posts, comments and orders. It needs only the standard
library.

Usage: python3 program.py <address of the API> <address of Cognito> <id of the client> <e-mail> <password> <SKU>
"""

import json
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass
class Answer:
    status: int
    etag: str | None
    body: Any


class Madang:
    """The API, called with one user's token."""

    def __init__(self, api: str, token: str) -> None:
        self.api = api
        self.token = token

    def get(self, path: str) -> Answer:
        return self._send("GET", path)

    def post(self, path: str, body: dict[str, Any], key: str | None = None) -> Answer:
        # The same key in every retry makes the request idempotent.
        return self._send("POST", path, body, {"Idempotency-Key": f'"{key or uuid.uuid4()}"'})

    def patch(self, path: str, body: dict[str, Any], etag: str) -> Answer:
        return self._send("PATCH", path, body, {"If-Match": etag})

    def _send(
        self, method: str, path: str, body: dict[str, Any] | None = None, headers: dict[str, str] | None = None
    ) -> Answer:
        request = urllib.request.Request(self.api + path, method=method, headers=headers or {})
        request.add_header("Authorization", f"Bearer {self.token}")
        if body is not None:
            request.data = json.dumps(body).encode()
            request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return Answer(answer.status, answer.headers["ETag"], json.load(answer))
        except urllib.error.HTTPError as problem:
            # The body of an error is a problem document (RFC 9457).
            return Answer(problem.code, None, json.load(problem))


def sign_in(cognito: str, client: str, email: str, password: str) -> str:
    """Signs a user in and returns the access token, which is valid for an hour."""
    wanted = {
        "AuthFlow": "USER_PASSWORD_AUTH",
        "ClientId": client,
        "AuthParameters": {"USERNAME": email, "PASSWORD": password},
    }
    headers = {
        "Content-Type": "application/x-amz-json-1.1",
        "X-Amz-Target": "AWSCognitoIdentityProviderService.InitiateAuth",
    }
    request = urllib.request.Request(cognito, json.dumps(wanted).encode(), headers)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return str(json.load(answer)["AuthenticationResult"]["AccessToken"])


def expect(answer: Answer, *statuses: int) -> Any:
    if answer.status not in statuses:
        raise SystemExit(f"The API answered {answer.status}: {answer.body}")
    return answer.body


def eventually(what: str, probe: Callable[[], Any]) -> Any:
    """Waits for the effect of an event, and returns the probe's result."""
    deadline = time.monotonic() + 60
    while not (found := probe()):
        if time.monotonic() > deadline:
            raise SystemExit(f"Expected within a minute: {what}")
        time.sleep(0.2)
    return found


def main(api: str, cognito: str, client: str, email: str, password: str, sku: str) -> None:
    madang = Madang(api, sign_in(cognito, client, email, password))
    expect(madang.post("/users", {"name": "Ara"}), 200, 201)  # 200: the user is registered already

    draft = {"title": "Spring", "body": "It rains."}
    key = str(uuid.uuid4())
    posted = madang.post("/posts", draft, key)
    post = expect(posted, 201)
    assert expect(madang.post("/posts", draft, key), 201) == post, "a repeated request must not create a second post"

    def comment() -> dict[str, Any] | None:
        # 404 until comments has processed the event `post.created`.
        answer = madang.post(f"/posts/{post['id']}/comments", {"body": "So do I."})
        return expect(answer, 201, 404) if answer.status != 404 else None

    commented = eventually("the post can be commented on", comment)
    comments = expect(madang.get(f"/posts/{post['id']}/comments?limit=5"), 200)
    assert comments["items"] == [commented], comments

    assert posted.etag, "the response has to have an ETag"
    expect(madang.patch(f"/posts/{post['id']}", {"title": "Summer"}, posted.etag), 200)
    stale = madang.patch(f"/posts/{post['id']}", {"title": "Autumn"}, posted.etag)
    assert (stale.status, stale.body["type"]) == (412, "urn:madang:problem:stale-version"), stale

    wanted = {"items": [{"sku": sku, "quantity": 2}], "payment_method": "pm_card_visa"}
    order = expect(madang.post("/orders", wanted), 202)

    def settled() -> dict[str, Any] | None:
        found = expect(madang.get(f"/orders/{order['id']}"), 200)
        return found if found["status"] != "PENDING" else None

    order = eventually("the order is settled", settled)
    assert order["status"] == "CONFIRMED", order

    def captured() -> dict[str, Any] | None:
        # 404 until the payment exists.
        found = expect(madang.get(f"/orders/{order['id']}/payment"), 200, 404)
        return found if found.get("status") == "CAPTURED" else None

    payment = eventually("the payment is captured", captured)
    assert payment["amount"] == order["total"], payment
    print(f"Signed in, posted, commented and ordered: order {order['id']}")


if __name__ == "__main__":
    if len(sys.argv) != 7:
        raise SystemExit(__doc__)
    main(*sys.argv[1:])
