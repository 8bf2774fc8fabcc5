"""`epad mcp`: what it passes on, what it says when it cannot, and when it ends."""

from __future__ import annotations

import asyncio
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from patience import PATIENCE_SECONDS
from wire_world import Wire, wire

from epad.tools import relay

PROGRAM = [sys.executable, "-m", "epad.daemon.entry", "mcp"]


def line(method: str, number: int | str | None = 1, **params: Any) -> bytes:
    """One message, as a host writes it."""
    message: dict[str, Any] = {"jsonrpc": "2.0", "method": method, "params": params}
    if number is not None:
        message["id"] = number
    return json.dumps(message).encode() + b"\n"


def call(name: str, number: int = 1, **arguments: Any) -> bytes:
    return line("tools/call", number, name=name, arguments=arguments)


class Host:
    """The program that has started the relay."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    def send(self, data: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(data)

    async def hear(self) -> Any:
        """The next message."""
        assert self.process.stdout is not None
        async with asyncio.timeout(PATIENCE_SECONDS):
            return json.loads(await self.process.stdout.readline())

    async def ask(self, data: bytes) -> Any:
        self.send(data)
        return await self.hear()

    async def end(self) -> int:
        """Close its stdin, and wait."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await self.process.wait()


@asynccontextmanager
async def relayed(url: str, key: str, arguments: Sequence[str] = ()) -> AsyncIterator[Host]:
    environment = {**os.environ, "EPAD_GATEWAY_URL": url, "EPAD_GATEWAY_KEY": key}
    process = await asyncio.create_subprocess_exec(
        *PROGRAM,
        *arguments,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        limit=16 << 20,
    )
    try:
        yield Host(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@pytest.fixture
async def w(tmp_path: Path) -> AsyncIterator[Wire]:
    async with wire(tmp_path) as served:
        yield served


@pytest.fixture
async def host(w: Wire) -> AsyncIterator[Host]:
    async with relayed(w.world.url, w.world.keys["writer"]) as running:
        yield running


async def test_messages_pass(w: Wire, host: Host) -> None:
    """Requests are answered by their ids, notifications by nothing; blank lines are none."""
    host.send(b"\n  \n" + line("notifications/initialized", None))
    answer = await host.ask(call("echo", 7, text="grün\n"))
    assert (answer["id"], answer["result"]["structuredContent"]) == (7, {"text": "grün\n"})
    assert await host.end() == 0
    assert [each[0] for each in w.tools.calls] == ["writer"]


async def test_a_frame_that_is_no_message(host: Host) -> None:
    """The gateway says so, and the next one is answered."""
    assert (await host.ask(b"{nonsense\n"))["error"]["code"] == -32700
    assert (await host.ask(b"[]\n"))["error"]["code"] == -32600
    assert (await host.ask(line("ping", "a")))["id"] == "a"


async def test_a_frame_that_is_too_large(host: Host) -> None:
    """By what the gateway takes, with its id; by what is kept here, without. The next one is answered."""
    answer = await host.ask(call("echo", 5, text="x" * (5 << 20)))
    assert (answer["id"], answer["error"]["code"]) == (5, -32000)
    answer = await host.ask(b"x" * (relay.MOST_LINE_BYTES + (1 << 20)) + b"\n")
    assert (answer["id"], answer["error"]["code"]) == (None, -32600)
    assert (await host.ask(line("ping")))["result"] == {}


async def test_a_call_that_hangs_holds_up_nobody(w: Wire, host: Host) -> None:
    host.send(call("hang", 1, text="late"))
    async with asyncio.timeout(PATIENCE_SECONDS):
        await w.tools.hanging.wait()
    for number in range(2, 30):
        assert (await host.ask(call("echo", number, text="x")))["id"] == number
    w.tools.let_go.set()
    assert (await host.hear())["id"] == 1


async def test_progress_passes(tmp_path: Path) -> None:
    """Each event of a slow call's stream is a message."""
    async with wire(tmp_path, pause=0.02) as w, relayed(w.world.url, w.world.keys["writer"]) as host:
        host.send(line("tools/call", 1, name="hang", arguments={}, _meta={"progressToken": "p"}))
        for _ in range(2):
            assert (await host.hear())["params"]["progressToken"] == "p"
        w.tools.let_go.set()
        while "id" not in (message := await host.hear()):
            assert message["method"] == "notifications/progress"
        assert message["id"] == 1


async def test_a_message_cancels(w: Wire, host: Host) -> None:
    """Both eras cancel so on stdio; a cancelled call is not answered."""
    host.send(call("hang", 1))
    async with asyncio.timeout(PATIENCE_SECONDS):
        await w.tools.hanging.wait()
        host.send(line("notifications/cancelled", None, requestId=1))
        await w.tools.cancelled.wait()
    assert (await host.ask(line("ping", 2)))["id"] == 2


async def test_a_wrong_key_is_told_by_the_requests_id(w: Wire) -> None:
    """A host that waits for an answer to its request gets one."""
    async with relayed(w.world.url, "wrong") as host:
        answer = await host.ask(line("initialize", 3))
    assert (answer["id"], answer["error"]["data"]["code"]) == (3, "invalid_api_key")


async def test_no_gateway(host: Host, w: Wire) -> None:
    """The message names the place and what to do; when the gateway is back, it is asked again."""
    assert (await host.ask(line("ping", 1)))["result"] == {}
    server = w.world.gateway._server
    listening = server._listeners[0].address
    await server.stop(0)
    answer = await host.ask(line("ping", 2))
    assert (answer["id"], answer["error"]["code"]) == (2, -32000)
    assert "start epad" in answer["error"]["message"]
    host.send(line("notifications/initialized", None))
    server.shared.stopping = False
    await server.listen(*listening)
    assert (await host.ask(line("ping", 3)))["id"] == 3


async def test_a_gateway_that_breaks_off(w: Wire, host: Host) -> None:
    """In the middle of a call: an error with the call's id."""
    host.send(call("hang", 4))
    async with asyncio.timeout(PATIENCE_SECONDS):
        await w.tools.hanging.wait()
    for connection in list(w.world.gateway._server.shared.connections):
        connection.abort()
    answer = await host.hear()
    assert (answer["id"], "broke off" in answer["error"]["message"]) == (4, True)


async def test_a_unix_socket(w: Wire, tmp_path: Path) -> None:
    """At its own door a subsystem needs no key."""
    path = tmp_path / "door"
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(path))
    listening.listen()
    listening.setblocking(False)
    w.world.gateway._server.listen_on(listening, "reader")
    async with relayed("http://127.0.0.1:1", "", ["--url", f"unix:{path}"]) as host:
        assert (await host.ask(call("echo", 1, text="x")))["id"] == 1
    assert [each[0] for each in w.tools.calls] == ["reader"]


