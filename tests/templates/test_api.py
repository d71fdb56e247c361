"""The routes: each leads to the function that serves it by its contract, for the callers that the contract names."""

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

# Written by hand a second time, because contract and template can be wrong together. Everyone may call these routes.
OPEN = {
    "GET /docs",
    "GET /docs/{file}",
    "GET /inventory",
    "GET /inventory/{sku}",
    "GET /openapi.json",
    "GET /posts",
    "GET /posts/{id}",
    "GET /posts/{id}/author",
    "GET /posts/{id}/comments",
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
    """`GET /posts/{id}`."""
    return stack.resources[route]["Properties"]["RouteKey"]


def function_behind(stack: Stack, route: str) -> str:
    """The logical id of the function that a route leads to."""
    integration = re.fullmatch(r"integrations/\$\{(\w+)}", stack.resources[route]["Properties"]["Target"]["Fn::Sub"])[1]
    properties = stack.of_type("AWS::ApiGatewayV2::Integration").get(integration)
    if properties is None:
        fail(f"{stack.file}: {route} leads to {integration}, which is not there: copy another function's integration.")
    assert (properties["IntegrationType"], properties["PayloadFormatVersion"]) == ("AWS_PROXY", "2.0")
    function = target(properties["IntegrationUri"])
    need(
        function in stack.functions,
        f"{stack.file}: {integration} leads to {function}, which is no function of the stack.",
    )
    return function


def logical_id(function: str) -> str:
    """`PostsGet` for `posts-get`."""
    return "".join(part.capitalize() for part in function.split("-"))


def test_the_description_was_read():
    assert len(OPERATIONS) >= 36
    assert {operation.authorization for operation in OPERATIONS.values()} == {JWT, IAM, PUBLIC}


@EVERY_OPERATION
def test_an_operation_takes_no_token_only_if_that_is_intended(operation):
    intended = PUBLIC if operation.route in OPEN else IAM if operation.route in SIGNED else JWT
    need(
        operation.authorization == intended,
        f"{operation.contract}: {operation.route} has the authorization {operation.authorization}, but {intended} by "
        f"tests/templates/test_api.py: correct the one that is wrong.",
    )


@pytest.mark.parametrize("route", sorted(OPEN | SIGNED))
def test_a_route_that_takes_no_token_exists(route):
    need(route in OPERATIONS, f"tests/templates/test_api.py: no contract has {route}: remove the line.")


@EVERY_OPERATION
def test_an_operation_has_a_route_to_its_function_for_its_callers(operation):
    stack = SERVICES[operation.service]
    names = {properties["FunctionName"] for properties in stack.functions.values()}
    need(
        operation.function in names,
        f"{stack.file}: there is no function {operation.function}, which serves {operation.route} by "
        f"{operation.contract}: copy another function with its log group, integration, route and permission.",
    )
    routes = [(candidate, route) for candidate, route in EVERY_ROUTE if key_of(candidate, route) == operation.route]
    need(
        routes,
        f"{stack.file}: there is no route {operation.route}: add {logical_id(operation.function)}Route with this key "
        f"and the AuthorizationType {operation.authorization}, which leads to the integration of {operation.function}.",
    )
    places = " and ".join(f"{route} in {candidate.file}" for candidate, route in routes)
    need(len(routes) == 1, f"{operation.route} is the key of two routes, {places}: one of them has to go.")
    [(found_in, route)] = routes
    need(found_in is stack, f"{operation.route} is {places}, and {operation.contract} says that {stack.file} has it.")
    found = stack.resources[route]["Properties"]["AuthorizationType"]
    need(
        found == operation.authorization,
        f"{stack.file}: {route} has the AuthorizationType {found}, and {operation.contract} lets others ask: that is "
        f"{operation.authorization}.",
    )
    function = stack.functions[function_behind(stack, route)]["FunctionName"]
    need(
        function == operation.function,
        f"{stack.file}: {route} leads to {function}, and by {operation.contract} {operation.function} serves "
        f"{operation.route}.",
    )


@ROUTES
def test_a_route_is_an_operation_that_a_contract_describes(stack, route):
    need(
        key_of(stack, route) in OPERATIONS,
        f"{stack.file}: {route} is {key_of(stack, route)}, which infra/openapi.json does not have: describe it in "
        f"functions/{stack.name}/src/contract.rs and run `make contract`.",
    )


@ROUTES
def test_a_route_for_signed_in_people_has_the_authorizer_and_no_other_has(stack, route):
    properties = stack.resources[route]["Properties"]
    expected = {"Ref": "AuthorizerId"} if properties["AuthorizationType"] == JWT else None
    need(
        properties.get("AuthorizerId") == expected,
        f"{stack.file}: {route} has the AuthorizationType {properties['AuthorizationType']}: it "
        f"{'needs' if expected else 'must not have'} `AuthorizerId: !Ref AuthorizerId`.",
    )
    assert properties["ApiId"] == {"Ref": "ApiId"}


@ROUTES
def test_the_api_may_invoke_the_function_for_exactly_this_route(stack, route):
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
        f"{stack.file}: exactly one permission lets the API invoke {function} for {route}: an AWS::Lambda::Permission "
        f"whose SourceArn ends in ${{ApiId}}/*/{method}{path} (found: {len(granted)}).",
    )


