"""The story of `make demo`: what people do in the community and what they order, and what follows from it."""

from dataclasses import dataclass

from infra.local.operate import token
from infra.local.progress import console
from infra.local.settings import Trouble, client
from infra.local.story import traced
from infra.local.story.story import Person, Story

SKU = "persimmons"
PRICE = 1250  # cents
IN_STOCK = 10

FORWARD = ["✓ ValidateUser", "✓ ReserveInventory", "✓ AuthorizePayment"]
CONFIRMED = [*FORWARD, "✓ ConfirmOrder", "✓ CapturePayment", "✓ CommitInventory"]
UNDONE = ["✓ AbortOrder", "✓ CancelPayment", "✓ ReleaseInventory", "✓ RejectOrder"]
DECLINED = [*FORWARD[:2], "✗ AuthorizePayment Payment.Declined", *UNDONE]
OUT_OF_STOCK = [*FORWARD[:1], "✗ ReserveInventory Inventory.OutOfStock", *UNDONE]


@dataclass
class Cast:
    """Who and what the later chapters speak of."""

    ana: Person
    ben: Person
    ana_id: str
    anas_post: str
    bens_post: str


def play(outputs: dict) -> None:
    story = Story(outputs)
    try:
        cast = arrive(story)
        talk(story, cast)
        rename(story, cast)
        stock_up(story)
        confirm(story, cast)
        decline(story, cast)
        run_out(story, cast)
        leave(story, cast)
    except Trouble:
        # When they are wanted most.
        traced.show(story.traced)
        raise
    traced.show(story.traced)
    console.print("\n[bold green]All of it happened.[/] The system stays up:")
    console.print(f"  {outputs['api_url']}")
    console.print(f"  curl {outputs['api_url']}/posts/{cast.bens_post}")
    console.print("  make down    # stops it and keeps its state")


def arrive(story: Story) -> Cast:
    story.chapter("Ana and Ben sign up, and each writes a post")
    ana, ben = story.sign_up("Ana"), story.sign_up("Ben")
    ana_id = story.request("POST", "/users", ana, {"name": "Ana"}, expect=(201,)).body["id"]
    story.request("POST", "/users", ben, {"name": "Ben"}, expect=(201,))
    story.effect("user.created", "notifications-on-user", "Ana is welcomed", lambda: notifications(story, ana))

    post = {"title": "First day in the courtyard", "body": "Hello, neighbours."}
    anas_post = story.request("POST", "/posts", ana, post, expect=(201,)).body["id"]
    post = {"title": "Persimmons to give away", "body": "The tree bends. Bring a basket."}
    bens_post = story.request("POST", "/posts", ben, post, expect=(201,)).body["id"]
    author = story.request("GET", f"/posts/{anas_post}/author").body
    story.note(f"posts-author asked users-lookup by RPC: the author is {author['name']}")
    if author["name"] != "Ana":
        raise Trouble(f"The author of Ana's post is {author['name']}.")
    return Cast(ana, ben, ana_id, anas_post, bens_post)


def talk(story: Story, cast: Cast) -> None:
    story.chapter("Ana wants mail, Ben comments on her post, and she hears of it")
    preferences = story.request("GET", "/notifications/preferences", cast.ana)
    wanted = {**preferences.body, "email": True}
    wanted.pop("version", None)
    story.request("PUT", "/notifications/preferences", cast.ana, wanted, if_match=preferences.etag)

    comments = f"/posts/{cast.anas_post}/comments"
    story.effect(
        "post.created", "comments-on-post", "comments knows the post", lambda: story.peek(comments).status == 200
    )
    before = {notification["id"] for notification in notifications(story, cast.ana)}
    story.request("POST", comments, cast.ben, {"body": "Welcome, Ana!"}, expect=(201,))

    def new() -> list[dict]:
        return [one for one in notifications(story, cast.ana) if one["id"] not in before]

    notification = story.effect("comment.created", "notifications-on-comment", "Ana is notified", new)[0]
    story.note(f"“{notification['subject']}”: {notification['message']}")
    mail = story.effect(
        "notification.created",
        "notifications-email",
        "a mail goes out",
        lambda: story.mails_to(cast.ana.email, notification["subject"]),
    )[-1]
    story.note(f"to {', '.join(mail['To'])}: “{mail['Subject']}”")
    story.request("POST", f"/notifications/{notification['id']}/read", cast.ana, expect=(204,))

    bens = f"/posts/{cast.bens_post}/comments"
    story.effect(
        "post.created", "comments-on-post", "comments knows Ben's post", lambda: story.peek(bens).status == 200
    )
    story.request("POST", bens, cast.ana, {"body": "I am on my way."}, expect=(201,))