async def test_a_file_of_messages(w: Wire) -> None:
    """Whoever pipes messages in reads all the answers, though stdin has ended."""
    async with relayed(w.world.url, w.world.keys["writer"]) as host:
        out, _ = await host.process.communicate(
            b"".join(call("echo", n, text="x") for n in range(50)).rstrip()
        )
    assert sorted(json.loads(each)["id"] for each in out.splitlines()) == list(range(50))


async def test_the_end_of_stdin_cancels_what_hangs(w: Wire, host: Host) -> None:
    host.send(call("hang", 1))
    async with asyncio.timeout(PATIENCE_SECONDS):
        await w.tools.hanging.wait()
        assert await host.end() == 0
        await w.tools.cancelled.wait()


async def test_sigterm_ends_it(w: Wire, host: Host) -> None:
    host.send(call("hang", 1))
    async with asyncio.timeout(PATIENCE_SECONDS):
        await w.tools.hanging.wait()
        host.process.terminate()
        assert await host.process.wait() == -signal.SIGTERM
        await w.tools.cancelled.wait()


def test_it_ends_with_its_parent() -> None:
    """Killed parents close nothing that others hold too: here the test holds the relay's stdin open."""
    reading, writing = os.pipe()
    starter = "import subprocess, sys, time; print(subprocess.Popen(sys.argv[1:]).pid, flush=True); time.sleep(3600)"
    parent = subprocess.Popen(
        [sys.executable, "-c", starter, *PROGRAM, "--url", "http://127.0.0.1:1"],
        stdin=reading,
        stdout=subprocess.PIPE,
    )
    assert parent.stdout is not None
    with parent.stdout:
        child = os.pidfd_open(int(parent.stdout.readline()))
        os.write(writing, line("ping"))
        assert b"cannot be reached" in parent.stdout.readline()  # it has looked by now who its parent is
        parent.kill()
        parent.wait()
        assert _ended(child)
    for descriptor in (reading, writing, child):
        os.close(descriptor)


