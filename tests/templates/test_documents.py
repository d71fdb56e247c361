"""Every function has a row in its service's README, and every operation has a system test."""

import re

import pytest
from api import OPERATIONS, served_by
from stacks import EVERY_FUNCTION, ROOT, SERVICES, label, need

TESTS = [path.read_text() for folder in ("tests/src", "tests/tests") for path in sorted((ROOT / folder).rglob("*.rs"))]


def rows(service: str) -> dict[str, list[str]]:
    """The rows of the table of functions in a service's README, as lists of cells by function name."""
    readme = (ROOT / f"functions/{service}/README.md").read_text()
    _, _, table = readme.partition("\n| function | what it does |")
    need(table, f"functions/{service}/README.md: add the table of functions, `| function | what it does |`.")
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.partition("\n\n")[0].splitlines()[2:]]
    return {row[0].strip("`"): row for row in cells}


@pytest.mark.parametrize("stack, function", EVERY_FUNCTION, ids=label)
def test_the_readme_of_a_service_has_a_row_for_each_function_with_its_routes(stack, function):
    name = stack.functions[function]["FunctionName"]
    routes = [operation.route for operation in served_by(name)]
    readme = f"functions/{stack.name}/README.md"
    row = rows(stack.name).get(name)
    served = ", ".join(f"`{route}`" for route in routes) or "…"
    need(row, f"{readme}: the table has no row for {name}. Add `| `{name}` | {served} | <its calls> |`.")
    found = re.findall(r"`([A-Z]+ /[^`?]*)", row[1])
    need(
        sorted(set(found)) == sorted(routes),
        f"{readme}: the row of {name} names {', '.join(sorted(set(found))) or 'no route'}, but the function serves "
        f"{', '.join(routes) or 'none'}.",
    )


@pytest.mark.parametrize("service", SERVICES)
def test_the_readme_of_a_service_has_rows_only_for_existing_functions(service):
    names = {properties["FunctionName"] for properties in SERVICES[service].functions.values()}
    for name in rows(service):
        need(
            name in names,
            f"functions/{service}/README.md: remove the row for {name}, which does not exist in infra/{service}.yaml.",
        )


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=str)
def test_every_operation_has_a_system_test(operation):
    method, path = operation.route.split(" ")
    # For a path parameter, the test has a variable in braces or a value.
    literal = re.compile('"' + re.sub(r"\\{\w+\\}", r"[^/\"?]+", re.escape(path)) + r'["?]')
    called = re.compile(rf'\.{method.lower()}(_signed)?\(|Method::{method}\b|"{method}"')
    need(
        any(literal.search(test) and called.search(test) for test in TESTS),
        f"tests/tests/system/api/{operation.service}.rs: no test sends {operation.route}. Write one.",
    )
