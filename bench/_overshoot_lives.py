"""Budgets over two lives of the daemon: the wall clock set in between or while it runs, subsystems removed."""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
from _byte_server import ByteServer
from _overshoot_servers import Model, vllm

LIMIT = 2_000
HOUR = 3_600.0
_PER_TURN = 100
# What fits without any refusal, so that no detector shuts the client out before the clock is set.
_TURNS_BEFORE, _TURNS_AFTER = 14, 10
_START_SECONDS = 60.0
_READY = re.compile(rb'"gateway": "(http://[^"]+)".*"event": "daemon.ready"')

_BASE = """
[gateway]
listen = "127.0.0.1:0"
[web]
listen = ""
[metrics]
listen = "127.0.0.1:0"
[schedule]
nightly_verify = ""
checkpoint = ""
[upstreams.stub]
url = "{url}/v1"
dialects = ["openai"]
server = "vllm"
"""
OWN = """
[subsystems.writer]
kind = "client"
budget = { tokens_per_hour = 2000 }
[subsystems.other]
kind = "client"
"""
GLOBAL = """
[budgets.global]
tokens_per_hour = 2000
[subsystems.other]
kind = "client"
"""
GROUP = """
[groups.team.budget]
tokens_per_hour = 2000
[subsystems.other]
kind = "client"
group = "team"
"""
REMOVED = """
[subsystems.writer]
kind = "client"
"""
IN_GROUP = 'group = "team"\n'


@dataclass(frozen=True, slots=True)
class Lives:
    """What the configuration is in each life, who spends in each, and how the wall clock is set.

    `running`: it is set under the first life, which then goes on asking, and there is no second.
    """

    name: str
    first: str
    second: str
    spender: str = "writer"
    heir: str = "writer"
    step: float = 0.0
    running: bool = False
    killed: bool = False


CLOCKS = (
    Lives("wall clock + 2 h between two lives", OWN, OWN, step=2 * HOUR),
    Lives("wall clock - 2 h between two lives", OWN, OWN, step=-2 * HOUR),
    Lives("wall clock + 40 days between two lives, the first killed", OWN, OWN, step=960 * HOUR, killed=True),
    Lives("wall clock + 2 h under a running daemon", OWN, OWN, step=2 * HOUR, running=True),
    Lives("no step between two lives (control)", OWN, OWN),
)
REMOVALS = (
    Lives("a removed subsystem's spends count for everyone", GLOBAL + REMOVED, GLOBAL, heir="other"),
    Lives(
        "a removed subsystem's spends count for its group", GROUP + REMOVED + IN_GROUP, GROUP, heir="other"
    ),
    Lives("removed, and the wall clock + 2 h", GLOBAL + REMOVED, GLOBAL, heir="other", step=2 * HOUR),
)


@dataclass(slots=True)
class Lived:
    """What came of it: tokens that the server made, and the statuses of the second part."""

    made: int = 0
    before: Counter[int] = field(default_factory=Counter)
    after: Counter[int] = field(default_factory=Counter)


class Daemon:
    """`epad run` with a wall clock that can be set."""

    def __init__(self, directory: Path, url: str) -> None:
        self._directory = directory
        self._upstream = url
        self.state = directory / "state"
        self.step = directory / "step"
        self.step.write_text("0")
        self._log = directory / "daemon.log"
        self._process: subprocess.Popen[bytes] | None = None
        self.url = ""

    async def start(self, config: str) -> None:
        """Start, and wait until the gateway listens."""
        file = self._directory / "epad.toml"
        file.write_text(_BASE.format(url=self._upstream) + config)
        said = self._log.stat().st_size if self._log.exists() else 0
        script = Path(__file__).parent / "_overshoot_daemon.py"
        argv = [
            sys.executable,
            str(script),
            str(self.step),
            "run",
            "--config",
            str(file),
            "--state",
            str(self.state),
        ]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(argv, stdout=log, stderr=log)  # noqa: ASYNC220 - started, not waited for
        deadline = time.monotonic() + _START_SECONDS
        while (ready := _READY.search(text := self._log.read_bytes()[said:])) is None:
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the daemon did not start: {text[-2_000:].decode('utf-8', 'replace')}")
            await asyncio.sleep(0.05)
        self.url = ready[1].decode()

    async def stop(self, *, kill: bool = False) -> None:
        """End it, and wait."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL if kill else signal.SIGTERM)
        await asyncio.to_thread(self._process.wait, 40)

    def key(self, name: str) -> str:
        return (self.state / "keys" / f"{name}.key").read_text().strip()


async def live(lives: Lives) -> Lived:
    """Spend what fits, let happen what is to happen, and ask for more."""
    lived = Lived()
    async with ByteServer(Model(vllm, seconds=0.0).answer).serving() as server:
        with tempfile.TemporaryDirectory() as directory:
            daemon = Daemon(Path(directory), server.url)
            await daemon.start(lives.first)
            try:
                lived.before = await _ask(daemon, lives.spender, "before", _TURNS_BEFORE)
                daemon.step.write_text(str(lives.step))
                if not lives.running:
                    await daemon.stop(kill=lives.killed)
                    await daemon.start(lives.second)
                else:
                    await asyncio.sleep(2.0)
                lived.after = await _ask(daemon, lives.heir, "after", _TURNS_AFTER)
            finally:
                await daemon.stop(kill=True)
        lived.made = server.tokens
    return lived


async def _ask(daemon: Daemon, name: str, when: str, turns: int) -> Counter[int]:
    """Ask one thing after another; count the statuses."""
    statuses: Counter[int] = Counter()
    headers = {"Authorization": f"Bearer {daemon.key(name)}"}
    url = f"{daemon.url}/v1/chat/completions"
    async with aiohttp.ClientSession(headers=headers) as http:
        for turn in range(turns):
            body = {
                "model": "tiny",
                "max_tokens": _PER_TURN,
                "messages": [{"role": "user", "content": f"{when} {turn}"}],
            }
            async with http.post(url, json=body) as answer:
                await answer.read()
                statuses[answer.status] += 1
    return statuses
