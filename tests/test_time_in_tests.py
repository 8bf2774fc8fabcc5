"""Tests wait for events, not for times: no pauses of a length that somebody chose, no constants of time made shorter.

What runs as real programs (`e2e/`, `faults/`) may pause; a test that needs hours has `virtual_time`.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
REAL = {"e2e", "faults"}
A_TIME = re.compile(r"_(SECONDS|MILLISECONDS|MINUTES)$")

# Pauses that are no waiting for an event. What a double does before it answers, or for ever:
PAUSES = {
    "support/raw_bytes.py": 2,
    "support/spawned_agent.py": 1,
    "support/foreign_server.py": 5,
    "foreign/test_http.py": 1,
    "probing/test_loops.py": 1,
    "gateway/test_local_servers.py": 1,
    "runners/tools/test_http.py": 1,
    "runners/wargame/endpoint/test_client.py": 1,
    "runners/wargame/endpoint/test_doctor.py": 1,
    "support/wargame_world.py": 1,
    "runtime/test_watchdog.py": 2,
    "support/gateway_load.py": 1,
    "support/virtual_daemon.py": 1,
    "support/wargame_model.py": 1,
    "test_virtual_memory.py": 1,
    "test_virtual_time.py": 7,
    # A kill at a moment that nobody chose:
    "checkpoint/test_bundle.py": 1,
    # While nothing is to happen. On a slow machine they see less, and none of them fails:
    "control_loop/test_responder.py": 1,
    "gateway/test_answers_counted.py": 1,
    "gateway/test_idempotency.py": 1,
    "gateway/test_upstream_down.py": 1,
    "probes/vram/test_prober.py": 1,
    "supervisor/test_supervisor.py": 2,
    "supervisor/test_real_cells.py": 1,
}

# Constants of time that are still made shorter, by file. A row may get smaller, and none may come.
SHORTENED = {
    "api/test_client.py": 1,
    "api/test_server.py": 1,
    "control_loop/test_loop.py": 1,
    "control_loop/test_responder.py": 4,
    "control_loop/test_standby_journal.py": 1,
    "daemon/test_scheduled_jobs.py": 1,
    "datastore/test_restore.py": 1,
    "gateway/test_doors.py": 2,
    "gateway/test_http_client.py": 1,
    "gateway/test_refusal_rate.py": 2,
    "gateway/test_server_profile.py": 2,
    "inspection/test_inspect.py": 1,
    "listeners/test_aiohttp_site.py": 1,
    "notifying/test_notifier.py": 1,
    "operations/test_implementation.py": 1,
    "probing/test_loops.py": 1,
    "runtime/test_watchdog.py": 1,
    "supervisor/test_log_pump.py": 2,
    "supervisor/test_orphans.py": 1,
    "supervisor/test_systemd_manager.py": 1,
}


def sleeps(call: ast.Call) -> bool:
    return (
        ast.unparse(call.func) in {"asyncio.sleep", "time.sleep", "sleep"}
        and ast.unparse(call.args[0]) != "0"
    )


def pauses(node: ast.AST, *, allowed: bool = False) -> Iterator[int]:
    """Find the lines that sleep, but those of a loop that asks for something, and those in virtual time."""
    for child in ast.iter_child_nodes(node):
        may = allowed
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            may = may or any(word.arg == "virtual_time" for word in child.args.args)
        elif isinstance(child, ast.While):
            may = may or not isinstance(child.test, ast.Constant)
        elif isinstance(child, ast.Call) and not may and sleeps(child):
            yield child.lineno
        yield from pauses(child, allowed=may)


def shortened(tree: ast.AST) -> Iterator[int]:
    """Find the lines that put another value in the place of a constant of time."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(
            (".setattr", "patch", "patch.object")
        ):
            for word in node.args[:2]:
                if (
                    isinstance(word, ast.Constant)
                    and isinstance(word.value, str)
                    and A_TIME.search(word.value)
                ):
                    yield node.lineno


@pytest.fixture(scope="module")
def found() -> tuple[Counter[str], Counter[str]]:
    """Pauses and shortened constants of the whole suite, by file."""
    paused, short = Counter[str](), Counter[str]()
    for path in sorted(TESTS.rglob("*.py")):
        name = path.relative_to(TESTS)
        if name.parts[0] not in REAL:
            tree = ast.parse(path.read_bytes())
            paused[str(name)] = len(list(pauses(tree)))
            short[str(name)] = len(list(shortened(tree)))
    return +paused, +short


def test_what_is_waited_for_is_an_event(found: tuple[Counter[str], Counter[str]]) -> None:
    """A new pause is either a loop with `until` (support/patience.py), or a row above with its reason."""
    assert found[0] == PAUSES


def test_no_constant_of_time_is_made_shorter(found: tuple[Counter[str], Counter[str]]) -> None:
    """What goes by the clock is tried with `virtual_time`; the rows above are left from before there was any."""
    assert found[1] == SHORTENED


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("async def test():\n    await asyncio.sleep(0.1)", [2]),
        ("def test():\n    for _ in range(9):\n        time.sleep(0.1)", [3]),
        ("def test():\n    while True:\n        time.sleep(1)", [3]),
        ("def test():\n    while not done():\n        time.sleep(1)", []),
        ("async def test():\n    await asyncio.sleep(0)", []),
        ("async def test(virtual_time):\n    await asyncio.sleep(3_600)", []),
        ("PROGRAM = 'import time; time.sleep(600)'", []),
    ],
)
def test_a_planted_pause_is_found(code: str, found: list[int]) -> None:
    assert list(pauses(ast.parse(code))) == found


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("monkeypatch.setattr(module, 'RETRY_SECONDS', 0.0)", [1]),
        ("monkeypatch.setattr('epad.room.file.RETRY_SECONDS', 0.0)", [1]),
        ("mock.patch.object(module, 'RETRY_SECONDS', 0.0)", [1]),
        ("mock.patch('epad.room.file.WAIT_MINUTES', 1)", [1]),
        ("monkeypatch.setattr(module, 'MAX_KEPT', 1)", []),
    ],
)
def test_a_planted_constant_is_found(code: str, found: list[int]) -> None:
    assert list(shortened(ast.parse(code))) == found
