"""Doors: a socket of its own says who asks, the kernel says which user, and a stolen key is told on."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import random
import socket
import stat
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from gateway_world import World, world

from epad.configuration.load import ConfigError, load
from epad.configuration.schema import BudgetConfig, SubsystemConfig
from epad.gateway import own_listeners
from epad.gateway.authenticator import Doorkeeper
from epad.gateway.client_keys import Keys
from epad.gateway.errors import GatewayError, IdentityError
from epad.gateway.http import server as http_server
from epad.gateway.identity import KEY_SCHEMA, Identities
from epad.gateway.own_listeners import Door, doors, open_door
from epad.gateway.refusal_rate import Hammering
from epad.storage.database import Database
from statemachine.clock import ManualClock
from statemachine.containment import Rung
from statemachine.finding import Finding

BODY = {"model": "tiny", "messages": []}
PATH = "/v1/chat/completions"


@pytest.fixture
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="epad-") as one:
        yield Path(one)


def free_port() -> int:
    """A port that nobody gets by chance while a door is away from it: the system gives only ephemeral ones."""
    ephemeral = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    tried = range(max(1_024, ephemeral - 12_000), ephemeral)
    for port in random.sample(tried, len(tried)):
        with socket.socket() as one, contextlib.suppress(OSError):
            one.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port below the ephemeral ones is free")


@asynccontextmanager
async def with_doors(
    directory: Path, *open_doors: Door, expected: tuple[Door, ...] = (), anonymous: str = ""
) -> AsyncIterator[tuple[World, list[Finding]]]:
    findings: list[Finding] = []
    async with world(directory, budgets={"writer": BudgetConfig(), "reader": BudgetConfig()}) as w:
        parts = replace(w.gateway._parts, doors=open_doors, alarm=findings.append)
        w.gateway.path.doorkeeper = Doorkeeper(
            parts.identities, expected or open_doors, anonymous, w.clock, findings.append
        )
        for door in open_doors:
            await open_door(w.gateway._server, door)
        yield w, findings


async def ask(url: str, socket_path: Path | None = None, key: str | None = None) -> tuple[int, Any]:
    connector = aiohttp.UnixConnector(str(socket_path)) if socket_path else None
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    async with (
        aiohttp.ClientSession(connector=connector) as http,
        http.post(url + PATH, json=BODY, headers=headers) as response,
    ):
        return response.status, json.loads(await response.read())


async def test_a_door_of_its_own_is_an_identity(directory: Path) -> None:
    """On a Unix socket and on a port, without a key or with a word that is none; the turn is the owner's."""
    path, port = directory / "writer.sock", free_port()
    unix, tcp = Door("writer", f"unix:{path}", os.geteuid()), Door("reader", f"127.0.0.1:{port}", None)
    async with with_doors(directory, unix, tcp) as (w, findings):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert (await ask("http://x", path))[0] == 200
        assert (await ask("http://x", path, "sk-unused"))[0] == 200
        assert (await ask(f"http://127.0.0.1:{port}"))[0] == 200
        assert [turn.subsystem for turn in w.ledger.opened] == ["writer", "writer", "reader"]
        assert (await ask(w.url))[0] == 401
        w.access.hold("writer", Rung.BLOCK, "it loops")
        assert (await ask("http://x", path))[0] == 403
        assert findings == []


async def test_anothers_key_at_a_door_is_refused_and_told_once(directory: Path) -> None:
    """The key's owner is the one to look at; hammering makes no second finding."""
    path = directory / "writer.sock"
    async with with_doors(directory, Door("writer", f"unix:{path}", None)) as (w, findings):
        for _ in range(3):
            assert (await ask("http://x", path, w.keys["reader"]))[0] == 401
        [finding] = findings
        assert (finding.probe, finding.subsystem, finding.hard) == ("identity", "reader", True)
        assert w.keys["reader"] not in str(finding)
        assert w.ledger.opened == []


async def test_a_key_in_another_users_hands_is_refused_and_told(directory: Path) -> None:
    """The kernel says who is at the other end, whatever key is shown."""
    path, mine = directory / "writer.sock", os.geteuid()
    door = Door("writer", f"unix:{path}", None)
    async with with_doors(directory, door, expected=(replace(door, uid=mine + 1),)) as (w, findings):
        status, body = await ask("http://x", path, w.keys["writer"])
        assert (status, body["error"]["code"]) == (403, "wrong_user")
        assert (findings[0].subsystem, findings[0].evidence) == ("writer", {"uid": mine})
        assert w.ledger.opened == []


async def hammered_door(w: World, port: int) -> None:
    """Be refused at a door until its subsystem is let in no more; each answer says why."""
    w.access.hold("reader", Rung.BLOCK, "it loops")
    w.gateway.path._refusals._hammering = Hammering(2)
    for _ in range(3):
        status, body = await ask(f"http://127.0.0.1:{port}")
        assert (status, body["error"]["code"]) == (403, "subsystem_quarantined")


