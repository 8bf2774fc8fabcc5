"""A container engine that runs nothing: its answers have the form of a recording of a real one (Podman 4.3, API 1.41).

Programs are named by the first argument behind the program: `sleep` goes on, `fail` ends with 7, `flood` writes 8 MiB.
"""

from __future__ import annotations

import copy
import json
import re
import secrets
import socketserver
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

RECORDING = json.loads((Path(__file__).parents[1] / "runners/tools/engine_recording.json").read_text())
KEY = "ghp_abcdefghij0123456789ABCDEFGHIJ"


def frame(stream: int, text: str) -> bytes:
    data = text.encode()
    return struct.pack(">BxxxI", stream, len(data)) + data


@dataclass
class Container:
    """One container, and what was ordered of it."""

    id: str
    name: str
    order: dict[str, Any]
    status: str = "created"
    exit: int = 0

    @property
    def word(self) -> str:
        return str([*self.order["Cmd"], ""][1])

    @property
    def output(self) -> bytes:
        if self.word == "flood":
            return frame(1, "line of a flood\n" * 1000) * 525
        return frame(1, f"out of {self.word}\n") + frame(2, "an error\n")


@dataclass
class FakeEngine:
    """Holds the containers, and the requests that came: method, path, query, body."""

    socket: str
    containers: dict[str, Container] = field(default_factory=dict)
    asked: list[tuple[str, str, dict[str, str], Any]] = field(default_factory=list)
    answer: bytes = b""
    """Where it is set, this is the answer to everything but the first question."""

    @property
    def environment(self) -> dict[str, str]:
        """Return the variables that the daemon gives a worker of the tools of docker."""
        return {"EPAD_ENGINE_SOCKET": self.socket, "EPAD_ENGINE_SUBSYSTEM": "agent"}

    def fresh(self) -> None:
        """Begin anew, with a container of somebody else and one of the agent's."""
        self.containers.clear()
        self.asked.clear()
        self.answer = b""
        self.add("web", {"Cmd": ["/hello", "serve"], "Env": ["PATH=/bin", f"TOKEN={KEY}"], "Labels": {}})
        self.add("ours", {"Cmd": ["/hello", "sleep"], "Labels": marks("agent", 1 << 40)})

    def add(self, name: str, order: dict[str, Any], status: str = "running") -> Container:
        made = Container(secrets.token_hex(32), name, order, status)
        self.containers[made.id] = made
        return made

    def find(self, name: str) -> Container | None:
        return next(
            (one for one in self.containers.values() if one.name == name or one.id.startswith(name)), None
        )

    @property
    def names(self) -> set[str]:
        return {one.name for one in self.containers.values()}


def marks(subsystem: str, ends: int) -> dict[str, str]:
    return {"epad.turn": "turn-1", "epad.subsystem": subsystem, "epad.ends": str(ends)}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    engine: FakeEngine

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def address_string(self) -> str:
        return "socket"

    def do_GET(self) -> None:
        self._serve("GET")

    def do_POST(self) -> None:
        self._serve("POST")

    def do_DELETE(self) -> None:
        self._serve("DELETE")

    def _serve(self, method: str) -> None:
        parts = urlsplit(self.path)
        size = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(size)) if size else None
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        if parts.path == "/_ping":
            self._say(200, b"OK", {"Api-Version": RECORDING["ping"]["version"]})
            return
        path = re.sub(r"^/v1\.41", "", unquote(parts.path))
        self.engine.asked.append((method, path, query, body))
        if self.engine.answer:
            self._say(200, self.engine.answer)
            return
        status, answer = self._answer(method, path, query, body)
        self._say(status, answer if isinstance(answer, bytes) else json.dumps(answer).encode())

    def _answer(self, method: str, path: str, query: dict[str, str], body: Any) -> tuple[int, Any]:  # noqa: PLR0911 (one a route)
        engine = self.engine
        match method, path.strip("/").split("/"):
            case "GET", ["containers", "json"]:
                wanted = json.loads(query.get("filters", "{}")).get("label", [])
                return 200, [self._listed(one) for one in engine.containers.values() if _has(one, wanted)]
            case "GET", ["images", "json"]:
                return 200, RECORDING["images"]["body"]
            case "GET", ["images", _, "json"]:
                return 200, RECORDING["image"]["body"]
            case "POST", ["containers", "create"]:
                return 201, {
                    "Id": engine.add(f"made-{len(engine.containers)}", body, "created").id,
                    "Warnings": [],
                }
            case "POST", ["exec", _, "start"]:
                return 200, frame(1, "out of there\n") + frame(2, "an error\n")
            case "GET", ["exec", _, "json"]:
                return 200, RECORDING["exec_inspect"]["body"]
            case _, ["containers", name, *rest]:
                found = engine.find(name)
                return (
                    (404, RECORDING["missing"]["body"])
                    if found is None
                    else self._of(method, found, rest, body)
                )
        return 400, {"message": f"no such route: {path}"}

    def _of(self, method: str, one: Container, rest: list[str], body: Any) -> tuple[int, Any]:  # noqa: PLR0911
        match method, rest:
            case "GET", ["json"]:
                return 200, self._inspected(one)
            case "GET", ["logs"]:
                return 200, one.output
            case "GET", ["stats"]:
                return 200, RECORDING["stats"]["body"]
            case "POST", ["start"]:
                one.status = "running" if one.word == "sleep" else "exited"
                one.exit = 7 if one.word == "fail" else 0
                return 204, b""
            case "POST", ["stop"]:
                one.status = "exited"
                return 204, b""
            case "POST", ["exec"]:
                return 201, {"Id": secrets.token_hex(32)}
            case "DELETE", []:
                del self.engine.containers[one.id]
                return 204, b""
        return 400, {"message": "no such route"}

    def _listed(self, one: Container) -> dict[str, Any]:
        told: dict[str, Any] = copy.deepcopy(RECORDING["list"]["body"][0])
        return told | {
            "Id": one.id,
            "Names": [f"/{one.name}"],
            "Labels": one.order.get("Labels"),
            "State": one.status,
        }

    def _inspected(self, one: Container) -> dict[str, Any]:
        told: dict[str, Any] = copy.deepcopy(RECORDING["inspect"]["body"])
        told["Id"], told["Name"] = one.id, one.name
        told["Config"] |= {
            "Labels": one.order.get("Labels"),
            "Env": one.order.get("Env", []),
            "Cmd": one.order["Cmd"],
        }
        told["State"] |= {"Status": one.status, "Running": one.status == "running", "ExitCode": one.exit}
        return told

    def _say(self, status: int, data: bytes, headers: dict[str, str] | None = None) -> None:
        with suppress(BrokenPipeError, ConnectionResetError):
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)


def _has(one: Container, wanted: list[str]) -> bool:
    labels = one.order.get("Labels") or {}
    return all(labels.get(each.partition("=")[0]) == each.partition("=")[2] for each in wanted)


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True


@contextmanager
def fake_engine(path: Path) -> Iterator[FakeEngine]:
    """Serve at a socket."""
    engine = FakeEngine(str(path))
    engine.fresh()
    handler = type("Handler", (_Handler,), {"engine": engine})
    with _Server(str(path), handler) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        try:
            yield engine
        finally:
            server.shutdown()
            serving.join()
