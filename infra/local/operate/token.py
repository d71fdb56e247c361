"""People as the local Cognito knows them, and `make token`, which signs one in and prints the access token."""

import sys
import time

import requests

from infra.local.progress import notes
from infra.local.settings import Trouble, client

PASSWORD = "correct horse battery staple 1"
CONFIRMATION_CODE = "123456"  # what the local Cognito always sends
ADMINS = "admin"  # the group of those who look after the stock

# Long enough for a cold start of every function on the way of an event on a busy machine.
PATIENCE = 60


def sign_up(outputs: dict, email: str) -> None:
    """Signs a person up, with the code from the mail entered; one who is known already stays as they are."""
    cognito = client("cognito-idp")
    app, pool = outputs["user_pool_client_id"], outputs["user_pool_id"]
    attributes = [{"Name": "email", "Value": email}]
    try:
        cognito.sign_up(ClientId=app, Username=email, Password=PASSWORD, UserAttributes=attributes)
    except cognito.exceptions.UsernameExistsException:
        if cognito.admin_get_user(UserPoolId=pool, Username=email)["UserStatus"] != "UNCONFIRMED":
            return
    cognito.confirm_sign_up(ClientId=app, Username=email, ConfirmationCode=CONFIRMATION_CODE)
    # The emulator leaves out what Cognito does by itself once the code from the mail is entered.
    verified = [{"Name": "email_verified", "Value": "true"}]
    cognito.admin_update_user_attributes(UserPoolId=pool, Username=email, UserAttributes=verified)


def make_admin(outputs: dict, email: str) -> None:
    """Puts a person into the group of those who look after the stock; their next token says so."""
    pool = outputs["user_pool_id"]
    client("cognito-idp").admin_add_user_to_group(UserPoolId=pool, Username=email, GroupName=ADMINS)


def sign_in(outputs: dict, email: str) -> str:
    """The access token, which the API takes for an hour."""
    answer = client("cognito-idp").initiate_auth(
        ClientId=outputs["user_pool_client_id"],
        AuthFlow="USER_PASSWORD_AUTH",
        AuthParameters={"USERNAME": email, "PASSWORD": PASSWORD},
    )
    return answer["AuthenticationResult"]["AccessToken"]


def run(outputs: dict, email: str, name: str, admin: bool) -> None:
    """Prints the token alone on standard output, for `token=$(make -s token)`, and all else on standard error."""
    # Two default people: whoever joins the group of admins stays in it.
    email = email or ("sora@example.com" if admin else "ara@example.com")
    token = _signed_in(outputs, email, admin)
    profile = _registered(outputs, token, name or email.partition("@")[0].capitalize())
    member = f", member of the group {ADMINS}" if admin else ""
    notes.print(f"{email} is {profile['name']}{member}; id {profile['id']}, token good for an hour", markup=False)
    sys.stdout.write(f"{token}\n")


def _signed_in(outputs: dict, email: str, admin: bool) -> str:
    cognito = client("cognito-idp")
    try:
        sign_up(outputs, email)
        if admin:
            make_admin(outputs, email)
        return sign_in(outputs, email)
    except cognito.exceptions.InvalidParameterException as error:
        raise Trouble(f"Cognito does not take “{email}”: {error.response['Error']['Message']}") from None
    except cognito.exceptions.NotAuthorizedException:
        raise Trouble(
            f"{email} has signed up with another password than `make token` uses: take another EMAIL=."
        ) from None


def _registered(outputs: dict, token: str, name: str) -> dict:
    """The person's profile; a new one once every service can know of it."""
    session = requests.Session()
    session.headers["authorization"] = f"Bearer {token}"
    answer = session.post(f"{outputs['api_url']}/users", json={"name": name}, timeout=30)
    if answer.status_code not in (200, 201):
        detail = answer.json().get("detail", answer.text)
        raise Trouble(f"POST /users answered {answer.status_code}: {detail}")
    if answer.status_code == 201:
        _await_welcome(session, outputs["api_url"])
    return answer.json()


def _await_welcome(session: requests.Session, api: str) -> None:
    """Before `user.created` has arrived, a service that keeps a copy of the users may refuse the token."""
    deadline = time.monotonic() + PATIENCE
    while not session.get(f"{api}/notifications", timeout=30).json().get("items"):
        if time.monotonic() > deadline:
            notes.print(
                f"user.created has not arrived within {PATIENCE} s: the token is good, but writing may be refused. "
                "`make logs F=users-relay` and `make logs F=notifications-on-user` may say why.",
                style="yellow",
                markup=False,
            )
            return
        time.sleep(0.1)
