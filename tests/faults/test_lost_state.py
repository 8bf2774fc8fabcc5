"""The state under a running daemon, and between two lives of it: taken away, replaced, cut short.

Whatever happens, nothing is forwarded that would not be found in the ledger again.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from installed import QUICK, Installation, installation

CLIENT = """
[upstreams.stub]
url = "http://127.0.0.1:%d"
dialects = ["openai"]
[subsystems.c]
kind = "client"
budget = { tokens_per_hour = 100000 }
"""
ANSWER = json.dumps({
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4},
}).encode()  # fmt: skip


class Stub(ThreadingHTTPServer):
    """A model server that counts what reaches it."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.turns = 0
        threading.Thread(target=self.serve_forever, daemon=True).start()


class _Handler(BaseHTTPRequestHandler):
    server: Stub

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.turns += 1
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(ANSWER)))
        self.end_headers()
        self.wfile.write(ANSWER)

    def do_GET(self) -> None:
        self.send_error(404)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Scene:
    """A daemon, a client of it, and the model server behind."""

    def __init__(self, house: Installation, stub: Stub) -> None:
        self.house, self.stub = house, stub
        self.url = self.key = ""

    @property
    def state(self) -> Path:
        return self.house.state

    def start(self) -> None:
        self.house.start()
        self.url = self.house.status()["gateway"]["url"]
        self.key = (self.state / "keys/c.key").read_text().strip()

    def ask(self) -> int:
        """One turn; its HTTP status."""
        body = json.dumps({"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "hello"}]})
        request = urllib.request.Request(
            f"{self.url}/v1/chat/completions",
            body.encode(),
            {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                status: int = answer.status
                return status
        except urllib.error.HTTPError as error:
            return error.code


@pytest.fixture
def scene() -> Iterator[Scene]:
    stub = Stub()
    with installation(QUICK + CLIENT % stub.server_address[1]) as house:
        scene = Scene(house, stub)
        scene.start()
        assert [scene.ask() for _ in range(3)] == [200] * 3
        try:
            yield scene
        finally:
            stub.shutdown()
            stub.server_close()


def delete(*names: str) -> Callable[[Path], None]:
    def harm(state: Path) -> None:
        for name in names:
            (state / name).unlink()

    return harm


def replace(name: str) -> Callable[[Path], None]:
    def harm(state: Path) -> None:
        copy = state / f"{name}.copy"
        shutil.copyfile(state / name, copy)
        copy.replace(state / name)

    return harm


def cut(name: str) -> Callable[[Path], None]:
    return lambda state: os.truncate(state / name, (state / name).stat().st_size // 2)


def move(state: Path) -> None:
    state.rename(state.with_name("moved"))


def exchange(state: Path) -> None:
    """For a copy of itself: the daemon's files are elsewhere now."""
    state.rename(state.with_name("moved"))
    shutil.copytree(state.with_name("moved"), state, ignore=shutil.ignore_patterns("*.sock"))


WHILE_RUNNING = {
    "ledger deleted": delete("ledger.db"),
    "ledger and its log deleted": delete("ledger.db", "ledger.db-wal"),
    "the ledger's log deleted": delete("ledger.db-wal"),
    "ledger replaced": replace("ledger.db"),
    "ledger cut": cut("ledger.db"),
    "state deleted": delete("state.db", "state.db-wal"),
    "state replaced": replace("state.db"),
    "state cut": cut("state.db"),
    "anchor deleted": lambda state: shutil.rmtree(state / "anchor"),
    "all deleted": shutil.rmtree,
    "all moved": move,
    "all exchanged": exchange,
}


@pytest.mark.parametrize("harm", WHILE_RUNNING)
def test_nothing_is_forwarded_that_would_not_be_found_again(scene: Scene, harm: str) -> None:
    """At once, and in every phase that follows."""
    with contextlib.suppress(FileNotFoundError):  # the daemon may write its socket's directory meanwhile
        WHILE_RUNNING[harm](scene.state)
    before = scene.stub.turns
    statuses = {scene.ask() for _ in range(12)}
    assert scene.stub.turns == before
    # 403 where a probe was quicker than these twelve: then the gateway is closed, for the journal cannot be written.
    assert statuses <= {503, 403}


def keep_a_copy(state: Path) -> Path:
    """The ledger as it is after an orderly end, for an older copy later."""
    copy = state.with_name("older")
    shutil.copytree(state, copy)
    return copy


def put_older(*names: str) -> Callable[[Path, Path], None]:
    def harm(state: Path, older: Path) -> None:
        for name in names:
            for file in state.glob(f"{name}*"):
                file.unlink() if file.is_file() else shutil.rmtree(file)
            from_there = older / name
            if from_there.is_dir():
                shutil.copytree(from_there, state / name)
            else:
                shutil.copyfile(from_there, state / name)

    return harm


def without_copy(harm: Callable[[Path], None]) -> Callable[[Path, Path], None]:
    return lambda state, _: harm(state)


WHILE_STOPPED = {
    "ledger deleted": without_copy(delete("ledger.db")),
    "ledger older": put_older("ledger.db"),
    "ledger and anchor older": put_older("ledger.db", "anchor"),
    "ledger and anchor deleted": without_copy(
        lambda s: (delete("ledger.db")(s), shutil.rmtree(s / "anchor"))[0]
    ),
    "all deleted": without_copy(shutil.rmtree),
}


@pytest.mark.parametrize("harm", WHILE_STOPPED)
def test_what_the_witness_knows_and_is_not_found_shuts_the_door(scene: Scene, harm: str) -> None:
    """Until a person gives the records up; then turns are taken again, and every budget is spent."""
    scene.house.stop()
    older = keep_a_copy(scene.state)
    scene.start()
    assert [scene.ask() for _ in range(2)] == [200] * 2
    scene.house.stop()
    WHILE_STOPPED[harm](scene.state, older)
    scene.start()
    before = scene.stub.turns
    assert {scene.ask() for _ in range(3)} == {503}
    scene.house.wait_phase("NORMAL")
    assert scene.ask() == 503
    scene.house.stop()
    scene.start()
    assert scene.ask() == 503
    assert any("accept-loss" in notice for notice in scene.house.status()["notices"])
    assert scene.stub.turns == before
    assert scene.house.ctl("ledger", "accept-loss", "--reason", "a test").returncode == 0
    assert scene.ask() == 429
    scene.house.stop()
    scene.start()
    assert scene.ask() == 429
    assert scene.house.ctl("budget", "set", "c", "tokens_per_hour=0", "--reason", "a test").returncode == 0
    assert scene.ask() == 200
