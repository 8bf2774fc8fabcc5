"""A gateway that runs is brought to another configuration: upstreams, keys, prices, doors."""

from __future__ import annotations

import asyncio
import os
import pwd
import socket
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path

import aiohttp
import msgspec
import pytest
from asking import LIMITS
from gateway_world import StubUpstream, World, serving, world
from msgspec import structs

from epad.configuration.load import load
from epad.configuration.schema import BudgetConfig, Config, PriceConfig, SubsystemConfig, UpstreamConfig
from epad.gateway.dialects.openai import ChatCompletions, OpenAI
from epad.gateway.errors import GatewayError, UpstreamError

BODY = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 5}
ASK = ChatCompletions(OpenAI(), LIMITS).parse(msgspec.json.encode(BODY))
WRITER = SubsystemConfig(command=("true",))


@pytest.fixture
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="epad-") as one:
        yield Path(one)


def configured(upstreams: dict[str, UpstreamConfig], **subsystems: SubsystemConfig) -> Config:
    return structs.replace(load(), upstreams=upstreams, subsystems=subsystems)


TABLES = ("upstreams", "prices")


async def bring(house: World, config: Config, tables: Collection[str] = TABLES) -> None:
    changes = house.gateway.changes
    await changes.take(await changes.make_ready(config, tables))


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


async def test_keys_and_tokenizers_are_not_read_again_for_another_change(directory: Path) -> None:
    """A file that cannot be read now keeps no budget and no door from being changed."""
    key = directory / "key"
    key.write_text("old")
    stub = StubUpstream()
    async with serving(stub) as base:
        config = {"stub": UpstreamConfig(url=base, dialects=("openai",), api_key_file=str(key))}
        async with world(directory, upstreams=config) as house:
            key.unlink()
            wanted = configured(config, writer=structs.replace(WRITER, listen=f"unix:{directory}/own.sock"))
            with pytest.raises(UpstreamError):
                await bring(house, wanted)
            await bring(house, wanted, ("budgets",))
            assert await asked(f"unix:{directory}/own.sock") == 200
            assert stub.headers[-1]["Authorization"] == "Bearer old"


async def test_a_user_who_is_gone_from_this_machine_is_not_looked_up_again(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whose door it is was found out when it was opened; a reload changes no user of one that runs."""
    spec = structs.replace(WRITER, user=pwd.getpwuid(os.geteuid()).pw_name)
    async with world(directory) as house:
        kept = dict(house.gateway._parts.upstreams._config)
        await bring(house, configured(kept, writer=spec))

        def nobody(name: str) -> pwd.struct_passwd:
            raise KeyError(name)

        monkeypatch.setattr(pwd, "getpwnam", nobody)
        path = directory / "own.sock"
        await bring(house, configured(kept, writer=structs.replace(spec, listen=f"unix:{path}")))
        assert await asked(f"unix:{path}") == 200
        with pytest.raises(GatewayError, match="knows no"):
            await bring(house, configured(kept, writer=spec, reader=spec))


async def test_what_was_learnt_of_a_server_is_not_known_of_another_with_its_name(tmp_path: Path) -> None:
    """Its own system prompt is not the next one's, whatever a turn says that was under way."""
    other = StubUpstream()
    async with world(tmp_path) as house, serving(other) as base:
        upstreams, prompts = house.gateway._parts.upstreams, house.gateway._prompts
        house.stub.input_tokens = 900
        assert await asked(house.url, house.keys["writer"]) == 200
        await house.closings(1)
        [before] = upstreams.all()
        assert prompts.unsaid(before, "openai", ASK) > 0
        kept = dict(upstreams._config)
        await bring(house, configured({**kept, "other": UpstreamConfig(url=base, dialects=("openai",))}))
        assert prompts.unsaid(upstreams.all()[0], "openai", ASK) > 0
        house.stub.gate = asyncio.Event()
        house.stub.arrived.clear()
        under_way = asyncio.create_task(asked(house.url, house.keys["writer"]))
        await house.stub.arrived.wait()
        await bring(house, configured({"stub": UpstreamConfig(url=base, dialects=("openai",))}))
        assert prompts.unsaid(upstreams.all()[0], "openai", ASK) == 0
        house.stub.gate.set()
        assert await under_way == 200
        await house.closings(2)
        assert prompts.unsaid(upstreams.all()[0], "openai", ASK) == 0


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
                await house.gateway.changes.make_ready(configured(new, **subsystems), TABLES)
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


async def test_a_path_that_was_taken_over_is_given_back(directory: Path) -> None:
    """Whether the change fails on its way or is given up later; two that would exchange their paths as well."""
    first, second = directory / "first.sock", directory / "second.sock"
    doors = {
        name: structs.replace(WRITER, listen=f"unix:{path}")
        for name, path in zip("ab", (first, second), strict=True)
    }
    limits = {name: BudgetConfig() for name in "abc"}
    async with world(directory, budgets=limits) as house:
        kept, changes = dict(house.gateway._parts.upstreams._config), house.gateway.changes
        await bring(house, configured(kept, **doors))
        exchanged = {
            "a": doors["b"],
            "b": doors["a"],
            "c": structs.replace(WRITER, listen=f"unix:{directory}/c"),
        }
        ready = await changes.make_ready(configured(kept, **exchanged), ())
        assert (directory / "c").exists()
        await changes.give_up(ready)
        exchanged["c"] = structs.replace(WRITER, listen="unix:/nowhere/c")
        with pytest.raises(GatewayError, match="nowhere"):
            await changes.make_ready(configured(kept, **exchanged), ())
        for path in (first, second):
            assert await asked(f"unix:{path}") == 200
        del exchanged["c"]
        await bring(house, configured(kept, **exchanged), ())
        for path in (first, second):
            assert await asked(f"unix:{path}") == 200
        assert [turn.subsystem for turn in house.ledger.opened] == ["a", "b", "b", "a"]
        assert sorted(each.name for each in directory.iterdir() if each.is_socket()) == [
            "first.sock",
            "second.sock",
        ]


async def test_what_is_no_socket_is_left_where_it_is(directory: Path) -> None:
    """A file at the path of a door is somebody's: the change is refused."""
    path = directory / "mine"
    path.write_text("mine")
    async with world(directory) as house:
        kept = dict(house.gateway._parts.upstreams._config)
        with pytest.raises(GatewayError, match="mine"):
            await bring(house, configured(kept, writer=structs.replace(WRITER, listen=f"unix:{path}")))
    assert path.read_text() == "mine"


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
