"""A model server that is down in one of many ways, until it is told to be well; and agents that ask on and on."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

AGENT = """
import json, os, random, sys, time, urllib.error, urllib.request

pause, timeout, log = float(sys.argv[1]), float(sys.argv[2]), open(sys.argv[3], "a", buffering=1)
while True:
    words = {"role": "user", "content": f"What is {random.random()}?"}
    body = json.dumps({"model": "m", "max_tokens": 20, "messages": [words]}).encode()
    ask = urllib.request.Request(os.environ["OPENAI_BASE_URL"] + "/chat/completions", body, {
        "Authorization": "Bearer " + os.environ["OPENAI_API_KEY"], "Content-Type": "application/json"})
    asked = time.time()
    try:
        with urllib.request.urlopen(ask, timeout=timeout) as answer:
            answer.read()
            told = {"status": answer.status}
    except urllib.error.HTTPError as error:
        said = error.read().decode(errors="replace")
        told = {"status": error.code, "retry_after": error.headers.get("retry-after"), "said": said[:400]}
    except OSError as error:
        told = {"status": 0, "said": str(error)}
    log.write(json.dumps({"at": asked, "ended": time.time(), **told}) + chr(10))
    time.sleep(pause)
"""
ANSWER = {
    "id": "c", "object": "chat.completion", "created": 1, "model": "m",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "It is."}}],
    "usage": {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12},
}  # fmt: skip
LOADING = {"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}
LIMIT_SECONDS = 3


class SickServer:
    """Serves on one port. `how` is `well`, `hang`, `loading`, a status, or `refused` where nobody listens."""

    def __init__(self, how: str, *, looks_well: bool = False) -> None:
        self.how = how
        self.looks_well = looks_well
        self.turns = 0
        self._well = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler(), bind_and_activate=False)
        self._server.allow_reuse_address = True
        self._server.daemon_threads = True
        self._server.server_bind()
        self.port = int(self._server.server_address[1])
        if how != "refused":
            self._listen()

    def recover(self) -> float:
        """Be well from now on; return since when."""
        if self.how == "refused":
            self.how = "well"
            self._listen()
        self.how = "well"
        self._well.set()
        return time.time()

    def close(self) -> None:
        """Serve no more."""
        self._well.set()
        if self.how != "refused":
            self._server.shutdown()
        self._server.server_close()

    def _listen(self) -> None:
        self._server.server_activate()
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                """Be silent."""

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers.get("content-length") or 0))
                server.turns += 1
                self._answer(server.how, ANSWER)

            def do_GET(self) -> None:
                if server.how == "loading" and self.path != "/health":
                    self._send(200, {"object": "list", "data": []})
                else:
                    self._answer("well" if server.looks_well else server.how, {"object": "list", "data": []})

            def _answer(self, how: str, well: Mapping[str, object]) -> None:
                if how == "hang":
                    server._well.wait(60)
                    self.close_connection = True  # as of a process that was killed for it
                    return
                if how == "loading":
                    self._send(503, LOADING)
                elif how == "well":
                    self._send(200, well)
                else:
                    self._send(int(how), {"error": {"message": "no", "type": "x"}})

            def _send(self, status: int, body: Mapping[str, object]) -> None:
                data = json.dumps(body).encode()
                self.send_response(status)
                if status == 429:
                    self.send_header("Retry-After", str(LIMIT_SECONDS))
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        return Handler


def asked(log: Path) -> list[dict[str, Any]]:
    """Every question of an agent and what became of it."""
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
