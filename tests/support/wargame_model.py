"""A model server in a thread: counts what it was asked and answered, and breaks as it is told to."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal

from runners.model.catalogue import embedded_engines
from runners.model.completion import complete
from runners.model.openai_dialect import models, plain
from runners.model.request import from_openai

ENGINES = embedded_engines()
Mode = Literal["empty", "null", "500", "429", "closed", "html", "hang", "truncated", "prose"]
MODES: tuple[Mode, ...] = ("empty", "null", "500", "429", "closed", "html", "hang", "truncated", "prose")

_SAID: dict[str, tuple[str | None, str]] = {
    "empty": ("", "stop"),
    "null": (None, "stop"),
    "truncated": ('{"verdict":"attack","confi', "length"),
    "prose": ("This is not an attack. CONFIDENCE: 12%", "stop"),
}


class Model:
    """What it counted, and which models are broken how."""

    def __init__(self) -> None:
        self.answered: Counter[str] = Counter()
        self.broken: dict[str, Mode] = {}
        self.seconds = 0.02
        self.lock = threading.Lock()
        self.ended = threading.Event()


def _handler(model: Model) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._send(json.dumps(models(ENGINES, 0)).encode())

        def do_POST(self) -> None:
            question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            mode = model.broken.get(question["model"])
            if mode is not None:
                self._break(mode)
                return
            digest = json.dumps([question["model"], question["messages"], question.get("seed")])
            time.sleep(model.seconds)
            chat = from_openai(question)
            whole = json.dumps(plain(chat, complete(ENGINES[chat.model], chat), "t", 0)).encode()
            if self._is_hung_up():
                return
            self._send(whole)
            with model.lock:
                model.answered[digest] += 1

        def _is_hung_up(self) -> bool:
            """Whether whoever asked has gone: a real server stops there, and nothing more is paid."""
            try:
                return not self.connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
            except BlockingIOError:
                return False
            except OSError:
                return True

        def _break(self, mode: Mode) -> None:
            if mode in _SAID:
                text, reason = _SAID[mode]
                message = {"role": "assistant", "content": text}
                self._send(json.dumps({"choices": [{"message": message, "finish_reason": reason}]}).encode())
            elif mode in {"500", "429"}:
                self._send(b"no", int(mode))
            elif mode == "html":
                self._send(b"<html>busy</html>")
            else:
                if mode == "hang":
                    model.ended.wait(60)
                self.close_connection = True
                with contextlib.suppress(OSError):
                    self.connection.shutdown(socket.SHUT_RDWR)

        def _send(self, body: bytes, status: int = 200) -> None:
            with contextlib.suppress(OSError):
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            """Say nothing."""

    return Handler


@contextlib.contextmanager
def served(model: Model) -> Iterator[str]:
    """Serve inside the block; gives the address without /v1."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(model))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        model.ended.set()
        server.shutdown()
        server.server_close()
        thread.join()
