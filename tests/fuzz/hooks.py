"""Hooks for Schemathesis: authentication of the caller, and expected failures.

schemathesis.toml loads this file. `MADANG_FUZZ` is a JSON object with the `outputs` of the system, the `service` in the
registry that requests may change, the caller's `token` (null for an anonymous caller), and the state of the caller's
`profile` ("has", "had" or "never").
"""

import json
import os
import secrets
import sys
import time
import uuid
from pathlib import Path

import botocore.session
import requests.auth
import schemathesis
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

sys.path.append(str(Path(__file__).resolve().parents[2]))
from infra.local.develop.exact_schemas import use_exact_schemas

SETTINGS = json.loads(os.environ["MADANG_FUZZ"])
OUTPUTS = SETTINGS["outputs"]
PASSWORD = "correct horse battery staple 1"
CONFIRMATION_CODE = "123456"  # the local Cognito always sends this code
# The only service whose instances may be changed. Other changes would redirect the calls between services.
SERVICE = SETTINGS["service"]
MAX_BODY = 512 * 1024
DOCUMENTED_KEY = '"8e03978e-40d5-43dd-bc93-6894a57f9324"'


def requires(scheme):
    return lambda context: any(scheme in one for one in context.operation.definition.raw.get("security", []))


class Signed(requests.auth.AuthBase):
    """Signs requests (SigV4) with the root account's credentials."""

    def __call__(self, request):
        signed = AWSRequest(request.method, request.url, data=request.body)
        SigV4Auth(Credentials("test", "test"), "execute-api", OUTPUTS["region"]).add_auth(signed)
        request.headers.update(dict(signed.headers))
        return request


class Bearer:
    """Adds the caller's access token. An operation that would change the state of the caller's profile gets the token
    of a new user instead, so that the caller stays the same for the whole round."""

    def get(self, case, context):
        changes_profile = {"has": "deleteUser", "never": "registerUser"}.get(SETTINGS["profile"])
        operation = context.operation.definition.raw["operationId"]
        return new_users_token() if operation == changes_profile else SETTINGS["token"]

    def set(self, case, token, context):
        case.headers["Authorization"] = f"Bearer {token}"


if SETTINGS["token"]:
    schemathesis.auth.set_from_requests(Signed()).apply_to(requires("awsSignature"))
    schemathesis.auth(refresh_interval=None).apply_to(requires("accessToken"))(Bearer)


def new_users_token():
    """Signs a new user up, registers the user if the caller is registered, and returns the user's token."""
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
    use_exact_schemas(schema)
    protect_patterns(schema)


def protect_patterns(schema):
    """Puts the patterns of long strings into groups. Otherwise Schemathesis adds the maximum length to the pattern
    (`{0,65535}`), and each compilation takes a second and half a gigabyte. It does not change groups."""
    for value in schema.values() if isinstance(schema, dict) else schema:
        if isinstance(value, dict | list):
            protect_patterns(value)
    if isinstance(schema, dict) and isinstance(schema.get("pattern"), str) and schema.get("maxLength", 0) > 1_000:
        schema["pattern"] = f"({schema['pattern']})"


@schemathesis.hook
def before_call(context, case, kwargs):
    # The documented key is replaced, because requests with the same key and different bodies would all be refused.
    if (case.headers or {}).get("Idempotency-Key") == DOCUMENTED_KEY:
        case.headers["Idempotency-Key"] = f'"{uuid.uuid4()}"'
    changes_the_registry = case.operation.definition.raw["operationId"] in ("registerInstance", "deregisterInstance")
    if changes_the_registry and case.path_parameters["service"] in OUTPUTS["services"]:
        case.path_parameters["service"] = SERVICE


@schemathesis.hook
def filter_failure(context, failure, case, response):
    """Returns false for a failure that is expected."""
    return not any(is_expected(failure, case, response) for is_expected in EXPECTED_FAILURES)


