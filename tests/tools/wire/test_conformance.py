"""The MCP conformance suite against the tool door, over the tools that it wants: all that each revision requires.

It runs where EPAD_MCP_CONFORMANCE names a folder with the packages of `.ci/npm/package.json`, or where they
are installed there (`npm install --prefix .ci/npm`, as .ci/programs does).
"""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
from pathlib import Path

import pytest
import structlog
from conformance_fixture import FixtureTools, parts
from gateway_world import gateway_config, world
from mcp_programs import NODE, SUITE, without
from patience import PATIENCE_SECONDS
from wire_world import LEGACY, MODERN

from epad.tools.wire.door import ToolDoor
from epad.tools.wire.slow_answer import Pauses

# By design (docs/tools.md): MCP gives up logging, and epad's own is for the operator.
LEFT_OUT = {LEGACY: {"logging-set-level", "tools-call-with-logging"}, MODERN: set[str]()}
# Of what the suite runs without scoring it: a session opens nothing here, so its end closes nothing. The extension for
# tasks is not built.
NOT_SCORED = {LEGACY: {"server-session-lifecycle"}, MODERN: set[str]()}


def required(revision: str) -> set[str]:
    """The scenarios that a server of this revision must pass, by the suite's own list."""
    listed = (SUITE.parents[1] / f"requirements/{revision}.yaml").read_text()
    return set(
        re.findall(r"^  - (\S+)", listed.partition("\nserver:\n")[2].partition("\n\n")[0], re.MULTILINE)
    )


async def checks_of(directory: Path, revision: str) -> dict[str, dict[str, str]]:
    """Run the suite; return the status of each check by its scenario."""
    side = ToolDoor(FixtureTools(), structlog.get_logger(), pauses=Pauses(0.05, 0.2), **parts())
    async with world(directory, side=side, config=gateway_config(anonymous="writer")) as served:
        process = await asyncio.create_subprocess_exec(
            *(NODE, SUITE, "server", "--url", served.url + "/mcp", "--requirements", revision),
            *("--output-dir", directory / "said"),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        async with asyncio.timeout(PATIENCE_SECONDS):
            await process.communicate()
    return {
        re.sub(r"^server-|-\d{4}-\d\d-\d\dT.*$", "", path.parent.name): {
            check["id"]: check["status"] for check in json.loads(path.read_text())
        }
        for path in (directory / "said").glob("*/checks.json")
    }


@without("conformance")
@pytest.mark.parametrize("revision", [MODERN, LEGACY])
async def test_every_required_scenario(tmp_path: Path, revision: str) -> None:
    """None fails and none warns, but those that epad leaves out by design."""
    checks = await checks_of(tmp_path, revision)
    assert required(revision) <= checks.keys()
    bad = {
        scenario: sorted(check for check, status in each.items() if status in {"FAILURE", "WARNING"})
        for scenario, each in checks.items()
        if not scenario.startswith("tasks-")
    }
    failing = {scenario: each for scenario, each in bad.items() if each}
    assert failing.keys() == LEFT_OUT[revision] | NOT_SCORED[revision], failing
    assert all("SUCCESS" in checks[scenario].values() for scenario in required(revision))
