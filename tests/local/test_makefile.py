"""Values on the command line of `make` reach the programs unchanged, whatever characters they contain."""

import ast
import os
import subprocess
import sys

import pytest

from infra.local.settings import ROOT

# Prints the arguments instead of running the command.
ECHO = f'{sys.executable} -c "import sys; print(sys.argv[1:])"'
# make or the shell would expand this, or it would end a quotation.
ODD = "$(shell echo 1) `echo 2` $$HOME \"a\" 'b' ; echo 3 #"


def received(target: str, *arguments: str, **environment: str) -> list[str]:
    command = ["make", "-s", target, f"LOCAL={ECHO}", *arguments]
    inherited = {name: value for name, value in os.environ.items() if name not in ("EMAIL", "NAME", "MAKEFLAGS")}
    done = subprocess.run(
        command, cwd=ROOT, env=inherited | environment, capture_output=True, text=True, timeout=300, check=True
    )
    return ast.literal_eval(done.stdout)


@pytest.mark.parametrize(
    "target, expected",
    [
        ("token", {"EMAIL": "--email", "NAME": "--name", "ADMIN": "--admin"}),
        (
            "logs",
            {"F": "--function", "ID": "--id", "SINCE": "--since", "FOLLOW": "--follow", "RAW": "--raw"},
        ),
        ("dead-letters", {"Q": "--queue", "ID": "--id", "DELETE": "--delete"}),
        ("redrive", {"Q": "--queue", "ID": "--id"}),
    ],
)
def test_each_argument_arrives_unchanged(target, expected):
    arguments = [f"{variable}={ODD}{variable}" for variable in expected]
    assert received(target, *arguments) == [target, *(f"{expected[name]}={ODD}{name}" for name in expected)]


def test_email_and_name_in_the_environment_are_ignored():
    ignored = {"EMAIL": "packager@example.org", "NAME": "laptop"}
    assert received("token", **ignored) == ["token", "--email=", "--name=", "--admin="]
