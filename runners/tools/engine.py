"""Speak the Engine API (Docker's, and Podman's) over its Unix socket, by the standard library: never a command line.

The socket is named by the daemon, which shows this worker that one socket and nothing else of the host.
"""

from __future__ import annotations

import http.client
import os
import re
import socket
import struct
from collections.abc import Mapping
from contextlib import closing
from typing import Any, Final
from urllib.parse import quote, urlencode

import msgspec

from runners.tools.signature import ToolError

SOCKET_VARIABLE: Final = "EPAD_ENGINE_SOCKET"
SUBSYSTEM_VARIABLE: Final = "EPAD_ENGINE_SUBSYSTEM"
MOST_ANSWER: Final = 16 << 20
_NEWEST: Final = (1, 47)
_FRAME: Final = struct.Struct(">BxxxI")
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_IMAGE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_./:@-]{0,254}")
_MISSING: Final = 404
_SECONDS: Final = 30.0


class _Connection(http.client.HTTPConnection):
    """Connects to a Unix socket."""

    def __init__(self, path: str, seconds: float) -> None:
        super().__init__("engine", timeout=seconds)
        self._path = path

    def connect(self) -> None:
        """Connect. Raises OSError."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Engine:
    """Asks the engine, each time by a connection of its own."""

    def __init__(self) -> None:
        """Take the socket that the daemon has named. Raises ToolError where there is none."""
        self._path = os.environ.get(SOCKET_VARIABLE, "")
        self._version = ""
        if not self._path:
            raise ToolError(
                "no container engine is configured",
                'a person sets `[tools.docker] socket = "/run/docker.sock"`',
            )

    def get(self, path: str, **query: str) -> Any:
        """Return the answer to a question."""
        return _decoded(self._ask("GET", path, query))

    def post(self, path: str, body: msgspec.Struct | None = None, **query: str) -> Any:
        """Give an order, and return its answer; None where it has none."""
        return _decoded(self._ask("POST", path, query, body))

    def delete(self, path: str, **query: str) -> None:
        """Have something removed; it may be gone already."""
        target = self._target(path, query)
        status, data, _ = self._exchange("DELETE", target, None, _SECONDS, MOST_ANSWER)
        if status != _MISSING:
            _refuse_failed(status, data)

    def output(self, path: str, limit: int, **query: str) -> Output:
        """Return what a container has written, as far as a limit of bytes goes."""
        status, data, _ = self._exchange("GET", self._target(path, query), None, _SECONDS, limit)
        _refuse_failed(status, data)
        return read_frames(data[:limit])

    def attach(self, path: str, body: msgspec.Struct, limit: int, seconds: float) -> Output:
        """Give an order whose answer is output, and wait for its end."""
        status, data, _ = self._exchange("POST", self._target(path, {}), body, seconds, limit)
        _refuse_failed(status, data)
        return read_frames(data[:limit])

    def _ask(
        self, method: str, path: str, query: Mapping[str, str], body: msgspec.Struct | None = None
    ) -> bytes:
        """Ask once. Raises ToolError in the engine's own words."""
        status, data, _ = self._exchange(method, self._target(path, query), body, _SECONDS, MOST_ANSWER)
        if len(data) > MOST_ANSWER:
            raise ToolError(f"the engine's answer has over {MOST_ANSWER} bytes", "ask for less")
        _refuse_failed(status, data)
        return data

    def _target(self, path: str, query: Mapping[str, str]) -> str:
        return f"/{self._known_version()}{path}" + (f"?{urlencode(query)}" if query else "")

    def _known_version(self) -> str:
        """Return the version to speak: the engine's, and none that is newer than this file."""
        if not self._version:
            status, _, version = self._exchange("GET", "/_ping", None, 10, 1000)
            numbers = tuple(int(part) for part in version.split(".") if part.isdecimal())
            if status != 200 or len(numbers) != 2:
                raise ToolError(
                    "what listens at the socket is no container engine", "see `[tools.docker] socket`"
                )
            self._version = "v{}.{}".format(*min(numbers, _NEWEST))
        return self._version

    def _exchange(
        self, method: str, target: str, body: msgspec.Struct | None, seconds: float, most: int
    ) -> tuple[int, bytes, str]:
        data = msgspec.json.encode(body) if body is not None else None
        headers = {"Content-Type": "application/json"} if body is not None else {}
        try:
            with closing(_Connection(self._path, seconds)) as connection:
                connection.request(method, target, data, headers)
                answer = connection.getresponse()
                return answer.status, answer.read(most + 1), answer.headers.get("Api-Version", "")
        except TimeoutError:
            raise ToolError(f"the engine gave no answer within {seconds:g} s", "ask again later") from None
        except (OSError, http.client.HTTPException) as error:
            raise ToolError(
                f"the container engine cannot be asked: {error}",
                "a person looks if it runs, and at its socket's mode",
            ) from None


class Output(msgspec.Struct, frozen=True):
    """Holds what a container has written, each stream for itself."""

    stdout: str
    stderr: str


def read_frames(data: bytes) -> Output:
    """Take multiplexed frames apart: a byte of the stream, three of zero, four of length. A terminal's has none."""
    streams = {1: bytearray(), 2: bytearray()}
    at = 0
    while at + _FRAME.size <= len(data):
        kind, size = _FRAME.unpack_from(data, at)
        if kind not in {0, 1, 2} or data[at + 1 : at + 4] != b"\0\0\0":
            if at:
                break
            return Output(data.decode(errors="replace"), "")
        streams[max(1, kind)] += data[at + _FRAME.size : at + _FRAME.size + size]
        at += _FRAME.size + size
    return Output(*(bytes(stream).decode(errors="replace") for stream in streams.values()))


def container_path(name: str) -> str:
    """Return the path of a container. Raises ToolError for what is no name or id."""
    if not _NAME.fullmatch(name):
        raise ToolError(f"{name[:100]!r} is no container's name or id", "docker_ps shows them")
    return f"/containers/{name}"


def image_path(name: str) -> str:
    """Return the path of an image. Raises ToolError for what is no name."""
    return f"/images/{quote(image_name(name), safe='')}"


def image_name(name: str) -> str:
    """Return the name of an image. Raises ToolError for what is none."""
    if not _IMAGE.fullmatch(name) or ".." in name:
        raise ToolError(f"{name[:100]!r} is no image's name or id", "docker_images shows them")
    return name


def _decoded(data: bytes) -> Any:
    try:
        return msgspec.json.decode(data) if data.strip() else None
    except msgspec.DecodeError as error:
        raise ToolError(f"the engine's answer is no JSON: {error}", "see `[tools.docker] socket`") from None


def _refuse_failed(status: int, data: bytes) -> None:
    if status >= 400:
        raise ToolError(
            f"the engine says: {_message(data)}", "docker_ps and docker_images show what there is"
        )


def _message(data: bytes) -> str:
    try:
        told = msgspec.json.decode(data)
    except msgspec.DecodeError:
        return data[:500].decode(errors="replace")
    return str(told.get("message", told) if isinstance(told, dict) else told)[:500]
