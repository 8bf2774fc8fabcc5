"""Say why a connection is refused: the reasons, their words, and the error that carries one."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Final


class Why(StrEnum):
    """Lists every reason for which the way out refuses or cuts a connection."""

    BAD_REQUEST = "bad_request"
    NOT_LISTED = "not_listed"
    BARE_ADDRESS = "bare_address"
    NOT_PUBLIC = "not_public"
    UNKNOWN_NAME = "unknown_name"
    UNREACHABLE = "unreachable"
    BAD_CERTIFICATE = "bad_certificate"
    """The server cannot prove its name to the way out, where that speaks TLS itself."""
    NOT_TRUSTED = "not_trusted"
    """The program does not trust its cell's authority."""
    NO_TLS = "no_tls"
    NO_SERVER_NAME = "no_server_name"
    OTHER_SERVER_NAME = "other_server_name"
    ENCRYPTED_HELLO = "encrypted_hello"
    SSH = "ssh"
    HUNG_UP = "hung_up"
    TOO_SLOW = "too_slow"
    TOO_LARGE = "too_large"
    NOT_OFFERED = "not_offered"
    PLACEHOLDER = "placeholder"
    DECOY = "decoy"
    SECRET = "secret"  # noqa: S105  the word for a reason
    DENIED = "denied"
    UNANSWERED = "unanswered"
    TOO_MANY_QUESTIONS = "too_many_questions"
    IDLE = "idle"
    REVOKED = "revoked"
    CUT = "cut"


STATUS: Final = {
    Why.BAD_REQUEST: "400 Bad Request",
    Why.UNKNOWN_NAME: "502 Bad Gateway",
    Why.UNREACHABLE: "502 Bad Gateway",
    Why.BAD_CERTIFICATE: "502 Bad Gateway",
    Why.TOO_SLOW: "408 Request Timeout",
    Why.TOO_LARGE: "431 Request Header Fields Too Large",
    Why.NOT_OFFERED: "501 Not Implemented",
    Why.TOO_MANY_QUESTIONS: "429 Too Many Requests",
}
"""The HTTP status of each reason; 403 of those that are not here."""


class RefusedError(Exception):
    """A connection is not let through. `words` are for the client; `address`, if it was looked up, is for the daemon.

    `is_socks` is true where the client speaks SOCKS5, and so takes no answer in HTTP.
    """

    def __init__(self, why: Why, words: str, address: str = "") -> None:
        self.why = why
        self.words = words
        self.address = address
        self.is_socks = False
        super().__init__(words)

    @property
    def status(self) -> str:
        """Return the status line's end for an answer in HTTP."""
        return STATUS.get(self.why, "403 Forbidden")

    def answer(self, host: str, port: int) -> bytes:
        """Return the answer in HTTP to a client that asked for a host."""
        told = {"type": "egress_refused", "code": self.why, "message": self.words, "host": host, "port": port}
        body = json.dumps({"error": told}).encode()
        head = f"HTTP/1.1 {self.status}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
        return f"{head}\r\nconnection: close\r\n\r\n".encode() + body
