"""Find the model servers that answer on this machine, for `epactl init`: blocking, and without a daemon.

Each address is asked for its list of models, as the gateway's looks do, and `server_detection` tells the kind. More is
asked only where that list tells no kind. What is neither told nor lists models is no model server: many other programs
listen on 8000 and 8080. Nothing is sent but GET, no proxy of the environment is used, and no redirection is followed.
"""

from __future__ import annotations

import http.client
import socket
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from epad.configuration.first_file import FoundServer
from epad.configuration.server_kinds import SERVERS, Server
from epad.gateway.server_detection import INFO, MODELS, MOST_BYTES, PROPS, TAGS, detect, models_listed

USUAL: Final = (
    ("Ollama", 11434),
    ("vLLM", 8000),
    ("llama.cpp", 8080),
    ("LM Studio", 1234),
    ("SGLang", 30000),
)
"""The ports that model servers listen on by themselves."""
HOST: Final = "127.0.0.1"
SECONDS: Final = 3.0
"""The longest that one request may take, with its answer."""
# GenerateRoutes of Ollama's server/routes.go. Without a model its lists are empty, and tell nothing.
_OLLAMA_HOME, _OLLAMA_SAYS = "/", b"Ollama is running"
_BLOCK: Final = 65_536
_NO_KEY: Final = frozenset({401, 403})


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    head: http.client.HTTPMessage
    body: bytes

    @property
    def is_ok(self) -> bool:
        return self.status == 200


def usual_addresses() -> list[tuple[str, int]]:
    """Return the addresses to look at."""
    return [(HOST, port) for _, port in USUAL]


def search(addresses: Sequence[tuple[str, int]], seconds: float = SECONDS) -> list[FoundServer]:
    """Return the model servers that answer at these addresses, in their order. They are asked at the same time."""
    if not addresses:
        return []
    with ThreadPoolExecutor(len(addresses)) as pool:
        found = pool.map(lambda address: look(address[0], address[1], seconds), addresses)
        return [server for server in found if server is not None]


def look(host: str, port: int, seconds: float = SECONDS) -> FoundServer | None:
    """Return the model server at an address; None if there is none."""
    first = _ask(host, port, MODELS, seconds)
    if first is None:
        return None
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    if first.status in _NO_KEY:
        server = detect(url, first.head)
        if server is None and not _is_refusal_of_an_api(first.body):
            return None
        return FoundServer(url, server.name if server else "", wants_key=True)
    server = detect(url, first.head, MODELS, first.body if first.is_ok else b"")
    models = _shown(models_listed(MODELS, first.body)) if first.is_ok else ()
    server = server or _told_elsewhere(host, port, url, seconds)
    if server is None and not models:
        return None
    return FoundServer(url, server.name if server else "", models)


def _told_elsewhere(host: str, port: int, url: str, seconds: float) -> Server | None:
    """Tell a server by its other answers."""
    for path in (TAGS, PROPS, INFO, _OLLAMA_HOME):
        answer = _ask(host, port, path, seconds)
        if answer is None or not answer.is_ok:
            continue
        if path == _OLLAMA_HOME:
            return SERVERS["ollama"] if answer.body == _OLLAMA_SAYS else None
        if server := detect(url, answer.head, path, answer.body):
            return server
    return None


def _is_refusal_of_an_api(body: bytes) -> bool:
    """Tell if a refusal is in the form of a model server's: JSON with an error. Pages of other programs are none."""
    try:
        answer: Any = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False
    return isinstance(answer, dict) and "error" in answer


def _shown(models: Sequence[str]) -> tuple[str, ...]:
    """Return the names that can stand in a file that people read."""
    return tuple(dict.fromkeys(name for name in models if name.isprintable()))


def _ask(host: str, port: int, path: str, seconds: float) -> _Answer | None:
    """Send one GET; None without an answer in time, or with one that is too long or no HTTP."""
    deadline = time.monotonic() + seconds
    connection = http.client.HTTPConnection(host, port, timeout=seconds)
    try:
        connection.request("GET", path, headers={"Accept": "application/json", "Connection": "close"})
        answer = connection.getresponse()
        body = _read(answer, connection.sock, deadline)
    except (OSError, http.client.HTTPException, ValueError):
        return None
    finally:
        connection.close()
    return None if body is None else _Answer(answer.status, answer.headers, body)


def _read(answer: http.client.HTTPResponse, stream: socket.socket | None, deadline: float) -> bytes | None:
    """Read a body; None if it takes too long or is too long: a timeout of a socket is one for each piece."""
    body = bytearray()
    while piece := answer.read1(_BLOCK):
        body += piece
        left = deadline - time.monotonic()
        if len(body) > MOST_BYTES or left <= 0:
            return None
        if stream is not None and stream.fileno() >= 0:
            stream.settimeout(left)
    return bytes(body)