def rename(story: Story, cast: Cast) -> None:
    story.chapter("Ana takes another name, and her post and her comment follow")
    profile = story.request("GET", "/users/me", cast.ana)
    story.request("PATCH", "/users/me", cast.ana, {"name": "Ana Kim"}, if_match=profile.etag)
    story.effect(
        "user.updated",
        "posts-on-user",
        "her post bears the new name",
        lambda: story.peek(f"/posts/{cast.anas_post}").body["author"]["name"] == "Ana Kim",
    )
    story.effect(
        "user.updated",
        "comments-on-user",
        "so does her comment",
        lambda: [one["author"]["name"] for one in items(story, f"/posts/{cast.bens_post}/comments")] == ["Ana Kim"],
    )


def stock_up(story: Story) -> None:
    story.chapter("Sora, who looks after the stock, has persimmons to sell")
    sora = story.sign_up("Sora")
    story.make_admin(sora)
    goods = {"name": "A basket of persimmons", "unit_price": usd(PRICE), "on_hand": IN_STOCK}
    present = story.peek(f"/inventory/{SKU}")
    if present.status == 404:
        story.request("PUT", f"/inventory/{SKU}", sora, goods, if_none_match="*", expect=(201,))
    else:  # of an earlier run
        story.request("PUT", f"/inventory/{SKU}", sora, goods, if_match=present.etag)
    story.note(f"stock: {in_stock(stock(story))}, at {money(usd(PRICE))}")


def confirm(story: Story, cast: Cast) -> None:
    story.chapter("Ben orders two baskets, and the order is confirmed")
    order = place(story, cast.ben, 2, "pm_card_visa", CONFIRMED, ("CONFIRMED", None), sold=2)
    payment = story.request("GET", f"{order}/payment", cast.ben).body
    story.note(f"money: none → {payment['status']} {money(payment['amount'])}")
    captured = (payment["status"], payment["amount"]) == ("CAPTURED", usd(2 * PRICE))
    story.claim(captured, f"The payment is not captured as it should be: {payment}")
    hear(story, cast.ben, order, "order.confirmed")


def decline(story: Story, cast: Cast) -> None:
    story.chapter("He orders another with a card that is declined, and all of it is undone")
    order = place(story, cast.ben, 1, "pm_card_chargeDeclined", DECLINED, ("REJECTED", "payment_declined"), sold=0)
    payment = story.request("GET", f"{order}/payment", cast.ben).body
    story.note(f"money: none → {payment['status']}, nothing is held")
    story.claim(payment["status"] == "DECLINED", f"The payment is not declined: {payment}")
    hear(story, cast.ben, order, "order.rejected")


def run_out(story: Story, cast: Cast) -> None:
    story.chapter("He orders more than there are, and the order is rejected")
    wanted = stock(story)["available"] + 1
    order = place(story, cast.ben, wanted, "pm_card_visa", OUT_OF_STOCK, ("REJECTED", "out_of_stock"), sold=0)
    story.request("GET", f"{order}/payment", cast.ben, expect=(404,))
    story.note("money: none → none, it was never asked for")
    hear(story, cast.ben, order, "order.rejected")


