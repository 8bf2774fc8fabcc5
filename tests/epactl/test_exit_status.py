"""The exit statuses: one table in the document, one in the help, one in the code, and each is really given."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from control_door import Door

from epad.api.client import (
    ClientError,
    FailedError,
    NotRunningError,
    RefusedError,
    UnknownNameError,
    UnreachableError,
)
from epad.epactl import call, command_line, main
from epad.epactl.call import UsageError
from epad.epactl.commands import simulate, watch
from epad.ledger.errors import LedgerError
from epad.operations.protocol import Peer

DOCUMENT = (Path(__file__).parents[2] / "docs/epactl.md").read_text()


def in_code() -> Iterator[int]:
    modules: tuple[ModuleType, ...] = (call, simulate, watch)
    for module in modules:
        yield from (value for name, value in vars(module).items() if name.startswith("EXIT_"))


def test_document_help_and_code_have_the_same() -> None:
    """No status is undocumented, none is documented that is never given."""
    documented = {int(number) for number in re.findall(r"^\| (\d+) \|", DOCUMENT, re.MULTILINE)}
    helped = {int(number) for number in re.findall(r"^  (\d+) ", command_line.EXIT_CODES, re.MULTILINE)}
    assert documented == helped == set(in_code())


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (NotRunningError("x"), 3),
        (UnknownNameError("x"), 4),
        (UnreachableError("x"), 4),
        (RefusedError("x"), 5),
        (FailedError("x"), 1),
        (ClientError("x"), 1),
        (UsageError("x"), 2),
        (LedgerError("x"), 4),
        (OSError("x"), 4),
    ],
)
def test_each_failure_has_its_status(error: Exception, status: int) -> None:
    """As scripts tell them apart."""
    assert main.exit_status(error) == status


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["status"], 0),
        (["lifeboat", "relaunch", "--reason", "r"], 1),
        (["lifeboat", "enter", "--reason", "r"], 2),
        (["nonsense"], 2),
        (["--socket", "/nowhere/x.sock", "status"], 3),
        (["status", "nobody"], 4),
        (["simulate", "--state", "/nowhere"], 4),
        (["lifeboat", "inspect", "nobody", "--state", "/nowhere"], 4),
        (["checkpoint", "restore", "nobody", "--yes", "--state", "/nowhere"], 4),
        (["explain", "-1"], 4),
        (["status", "--check"], 10),
        (["status", "--wait", "NORMAL", "--timeout", "0.05"], 12),
    ],
)
async def test_each_command_gives_it(door: Door, words: list[str], status: int) -> None:
    """Driven through the command line."""
    given = ["--socket", str(door.path), *words] if "--socket" not in words else words
    assert await asyncio.to_thread(main.main, given) == status


async def test_a_stranger_is_refused(door: Door) -> None:
    """5, whatever the order."""
    door.peer = Peer(1, 54_321, ())
    for order in ("quarantine", "restart", "stop", "pause"):
        words = ["--socket", str(door.path), order, "chat", "--reason", "r"]
        assert await asyncio.to_thread(main.main, words) == 5
