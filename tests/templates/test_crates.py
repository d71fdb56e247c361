"""What the crates promise: dependencies that point one way, and routes that are the API's."""

import pytest
from api import OPERATIONS
from stacks import ROOT, need

tomllib = pytest.importorskip("tomllib", reason="Python 3.11 reads TOML")

CRATES = {path.parent.name: tomllib.loads(path.read_text()) for path in (ROOT / "functions").glob("*/Cargo.toml")}
SHARED = {"kernel", "runtime"}
SERVICES = sorted(set(CRATES) - SHARED - {"relay"})


def dependencies(crate: str) -> set[str]:
    return set(CRATES[crate].get("dependencies", {}))


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_depends_on_no_sdk_and_on_no_other_service(service):
    assert {name for name in dependencies(service) if name.startswith("aws")} == set()
    assert dependencies(service) & set(SERVICES) == set()


def test_the_kernel_knows_neither_aws_nor_the_runtime():
    assert {name for name in dependencies("kernel") if name.startswith(("aws", "lambda"))} == set()
    assert dependencies("kernel") & (set(CRATES) | {"events", "tokio"}) == set()


def test_cargo_lambda_watch_answers_at_the_routes_of_the_api():
    router = tomllib.loads((ROOT / "CargoLambda.toml").read_text())["watch"]["router"]
    watched = {
        f"{target['method']} {path}": target["function"] for path, targets in router.items() for target in targets
    }
    described = {route: operation.function for route, operation in OPERATIONS.items()}
    need(watched == described, "CargoLambda.toml and infra/openapi.json have different routes: run `make contract`.")


def test_what_is_deployed_has_no_faults_to_inject():
    # The module is compiled with debug assertions only; a release build, which `make build` makes, has none.
    serve = (ROOT / "functions/runtime/src/serve/mod.rs").read_text()
    assert "#[cfg(debug_assertions)]\nmod faults;" in serve
    assert "debug-assertions" not in tomllib.loads((ROOT / "Cargo.toml").read_text())["profile"]["release"]
    assert "cargo lambda build --release" in (ROOT / "Makefile").read_text()
