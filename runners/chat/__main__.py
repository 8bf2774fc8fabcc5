"""`python -m runners.chat`: a well-behaved chat client, which a file can turn into a runaway."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import aiohttp

from runners.chat.client import Turn, TurnOutcome, read_turn, request_body, wait_seconds
from runners.chat.questions import questions
from runners.contract import Contract, keep_alive

REQUEST_SECONDS: Final = 60.0
LOOP_LOOKS_SECONDS: Final = 0.25
"""How soon a waiting client notices that it has been told to loop."""
MOST_LOOP_REQUESTS_PER_SECOND: Final = 50.0
SHOWN_CHARACTERS: Final = 60


@dataclass(slots=True)
class Counts:
    """Counts the figures of the log lines."""

    ok: int = 0
    refused: int = 0
    failed: int = 0

    def add(self, turn: Turn) -> None:
        """Count one turn."""
        self.ok += turn.outcome is TurnOutcome.OK
        self.refused += turn.outcome is TurnOutcome.REFUSED
        self.failed += turn.outcome is TurnOutcome.FAILED

    def __str__(self) -> str:
        return f"ok={self.ok} refused={self.refused} failed={self.failed}"


@dataclass(frozen=True, slots=True)
class Manners:
    """Sets how often it asks, how much, and which file makes it loop."""

    model: str
    interval_seconds: float
    turns: int = 0
    loop_while: Path | None = None
    loop_requests_per_second: float = MOST_LOOP_REQUESTS_PER_SECOND
    loop_repeats: bool = False

    @property
    def is_looping(self) -> bool:
        return self.loop_while is not None and self.loop_while.exists()


@dataclass(slots=True)
class Chat:
    """The client: a question, a line, a pause."""

    session: aiohttp.ClientSession
    base_url: str
    key: str
    manners: Manners
    contract: Contract
    counts: Counts = field(default_factory=Counts)

    async def run(self, asked: Iterator[str]) -> None:
        """Ask until the wanted number of turns was answered; without a number, for ever."""
        question = next(asked)
        while not self.manners.turns or self.counts.ok < self.manners.turns:
            looping = self.manners.is_looping
            turn = await self._ask(question)
            self.counts.add(turn)
            self._tell(turn, looping=looping)
            if looping:
                question = question if self.manners.loop_repeats else next(asked)
                await asyncio.sleep(1.0 / self.manners.loop_requests_per_second)
                continue
            if turn.outcome is TurnOutcome.OK:
                question = next(asked)
            await self._wait(wait_seconds(turn, self.manners.interval_seconds))

    async def _ask(self, question: str) -> Turn:
        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        body = request_body(self.manners.model, question)
        try:
            async with self.session.post(
                f"{self.base_url}/chat/completions", json=body, headers=headers
            ) as response:
                value = await response.json(content_type=None) if response.status == 200 else None
                return read_turn(response.status, response.headers, value)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            return Turn(TurnOutcome.FAILED, text=f"{type(error).__name__}: {error}")

    async def _wait(self, seconds: float) -> None:
        """Stay quiet, unless told to loop meanwhile."""
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        while (left := until - loop.time()) > 0 and not self.manners.is_looping:  # noqa: ASYNC110
            await asyncio.sleep(min(left, LOOP_LOOKS_SECONDS))  # a file tells, and files have no event

    def _tell(self, turn: Turn, *, looping: bool) -> None:
        number = self.counts.ok + self.counts.refused + self.counts.failed
        shown = " ".join(turn.text.split())[:SHOWN_CHARACTERS]
        loop = " LOOPING" if looping else ""
        line = f"turn {number} {turn.outcome} status={turn.status} tokens={turn.tokens} {self.counts}{loop}"
        print(f"{line} {shown!r}" if shown else line, flush=True)
        if turn.outcome is TurnOutcome.OK and not looping:
            self.contract.progress(self.counts.ok, self.manners.turns, f"turn {self.counts.ok}")
        else:
            self.contract.status(f"{self.counts}{loop}")


def main(arguments: list[str] | None = None) -> int:
    """Run until done or told to stop."""
    contract = Contract.from_environment(os.environ)
    options = _parser().parse_args(arguments)
    base_url = (options.base_url or contract.openai_base_url).rstrip("/")
    if not base_url:
        print("chat: no gateway: give --base-url, or set EPAD_GATEWAY_URL", file=sys.stderr)
        return 2
    key = options.api_key or ("" if options.base_url else contract.gateway_key)
    rate = min(max(options.loop_requests_per_second, 0.1), MOST_LOOP_REQUESTS_PER_SECOND)
    manners = Manners(
        options.model,
        max(0.0, options.interval),
        options.turns,
        options.loop_while,
        rate,
        options.loop_repeats,
    )
    try:
        asyncio.run(_chat(base_url, key, manners, contract, options.seed))
    except asyncio.CancelledError:
        print("chat: stopped", flush=True)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m runners.chat", description=__doc__)
    parser.add_argument("--base-url", help="OpenAI-compatible, ending in /v1; default: epad's gateway")
    parser.add_argument("--api-key", help="default: epad's key for this subsystem")
    parser.add_argument("--model", default="embedded-markov-chat")
    parser.add_argument("--interval", type=float, default=5.0, help="seconds between two questions")
    parser.add_argument("--turns", type=int, default=0, help="stop after so many answers; 0: never")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--loop-while", type=Path, metavar="FILE", help="misbehave for as long as it exists")
    parser.add_argument(
        "--loop-requests-per-second", type=float, default=MOST_LOOP_REQUESTS_PER_SECOND, help="at most 50"
    )
    parser.add_argument("--loop-repeats", action="store_true", help="loop with one and the same request")
    return parser


async def _chat(base_url: str, key: str, manners: Manners, contract: Contract, seed: int) -> None:
    task = asyncio.current_task()
    if task is not None:
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    timeout = aiohttp.ClientTimeout(total=REQUEST_SECONDS, sock_connect=5.0)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        contract.ready(f"asking {manners.model} every {manners.interval_seconds:g} s")
        alive = asyncio.create_task(keep_alive(contract), name="keep-alive")
        try:
            await Chat(session, base_url, key, manners, contract).run(questions(seed))
        finally:
            alive.cancel()
            contract.stopping()


if __name__ == "__main__":
    sys.exit(main())
