import sys
from pathlib import Path
from typing import Any

import pytest

# So that infra.local can be imported, whose stacks are compared with those of the root template.
sys.path.insert(0, str(Path(__file__).parents[2]))

SENTENCES = pytest.StashKey[dict[str, None]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[SENTENCES] = {}


def pytest_exception_interact(node: pytest.Item, call: pytest.CallInfo[Any]) -> None:
    error = call.excinfo and call.excinfo.value
    # Failures without a traceback come from `fail` and consist of instructions.
    if isinstance(error, pytest.fail.Exception) and not error.pytrace:
        node.config.stash[SENTENCES].update(dict.fromkeys(str(error).splitlines()))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Prints each instruction once, even if several tests have failed with it."""
    if sentences := config.stash[SENTENCES]:
        terminalreporter.section("what to do")
        for sentence in sentences:
            terminalreporter.write_line(f"- {sentence}")
