"""A gateway that runs is brought to another configuration: upstreams, keys, prices, doors."""

from __future__ import annotations

import asyncio
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest
from gateway_world import StubUpstream, World, serving, world
from msgspec import structs

from epad.configuration.load import load
from epad.configuration.schema import Config, PriceConfig, SubsystemConfig, UpstreamConfig
from epad.gateway.errors import GatewayError, UpstreamError

BODY = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 5}
WRITER = SubsystemConfig(command=("true",))


@pytest.fixture
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="epad-") as one:
        yield Path(one)


def configured(upstreams: dict[str, UpstreamConfig], **subsystems: SubsystemConfig) -> Config:
    return structs.replace(load(), upstreams=upstreams, subsystems=subsystems)


async def bring(house: World, config: Config) -> None:
    changes = house.gateway.changes
    await changes.take(await changes.make_ready(config))


async def asked(url: str, key: str = "") -> int:
    """The status of one request, on a connection of its own."""
    connector = aiohttp.UnixConnector(url.removeprefix("unix:")) if url.startswith("unix:") else None
    base = "http://localhost" if connector else url
    fields = {"Authorization": f"Bearer {key}"} if key else {}
    async with (
        aiohttp.ClientSession(connector=connector, headers=fields) as http,
        http.post(f"{base}/v1/chat/completions", json=BODY) as answer,
    ):
        await answer.read()
        return answer.status


async def test_a_turn_goes_to_the_server_that_is_configured_now(tmp_path: Path) -> None:
    """Who is new is asked, who is gone is not; one that stays keeps what is known of it."""
    other = StubUpstream()
    async with world(tmp_path) as house, serving(other) as base:
        upstreams = house.gateway._parts.upstreams
        [stub] = upstreams.all()
        kept = upstreams._config["stub"]
        moved = UpstreamConfig(url=base, dialects=("openai",))
        await bring(house, configured({"stub": kept, "other": moved}))
        assert upstreams.all()[0] is stub
        await bring(house, configured({"stub": moved}))
        assert upstreams.all()[0] is not stub
        assert await asked(house.url, house.keys["writer"]) == 200
        assert (len(house.stub.requests), len(other.requests)) == (0, 1)


async def test_a_turn_under_way_ends_where_it_began(tmp_path: Path) -> None:
    """Its server is configured no more; its client gets the whole answer, and the ledger its tokens."""
    async with world(tmp_path) as house:
        house.stub.gate = asyncio.Event()
        under_way = asyncio.create_task(asked(house.url, house.keys["writer"]))
        await house.stub.arrived.wait()
        await bring(house, configured({}))
        house.stub.gate.set()
        assert await under_way == 200
        assert await asked(house.url, house.keys["writer"]) == 404
        assert len(house.stub.requests) == 1


async def test_a_key_that_was_changed_is_sent_after_the_reload(tmp_path: Path) -> None:
    """Also where nothing else of the upstream has changed."""
    key = tmp_path / "key"
    key.write_text("old")
    stub = StubUpstream()
    async with serving(stub) as base:
        config = {"stub": UpstreamConfig(url=base, dialects=("openai",), api_key_file=str(key))}
        async with world(tmp_path, upstreams=config) as house:
            key.write_text("new")
            await bring(house, configured(config))
            assert await asked(house.url, house.keys["writer"]) == 200
            assert stub.headers[-1]["Authorization"] == "Bearer new"


@pytest.mark.parametrize("wrong", ["key", "tokenizer", "door"])
async def test_what_cannot_be_had_changes_nothing(directory: Path, wrong: str) -> None:
    """Neither what could be had before it: no door is left open, and the former servers are asked."""
    async with world(directory) as house:
        parts = house.gateway._parts
        kept = dict(parts.upstreams._config)
        new = {**kept, "new": UpstreamConfig(url="http://127.0.0.1:1", dialects=("openai",))}
        first = directory / "first.sock"
        subsystems = {"writer": structs.replace(WRITER, listen=f"unix:{first}")}
        if wrong == "key":
            new["new"] = structs.replace(new["new"], api_key_file=str(directory / "none"))
        if wrong == "tokenizer":
            new["new"] = structs.replace(new["new"], tokenizer=str(directory / "none.json"))
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            if wrong == "door":
                subsystems["reader"] = structs.replace(WRITER, listen=f"127.0.0.1:{taken.getsockname()[1]}")
            with pytest.raises((GatewayError, UpstreamError), match=r"new|reader"):
                await house.gateway.changes.make_ready(configured(new, **subsystems))
        assert parts.upstreams._config == kept
        assert house.gateway._server.listeners_of("writer") == []
        assert await asked(house.url, house.keys["writer"]) == 200


async def test_a_door_is_opened_moved_and_closed(directory: Path) -> None:
    """Whoever comes by it needs no key; a door that is gone has no socket in the file system either."""
    first, second = directory / "first.sock", directory / "second.sock"
    async with world(directory) as house:
        kept = dict(house.gateway._parts.upstreams._config)
        await bring(house, configured(kept, writer=structs.replace(WRITER, listen=f"unix:{first}")))
        assert await asked(f"unix:{first}") == 200
        await bring(house, configured(kept, writer=structs.replace(WRITER, listen=f"unix:{second}")))
        assert await asked(f"unix:{second}") == 200
        assert not first.exists()
        await bring(house, configured(kept, reader=structs.replace(WRITER, listen=f"unix:{second}")))
        assert await asked(f"unix:{second}") == 200
        assert [turn.subsystem for turn in house.ledger.opened] == ["writer", "writer", "reader"]
        await bring(house, configured(kept, writer=WRITER))
        assert not second.exists()
        assert await asked(house.url, house.keys["writer"]) == 200


async def test_a_door_that_is_left_serves_those_within_to_the_end(directory: Path) -> None:
    """A stream that came in by it goes on."""
    path = directory / "own.sock"
    async with world(directory) as house:
        kept = dict(house.gateway._parts.upstreams._config)
        await bring(house, configured(kept, writer=structs.replace(WRITER, listen=f"unix:{path}")))
        house.stub.gate = asyncio.Event()
        under_way = asyncio.create_task(asked(f"unix:{path}"))
        await house.stub.arrived.wait()
        await bring(house, configured(kept, writer=WRITER))
        house.stub.gate.set()
        assert await under_way == 200


async def test_a_price_counts_from_the_next_turn_on(tmp_path: Path) -> None:
    """What a turn costs is what it cost when it was admitted."""
    async with world(tmp_path) as house:
        parts = house.gateway._parts
        kept = dict(parts.upstreams._config)
        assert parts.prices.of("tiny") is None
        priced = structs.replace(configured(kept), prices={"ti*": PriceConfig(input=1.0, output=2.0)})
        await bring(house, priced)
        price = parts.prices.of("tiny")
        assert price is not None
        assert (price.input, price.output) == (1_000_000, 2_000_000)