def orphans(count: int) -> int:
    """Kill a parent of so many relays, half of them with a call that hangs; return how many relays are left."""
    starter = (
        "import subprocess, sys, time\n"
        "for _ in range(int(sys.argv[1])): print(subprocess.Popen(sys.argv[2:]).pid, flush=True)\n"
        "time.sleep(3600)"
    )
    reading, writing = os.pipe()
    with socket.create_server(("127.0.0.1", 0), backlog=512) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        parent = subprocess.Popen(
            [sys.executable, "-c", starter, str(count), *PROGRAM, "--url", url],
            stdin=reading,
            stdout=subprocess.PIPE,
        )
        assert parent.stdout is not None
        with parent.stdout:
            pids = [int(parent.stdout.readline()) for _ in range(count)]
            children = [os.pidfd_open(pid) for pid in pids]
            while not all(map(_watches, pids)):
                time.sleep(0.05)
            os.write(writing, line("ping") * (count // 2))
            connection, _ = silent.accept()  # one at least waits for its answer by now
            parent.kill()
            parent.wait()
            left = sum(not _ended(child) for child in children)
        connection.close()
    for descriptor in (reading, writing, *children):
        os.close(descriptor)
    return left


@pytest.mark.parametrize("count", [20, pytest.param(200, marks=pytest.mark.slow)])
def test_a_killed_parent_leaves_no_relay(count: int) -> None:
    """Of none: neither of those that wait for their host, nor of those that wait for the gateway."""
    assert orphans(count) == 0


def _watches(pid: int) -> bool:
    """Whether a relay knows its parent by now: one whose parent is killed before has its stdin's end alone."""
    links = Path(f"/proc/{pid}/fd")
    return any("pidfd" in str(link.readlink()) for link in links.iterdir())


def _ended(child: int) -> bool:
    return bool(select.select([child], [], [], PATIENCE_SECONDS)[0])


@pytest.mark.parametrize(
    ("arguments", "environment", "says"),
    [
        (["--nothing"], {}, "usage: epad mcp"),
        (["--url"], {}, "usage: epad mcp"),
        (["--url", "https://127.0.0.1:8700"], {}, "http://HOST:PORT or unix:PATH"),
        (["--url=ftp://x"], {}, "http://HOST:PORT or unix:PATH"),
        ([], {"EPAD_GATEWAY_URL": "127.0.0.1:8700"}, "http://HOST:PORT or unix:PATH"),
        ([], {"EPAD_GATEWAY_KEY": "a\r\nb"}, "printable ASCII"),
    ],
)
def test_wrong_command_lines(
    arguments: list[str], environment: dict[str, str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert relay.main(arguments, environment) == 2
    assert says in capsys.readouterr().err


def test_it_imports_next_to_nothing() -> None:
    """What it imports is the time that a host waits: none of epad but this file, no JSON, no threads, no argparse."""
    code = (
        "import sys; before = set(sys.modules); sys.argv = ['epad', 'mcp', '--help']\n"
        "from epad.daemon.entry import main; main(); print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.splitlines()[-1].split())
    assert {each for each in loaded if each.startswith("epad")} == {
        *("epad", "epad.daemon", "epad.daemon.entry", "epad.tools", "epad.tools.relay"),
    }
    assert loaded.isdisjoint(
        {"json", "threading", "argparse", "asyncio", "pathlib", "subprocess", "ssl", "logging"}
    )
    assert len(loaded) < 32, sorted(loaded)
