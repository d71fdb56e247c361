"""The story of `make demo`: what people write and order, and everything that follows from it."""

from dataclasses import dataclass

from infra.local.operate import token
from infra.local.progress import console
from infra.local.settings import CommandError, client
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
    """The people and posts that later chapters need."""

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
        sora = stock_up(story)
        confirm(story, cast, sora)
        decline(story, cast, sora)
        run_out(story, cast, sora)
        leave(story, cast)
    except CommandError:
        # The traces are most useful when a step failed.
        traced.show(story.traced)
        raise
    traced.show(story.traced)
    console.print("\n[bold green]All of it happened.[/] The system stays up:")
    console.print(f"  read and try the API       {outputs['api_url']}/docs")
    console.print(f"  look at traces             {outputs['trace_url']}")
    console.print(f"  call it                    curl {outputs['api_url']}/posts/{cast.bens_post}")
    console.print("  stop it, keep its state    make down")


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
        raise CommandError(f"The author of Ana's post is {author['name']}.")
    return Cast(ana, ben, ana_id, anas_post, bens_post)


def talk(story: Story, cast: Cast) -> None:
    story.chapter("Ana turns on e-mail, Ben comments on her post, and she is notified")
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
    story.chapter("Ana changes her name, and her post and her comment show it")
    profile = story.request("GET", "/users/me", cast.ana)
    story.request("PATCH", "/users/me", cast.ana, {"name": "Ana Kim"}, if_match=profile.etag)
    story.effect(
        "user.updated",
        "posts-on-user",
        "her post shows the new name",
        lambda: story.peek(f"/posts/{cast.anas_post}").body["author"]["name"] == "Ana Kim",
    )
    story.effect(
        "user.updated",
        "comments-on-user",
        "so does her comment",
        lambda: [one["author"]["name"] for one in items(story, f"/posts/{cast.bens_post}/comments")] == ["Ana Kim"],
    )


def stock_up(story: Story) -> Person:
    """Puts something into the stock. Returns the admin, who may see how many there are."""
    story.chapter("Sora, an admin, puts persimmons into the stock")
    sora = story.sign_up("Sora")
    story.make_admin(sora)
    goods = {"name": "A basket of persimmons", "unit_price": usd(PRICE), "on_hand": IN_STOCK}
    present = story.peek(f"/inventory/{SKU}")
    if present.status == 404:
        story.request("PUT", f"/inventory/{SKU}", sora, goods, if_none_match="*", expect=(201,))
    else:  # left by an earlier run
        story.request("PUT", f"/inventory/{SKU}", sora, goods, if_match=present.etag)
    story.note(f"stock: {in_stock(stock(story, sora))}, at {money(usd(PRICE))}")
    return sora


def confirm(story: Story, cast: Cast, sora: Person) -> None:
    story.chapter("Ben orders two baskets, and the order is confirmed")
    order = place(story, cast.ben, sora, 2, "pm_card_visa", CONFIRMED, ("CONFIRMED", None), sold=2)
    payment = story.request("GET", f"{order}/payment", cast.ben).body
    story.note(f"payment: {payment['status']} {money(payment['amount'])}")
    captured = (payment["status"], payment["amount"]) == ("CAPTURED", usd(2 * PRICE))
    story.claim(captured, f"The payment should be captured, and is {payment}")
    is_notified(story, cast.ben, order, "order.confirmed")


def decline(story: Story, cast: Cast, sora: Person) -> None:
    story.chapter("Ben orders another, the card is declined, and every step is undone")
    ending = "REJECTED", "payment_declined"
    order = place(story, cast.ben, sora, 1, "pm_card_chargeDeclined", DECLINED, ending, sold=0)
    payment = story.request("GET", f"{order}/payment", cast.ben).body
    story.note(f"payment: {payment['status']}, no money is held")
    story.claim(payment["status"] == "DECLINED", f"The payment should be declined, and is {payment}")
    is_notified(story, cast.ben, order, "order.rejected")


