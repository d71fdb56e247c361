import re

import pytest
from stacks import EVERY_FUNCTION, EVERY_ROUTE, SERVICES, STACKS, STEPS, label, referenced, substituted, target

# The API's contract: who answers a route, and whom.
JWT, IAM, PUBLIC = "JWT", "AWS_IAM", "NONE"
CONTRACT = {
    "POST /users": ("users-register", JWT),
    "GET /users/me": ("users-get", JWT),
    "GET /users/{id}": ("users-get", JWT),
    "PATCH /users/me": ("users-update", JWT),
    "DELETE /users/me": ("users-delete", JWT),
    "GET /internal/users/{id}": ("users-lookup", IAM),
    "POST /posts": ("posts-create", JWT),
    "GET /posts": ("posts-list", PUBLIC),
    "GET /posts/{id}": ("posts-get", PUBLIC),
    "GET /posts/{id}/author": ("posts-author", PUBLIC),
    "PATCH /posts/{id}": ("posts-update", JWT),
    "DELETE /posts/{id}": ("posts-delete", JWT),
    "POST /posts/{id}/comments": ("comments-create", JWT),
    "GET /posts/{id}/comments": ("comments-list", PUBLIC),
    "PATCH /posts/{id}/comments/{comment_id}": ("comments-update", JWT),
    "DELETE /posts/{id}/comments/{comment_id}": ("comments-delete", JWT),
    "GET /notifications": ("notifications-list", JWT),
    "POST /notifications/{id}/read": ("notifications-read", JWT),
    "POST /notifications/read-all": ("notifications-read", JWT),
    "GET /notifications/preferences": ("notifications-preferences", JWT),
    "PUT /notifications/preferences": ("notifications-preferences", JWT),
    "POST /orders": ("orders-place", JWT),
    "GET /orders": ("orders-list", JWT),
    "GET /orders/{id}": ("orders-get", JWT),
    "POST /orders/{id}/cancel": ("orders-cancel", JWT),
    "GET /orders/{id}/payment": ("payments-get", JWT),
    "GET /inventory": ("inventory-list", PUBLIC),
    "GET /inventory/{sku}": ("inventory-get", PUBLIC),
    # For the group admin alone, which the function itself asks for.
    "PUT /inventory/{sku}": ("inventory-put", JWT),
    # The function checks the signature of the payment provider.
    "POST /payments/webhook": ("payments-webhook", PUBLIC),
    "PUT /registry/{service}/instances/{id}": ("registry-register", IAM),
    "DELETE /registry/{service}/instances/{id}": ("registry-deregister", IAM),
    "GET /registry/{service}": ("registry-resolve", IAM),
    "GET /openapi.json": ("api-docs", PUBLIC),
    "GET /docs": ("api-docs", PUBLIC),
    "GET /docs/{file}": ("api-docs", PUBLIC),
}

ROUTES = pytest.mark.parametrize("stack, route", EVERY_ROUTE, ids=label)


def function_behind(stack, route):
    integration = re.fullmatch(r"integrations/\$\{(\w+)}", stack.resources[route]["Properties"]["Target"]["Fn::Sub"])[1]
    properties = stack.of_type("AWS::ApiGatewayV2::Integration")[integration]
    assert (properties["IntegrationType"], properties["PayloadFormatVersion"]) == ("AWS_PROXY", "2.0")
    function = target(properties["IntegrationUri"])
    assert function in stack.functions
    return function


def test_the_routes_are_those_of_the_contract():
    routes = {
        properties["RouteKey"]: (
            stack.functions[function_behind(stack, route)]["FunctionName"],
            properties["AuthorizationType"],
        )
        for stack, route in EVERY_ROUTE
        for properties in [stack.resources[route]["Properties"]]
    }
    assert routes == CONTRACT
    assert len(routes) == len(EVERY_ROUTE), "a route is there twice"


@ROUTES
def test_a_route_for_signed_in_people_has_the_authorizer_and_no_other_has(stack, route):
    properties = stack.resources[route]["Properties"]
    expected = {"Ref": "AuthorizerId"} if properties["AuthorizationType"] == JWT else None
    assert properties.get("AuthorizerId") == expected
    assert properties["ApiId"] == {"Ref": "ApiId"}


@ROUTES
def test_the_api_may_invoke_the_function_for_exactly_this_route(stack, route):
    method, path = stack.resources[route]["Properties"]["RouteKey"].split(" ")
    path = re.sub(r"{\w+}", "*", path)
    source = f"arn:aws:execute-api:us-east-1:123456789012:${{ApiId}}/*/{method}{path}"
    granted = [
        permission
        for permission in stack.of_type("AWS::Lambda::Permission").values()
        if substituted(permission["SourceArn"]) == source
    ]
    assert [target(permission["FunctionName"]) for permission in granted] == [function_behind(stack, route)]


@pytest.mark.parametrize("stack", SERVICES.values(), ids=label)
def test_nothing_but_the_routes_may_invoke_a_function(stack):
    permissions = stack.of_type("AWS::Lambda::Permission")
    assert len(permissions) == len(stack.of_type("AWS::ApiGatewayV2::Route"))
    for permission in permissions.values():
        assert permission["Principal"] == "apigateway.amazonaws.com"
        assert permission["Action"] == "lambda:InvokeFunction"


@pytest.mark.parametrize("stack, function", EVERY_FUNCTION, ids=label)
def test_a_function_is_reached_in_exactly_one_way(stack, function):
    by_route = {function_behind(s, route) for s, route in EVERY_ROUTE if s is stack}
    by_events = {
        target(mapping["FunctionName"]) for mapping in stack.of_type("AWS::Lambda::EventSourceMapping").values()
    }
    by_the_saga = stack.functions[function]["FunctionName"] in STEPS.values()
    by_schedule = function in stack.scheduled
    assert [function in by_route, function in by_events, by_the_saga, by_schedule].count(True) == 1


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
