"""`make token` in the running system."""

import base64
import json
import uuid

from commands import Person, make

from infra.local.settings import client


def claims(token: str) -> dict:
    payload = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))


def test_only_the_token_is_printed_and_a_new_user_can_use_it_everywhere_at_once(system):
    email = f"{uuid.uuid4().hex}@example.com"
    done = make("token", EMAIL=email, NAME="Bora “B” Kim")
    [token] = done.stdout.splitlines()
    person = Person(system["api_url"], email, token)
    profile = person.request("GET", "/users/me").json()
    assert (profile["name"], profile["email"], profile["id"]) == ("Bora “B” Kim", email, claims(token)["sub"])
    assert email in done.stderr and profile["id"] in done.stderr
    assert person.request("POST", "/posts", {"title": "Spring", "body": "It rains."}).status_code == 201
    # Notifications refuses users whose `user.created` it has not processed.
    assert person.request("POST", "/notifications/read-all").status_code == 204


def test_a_second_call_returns_a_new_token_of_the_same_user(ara):
    [token] = make("token", EMAIL=ara.email, NAME="Other").stdout.splitlines()
    assert token != ara.token
    assert claims(token)["sub"] == claims(ara.token)["sub"]
    assert ara.request("GET", "/users/me").json()["name"] == "Ara"


def test_only_an_admin_has_the_permissions_of_the_group(ara, sora, sku):
    assert "cognito:groups" not in claims(ara.token)
    assert claims(sora.token)["cognito:groups"] == ["admin"]
    goods = {"name": "Pears", "unit_price": {"amount": 500, "currency": "USD"}, "on_hand": 10}
    assert ara.request("PUT", f"/inventory/{sku}", goods, if_match='"1"').status_code == 403


def test_the_default_user_is_not_the_default_admin():
    assert "sora@example.com" in make("token", ADMIN="1").stderr
    user = make("token")
    assert "ara@example.com" in user.stderr and "cognito:groups" not in claims(user.stdout)


def test_a_user_with_another_password_is_refused(system):
    email = f"{uuid.uuid4().hex}@example.com"
    cognito, app = client("cognito-idp"), system["user_pool_client_id"]
    cognito.sign_up(ClientId=app, Username=email, Password="another password 1")
    cognito.confirm_sign_up(ClientId=app, Username=email, ConfirmationCode="123456")
    done = make("token", check=False, EMAIL=email)
    assert (done.returncode != 0, done.stdout) == (True, "")
    assert "has a password other than" in done.stderr and "Traceback" not in done.stderr