def run_out(story: Story, cast: Cast, sora: Person) -> None:
    story.chapter("Ben orders more than there is in stock, and the order is rejected")
    wanted = stock(story, sora)["available"] + 1
    order = place(story, cast.ben, sora, wanted, "pm_card_visa", OUT_OF_STOCK, ("REJECTED", "out_of_stock"), sold=0)
    story.request("GET", f"{order}/payment", cast.ben, expect=(404,))
    story.note("payment: none, the order was rejected before it")
    is_notified(story, cast.ben, order, "order.rejected")


def place(
    story: Story,
    buyer: Person,
    admin: Person,
    baskets: int,
    card: str,
    steps: list[str],
    ending: tuple[str, str | None],
    sold: int,
) -> str:
    """Places an order, follows it until it is settled, and checks its status and the stock. Returns its path."""
    before = stock(story, admin)
    items = [{"sku": SKU, "quantity": baskets}]
    wanted = {"items": items, "payment_method": card, "expected_total": usd(baskets * PRICE)}
    placed = story.request("POST", "/orders", buyer, wanted, expect=(202,))
    order = placed.body["id"]
    path = f"/orders/{order}"
    story.note(f"{placed.body['status']} at {placed.location}")
    story.claim(placed.body["status"] == "PENDING", f"The order begins as {placed.body['status']} instead of PENDING.")
    story.claim(placed.location == path, f"The Location of order {order} is {placed.location} instead of {path}.")
    story.settle(order, steps)

    settled = story.request("GET", path, buyer).body
    found = settled["status"], settled.get("reason")
    story.note(": ".join(filter(None, found)))
    story.claim(found == ending, f"The order {order} is {found} instead of {ending}.")
    after = stock(story, admin)
    story.note(f"stock: {'still ' if after == before else f'{in_stock(before)} → '}{in_stock(after)}")
    left = {name: number - (0 if name == "reserved" else sold) for name, number in before.items()}
    story.claim(after == left, f"The stock is {after} instead of {left}.")
    return path


def is_notified(story: Story, buyer: Person, order: str, event: str) -> None:
    order_id = order.rsplit("/", 1)[-1]

    def told() -> list[dict]:
        mine = [one for one in notifications(story, buyer) if order_id in one["message"]]
        return [one for one in mine if one["type"] == event.replace(".", "_")]

    notification = story.effect(event, "notifications-on-order", f"{buyer.name} is notified", told)[0]
    story.note(f"“{notification['subject']}”: {notification['message']}")


def stock(story: Story, admin: Person) -> dict[str, int]:
    found = story.peek(f"/staff/inventory/{SKU}", admin).body
    return {name: found[name] for name in ("on_hand", "reserved", "available")}


def in_stock(numbers: dict[str, int]) -> str:
    return f"{numbers['on_hand']} on hand, {numbers['reserved']} reserved, {numbers['available']} available"


def usd(cents: int) -> dict:
    return {"amount": cents, "currency": "USD"}


def money(amount: dict) -> str:
    return f"{amount['amount'] // 100}.{amount['amount'] % 100:02} {amount['currency']}"


def leave(story: Story, cast: Cast) -> None:
    story.chapter("Ana leaves, and everything she wrote is deleted")
    story.request("DELETE", "/users/me", cast.ana, expect=(202,))
    anas_post, bens_post = f"/posts/{cast.anas_post}", f"/posts/{cast.bens_post}"
    story.effect("user.deleted", "posts-on-user", "her post is deleted", lambda: story.peek(anas_post).status == 404)
    story.effect(
        "user.deleted",
        "comments-on-user",
        "her comment on Ben's post is deleted",
        lambda: story.peek(f"{bens_post}/comments").body.get("items") == [],
    )
    story.effect(
        "post.deleted",
        "comments-on-post",
        "the comments on her post are deleted",
        lambda: not items(story, f"{anas_post}/comments"),
    )
    story.effect("user.deleted", "users-on-user", "she can no longer sign in", lambda: not can_sign_in(story, cast.ana))
    story.request("POST", "/posts", cast.ana, {"title": "Still here?", "body": "No."}, expect=(401, 403))
    story.note("her token has not expired, but it can no longer write")
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
