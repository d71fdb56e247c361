"""An example of a client of the API in Python: it signs in, posts, comments and orders. openapi-python-client generates
the client from infra/openapi.json, into a folder beside this program:

    openapi-python-client generate --path infra/openapi.json --config tests/clients/python/generator.yaml --meta none \\
        --output-path tests/clients/python/generated/madang

Usage: python3 program.py <address of the API> <address of Cognito> <id of the client> <e-mail> <password> <SKU>
"""

import sys
import time
import uuid
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, TypeVar

import httpx
from generated.madang import AuthenticatedClient
from generated.madang.api.comments import create_comment, list_comments
from generated.madang.api.orders import get_order, place_order
from generated.madang.api.payments import get_payment
from generated.madang.api.posts import create_post, update_post
from generated.madang.api.users import register_user
from generated.madang.models import (
    Comment,
    CommentText,
    Item,
    NewOrder,
    NewPost,
    Order,
    OrderStatus,
    PageOfComment,
    Payment,
    PaymentStatus,
    Post,
    PostEdit,
    Problem,
    ProblemType,
    ProfileName,
    User,
)
from generated.madang.types import Response

T = TypeVar("T")


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
    answer = httpx.post(cognito, json=wanted, headers=headers, timeout=30).raise_for_status()
    return str(answer.json()["AuthenticationResult"]["AccessToken"])


def expect(kind: type[T], answer: object) -> T:
    """The answer, which has to be of this kind. An error is a `Problem`, or API Gateway's `GatewayMessage`."""
    if not isinstance(answer, kind):
        raise SystemExit(f"Expected a {kind.__name__}, but the API answered: {answer}")
    return answer


def unless_missing(kind: type[T], answer: Response[Any]) -> T | None:
    """The answer, or None for 404."""
    return None if answer.status_code == HTTPStatus.NOT_FOUND else expect(kind, answer.parsed)


def eventually(what: str, probe: Callable[[], T | None]) -> T:
    """Waits for the effect of an event, and returns the probe's result."""
    deadline = time.monotonic() + 60
    while (found := probe()) is None:
        if time.monotonic() > deadline:
            raise SystemExit(f"Expected within a minute: {what}")
        time.sleep(0.2)
    return found


def key() -> str:
    """A new idempotency key."""
    return str(uuid.uuid4())


def main(api: str, cognito: str, client: str, email: str, password: str, sku: str) -> None:
    madang = AuthenticatedClient(
        base_url=api, token=sign_in(cognito, client, email, password), timeout=httpx.Timeout(30)
    )

    ara = register_user.sync(client=madang, body=ProfileName(name="Ara"), idempotency_key=key())
    assert expect(User, ara).email == email

    # The same key in every retry makes the request idempotent.
    draft, key_of_the_post = NewPost(title="Spring", body="It rains."), key()
    posted = create_post.sync_detailed(client=madang, body=draft, idempotency_key=key_of_the_post)
    post = expect(Post, posted.parsed)
    repeated = create_post.sync(client=madang, body=draft, idempotency_key=key_of_the_post)
    assert repeated == post, "a repeated request must not create a second post"

    def comment() -> Comment | None:
        # 404 until comments has processed the event `post.created`.
        text = CommentText(body="So do I.")
        answer = create_comment.sync_detailed(id=post.id, client=madang, body=text, idempotency_key=key())
        return unless_missing(Comment, answer)

    commented = eventually("the post can be commented on", comment)
    comments = list_comments.sync(id=post.id, client=madang, limit=5)
    assert expect(PageOfComment, comments).items == [commented], comments

    change, tag = PostEdit(title="Summer"), posted.headers["ETag"]
    changed = update_post.sync(id=post.id, client=madang, body=change, if_match=tag)
    assert expect(Post, changed).title == "Summer"
    stale = update_post.sync(id=post.id, client=madang, body=change, if_match=tag)
    assert expect(Problem, stale).type_ is ProblemType.URNMADANGPROBLEMSTALE_VERSION, stale

    wanted = NewOrder(items=[Item(sku=sku, quantity=2)], payment_method="pm_card_visa")
    placed = expect(Order, place_order.sync(client=madang, body=wanted, idempotency_key=key()))

    def settled() -> Order | None:
        order = expect(Order, get_order.sync(id=placed.id, client=madang))
        return order if order.status is not OrderStatus.PENDING else None

    order = eventually("the order is settled", settled)
    assert order.status is OrderStatus.CONFIRMED, order

    def captured() -> Payment | None:
        # 404 until the payment exists.
        payment = unless_missing(Payment, get_payment.sync_detailed(id=placed.id, client=madang))
        return payment if payment and payment.status is PaymentStatus.CAPTURED else None

    payment = eventually("the money is taken", captured)
    assert payment.amount == order.total, payment
    print(f"Signed in, posted, commented and ordered: order {order.id}")


if __name__ == "__main__":
    if len(sys.argv) != 7:
        raise SystemExit(__doc__)
    main(*sys.argv[1:])
