"""Name what can go wrong with a foreign server; each message says which, and what to do."""

from __future__ import annotations

from epad import EpadError


class ServerError(EpadError):
    """A server, or one request to it, has failed."""


class ServerLostError(ServerError):
    """The connection to a server has ended, and whether a request under way was done is not known."""


class NotSentError(ServerLostError):
    """The connection has ended before a request was sent: nothing was done."""


class AnswerError(ServerError):
    """A server has answered a request with an error of the protocol. `code` is JSON-RPC's."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class NoAnswerError(ServerError):
    """A server has not answered a request in its time."""