async def test_a_door_that_is_hammered_rests_and_no_other(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever knocks is let in later, while everyone else is served; and nobody else can take the port."""
    monkeypatch.setattr(http_server, "REST_SECONDS", 3_600.0)
    port = free_port()
    async with with_doors(directory, Door("reader", f"127.0.0.1:{port}", None)) as (w, _):
        await hammered_door(w, port)
        knocking = asyncio.create_task(ask(f"http://127.0.0.1:{port}"))
        for _ in range(20):
            assert (await ask(w.url, key=w.keys["writer"]))[0] == 200
        assert (await ask(w.url, key=w.keys["reader"]))[0] == 403
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", port))
        assert not knocking.done()
        await w.gateway.stop()
        with pytest.raises(aiohttp.ClientError):
            await knocking


async def test_a_door_has_rested_after_a_while(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waited is told why it is refused; who was released is served, on the same port."""
    monkeypatch.setattr(http_server, "REST_SECONDS", 0.05)
    port = free_port()
    async with with_doors(directory, Door("reader", f"127.0.0.1:{port}", None)) as (w, _):
        await hammered_door(w, port)
        assert (await ask(f"http://127.0.0.1:{port}"))[0] == 403
        w.access.release("reader")
        assert (await ask(f"http://127.0.0.1:{port}"))[0] == 200


async def test_nothing_anonymous_unless_configured(directory: Path) -> None:
    """And then only what shows no key at all: a wrong key is wrong."""
    async with with_doors(directory, anonymous="reader") as (w, _):
        assert (await ask(w.url))[0] == 200
        assert w.ledger.opened[0].subsystem == "reader"
        assert (await ask(w.url, key="epad-reader-guess"))[0] == 401


async def test_a_door_that_cannot_be_opened_is_named(directory: Path) -> None:
    """With the key of the configuration; and a stale socket of a former life is no hindrance."""
    stale = directory / "old.sock"
    with socket.socket(socket.AF_UNIX) as old:
        old.bind(str(stale))
    async with with_doors(directory, Door("writer", f"unix:{stale}", None)) as (w, _):
        assert (await ask("http://x", stale))[0] == 200
        for listen in (f"unix:{directory}/none/x.sock", f"unix:/tmp/{'x' * 120}"):
            with pytest.raises(GatewayError, match=r"\[subsystems.reader\] listen: unix:"):
                await open_door(w.gateway._server, Door("reader", listen, None))
    (directory / "file").write_text("keep")
    with pytest.raises(GatewayError):
        await open_door(w.gateway._server, Door("reader", f"unix:{directory}/file", None))
    assert (directory / "file").read_text() == "keep"


def test_doors_come_from_the_configuration() -> None:
    """A user by name or number; who has no gateway has no door."""
    specs = {
        "a": SubsystemConfig(user="root", listen="127.0.0.1:9"),
        "b": SubsystemConfig(user="4711"),
        "c": SubsystemConfig(gateway=False),
    }
    assert doors(specs) == (Door("a", "127.0.0.1:9", 0), Door("b", "", 4711))
    with pytest.raises(GatewayError, match=r"\[subsystems.d\] user: this machine knows no"):
        doors({"d": SubsystemConfig(user="nobody-of-that-name")})


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "listen = '127.0.0.1:0'",
            "subsystems.a.listen: is 127.0.0.1:0; a door of its own is known by its port",
        ),
        ("listen = '127.0.0.1:8700'", "subsystems.a.listen: is 127.0.0.1:8700, which gateway.listen has too"),
        ("listen = 'unix:/x'\ngateway = false", "gateway: is set, but gateway is false"),
        ("group = 'team'", "subsystems.a.group: names team, which is not in [groups]"),
        ("user = 'no-such-user'", "subsystems.a.user: names no-such-user, whom this machine does not know"),
        ("listen = 'unix:/x'\n[subsystems.b]\nkind = 'client'\nlisten = 'unix:/x'", "which subsystems."),
        ("[gateway]\nanonymous = 'b'", "gateway.anonymous: names b, which is no subsystem with a gateway"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_listens(tmp_path: Path, text: str, told: str) -> None:
    """Each with its key and the fix."""
    path = tmp_path / "epad.toml"
    path.write_text(f"[subsystems.a]\nkind = 'client'\n{text}\n")
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert any(
        told in str(problem) or "listen: is set" in str(problem) for problem in caught.value.problems
    ), caught.value


async def test_a_key_is_exchanged_and_taken_away_while_the_daemon_runs(directory: Path) -> None:
    """The file has the new one, the old one is worthless at once, and a restart gives none that was revoked."""
    database = Database(directory / "state.db", KEY_SCHEMA)
    await database.open()
    identities = Identities(database, ManualClock())
    specs = {
        "chat": SubsystemConfig(kind="client"),
        "agent": SubsystemConfig(command=("x",)),
        "model": SubsystemConfig(command=("x",), gateway=False),
    }
    keys, file = Keys(specs, identities, directory), directory / "chat.key"

    def owner(key: str) -> str | None:
        return identities.resolve({"Authorization": f"Bearer {key}"})

    await keys.give_to_clients()
    old = file.read_text().strip()
    assert not (directory / "agent.key").exists()
    assert "1 former key(s) revoked" in await keys.rotate("chat")
    new = file.read_text().strip()
    assert (owner(old), owner(new)) == (None, "chat")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "1 key(s) revoked" in await keys.revoke("chat")
    assert owner(new) is None
    await keys.give_to_clients()
    assert file.read_text() == ""
    process = await identities.issue("agent")
    assert "until it is started again" in await keys.rotate("agent")
    assert owner(process) is None
    with pytest.raises(IdentityError, match="model has no key"):
        await keys.rotate("model")
    await database.close()


async def knock(url: str, *lines: str) -> tuple[int, str]:
    """Ask with these head lines and no others but what frames the body; the status and the error's code."""
    host, _, port = url.removeprefix("http://").rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    body = json.dumps(BODY)
    head = [f"POST {PATH} HTTP/1.{'1' if any(line.startswith('Host') for line in lines) else '0'}", *lines]
    writer.write("\r\n".join([*head, f"Content-Length: {len(body)}", "Connection: close", "", body]).encode())
    answer = await reader.read()
    writer.close()
    text = answer.split(b"\r\n\r\n", 1)[1]
    code = json.loads(text)["error"]["code"] if b'"error"' in text else ""
    return int(answer.split()[1]), code


STRANGE: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("strange_host", ("Host: evil.example",)),
    ("strange_host", ("Host: 127.0.0.1.evil.example:8700",)),
    ("strange_host", ("Host: evil.example", "Origin: http://evil.example", "Sec-Fetch-Site: same-origin")),
    ("strange_site", ("Host: localhost", "Origin: https://evil.example", "Content-Type: text/plain")),
    ("strange_site", ("Host: localhost", "Sec-Fetch-Site: cross-site")),
    ("strange_site", ("Host: localhost", "Origin: null")),
)
HONEST: tuple[tuple[str, ...], ...] = (
    ("Host: localhost",), ("Host: 127.0.0.1:1",), ("Host: epad:8700",), ("Host: host.docker.internal",), (),
    ("Host: localhost", "Origin: http://localhost:3000", "Sec-Fetch-Site: same-site"),
    ("Host: gpu.example.org",),
)  # fmt: skip