def place(
    story: Story, buyer: Person, baskets: int, card: str, steps: list[str], ending: tuple[str, str | None], sold: int
) -> str:
    """Places an order, follows it until it is settled, and checks what has become of it and of the stock; answers
    its path."""
    before = stock(story)
    items = [{"sku": SKU, "quantity": baskets}]
    wanted = {"items": items, "payment_method": card, "expected_total": usd(baskets * PRICE)}
    placed = story.request("POST", "/orders", buyer, wanted, expect=(202,))
    order = placed.body["id"]
    path = f"/orders/{order}"
    story.note(f"{placed.body['status']}, to be found at {placed.location}")
    story.claim(placed.body["status"] == "PENDING", f"The order begins as {placed.body['status']}.")
    story.claim(placed.location == path, f"The order {order} is said to be at {placed.location}.")
    story.settle(order, steps)

    settled = story.request("GET", path, buyer).body
    found = settled["status"], settled.get("reason")
    story.note(" for ".join(filter(None, found)))
    story.claim(found == ending, f"The order {order} is {found} instead of {ending}.")
    after = stock(story)
    story.note(f"stock: {in_stock(before)} → {in_stock(after)}")
    left = {name: number - (0 if name == "reserved" else sold) for name, number in before.items()}
    story.claim(after == left, f"The stock is {after} instead of {left}.")
    return path


def hear(story: Story, buyer: Person, order: str, event: str) -> None:
    order_id = order.rsplit("/", 1)[-1]

    def told() -> list[dict]:
        mine = [one for one in notifications(story, buyer) if order_id in one["message"]]
        return [one for one in mine if one["type"] == event.replace(".", "_")]

    notification = story.effect(event, "notifications-on-order", f"{buyer.name} is notified", told)[0]
    story.note(f"“{notification['subject']}”: {notification['message']}")


def stock(story: Story) -> dict[str, int]:
    found = story.peek(f"/inventory/{SKU}").body
    return {name: found[name] for name in ("on_hand", "reserved", "available")}


def in_stock(numbers: dict[str, int]) -> str:
    return f"{numbers['on_hand']} on hand, {numbers['reserved']} reserved, {numbers['available']} available"


def usd(cents: int) -> dict:
    return {"amount": cents, "currency": "USD"}


def money(amount: dict) -> str:
    return f"{amount['amount'] // 100}.{amount['amount'] % 100:02} {amount['currency']}"


def leave(story: Story, cast: Cast) -> None:
    story.chapter("Ana leaves, and what was hers goes with her")
    story.request("DELETE", "/users/me", cast.ana, expect=(202,))
    anas_post, bens_post = f"/posts/{cast.anas_post}", f"/posts/{cast.bens_post}"
    story.effect("user.deleted", "posts-on-user", "her post is gone", lambda: story.peek(anas_post).status == 404)
    story.effect(
        "user.deleted",
        "comments-on-user",
        "her comment on Ben's post is gone",
        lambda: story.peek(f"{bens_post}/comments").body.get("items") == [],
    )
    story.effect(
        "post.deleted",
        "comments-on-post",
        "the comments on her post are gone",
        lambda: not items(story, f"{anas_post}/comments"),
    )
    story.effect(
        "user.deleted", "users-on-user", "she cannot sign in any more", lambda: not can_sign_in(story, cast.ana)
    )
    story.request("POST", "/posts", cast.ana, {"title": "Still here?", "body": "No."}, expect=(401, 403))
    story.note("her token has not expired, but it writes nothing any more")
    story.request("GET", bens_post)


def notifications(story: Story, person: Person) -> list[dict]:
    return items(story, "/notifications", person)


def items(story: Story, path: str, person: Person | None = None) -> list[dict]:
    answer = story.peek(path, person)
    return answer.body["items"] if answer.status == 200 else []


def can_sign_in(story: Story, person: Person) -> bool:
    cognito = client("cognito-idp")
    try:
        token.sign_in(story.outputs, person.email)
    except (cognito.exceptions.NotAuthorizedException, cognito.exceptions.UserNotFoundException):
        return False
    return True
