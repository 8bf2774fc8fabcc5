"""agent-budget-semantics 0.5.0 and two of the frameworks it has runners for, in an environment of their own."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from _gateway_targets import CACHE, Skip

_PACKAGE, _VERSION = "agent-budget-semantics", "0.5.0"
_SHA256 = "f44c1589ebf74b00ead657952df5e8668829dafc3b1cbe052876d43269b21964"
# Its runners for these two work with today's packages; the versions are those it was measured with.
FRAMEWORKS = ("openai_agents", "langgraph")
_NEEDS = (
    "openai==3.57.0", "openai-agents==0.24.0", "langchain-openai==1.7.4", "langgraph==1.2.24", "httpx==0.28.1",
    "pyyaml==6.0.4",
)  # fmt: skip
_HOME = CACHE / "agent-budget-semantics"
_SDIST = _HOME / f"agent_budget_semantics-{_VERSION}"
_DONE = _HOME / "installed"
_PLAY_SECONDS = 60.0


def installed() -> bool:
    """Say whether it is there already."""
    return _DONE.exists()


def install() -> None:
    """Fetch its source and make the environment, once. Raises Skip."""
    if installed():
        return
    _HOME.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        pip = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check"]
        _step(
            [*pip, "download", "--no-deps", "--no-binary", ":all:", "-d", scratch, f"{_PACKAGE}=={_VERSION}"]
        )
        [archive] = Path(scratch).glob("*.tar.gz")
        if hashlib.sha256(archive.read_bytes()).hexdigest() != _SHA256:
            raise Skip(f"{_PACKAGE}: {archive.name} is not the archive that was read")
        with tarfile.open(archive) as source:
            source.extractall(_HOME, filter="data")
    _step([sys.executable, "-m", "venv", str(_HOME / "venv")])
    _step([str(_HOME / "venv/bin/pip"), "-q", "install", *_NEEDS])
    _DONE.touch()


def _step(argv: list[str]) -> None:
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=900)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Skip(f"{_PACKAGE}: {error}") from error
    if done.returncode != 0:
        raise Skip(f"{_PACKAGE}: cannot be installed: {(done.stderr or done.stdout).strip()[-200:]}")


class Package:
    """The running environment: its mock, and what plays on order."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.mock = ""

    async def play(self, **order: str) -> Mapping[str, Any]:
        """Have one framework play one scenario."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        await self._process.stdin.drain()
        return await self.answer()

    async def answer(self) -> dict[str, Any]:
        """The next line that it says. Raises Skip if it has ended."""
        assert self._process.stdout is not None
        line = await asyncio.wait_for(self._process.stdout.readline(), _PLAY_SECONDS)
        if not line:
            raise Skip(f"{_PACKAGE}: it ended: see {_HOME / 'log'}")
        answer: dict[str, Any] = json.loads(line)
        return answer


@asynccontextmanager
async def package() -> AsyncIterator[Package]:
    """Start it. Raises Skip."""
    script = Path(__file__).parent / "_utilisation_agent.py"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    with (_HOME / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            str(_HOME / "venv/bin/python"), str(script), str(_SDIST),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=log, env=environment,
        )  # fmt: skip
    try:
        running = Package(process)
        running.mock = f"http://127.0.0.1:{(await running.answer())['port']}"
        yield running
    finally:
        process.kill()
        await process.wait()