@pytest.mark.parametrize("anonymous", [True, False], ids=["anonymous", "own door"])
async def test_a_page_of_another_site_spends_nothing(directory: Path, anonymous: bool) -> None:
    """Rebound or across, it is refused where no key is needed; other clients are served; with a key anyone is."""
    port = free_port()
    door = () if anonymous else (Door("reader", f"127.0.0.1:{port}", None),)
    async with with_doors(directory, *door, anonymous="reader" if anonymous else "") as (w, findings):
        w.gateway.path.doorkeeper._hosts = frozenset({"gpu.example.org"})
        url = w.url if anonymous else f"http://127.0.0.1:{port}"
        for code, lines in STRANGE:
            assert await knock(url, *lines) == (403, code), lines
        assert w.ledger.opened == []
        for lines in HONEST:
            assert (await knock(url, *lines))[0] == 200, lines
        key = f"Authorization: Bearer {w.keys['reader']}"
        for _, lines in STRANGE:
            assert (await knock(url, key, *lines))[0] == 200, lines
        assert {turn.subsystem for turn in w.ledger.opened} == {"reader"}
        assert findings == []


async def test_nobody_knocks_by_a_strange_name_at_a_unix_socket(directory: Path) -> None:
    """No page reaches one, and clients name whatever they like."""
    path = directory / "writer.sock"
    async with with_doors(directory, Door("writer", f"unix:{path}", None)):
        assert (await ask("http://api.example.com", path))[0] == 200


async def test_a_door_is_its_listener_whatever_its_address_looks_like(directory: Path) -> None:
    """Two at one port of two addresses, and one on every address: each is its owner's alone."""
    port, everywhere = free_port(), free_port()
    first, second = Door("writer", f"127.0.0.1:{port}", None), Door("reader", f"127.0.0.2:{port}", None)
    wide = Door("writer", f"0.0.0.0:{everywhere}", None)
    async with with_doors(directory, first, second, wide) as (w, _):
        for url in (f"http://127.0.0.1:{port}", f"http://127.0.0.2:{port}", f"http://127.0.0.3:{everywhere}"):
            assert (await ask(url))[0] == 200
        assert [turn.subsystem for turn in w.ledger.opened] == ["writer", "reader", "writer"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become two other users")
def test_a_daemon_that_may_give_nothing_away_names_the_doors_user_in_its_list(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As in the unit, where it has no right to chown: the user of the door connects, another does not."""

    def no_right(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    def connects(uid: int, path: Path) -> bool:
        pid = os.fork()
        if pid == 0:
            status = 1
            with contextlib.suppress(OSError):
                os.setgroups([])
                os.setgid(uid)
                os.setuid(uid)
                with socket.socket(socket.AF_UNIX) as client:
                    client.connect(str(path))
                status = 0
            os._exit(status)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0

    monkeypatch.setattr(os, "chown", no_right)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "door.sock"
        path.parent.chmod(0o711)
        with own_listeners._bind(path, 61_234) as server:
            server.listen()
            assert connects(61_234, path)
            assert not connects(61_235, path)
