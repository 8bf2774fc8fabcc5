"""Where the log goes, and that it never stops the daemon."""

from __future__ import annotations

import io
import json
import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from epad.runtime import log_output
from epad.runtime.log_output import MAX_FIELD_BYTES, MAX_FIELDS, choose, configure, journal_datagram


@pytest.fixture(autouse=True)
def put_back() -> Iterator[None]:
    """Logging is the process's own; leave it as it was."""
    root = logging.getLogger()
    before = list(root.handlers)
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    for handler in [handler for handler in root.handlers if handler not in before]:
        root.removeHandler(handler)


class Journal:
    """A journal's end of the socket."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.setblocking(False)

    def read(self) -> dict[str, bytes]:
        """One entry, parsed by the rules of the native protocol."""
        return parse(self._socket.recv(1 << 20))

    def close(self) -> None:
        self._socket.close()


def parse(datagram: bytes) -> dict[str, bytes]:
    """The fields of an entry: NAME=value, or NAME, a length and the value if it has more than one line."""
    fields = {}
    while datagram:
        head, _, rest = datagram.partition(b"\n")
        name, equals, value = head.partition(b"=")
        if not equals:
            length = int.from_bytes(rest[:8], "little")
            value, rest = rest[8 : 8 + length], rest[8 + length :]
            assert rest[:1] == b"\n"
            rest = rest[1:]
        assert name.decode() not in fields
        fields[name.decode()] = value
        datagram = rest
    return fields


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    opened = Journal(Path(os.path.relpath(tmp_path / "journal")))
    yield opened
    opened.close()


def identity(stream: TextIO) -> str:
    status = os.fstat(stream.fileno())
    return f"{status.st_dev}:{status.st_ino}"


def test_auto_takes_the_journal_only_if_the_stream_leads_there(tmp_path: Path) -> None:
    """A child with the variable but another stderr (a file, a pipe) does not write into the unit's journal."""
    with (tmp_path / "a").open("w") as ours, (tmp_path / "b").open("w") as other:
        assert choose("auto", ours, {"JOURNAL_STREAM": identity(ours)}) == "journal"
        assert choose("auto", ours, {"JOURNAL_STREAM": identity(other)}) == "json"
        assert choose("auto", ours, {"JOURNAL_STREAM": "nonsense"}) == "json"
        assert choose("auto", ours, {}) == "json"
        assert choose("console", ours, {"JOURNAL_STREAM": identity(ours)}) == "console"


def test_auto_is_a_console_on_a_terminal() -> None:
    """For a person at a terminal, who need not be in the journal."""
    leader, follower = os.openpty()
    with os.fdopen(leader, "rb", buffering=0), os.fdopen(follower, "w") as screen:
        assert choose("auto", screen, {}) == "console"
    assert choose("auto", io.StringIO(), {"JOURNAL_STREAM": "1:2"}) == "json"


def test_json_lines_hold_the_event_and_its_fields() -> None:
    """One line an event, whatever the value, with level, UTC time and the logger's name."""
    out = io.StringIO()
    configure("json", "info", stream=out)
    structlog.get_logger("epad.room").warning("phase.changed", source="NORMAL", path=Path("/x"), note="a\nb")
    (line,) = out.getvalue().splitlines()
    entry = json.loads(line)
    assert entry.pop("timestamp").endswith("Z")
    assert entry == {
        "event": "phase.changed",
        "level": "warning",
        "logger": "epad.room",
        "source": "NORMAL",
        "path": "/x",
        "note": "a\nb",
    }


def test_what_is_below_the_level_is_not_written() -> None:
    """The configured level is the least that is seen."""
    out = io.StringIO()
    log = configure("json", "warning", stream=out)
    log.info("quiet")
    log.error("loud")
    assert [json.loads(line)["event"] for line in out.getvalue().splitlines()] == ["loud"]


def test_the_console_is_readable_and_without_colours_off_a_terminal() -> None:
    """Event and fields in a line, and no escape sequences in a file."""
    out = io.StringIO()
    configure("console", "info", stream=out).info("phase.changed", source="NORMAL")
    assert "phase.changed" in out.getvalue()
    assert "source=NORMAL" in out.getvalue()
    assert "\x1b" not in out.getvalue()


def test_the_journal_gets_fields(journal: Journal) -> None:
    """A sentence for people, the priority of the level, and each key as a field of its own."""
    out = io.StringIO()
    configure("journal", "info", stream=out, journal=journal.path)
    structlog.get_logger("epad.room").error(
        "phase.changed", source="NORMAL", count=3, nested={"a": [1]}, text="two\nlines"
    )
    assert journal.read() == {
        "MESSAGE": b'phase.changed source=NORMAL count=3 nested={"a": [1]} logger=epad.room',
        "PRIORITY": b"3",
        "SYSLOG_IDENTIFIER": b"epad",
        "EPAD_EVENT": b"phase.changed",
        "EPAD_SOURCE": b"NORMAL",
        "EPAD_COUNT": b"3",
        "EPAD_NESTED": b'{"a": [1]}',
        "EPAD_TEXT": b"two\nlines",
        "EPAD_LOGGER": b"epad.room",
    }
    assert out.getvalue() == ""


