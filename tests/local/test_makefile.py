"""What is given to `make` reaches the programs as it was written, whatever it is."""

import ast
import os
import subprocess
import sys

import pytest

from infra.local.settings import ROOT

# Prints the arguments instead of acting on them.
ECHO = f'{sys.executable} -c "import sys; print(sys.argv[1:])"'
# It would be carried out by make, by the shell, or break out of the quotes.
ODD = "$(shell echo 1) `echo 2` $$HOME \"a\" 'b' ; echo 3 #"


def given(target: str, *arguments: str, **environment: str) -> list[str]:
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
def test_each_argument_arrives_as_it_was_written(target, expected):
    arguments = [f"{variable}={ODD}{variable}" for variable in expected]
    assert given(target, *arguments) == [target, *(f"{expected[name]}={ODD}{name}" for name in expected)]


def test_an_address_and_a_name_in_the_environment_are_not_taken_for_those_of_a_person_to_sign_up():
    assert given("token", EMAIL="packager@example.org", NAME="laptop") == ["token", "--email=", "--name=", "--admin="]
