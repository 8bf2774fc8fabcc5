"""The daemon's log: journald under systemd, a readable console on a terminal, JSON lines elsewhere."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import socket
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, TextIO

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor

Format = Literal["auto", "console", "json", "journal"]
Level = Literal["debug", "info", "warning", "error"]

JOURNAL_SOCKET = Path("/run/systemd/journal/socket")
IDENTIFIER = "epad"
# A datagram must fit the socket's send buffer (212,992 bytes by default on Linux); a longer value is cut.
MAX_FIELD_BYTES = 16_384
MAX_FIELDS = 10

_PRIORITY = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}


def configure(
    log_format: Format,
    level: Level,
    *,
    stream: TextIO | None = None,
    environment: Mapping[str, str] | None = None,
    journal: Path = JOURNAL_SOCKET,
) -> FilteringBoundLogger:
    """Set up structlog, and Python's own logging behind it, and return a logger. Never raises OSError."""
    stream = stream or sys.stderr
    chosen = choose(log_format, stream, os.environ if environment is None else environment)
    processors = _processors(chosen, stream)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            _add_logger_name,
            structlog.processors.StackInfoRenderer(),
            *processors,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=_factory(chosen, stream, journal),
        cache_logger_on_first_use=False,
    )
    _adopt_standard_logging()
    logger: FilteringBoundLogger = structlog.get_logger()
    return logger


def choose(log_format: Format, stream: TextIO, environment: Mapping[str, str]) -> Format:
    """Resolve `auto`: the journal if `stream` leads to it, a console on a terminal, else JSON."""
    if log_format != "auto":
        return log_format
    if _leads_to_journal(stream, environment.get("JOURNAL_STREAM", "")):
        return "journal"
    return "console" if stream.isatty() else "json"


def _leads_to_journal(stream: TextIO, journal_stream: str) -> bool:
    """Tell if `stream` is the one systemd connected (systemd.exec(5), $JOURNAL_STREAM).

    A child inherits the variable but may have had its output redirected, so its presence alone says nothing.
    """
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return journal_stream == f"{status.st_dev}:{status.st_ino}"


def _factory(chosen: Format, stream: TextIO, journal: Path) -> Callable[..., StreamSink | JournalSink]:
    """Return the factory that makes the sink of each `structlog.get_logger(NAME)`."""
    if chosen != "journal":
        return lambda *names: StreamSink(stream, *names)
    return lambda *names: JournalSink(journal, stream, *names)


def _processors(chosen: Format, stream: TextIO) -> list[Processor]:
    stamp = structlog.processors.TimeStamper(fmt="iso", utc=True)
    if chosen == "console":
        colours = stream.isatty() and "NO_COLOR" not in os.environ
        return [stamp, structlog.dev.ConsoleRenderer(colors=colours)]
    trace = structlog.processors.format_exc_info
    # The journal stamps what it takes, and takes fields, not a line.
    return [trace] if chosen == "journal" else [stamp, trace, structlog.processors.JSONRenderer(default=str)]


def _add_logger_name(sink: StreamSink | JournalSink, _: str, event: EventDict) -> EventDict:
    if sink.name:
        event["logger"] = sink.name
    return event


class StreamSink:
    """Writes lines to a stream, and loses them rather than stop the daemon when the stream is gone."""

    def __init__(self, stream: TextIO, name: str = "") -> None:
        self.name = name
        self._stream = stream

    def msg(self, message: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(message + "\n")
            self._stream.flush()

    debug = info = warning = error = critical = exception = msg


class JournalSink:
    """Sends events to journald by its native protocol; an event that journald refuses goes to a stream, as JSON."""

    def __init__(self, address: Path, fallback: TextIO, name: str = "") -> None:
        self.name = name
        self._address = str(address)
        self._fallback = StreamSink(fallback)

    def msg(self, /, **event: Any) -> None:
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
                # A journal that does not read must not be able to stop the daemon.
                channel.setblocking(False)
                channel.sendto(journal_datagram(event), self._address)
        except OSError as error:
            line = {"journal_error": error.strerror, **event}
            self._fallback.msg(json.dumps(line, default=str))

    debug = info = warning = error = critical = exception = msg


def journal_datagram(event: Mapping[str, Any]) -> bytes:
    """An event in journald's native format: MESSAGE for people, and each key as EPAD_KEY for queries."""
    fields = {key: _text(value) for key, value in event.items() if key not in {"event", "level"}}
    kept = dict(list(fields.items())[:MAX_FIELDS])
    pairs = " ".join(f"{key}={value}" for key, value in kept.items() if "\n" not in value)
    message = f"{event.get('event', '')} {pairs}".strip()
    datagram = _field("MESSAGE", message)
    datagram += _field("PRIORITY", str(_PRIORITY.get(str(event.get("level", "info")), 6)))
    datagram += _field("SYSLOG_IDENTIFIER", IDENTIFIER)
    datagram += _field("EPAD_EVENT", _text(event.get("event", "")))
    for key, value in kept.items():
        datagram += _field(_field_name(key), value)
    return datagram


def _field_name(key: str) -> str:
    """Return a name the journal accepts: A-Z, 0-9 and _, at most 64 long (systemd.journal-fields(7))."""
    return ("EPAD_" + re.sub(r"[^A-Z0-9_]", "_", key.upper()))[:64]


def _field(name: str, value: str) -> bytes:
    body = value.encode(errors="replace")[:MAX_FIELD_BYTES]
    if b"\n" not in body:
        return name.encode() + b"=" + body + b"\n"
    return name.encode() + b"\n" + len(body).to_bytes(8, "little") + body + b"\n"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)


class _Forward(logging.Handler):
    """Forwards the records of Python's own logging, which libraries use, into structlog."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            structlog.get_logger("epad.logs").log(
                # structlog knows the five standard levels; a library may have made its own between them.
                min(record.levelno // 10 * 10, logging.CRITICAL),
                "library.said",
                library=record.name,
                message=record.getMessage(),
                exc_info=record.exc_info,
            )
        except Exception:
            self.handleError(record)


def _adopt_standard_logging() -> None:
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if isinstance(handler, _Forward)]:
        root.removeHandler(handler)
    root.addHandler(_Forward(logging.WARNING))