@pytest.mark.parametrize(
    ("level", "priority"), [("debug", 7), ("info", 6), ("warning", 4), ("error", 3), ("critical", 2)]
)
def test_each_level_has_its_priority(level: str, priority: int, journal: Journal) -> None:
    """Syslog's numbers, so that `journalctl -p err` finds what it should."""
    log = configure("journal", "debug", stream=io.StringIO(), journal=journal.path)
    getattr(log, level)("said")
    assert journal.read()["PRIORITY"] == str(priority).encode()


def test_an_exception_is_in_the_journal_with_its_traceback(journal: Journal) -> None:
    """As one field of many lines."""
    log = configure("journal", "info", stream=io.StringIO(), journal=journal.path)
    try:
        raise RuntimeError("the reason")  # noqa: TRY301
    except RuntimeError:
        log.exception("task.died")
    assert b"RuntimeError: the reason" in journal.read()["EPAD_EXCEPTION"]


def test_without_a_journal_the_log_goes_to_the_stream(tmp_path: Path) -> None:
    """Journald may be down or not there at all: nothing is raised and nothing is lost."""
    out = io.StringIO()
    log = configure("journal", "info", stream=out, journal=tmp_path / "absent")
    log.info("phase.changed", source="NORMAL", path=Path("/x"))
    entry = json.loads(out.getvalue())
    assert (entry["event"], entry["source"], entry["path"]) == ("phase.changed", "NORMAL", "/x")
    assert entry["journal_error"]


def test_a_journal_that_does_not_read_does_not_stop_the_daemon(journal: Journal) -> None:
    """Once its queue is full, entries go to the stream instead of waiting."""
    out = io.StringIO()
    log = configure("journal", "info", stream=out, journal=journal.path)
    for number in range(2_000):
        log.info("flood", number=number, text="x" * 10_000)
        if out.getvalue():
            break
    assert json.loads(out.getvalue())["event"] == "flood"
    assert journal.read()["EPAD_NUMBER"] == b"0"


@pytest.mark.parametrize("log_format", ["json", "console", "journal"])
def test_a_stream_that_is_gone_is_no_error(log_format: log_output.Format, tmp_path: Path) -> None:
    """A closed stderr loses the log and nothing else."""
    out = io.StringIO()
    log = configure(log_format, "info", stream=out, journal=tmp_path / "absent")
    out.close()
    log.info("into the void")


def test_what_libraries_log_is_in_our_log() -> None:
    """Asyncio's and aiohttp's warnings arrive as events, also with broken arguments and levels of their own."""
    out = io.StringIO()
    configure("json", "info", stream=out)
    configure("json", "info", stream=out)
    library = logging.getLogger("aiohttp.server")
    library.warning("lost %s of %d", "one", 2)
    library.log(35, "between")
    library.info("chatter")
    entries = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [(e["message"], e["level"], e["library"]) for e in entries] == [
        ("lost one of 2", "warning", "aiohttp.server"),
        ("between", "warning", "aiohttp.server"),
    ]


NAMES = st.text(min_size=1, max_size=80)
VALUES = (
    st.text(max_size=30) | st.integers() | st.none() | st.binary(max_size=5) | st.lists(st.text(max_size=3))
)


@given(st.dictionaries(NAMES, VALUES, max_size=4), st.text(max_size=20))
def test_any_event_is_a_datagram_the_journal_can_read(fields: dict[str, object], event: str) -> None:
    """Whatever the names and values are, the entry parses, and its field names are ones the journal takes."""
    datagram = journal_datagram({"event": event, "level": "info", **fields})
    for line_name in names_of(datagram):
        assert line_name.replace("_", "A").isalnum()
        assert line_name.isascii()
        assert line_name == line_name.upper()
        assert len(line_name) <= 64


def names_of(datagram: bytes) -> list[str]:
    """The field names, which unlike in `parse` may repeat: two keys may differ in case alone."""
    names = []
    while datagram:
        head, _, rest = datagram.partition(b"\n")
        name, equals, _ = head.partition(b"=")
        if not equals:
            length = int.from_bytes(rest[:8], "little")
            rest = rest[8 + length + 1 :]
        names.append(name.decode())
        datagram = rest
    return names


def test_an_entry_fits_a_datagram() -> None:
    """The largest event there can be stays below the kernel's default limit."""
    event = {f"field_{number}": "x\n" * 100_000 for number in range(100)}
    datagram = journal_datagram({"event": "y" * 100_000, **event})
    assert len(datagram) < 212_992
    assert len(parse(datagram)) == 4 + MAX_FIELDS
    assert max(len(value) for value in parse(datagram).values()) == MAX_FIELD_BYTES