def unknown_method_gets_404(failure, case, response):
    # API Gateway answers 404 instead of 405 if no route of the path has the method. This cannot be configured.
    return (
        type(failure).__name__ == "UnsupportedMethodResponse"
        and response.status_code == 404
        and response.json() == {"message": "Not Found"}
    )


def missing_signature_gets_403(failure, case, response):
    # API Gateway answers 403 instead of 401 if a signature is missing.
    return (
        type(failure).__name__ == "MissingHeaderNotRejected"
        and response.status_code == 403
        and requires("awsSignature")(case)
    )


def resource_is_available_later(failure, case, response):
    # Comments learns of a post by an event, and an order is paid after the response to its placement. A resource that
    # is not available at once has to be available soon.
    if type(failure).__name__ != "EnsureResourceAvailability":
        return False
    id_ = case.path_parameters.get("id")
    match case.operation.definition.raw["operationId"]:
        case "createComment" | "listComments":
            return soon(lambda: get(response, f"/posts/{id_}/comments").status_code == 200)
        case "getPayment":
            if not soon(lambda: get(response, f"/orders/{id_}").json().get("status", "PENDING") != "PENDING"):
                return False
            # An order that is rejected before its payment has none.
            unpaid = get(response, f"/orders/{id_}").json()["status"] != "CONFIRMED"
            return unpaid or soon(lambda: get(response, f"/orders/{id_}/payment").status_code == 200)
    return False


def get(response, path):
    """Sends a `GET` with the credentials of an earlier request."""
    headers = {"Authorization": response.request.headers.get("Authorization")}
    return requests.get(OUTPUTS["api_url"] + path, headers=headers, timeout=30)


def soon(condition, seconds=30):
    """Waits until the condition is true, for `seconds` at most. Returns whether it is."""
    deadline = time.monotonic() + seconds
    while not (is_true := condition()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return is_true


def empty_header_is_refused(failure, case, response):
    # Schemathesis treats an empty precondition as valid, although the pattern requires a star or a tag.
    return (
        type(failure).__name__ == "RejectedPositiveData"
        and response.status_code == 400
        and any(response.request.headers.get(name) in ("", b"") for name in ("If-Match", "If-None-Match"))
    )


def request_is_invalid_for_a_reason_beyond_the_schema(failure, case, response):
    # The request matches the schema, but is invalid in the current state or by a rule that a schema cannot express.
    if type(failure).__name__ != "RejectedPositiveData":
        return False
    problem = response.json()
    kind = problem.get("type", "").removeprefix("urn:madang:problem:")
    match kind:
        case "invalid":
            return all(is_documented_in_words(error) for error in problem["errors"])
        case "too-large":
            # JSON Schema counts characters, but the limit of a body is in bytes.
            return len(response.request.body or "") > MAX_BODY
        case "version-required":
            # One of two headers is required, which OpenAPI cannot express.
            return case.operation.definition.raw["operationId"] in ("putStockItem", "setNotificationPreferences")
    # A generated version is hardly ever the current one, and a generated key may have been used before.
    return kind in ("stale-version", "idempotency-key-reused")


def is_documented_in_words(error):
    """Whether a field breaks a rule that the description states only in words, because JSON Schema cannot express
    it."""
    pointer, detail = error["pointer"], error["detail"]
    return (
        # A cursor is valid only for the list that returned it.
        (pointer == "/cursor" and detail == "is not a next_cursor of this list")
        # An item must not occur twice.
        or detail == "is in the order already; list each SKU once"
        # The limit is in bytes, but JSON Schema counts characters.
        or detail.endswith("bytes of UTF-8")
        # A SKU must not consist of dots only.
        or (pointer == "/sku" and detail.endswith("not dots alone"))
        # A pattern cannot express all rules for a URL.
        or (pointer == "/url" and detail.startswith("must "))
    )


EXPECTED_FAILURES = [
    unknown_method_gets_404,
    missing_signature_gets_403,
    resource_is_available_later,
    empty_header_is_refused,
    request_is_invalid_for_a_reason_beyond_the_schema,
]
