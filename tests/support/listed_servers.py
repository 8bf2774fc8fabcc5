"""Model servers on ports of this machine that answer GET with recorded bytes, and a chat with a whole answer."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from model_server import answer_of
from server_answers import OLLAMA, OLLAMA_TAGS

AN_OLLAMA: Mapping[str, bytes] = {"/v1/models": OLLAMA, "/api/tags": OLLAMA_TAGS, "/": b"Ollama is running"}


@dataclass
class Listed:
    """A server: `answers` by path, `head` in each answer, and the requests that it was sent."""

    answers: Mapping[str, bytes]
    head: Mapping[str, str] = field(default_factory=dict)
    status: int = 200
    port: int = 0
    asked: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextlib.contextmanager
def listed_server(
    answers: Mapping[str, bytes], head: Mapping[str, str] | None = None, status: int = 200
) -> Iterator[Listed]:
    """Run one on a free port; a path without an answer is a 404."""
    one = Listed(answers, head or {}, status)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            one.asked.append(f"GET {self.path}")
            body = one.answers.get(self.path)
            self._send(404 if body is None else one.status, body or b"")

        def do_POST(self) -> None:
            one.asked.append(f"POST {self.path}")
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self._send(200, json.dumps(answer_of(self.path, body)).encode())

        def _send(self, status: int, body: bytes) -> None:
            self.send_response_only(status)
            for name, value in {"Content-Type": "application/json", **one.head}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (its name in the library)
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        one.port = server.server_address[1]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield one
        finally:
            server.shutdown()
