"""Routes of another room on the gateway's listeners: the gateway identifies the caller, and that room answers."""

from __future__ import annotations

from typing import Protocol

from epad.gateway.http.message import Response
from epad.gateway.http.request import Answering, Request
from epad.gateway.refusal import Refusal


class SideRoutes(Protocol):
    """Answers the requests of its own paths."""

    def serves(self, path: str) -> bool:
        """Tell if a path is one of its own."""
        ...

    def greet(self, request: Request) -> Response | None:
        """Answer a request without a key that only asks if somebody is there; None if it asks more."""
        ...

    def receive(self, request: Request, subsystem: str) -> Response | Answering:
        """Refuse a request by its head, or return its handler. Raises RefusalError."""
        ...

    def error_body(self, path: str, refusal: Refusal) -> bytes:
        """Return the body of a refusal, in the words of this path's clients."""
        ...


class NoSideRoutes:
    """For a gateway whose routes lead to models alone."""

    def serves(self, path: str) -> bool:
        del path
        return False

    def greet(self, request: Request) -> Response | None:
        del request
        return None

    def receive(self, request: Request, subsystem: str) -> Response | Answering:
        raise NotImplementedError

    def error_body(self, path: str, refusal: Refusal) -> bytes:
        raise NotImplementedError


class ManySideRoutes:
    """Joins the routes of several rooms; the first that serves a path has it."""

    def __init__(self, *rooms: SideRoutes) -> None:
        self._rooms = rooms

    def serves(self, path: str) -> bool:
        return any(room.serves(path) for room in self._rooms)

    def greet(self, request: Request) -> Response | None:
        return self._room(request.path).greet(request)

    def receive(self, request: Request, subsystem: str) -> Response | Answering:
        return self._room(request.path).receive(request, subsystem)

    def error_body(self, path: str, refusal: Refusal) -> bytes:
        return self._room(path).error_body(path, refusal)

    def _room(self, path: str) -> SideRoutes:
        return next(room for room in self._rooms if room.serves(path))
