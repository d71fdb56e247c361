"""The commands in the documents are valid: the recipes, tests, options and files that they name exist. tests/docs runs
those of the pages for users and of CONTRIBUTING that need a running system."""

import re
import shlex
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import botocore.session
import pytest
from botocore import xform_name
from markdown_it import MarkdownIt
from test_repository_files import ROOT, find, named, tomllib

MAKEFILE = (ROOT / "Makefile").read_text()
# A command is checked if it starts with one of these and has an argument.
PROGRAMS = re.compile(r"(?:make|cargo|aws|sam|infra/local/bootstrap|\.local/venv/bin/\S+|python3) +\S")
# Options of every AWS CLI command, and of paginated commands (see `aws help`).
GLOBAL = {"cli-binary-format", "endpoint-url", "max-items", "output", "page-size", "profile", "query", "region"}
INNER = re.compile(r"\$\(([^()]*)\)")


def written(document: Path) -> Iterator[str]:
    """Each line of the code blocks, and each inline code span. A command that spans several lines is one line."""
    for token in MarkdownIt().parse(document.read_text()):
        if token.type == "code_block" or (token.type == "fence" and token.info == "sh"):
            text = ""
            for line in token.content.replace("\\\n", " ").splitlines(keepends=True):
                text += line
                with suppress(ValueError):  # a quotation that continues on the next line
                    shlex.split(text, comments=True)
                    yield text
                    text = ""
        for child in token.children or []:
            if child.type == "code_inline":
                yield " ".join(child.content.split())


def commands(document: Path) -> Iterator[list[str]]:
    """Each command as a list of its words."""
    for line in written(document):
        for text in (*INNER.findall(line), INNER.sub("…", line)):
            lexer = shlex.shlex(text, posix=True, punctuation_chars="|&;")
            lexer.whitespace_split = True
            command: list[str] = []
            for word in (*(lexer if PROGRAMS.search(text) else ()), ";"):
                if word.strip("|&;"):
                    command.append(word)
                else:
                    if PROGRAMS.match(" ".join(command)):
                        yield command
                    command = []


SHOWN = [(document, command) for document in find("*.md") for command in commands(document)]


def shown(program: str) -> list:
    return [
        pytest.param(command, id=f"{named(document)}: {' '.join(command)}")
        for document, command in SHOWN
        if command[0] == program
    ]


@pytest.mark.parametrize("program", ["make", "cargo", "aws", "sam"])
def test_the_documents_show_commands_of(program):
    assert shown(program)


@pytest.mark.parametrize("command", shown("make"))
def test_a_recipe_exists_and_reads_the_given_variables(command):
    targets = [word for word in command[1:] if re.fullmatch(r"[a-z][a-z-]*", word)]
    assert targets, "no recipe is named"
    recipe = re.search(rf"^{targets[0]}:.*\n((?:\t.*\n|\n)*)", MAKEFILE, re.MULTILINE)
    assert recipe, f"there is no recipe {targets[0]}"
    for variable in re.findall(r"\b([A-Z]+)=", " ".join(command)):
        name = "WANTED" if variable == "ID" else f"WANTED_{variable}"
        assert re.search(rf"\${name}\b|\({variable}\)", recipe[1]), f"{targets[0]} does not read {variable}"


@pytest.mark.parametrize("command", shown("cargo"))
def test_a_cargo_command_names_a_test_that_exists(command):
    if command[1] != "test":
        assert command[1] in {"build", "clean", "lambda", "progenitor"}
        return
    assert "--workspace" in command, "another selection of packages has other features and compiles the AWS SDKs again"
    if "--test" in command:
        assert (ROOT / "tests/tests" / command[command.index("--test") + 1] / "main.rs").exists()


@pytest.mark.parametrize("command", shown("aws"))
def test_the_aws_cli_has_the_command_and_its_options(command):
    # The option --endpoint-url may come before the service.
    service, operation, *arguments = command[3:] if command[1] == "--endpoint-url" else command[1:]
    # The CLI calls S3's own operations s3api, because s3 has commands for whole folders.
    model = botocore.session.get_session().get_service_model("s3" if service == "s3api" else service)
    operations = {xform_name(name, "-"): name for name in model.operation_names}
    assert operation in operations, f"{service} has no {operation}"
    shape = model.operation_model(operations[operation]).input_shape
    known = {xform_name(name, "-") for name in shape.members} if shape else set()
    given = {word.removeprefix("--") for word in arguments if word.startswith("--")}
    assert given - known - GLOBAL == set()
    # "…" stands for options that the reader has to add.
    if "…" not in arguments:
        needed = {xform_name(name, "-") for name in shape.required_members} if shape else set()
        assert needed - given == set()


@pytest.mark.parametrize("command", shown("sam"))
def test_a_sam_command_names_a_configured_environment(command):
    configured = tomllib.loads((ROOT / "samconfig.toml").read_text())
    if "--config-env" in command:
        assert command[command.index("--config-env") + 1] in configured


def test_a_file_that_a_command_names_exists():
    words = {word for _, command in SHOWN for word in command}
    paths = {word for word in words if re.match(r"(?:events|functions|infra|tests)/[\w./-]+$", word)}
    assert paths
    # posts-title is the endpoint that CONTRIBUTING asks the reader to add.
    assert [path for path in paths if not (ROOT / path).exists() and "posts-title" not in path] == []
