"""Who asks, and which failures are none.

Loaded by schemathesis: see schemathesis.toml. `MADANG_FUZZ` has, as JSON, where the system is (`outputs`) and who asks:
`token` (none for nobody), and whether that person has a `profile` ("has", "had" or "never").
"""

import json
import os
import secrets
import time
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
LARGEST_BODY = 512 * 1024
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
    """An access token: the one person's, but for what can be done once only, by who is still the same afterwards."""

    def get(self, case, context):
        once = {"has": "deleteUser", "never": "registerUser"}.get(SETTINGS["profile"])
        return somebody_new() if context.operation.definition.raw["operationId"] == once else SETTINGS["token"]

    def set(self, case, token, context):
        case.headers["Authorization"] = f"Bearer {token}"


if SETTINGS["token"]:
    schemathesis.auth.set_from_requests(Signed()).apply_to(wants("awsSignature"))
    schemathesis.auth(refresh_interval=None).apply_to(wants("accessToken"))(Bearer)


def somebody_new():
    """The token of a person who has just signed up, and registered where the one person has."""
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
    if SETTINGS["profile"] == "has":
        headers = {"Authorization": f"Bearer {token}"}
        registered = requests.post(f"{OUTPUTS['api_url']}/users", json={"name": "Leaving"}, headers=headers, timeout=30)
        registered.raise_for_status()
    return token


@schemathesis.hook
def before_load_schema(context, schema):
    keep_limits_out_of_patterns(schema)


def keep_limits_out_of_patterns(schema):
    """Schemathesis writes a text's limit into its pattern (`{0,65535}`), which then takes a second and half a gigabyte
    each time that it is compiled. A pattern that is a group is left as it is."""
    for value in schema.values() if isinstance(schema, dict) else schema:
        if isinstance(value, dict | list):
            keep_limits_out_of_patterns(value)
    if isinstance(schema, dict) and isinstance(schema.get("pattern"), str) and schema.get("maxLength", 0) > 1_000:
        schema["pattern"] = f"({schema['pattern']})"


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
    # API Gateway answers 404, never 405, for a method that no route of the path has, and we cannot make it say
    # otherwise.
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


def it_follows_in_a_moment(failure, case, response):
    # Comments hear of a post by an event, and an order is paid, if at all, after it was answered: what is not there at
    # once has to be there soon.
    if type(failure).__name__ != "EnsureResourceAvailability":
        return False
    said = case.path_parameters.get("id")
    match case.operation.definition.raw["operationId"]:
        case "createComment" | "listComments":
            return soon(lambda: ask(response, f"/posts/{said}/comments").status_code == 200)
        case "getPayment":
            if not soon(lambda: ask(response, f"/orders/{said}").json().get("status", "PENDING") != "PENDING"):
                return False
            # What is rejected before it comes to the payment has none.
            unpaid = ask(response, f"/orders/{said}").json()["status"] != "CONFIRMED"
            return unpaid or soon(lambda: ask(response, f"/orders/{said}/payment").status_code == 200)
    return False


def ask(response, path):
    """A `GET` by who made the request."""
    headers = {"Authorization": response.request.headers.get("Authorization")}
    return requests.get(OUTPUTS["api_url"] + path, headers=headers, timeout=30)


def soon(happened, seconds=30):
    deadline = time.monotonic() + seconds
    while not (so := happened()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return so


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
    kind = problem.get("type", "").removeprefix("urn:madang:problem:")
    match kind:
        case "invalid":
            return all(said_elsewhere(error) for error in problem["errors"])
        case "too-large":
            # JSON Schema counts characters, and a body's limit is one of bytes.
            return len(response.request.body or "") > LARGEST_BODY
        case "version-required":
            # Of two headers one has to be there, which OpenAPI cannot say.
            return case.operation.definition.raw["operationId"] in ("putStockItem", "setNotificationPreferences")
    # A version that was made up is hardly ever the present one; a key that was, was used before.
    return kind in ("stale-version", "idempotency-key-reused")


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
        # Dots alone are no SKU.
        or (pointer == "/sku" and detail.endswith("not dots alone"))
        # A URL's form is more than a pattern can say.
        or (pointer == "/url" and detail.startswith("must "))
    )


EXCUSES = [
    nothing_is_routed_there,
    unsigned_is_forbidden,
    it_follows_in_a_moment,
    an_empty_header_is_none,
    the_state_refuses_and_the_schema_cannot_know,
]
