import sys
from pathlib import Path
from typing import Any

import pytest

# For infra.local, whose view of the stacks is compared with the root template's.
sys.path.insert(0, str(Path(__file__).parents[2]))

SENTENCES = pytest.StashKey[dict[str, None]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[SENTENCES] = {}


def pytest_exception_interact(node: pytest.Item, call: pytest.CallInfo[Any]) -> None:
    error = call.excinfo and call.excinfo.value
    # A failure without a traceback is one in words: see `fail`.
    if isinstance(error, pytest.fail.Exception) and not error.pytrace:
        node.config.stash[SENTENCES].update(dict.fromkeys(str(error).splitlines()))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Says once what to do, however many tests found it."""
    if sentences := config.stash[SENTENCES]:
        terminalreporter.section("what to do")
        for sentence in sentences:
            terminalreporter.write_line(f"- {sentence}")
