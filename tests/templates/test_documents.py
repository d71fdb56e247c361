"""What is written beside an operation: the row in its service's README, and the tests that ask for it."""

import re

import pytest
from api import OPERATIONS, served_by
from stacks import EVERY_FUNCTION, ROOT, SERVICES, label, need

TESTS = [path.read_text() for folder in ("tests/src", "tests/tests") for path in sorted((ROOT / folder).rglob("*.rs"))]


def rows(service: str) -> dict[str, list[str]]:
    """The table of functions in a service's README: the cells of each row by the function's name."""
    readme = (ROOT / f"functions/{service}/README.md").read_text()
    _, _, table = readme.partition("\n| function | what it does |")
    need(table, f"functions/{service}/README.md has no table of functions, `| function | what it does |`.")
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.partition("\n\n")[0].splitlines()[2:]]
    return {row[0].strip("`"): row for row in cells}


@pytest.mark.parametrize("stack, function", EVERY_FUNCTION, ids=label)
def test_the_readme_of_a_service_has_a_row_for_each_function_with_the_routes_that_it_serves(stack, function):
    name = stack.functions[function]["FunctionName"]
    routes = [operation.route for operation in served_by(name)]
    readme = f"functions/{stack.name}/README.md"
    row = rows(stack.name).get(name)
    does = ", ".join(f"`{route}`" for route in routes) or "…"
    need(row, f"{readme}: the table has no row for {name}: add `| `{name}` | {does} | <its calls> |`.")
    found = re.findall(r"`([A-Z]+ /[^`?]*)", row[1])
    need(
        sorted(set(found)) == sorted(routes),
        f"{readme}: the row of {name} names {', '.join(sorted(set(found))) or 'no route'}, and the function serves "
        f"{', '.join(routes) or 'none'}.",
    )


@pytest.mark.parametrize("service", SERVICES)
def test_the_readme_of_a_service_has_no_row_for_a_function_that_it_does_not_have(service):
    names = {properties["FunctionName"] for properties in SERVICES[service].functions.values()}
    for name in rows(service):
        need(
            name in names,
            f"functions/{service}/README.md: the table has a row for {name}, which infra/{service}.yaml has not.",
        )


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=str)
def test_a_system_test_asks_for_every_operation(operation):
    method, path = operation.route.split(" ")
    # What stands in braces is a variable of the test, or a value.
    literal = re.compile('"' + re.sub(r"\\{\w+\\}", r"[^/\"?]+", re.escape(path)) + r'["?]')
    called = re.compile(rf'\.{method.lower()}(_signed)?\(|Method::{method}\b|"{method}"')
    need(
        any(literal.search(test) and called.search(test) for test in TESTS),
        f"tests/tests/system/api/{operation.service}.rs: no test asks for {operation.route}: write one.",
    )
