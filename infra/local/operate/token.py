"""Signs users up and in with the local Cognito. `make token` prints a user's access token."""

import sys
import time

import requests

from infra.local.progress import notes
from infra.local.settings import CommandError, client

PASSWORD = "correct horse battery staple 1"
CONFIRMATION_CODE = "123456"  # the local Cognito always sends this code
ADMINS = "admin"  # the group that manages the stock

# Seconds to wait for an event to be processed: enough for a cold start of every function involved, on a busy machine.
EVENT_TIMEOUT = 60


def sign_up(outputs: dict, email: str) -> None:
    """Signs a user up and confirms the e-mail address. Does nothing if the user is confirmed already."""
    cognito = client("cognito-idp")
    app, pool = outputs["user_pool_client_id"], outputs["user_pool_id"]
    attributes = [{"Name": "email", "Value": email}]
    try:
        cognito.sign_up(ClientId=app, Username=email, Password=PASSWORD, UserAttributes=attributes)
    except cognito.exceptions.UsernameExistsException:
        if cognito.admin_get_user(UserPoolId=pool, Username=email)["UserStatus"] != "UNCONFIRMED":
            return
    cognito.confirm_sign_up(ClientId=app, Username=email, ConfirmationCode=CONFIRMATION_CODE)
    # Cognito sets this attribute when the code is entered. The emulator does not.
    verified = [{"Name": "email_verified", "Value": "true"}]
    cognito.admin_update_user_attributes(UserPoolId=pool, Username=email, UserAttributes=verified)


def make_admin(outputs: dict, email: str) -> None:
    """Adds a user to the group that manages the stock. The user's next token contains the group."""
    pool = outputs["user_pool_id"]
    client("cognito-idp").admin_add_user_to_group(UserPoolId=pool, Username=email, GroupName=ADMINS)


def sign_in(outputs: dict, email: str) -> str:
    """Signs a user in and returns the access token, which is valid for an hour."""
    answer = client("cognito-idp").initiate_auth(
        ClientId=outputs["user_pool_client_id"],
        AuthFlow="USER_PASSWORD_AUTH",
        AuthParameters={"USERNAME": email, "PASSWORD": PASSWORD},
    )
    return answer["AuthenticationResult"]["AccessToken"]


def run(outputs: dict, email: str, name: str, admin: bool) -> None:
    """Prints only the token to standard output, for `token=$(make -s token)`, and everything else to standard error."""
    # The admin is another default user, because membership in the group is permanent.
    email = email or ("sora@example.com" if admin else "ara@example.com")
    token = _sign_up_and_in(outputs, email, admin)
    profile = _register(outputs, token, name or email.partition("@")[0].capitalize())
    member = f", member of the group {ADMINS}" if admin else ""
    notes.print(
        f"{email} is {profile['name']}{member}, id {profile['id']}. The token is valid for an hour.", markup=False
    )
    sys.stdout.write(f"{token}\n")


def _sign_up_and_in(outputs: dict, email: str, admin: bool) -> str:
    cognito = client("cognito-idp")
    try:
        sign_up(outputs, email)
        if admin:
            make_admin(outputs, email)
        return sign_in(outputs, email)
    except cognito.exceptions.InvalidParameterException as error:
        raise CommandError(f"Cognito does not accept “{email}”: {error.response['Error']['Message']}") from None
    except cognito.exceptions.NotAuthorizedException:
        raise CommandError(
            f"{email} has a password other than the one that `make token` uses. Use another EMAIL=."
        ) from None


def _register(outputs: dict, token: str, name: str) -> dict:
    """Registers the user if necessary and returns the profile. Waits until the other services know a new user."""
    session = requests.Session()
    session.headers["authorization"] = f"Bearer {token}"
    answer = session.post(f"{outputs['api_url']}/users", json={"name": name}, timeout=30)
    if answer.status_code not in (200, 201):
        detail = answer.json().get("detail", answer.text)
        raise CommandError(f"POST /users answered {answer.status_code}: {detail}")
    if answer.status_code == 201:
        _await_welcome(session, outputs["api_url"])
    return answer.json()


def _await_welcome(session: requests.Session, api: str) -> None:
    """Waits until `user.created` has been processed. Before that, a service that keeps a copy of the users may refuse
    the token."""
    deadline = time.monotonic() + EVENT_TIMEOUT
    while not session.get(f"{api}/notifications", timeout=30).json().get("items"):
        if time.monotonic() > deadline:
            notes.print(
                f"user.created was not processed within {EVENT_TIMEOUT} s. The token is valid, but requests that write "
                "may be refused. `make logs F=users-relay` and `make logs F=notifications-on-user` may show why.",
                style="yellow",
                markup=False,
            )
            return
        time.sleep(0.1)
