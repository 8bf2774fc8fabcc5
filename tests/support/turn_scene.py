"""A daemon, a client of it with a budget, and a model server behind that counts what reaches it."""

from __future__ import annotations

import contextlib
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from installed import QUICK, Installation
from patience import PATIENCE_SECONDS

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
        self.read_key()

    def read_key(self) -> None:
        """The client's, as it is by now; none where it went with the state."""
        file = self.state / "keys/c.key"
        self.key = file.read_text().strip() if file.exists() else ""

    def ask(self) -> int:
        """One turn; its HTTP status."""
        body = json.dumps({"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "hello"}]})
        request = urllib.request.Request(
            f"{self.url}/v1/chat/completions",
            body.encode(),
            {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as answer:
                status: int = answer.status
                return status
        except urllib.error.HTTPError as error:
            return error.code


@contextlib.contextmanager
def model_server() -> Iterator[Stub]:
    """The model server alone."""
    stub = Stub()
    try:
        yield stub
    finally:
        stub.shutdown()
        stub.server_close()


def configured(house: Installation, stub: Stub, more: str = "") -> Scene:
    """A scene on this installation, with `more` configured; nothing is started."""
    house.config.write_text(QUICK + CLIENT % stub.server_address[1] + more)
    return Scene(house, stub)


@contextlib.contextmanager
def turn_scene(house: Installation, more: str = "") -> Iterator[Scene]:
    """Start a daemon on this installation, with `more` configured, and see three turns through."""
    with model_server() as stub:
        scene = configured(house, stub, more)
        scene.start()
        assert [scene.ask() for _ in range(3)] == [200] * 3
        yield scene
