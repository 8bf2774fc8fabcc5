"""`kill -9` in the middle of a burst, a restart, another burst: no budget is overshot, in tokens or in money."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from installed import QUICK, Installation, installation
from patience import PATIENCE_SECONDS


def body(number: int) -> bytes:
    """A request of always the same length; no two are alike, so that nobody takes them for a loop."""
    messages = [{"role": "user", "content": f"hello {number:04}"}]
    return json.dumps({"model": "m", "messages": messages, "max_tokens": 40}).encode()


TEMPLATE_TOKENS = 64
INPUT, OUTPUT = len(body(0)) + TEMPLATE_TOKENS, 40
WORST = INPUT + OUTPUT
WORST_MICROUSD = INPUT * 2 + OUTPUT * 8
FIT, ASKED = 12, 120

# The detectors are told to look on: it is the budget alone that holds here.
CONFIG = """
[hysteresis.token_burn]
raise_after = 0
[containment]
token_burn = "open"
[upstreams.stub]
url = "{url}"
dialects = ["openai"]
[prices.m]
input = 2
output = 8
[groups.team.budget]
tokens_in_all = {tokens}
[subsystems.agent]
kind = "client"
group = "team"
[subsystems.agent.budget]
usd_per_month = {usd}
max_in_flight = 1000
"""


class Model:
    """A model server that takes all it may, and counts what it has begun: that is what is spent."""

    def __init__(self) -> None:
        self.begun = 0
        self.silent = True
        self.url = ""
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(
            target=self._loop.run_until_complete, args=(self._serve(),), daemon=True
        )
        self._stop: asyncio.Event | None = None
        self._thread.start()
        assert self._ready.wait(60)

    def stop(self) -> None:
        assert self._stop is not None
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(60)
        self._loop.close()

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        runner = web.ServerRunner(web.Server(self._handle, handler_cancellation=True), shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        self._ready.set()
        await self._stop.wait()
        await runner.cleanup()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.method == "GET":
            return web.json_response({"object": "list", "data": [{"id": "m"}]})
        await request.read()
        self.begun += 1
        if self.silent and self.begun > FIT // 3:
            await asyncio.sleep(60)  # in flight when the daemon dies
        usage = {"prompt_tokens": INPUT, "completion_tokens": OUTPUT, "total_tokens": WORST}
        message = {"role": "assistant", "content": "x"}
        choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
        return web.json_response({"id": "1", "object": "chat.completion", "choices": choices, "usage": usage})


@pytest.fixture
def model() -> Iterator[Model]:
    one = Model()
    yield one
    one.stop()


async def ask(http: aiohttp.ClientSession, url: str, key: str, number: int) -> int:
    with contextlib.suppress(aiohttp.ClientError, OSError):
        headers = {"Authorization": f"Bearer {key}"}
        async with http.post(f"{url}/v1/chat/completions", data=body(number), headers=headers) as response:
            await response.read()
            return response.status
    return 0


async def burst(house: Installation, during: Any = None) -> list[int]:
    """Ask all at once; `during` is called while some are in flight."""
    url = house.status()["gateway"]["url"]
    key = (house.state / "keys/agent.key").read_text().strip()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        asking = [asyncio.create_task(ask(http, url, key, number)) for number in range(ASKED)]
        if during is not None:
            await during()
        return await asyncio.gather(*asking)


@pytest.mark.parametrize(
    ("tokens", "usd"),
    [
        pytest.param(FIT * WORST + INPUT, 1000.0, id="tokens of the group in all"),
        pytest.param(
            0, (FIT * WORST_MICROUSD + INPUT * 2) / 1e6, id="money in a month", marks=pytest.mark.long
        ),
    ],
)
def test_kill_9_mid_burst_and_a_second_burst_spend_no_more_than_the_budget(
    model: Model, tokens: int, usd: float, tmp_path: Path
) -> None:
    """What was in flight when the daemon died is charged in full, so what it may have cost is covered."""
    config = QUICK + CONFIG.format(url=model.url, tokens=tokens, usd=usd)
    with installation(config) as house:
        house.start()

        async def kill() -> None:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while model.begun < FIT:
                    await asyncio.sleep(0.005)
            house.kill()

        first = asyncio.run(burst(house, kill))
        assert model.begun == FIT
        assert first.count(200) <= FIT // 3

        model.silent = False
        house.start()
        second = asyncio.run(burst(house))
        assert second.count(200) == 0, second
        assert set(second) <= {402, 429}
        assert model.begun == FIT
        limit = "microusd_per_month" if not tokens else "tokens_in_all"
        used = next(
            usage
            for scope in house.status()["budgets"].values()
            for name, usage in scope.items()
            if name == limit
        )
        assert used["used"] == FIT * (WORST if tokens else WORST_MICROUSD) <= used["limit"]


def test_a_key_is_exchanged_and_taken_away_by_a_persons_word_and_stays_so(model: Model) -> None:
    """The installed epactl, a real gateway; and neither a kill nor a restart brings an old key back."""

    def answer(house: Installation, key: str) -> int:
        async def once() -> int:
            async with aiohttp.ClientSession() as http:
                return await ask(http, house.status()["gateway"]["url"], key, 1)

        return asyncio.run(once())

    model.silent = False
    with installation(QUICK + CONFIG.format(url=model.url, tokens=0, usd=1.0)) as house:
        house.start()
        file = house.state / "keys/agent.key"
        old = file.read_text().strip()
        assert answer(house, old) == 200
        rotated = house.ctl("key", "rotate", "agent", "--reason", "yearly")
        assert rotated.returncode == 0, rotated.stderr
        new = file.read_text().strip()
        assert new not in rotated.stdout
        assert (answer(house, old), answer(house, new)) == (401, 200)
        assert house.ctl("key", "revoke", "agent", "--reason", "stolen", "--yes").returncode == 0
        house.kill()
        house.start()
        assert (answer(house, old), answer(house, new)) == (401, 401)
        assert house.ctl("key", "rotate", "nobody", "--reason", "x").returncode == 4
        assert [upstream["name"] for upstream in house.status()["upstreams"]] == ["stub"]
