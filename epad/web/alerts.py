"""Alertmanager's webhook: its JSON (version 4) read strictly where it matters, leniently where it may grow."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import msgspec
from aiohttp import web

from epad import EpadError
from epad.web.token import keep_token
from probes.alerts import Alert

# A notification of 500 alerts with long annotations is some 600 kB.
MAX_BODY_BYTES = 1 << 20
TEXT_CHARACTERS = 300


class AlertBodyError(EpadError):
    """The body is no notification of Alertmanager's; the message says where."""


class _Alert(msgspec.Struct, frozen=True):
    status: Literal["firing", "resolved"]
    labels: dict[str, str]
    fingerprint: str
    annotations: dict[str, str] = {}


class _Notification(msgspec.Struct, frozen=True):
    version: Literal["4"]
    alerts: list[_Alert]


def read_notification(body: bytes) -> list[Alert]:
    """Return the alerts of one notification. Raises AlertBodyError."""
    try:
        notification = msgspec.json.decode(body, type=_Notification)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise AlertBodyError(f"not a notification of Alertmanager's (version 4): {error}") from error
    return [
        Alert(
            fingerprint=alert.fingerprint[:TEXT_CHARACTERS],
            name=alert.labels.get("alertname", "alert")[:TEXT_CHARACTERS],
            firing=alert.status == "firing",
            severity=alert.labels.get("severity", ""),
            subsystem=alert.labels.get("subsystem", ""),
            summary=(alert.annotations.get("summary") or alert.annotations.get("description", ""))[
                :TEXT_CHARACTERS
            ],
        )
        for alert in notification.alerts
    ]


class AlertDoor:
    """Receives Alertmanager's posts: closed until opened, and then only with the token."""

    def __init__(self, token_file: Path, take: Callable[[Sequence[Alert]], int]) -> None:
        self._token_file = token_file
        self._take = take
        self._expected = ""

    def open(self) -> None:
        """Read or make the token. Raises OSError."""
        self._expected = f"Bearer {keep_token(self._token_file).value}"

    def shut(self) -> None:
        """Take nothing any more, whoever posts."""
        self._expected = ""

    async def receive(self, request: web.Request) -> web.Response:
        """Take in one notification. Alertmanager gives up on 4xx and tries again on 5xx."""
        given = request.headers.get("Authorization", "")
        if not self._expected:
            return web.json_response({"error": "set [web] alerts = true"}, status=403)
        if not hmac.compare_digest(given.encode(errors="surrogateescape"), self._expected.encode()):
            return web.json_response({"error": f"send the token of {self._token_file}"}, status=401)
        try:
            alerts = read_notification(await request.read())
        except AlertBodyError as error:
            return web.json_response({"error": str(error)}, status=400)
        return web.json_response({"taken": self._take(alerts)})
