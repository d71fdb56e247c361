"""Who asks, and which failures are none.

Loaded by schemathesis: see schemathesis.toml. `MADANG_FUZZ` has, as JSON, where the system is (`outputs`) and who asks
(`token`: a member of the group admin; none for nobody).
"""

import json
import os
import secrets
import uuid

import botocore.session
import requests.auth
import schemathesis
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

SETTINGS = json.loads(os.environ["MADANG_FUZZ"])
OUTPUTS = SETTINGS["outputs"]
PASSWORD = "correct horse battery staple 1"
CONFIRMATION_CODE = "123456"  # what the local Cognito always sends
# The only service that instances are registered for here: callers of any other would be led astray.
SERVICE = SETTINGS["service"]
DOCUMENTED_KEY = '"8e03978e-40d5-43dd-bc93-6894a57f9324"'


def wants(scheme):
    return lambda context: any(scheme in one for one in context.operation.definition.raw.get("security", []))


class Signed(requests.auth.AuthBase):
    """The signature (SigV4) of the account's root."""

    def __call__(self, request):
        signed = AWSRequest(request.method, request.url, data=request.body)
        SigV4Auth(Credentials("test", "test"), "execute-api", OUTPUTS["region"]).add_auth(signed)
        request.headers.update(dict(signed.headers))
        return request


class Bearer:
    """An access token: the one person's, but for who deletes the profile, which can be done once only."""

    def get(self, case, context):
        leaves = context.operation.definition.raw["operationId"] == "deleteUser"
        return somebody_new() if leaves else SETTINGS["token"]

    def set(self, case, token, context):
        case.headers["Authorization"] = f"Bearer {token}"


if SETTINGS["token"]:
    schemathesis.auth.set_from_requests(Signed()).apply_to(wants("awsSignature"))
    schemathesis.auth(refresh_interval=None).apply_to(wants("accessToken"))(Bearer)


def somebody_new():
    """The token of a person who has just signed up and registered."""
    cognito = botocore.session.get_session().create_client(
        "cognito-idp",
        region_name=OUTPUTS["region"],
        endpoint_url=OUTPUTS["endpoint_url"],
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )
    client, email = OUTPUTS["user_pool_client_id"], f"{secrets.token_hex(8)}@example.com"
    cognito.sign_up(ClientId=client, Username=email, Password=PASSWORD)
    cognito.confirm_sign_up(ClientId=client, Username=email, ConfirmationCode=CONFIRMATION_CODE)
    verified = [{"Name": "email_verified", "Value": "true"}]
    cognito.admin_update_user_attributes(UserPoolId=OUTPUTS["user_pool_id"], Username=email, UserAttributes=verified)
    answer = cognito.initiate_auth(
        ClientId=client,
        AuthFlow="USER_PASSWORD_AUTH",
        AuthParameters={"USERNAME": email, "PASSWORD": PASSWORD},
    )
    token = answer["AuthenticationResult"]["AccessToken"]
    registered = requests.post(
        f"{OUTPUTS['api_url']}/users",
        json={"name": "Leaving"},
        headers={"Authorization": f"Bearer {token}"},
        timeout=30,
    )
    registered.raise_for_status()
    return token


@schemathesis.hook
def before_call(context, case, kwargs):
    # The documented key with another body each time would be refused each time, and little else would be seen.
    if (case.headers or {}).get("Idempotency-Key") == DOCUMENTED_KEY:
        case.headers["Idempotency-Key"] = f'"{uuid.uuid4()}"'
    changes_the_registry = case.operation.definition.raw["operationId"] in ("registerInstance", "deregisterInstance")
    if changes_the_registry and case.path_parameters["service"] in OUTPUTS["services"]:
        case.path_parameters["service"] = SERVICE


@schemathesis.hook
def filter_failure(context, failure, case, response):
    """Whether a failure is one."""
    return not any(excuses(failure, case, response) for excuses in EXCUSES)


def nothing_is_routed_there(failure, case, response):
    # API Gateway answers 404, never 405, for a method that no route of the path has, and we cannot make it say otherwise.
    return (
        type(failure).__name__ == "UnsupportedMethodResponse"
        and response.status_code == 404
        and response.json() == {"message": "Not Found"}
    )


def unsigned_is_forbidden(failure, case, response):
    # API Gateway answers 403, never 401, where a signature is missing.
    return (
        type(failure).__name__ == "MissingHeaderNotRejected"
        and response.status_code == 403
        and wants("awsSignature")(case)
    )


def it_follows_by_an_event_or_not_at_all(failure, case, response):
    # Comments hear of a post a moment later; an order that is rejected early has no payment.
    return type(failure).__name__ == "EnsureResourceAvailability" and case.operation.definition.raw["operationId"] in (
        "createComment",
        "listComments",
        "getPayment",
    )


def if_none_match_decides_alone(failure, case, response):
    # With `If-None-Match: *` nothing is changed that could have a version, and If-Match is not read.
    return (
        type(failure).__name__ == "AcceptedNegativeData"
        and response.request.headers.get("If-None-Match") == "*"
        and set(negated(case)) <= {"If-Match"}
    )


def negated(case):
    """The names of the headers that do not fit the description; `?` where something else does not."""
    for location, component in case.meta.components.items():
        if component.mode.is_negative:
            yield "If-Match" if location == "header" else "?"


def an_empty_header_is_none(failure, case, response):
    # Schemathesis takes an empty If-Match for one that fits the pattern, which wants a star or a tag.
    return (
        type(failure).__name__ == "RejectedPositiveData"
        and response.status_code == 400
        and response.request.headers.get("If-Match") in ("", b"")
    )


def the_state_refuses_and_the_schema_cannot_know(failure, case, response):
    # A request that is valid by itself and not at this moment.
    if type(failure).__name__ != "RejectedPositiveData":
        return False
    problem = response.json()
    kind = problem["type"].removeprefix("urn:madang:problem:")
    if kind == "invalid":
        return all(said_elsewhere(error) for error in problem["errors"])
    # A version that was made up is hardly ever the present one; a key that was, was used before.
    # JSON Schema counts characters, and a body's limit is one of bytes.
    return kind in ("stale-version", "version-required", "idempotency-key-reused", "too-large")


def said_elsewhere(error):
    """What is wrong with a field, in words of the description that JSON Schema has none for."""
    pointer, detail = error["pointer"], error["detail"]
    return (
        # A cursor is only good in the list that gave it.
        (pointer == "/cursor" and detail == "is not a next_cursor of this list")
        # No item twice.
        or detail == "is in the order already; give its quantity once"
        # A limit of bytes, where JSON Schema counts characters.
        or detail.endswith("bytes of UTF-8")
        # A URL's form is more than a pattern can say.
        or (pointer == "/url" and detail.startswith("must "))
    )


EXCUSES = [
    nothing_is_routed_there,
    unsigned_is_forbidden,
    it_follows_by_an_event_or_not_at_all,
    if_none_match_decides_alone,
    an_empty_header_is_none,
    the_state_refuses_and_the_schema_cannot_know,
]
