"""Every route has the authorization and leads to the function that the contract names for its operation."""

import re

import pytest
from api import IAM, JWT, OPERATIONS, PUBLIC
from stacks import (
    EVERY_FUNCTION,
    EVERY_ROUTE,
    SERVICES,
    STACKS,
    STEPS,
    Stack,
    fail,
    label,
    need,
    referenced,
    substituted,
    target,
)

# Routes that anyone may call. They are listed here by hand, because the contract and the template may have the same
# error.
OPEN = {
    "GET /docs",
    "GET /docs/{file}",
    "GET /inventory",
    "GET /inventory/{sku}",
    "GET /openapi-3.0.json",
    "GET /openapi.json",
    "GET /posts",
    "GET /posts/{id}",
    "GET /posts/{id}/author",
    "GET /posts/{id}/comments",
    "GET /posts/{id}/comments/{comment_id}",
    "POST /payments/webhook",  # the function verifies the provider's signature
}
# AWS principals may call these with a signature. Every other route needs an access token.
SIGNED = {
    "DELETE /registry/{service}/instances/{id}",
    "GET /internal/users/{id}",
    "GET /registry/{service}",
    "PUT /registry/{service}/instances/{id}",
}
EVERY_OPERATION = pytest.mark.parametrize("operation", OPERATIONS.values(), ids=str)
ROUTES = pytest.mark.parametrize("stack, route", EVERY_ROUTE, ids=label)


def key_of(stack: Stack, route: str) -> str:
    """The key of a route, as in `GET /posts/{id}`."""
    return stack.resources[route]["Properties"]["RouteKey"]


def function_behind(stack: Stack, route: str) -> str:
    """The logical id of the function that a route leads to."""
    integration = re.fullmatch(r"integrations/\$\{(\w+)}", stack.resources[route]["Properties"]["Target"]["Fn::Sub"])[1]
    properties = stack.of_type("AWS::ApiGatewayV2::Integration").get(integration)
    if properties is None:
        fail(
            f"{stack.file}: {route} leads to {integration}, which does not exist. Copy another function's integration."
        )
    assert (properties["IntegrationType"], properties["PayloadFormatVersion"]) == ("AWS_PROXY", "2.0")
    function = target(properties["IntegrationUri"])
    need(
        function in stack.functions,
        f"{stack.file}: {integration} leads to {function}, which is not a function of this stack.",
    )
    return function


def logical_id(function: str) -> str:
    """The logical id of a function: `PostsGet` for `posts-get`."""
    return "".join(part.capitalize() for part in function.split("-"))


def test_the_description_has_operations_of_every_authorization():
    assert len(OPERATIONS) >= 36
    assert {operation.authorization for operation in OPERATIONS.values()} == {JWT, IAM, PUBLIC}


@EVERY_OPERATION
def test_an_operation_has_the_authorization_that_is_listed_here(operation):
    intended = PUBLIC if operation.route in OPEN else IAM if operation.route in SIGNED else JWT
    need(
        operation.authorization == intended,
        f"{operation.contract}: {operation.route} has the authorization {operation.authorization}, but in "
        f"tests/templates/test_api.py it is {intended}. Correct the one that is wrong.",
    )


@pytest.mark.parametrize("route", sorted(OPEN | SIGNED))
def test_a_route_that_is_listed_here_exists(route):
    need(route in OPERATIONS, f"tests/templates/test_api.py: no contract has {route}. Remove the line.")


@EVERY_OPERATION
def test_an_operation_has_one_route_to_its_function_with_its_authorization(operation):
    stack = SERVICES[operation.service]
    names = {properties["FunctionName"] for properties in stack.functions.values()}
    need(
        operation.function in names,
        f"{stack.file}: the function {operation.function}, which {operation.contract} names for {operation.route}, "
        "does not exist. Copy another function with its log group, integration, route and permission.",
    )
    routes = [(candidate, route) for candidate, route in EVERY_ROUTE if key_of(candidate, route) == operation.route]
    need(
        routes,
        f"{stack.file}: there is no route {operation.route}. Add {logical_id(operation.function)}Route with this key, "
        f"the AuthorizationType {operation.authorization}, and the integration of {operation.function} as its Target.",
    )
    places = " and ".join(f"{route} in {candidate.file}" for candidate, route in routes)
    need(len(routes) == 1, f"{operation.route} is the key of two routes, {places}. Remove one of them.")
    [(found_in, route)] = routes
    need(found_in is stack, f"{operation.route} is {places}, but by {operation.contract} it belongs in {stack.file}.")
    found = stack.resources[route]["Properties"]["AuthorizationType"]
    need(
        found == operation.authorization,
        f"{stack.file}: {route} has the AuthorizationType {found}, but {operation.contract} requires "
        f"{operation.authorization}.",
    )
    function = stack.functions[function_behind(stack, route)]["FunctionName"]
    need(
        function == operation.function,
        f"{stack.file}: {route} leads to {function}, but by {operation.contract} {operation.function} serves "
        f"{operation.route}.",
    )


