"""The crates: dependencies point one way, the watch router has the API's routes, and releases have nothing that is for
tests or measurements."""

import re

import pytest
from api import OPERATIONS
from stacks import ROOT, need

tomllib = pytest.importorskip("tomllib", reason="reading TOML needs Python 3.11")

CRATES = {path.parent.name: tomllib.loads(path.read_text()) for path in (ROOT / "functions").glob("*/Cargo.toml")}
SHARED = {"kernel", "runtime"}
# Features of the runtime that only `make bench` compiles.
BENCH_FEATURES = {"bench-root", "without-tracing"}
SERVICES = sorted(set(CRATES) - SHARED - {"relay"})


def dependencies(crate: str) -> set[str]:
    return set(CRATES[crate].get("dependencies", {}))


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_depends_neither_on_an_sdk_nor_on_another_service(service):
    assert {name for name in dependencies(service) if name.startswith("aws")} == set()
    assert dependencies(service) & set(SERVICES) == set()


def test_the_kernel_depends_neither_on_aws_nor_on_the_runtime():
    assert {name for name in dependencies("kernel") if name.startswith(("aws", "lambda"))} == set()
    assert dependencies("kernel") & (set(CRATES) | {"events", "tokio"}) == set()


def test_cargo_lambda_watch_serves_the_routes_of_the_api():
    router = tomllib.loads((ROOT / "CargoLambda.toml").read_text())["watch"]["router"]
    watched = {
        f"{target['method']} {path}": target["function"] for path, targets in router.items() for target in targets
    }
    described = {route: operation.function for route, operation in OPERATIONS.items()}
    need(watched == described, "CargoLambda.toml and infra/openapi.json have different routes: run `make contract`.")


def test_a_release_build_cannot_inject_faults():
    # The module is compiled only with debug assertions, which the release build of `make build` does not have.
    serve = (ROOT / "functions/runtime/src/serve/mod.rs").read_text()
    assert "#[cfg(debug_assertions)]\nmod faults;" in serve
    assert "debug-assertions" not in tomllib.loads((ROOT / "Cargo.toml").read_text())["profile"]["release"]
    assert "cargo lambda build --release" in (ROOT / "Makefile").read_text()


@pytest.mark.parametrize("feature", sorted(BENCH_FEATURES))
def test_no_deployed_build_has_a_feature_for_measurements(feature):
    assert feature in CRATES["runtime"]["features"]
    # Neither a default, nor another feature, nor a dependency on the runtime selects it,
    for manifest in (ROOT / "Cargo.toml", *ROOT.glob("*/Cargo.toml"), *ROOT.glob("functions/*/Cargo.toml")):
        assert f'{feature}"' not in manifest.read_text(), manifest
    # nor does a command that builds what is deployed.
    recipe = next(line for line in (ROOT / "Makefile").read_text().splitlines() if "cargo lambda build" in line)
    for command in (recipe, (ROOT / "infra/local/lifecycle/build.py").read_text()):
        assert not {"--features", "--all-features", "-F"} & set(re.findall(r"-[\w-]+", command))


def test_no_process_collects_jitter_before_its_first_connection():
    # infra/decisions/random-numbers-without-jitter.md; cargo passes the variable to build scripts, for every target.
    settings = tomllib.loads((ROOT / ".cargo/config.toml").read_text())
    assert settings["env"]["AWS_LC_SYS_NO_JITTER_ENTROPY"] == "1"