@pytest.mark.parametrize("stack", SERVICES.values(), ids=label)
def test_nothing_but_the_routes_may_invoke_a_function(stack):
    permissions = stack.of_type("AWS::Lambda::Permission")
    routes = stack.of_type("AWS::ApiGatewayV2::Route")
    keys = {re.sub(r"{\w+}", "*", key_of(stack, route)).replace(" ", "") for route in routes}
    for name, permission in permissions.items():
        need(
            substituted(permission["SourceArn"]).partition("/*/")[2] in keys,
            f"{stack.file}: {name} is for no route: remove it, or end its SourceArn as the route's key does.",
        )
        assert permission["Principal"] == "apigateway.amazonaws.com"
        assert permission["Action"] == "lambda:InvokeFunction"
    assert len(permissions) <= len(routes), (
        "test_the_api_may_invoke_the_function_for_exactly_this_route finds the others"
    )


@pytest.mark.parametrize("stack, function", EVERY_FUNCTION, ids=label)
def test_a_function_is_reached_in_exactly_one_way(stack, function):
    by_route = {function_behind(s, route) for s, route in EVERY_ROUTE if s is stack}
    by_events = {
        target(mapping["FunctionName"]) for mapping in stack.of_type("AWS::Lambda::EventSourceMapping").values()
    }
    by_the_saga = stack.functions[function]["FunctionName"] in STEPS.values()
    by_schedule = function in stack.scheduled
    ways = [function in by_route, function in by_events, by_the_saga, by_schedule].count(True)
    need(
        ways,
        f"{stack.file}: nothing reaches {function}: add a route, an event source, a step of the saga or a schedule.",
    )
    need(ways == 1, f"{stack.file}: {function} is reached in {ways} ways; one input has one function.")


def test_the_stage_throttles_and_its_log_names_nobody():
    [stage] = STACKS["platform"].of_type("AWS::ApiGatewayV2::Stage").values()
    assert stage["DefaultRouteSettings"]["ThrottlingRateLimit"] == {"Ref": "ApiRateLimit"}
    assert stage["DefaultRouteSettings"]["ThrottlingBurstLimit"] == {"Ref": "ApiBurstLimit"}
    logs = STACKS["platform"].resources[target(stage["AccessLogSettings"]["DestinationArn"])]["Properties"]
    assert logs["RetentionInDays"] == {"Ref": "LogRetentionDays"}
    for personal in ("sourceIp", "userAgent", "claims", "$context.path", "principalId", "identity"):
        assert personal not in stage["AccessLogSettings"]["Format"]


def test_tokens_are_those_of_the_user_pool_for_its_client():
    platform = STACKS["platform"]
    [authorizer] = platform.of_type("AWS::ApiGatewayV2::Authorizer").values()
    assert authorizer["AuthorizerType"] == "JWT"
    assert referenced(authorizer["JwtConfiguration"]["Issuer"]) == {"AWS::Region", "UserPool"}
    assert authorizer["JwtConfiguration"]["Audience"] == [{"Ref": "UserPoolClient"}]
    assert platform.resources["UserPoolClient"]["Properties"]["GenerateSecret"] is False