@ROUTES
def test_every_route_is_described_by_a_contract(stack, route):
    need(
        key_of(stack, route) in OPERATIONS,
        f"{stack.file}: {route} is {key_of(stack, route)}, which is missing in infra/openapi.json. Describe it in "
        f"functions/{stack.name}/src/contract.rs and run `make contract`.",
    )


@ROUTES
def test_exactly_the_routes_for_signed_in_users_have_the_authorizer(stack, route):
    properties = stack.resources[route]["Properties"]
    expected = {"Ref": "AuthorizerId"} if properties["AuthorizationType"] == JWT else None
    need(
        properties.get("AuthorizerId") == expected,
        f"{stack.file}: {route} has the AuthorizationType {properties['AuthorizationType']}, so it "
        f"{'needs' if expected else 'must not have'} `AuthorizerId: !Ref AuthorizerId`.",
    )
    assert properties["ApiId"] == {"Ref": "ApiId"}


@ROUTES
def test_exactly_one_permission_lets_the_api_invoke_the_function_for_a_route(stack, route):
    method, path = key_of(stack, route).split(" ")
    path = re.sub(r"{\w+}", "*", path)
    source = f"arn:aws:execute-api:us-east-1:123456789012:${{ApiId}}/*/{method}{path}"
    granted = [
        permission
        for permission in stack.of_type("AWS::Lambda::Permission").values()
        if substituted(permission["SourceArn"]) == source
    ]
    function = function_behind(stack, route)
    need(
        [target(permission["FunctionName"]) for permission in granted] == [function],
        f"{stack.file}: {route} needs exactly one AWS::Lambda::Permission for {function} whose SourceArn ends in "
        f"${{ApiId}}/*/{method}{path} (found: {len(granted)}).",
    )


@pytest.mark.parametrize("stack", SERVICES.values(), ids=label)
def test_every_permission_to_invoke_a_function_is_for_a_route(stack):
    permissions = stack.of_type("AWS::Lambda::Permission")
    routes = stack.of_type("AWS::ApiGatewayV2::Route")
    keys = {re.sub(r"{\w+}", "*", key_of(stack, route)).replace(" ", "") for route in routes}
    for name, permission in permissions.items():
        need(
            substituted(permission["SourceArn"]).partition("/*/")[2] in keys,
            f"{stack.file}: {name} is for no route. Remove it, or give its SourceArn the method and path of a route.",
        )
        assert permission["Principal"] == "apigateway.amazonaws.com"
        assert permission["Action"] == "lambda:InvokeFunction"
    assert len(permissions) <= len(routes), (
        "test_exactly_one_permission_lets_the_api_invoke_the_function_for_a_route finds duplicates"
    )


@pytest.mark.parametrize("stack, function", EVERY_FUNCTION, ids=label)
def test_a_function_has_exactly_one_kind_of_trigger(stack, function):
    by_route = {function_behind(s, route) for s, route in EVERY_ROUTE if s is stack}
    by_events = {
        target(mapping["FunctionName"]) for mapping in stack.of_type("AWS::Lambda::EventSourceMapping").values()
    }
    by_the_saga = stack.functions[function]["FunctionName"] in STEPS.values()
    by_schedule = function in stack.scheduled
    triggers = [function in by_route, function in by_events, by_the_saga, by_schedule].count(True)
    need(
        triggers,
        f"{stack.file}: nothing triggers {function}. Add a route, an event source, a step of the saga or a schedule.",
    )
    need(
        triggers == 1,
        f"{stack.file}: {function} has {triggers} kinds of triggers. Use a separate function for each kind of input.",
    )


def test_the_stage_throttles_and_its_log_has_no_personal_data():
    [stage] = STACKS["platform"].of_type("AWS::ApiGatewayV2::Stage").values()
    assert stage["DefaultRouteSettings"]["ThrottlingRateLimit"] == {"Ref": "ApiRateLimit"}
    assert stage["DefaultRouteSettings"]["ThrottlingBurstLimit"] == {"Ref": "ApiBurstLimit"}
    logs = STACKS["platform"].resources[target(stage["AccessLogSettings"]["DestinationArn"])]["Properties"]
    assert logs["RetentionInDays"] == {"Ref": "LogRetentionDays"}
    for personal in ("sourceIp", "userAgent", "claims", "$context.path", "principalId", "identity"):
        assert personal not in stage["AccessLogSettings"]["Format"]


def test_the_authorizer_accepts_tokens_of_the_user_pool_for_its_client():
    platform = STACKS["platform"]
    [authorizer] = platform.of_type("AWS::ApiGatewayV2::Authorizer").values()
    assert authorizer["AuthorizerType"] == "JWT"
    assert referenced(authorizer["JwtConfiguration"]["Issuer"]) == {"AWS::Region", "UserPool"}
    assert authorizer["JwtConfiguration"]["Audience"] == [{"Ref": "UserPoolClient"}]
    assert platform.resources["UserPoolClient"]["Properties"]["GenerateSecret"] is False
