"""The heads on the disk: the newest in a file of its own, those of every minute in a log, the keys beside them."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from epad.ledger.errors import HeadError
from epad.ledger.head import Head, Signer, Verifier, is_key, load_or_make_key
from epad.ledger.paths import Places
from epad.ledger.tree import Frontier

HEAD_FILE = "head"
LOG_FILE = "heads.log"
KEYS_FILE = "ledger.pub"
LOG_TAIL_BYTES = 65_536  # some 200 heads; each costs 0.1 ms to believe
_NOTE_END = "\n\n\n"
_NOTE_LINES = 7
LOG_SECONDS = 60.0
"""At most one logged head a minute, beside those of seals and closings: 130 MB in a year without a pause."""


@dataclass(frozen=True, slots=True)
class Heads:
    """Holds the contents of an anchor: every believable head, oldest first, and the faults of others."""

    known: tuple[Head, ...] = ()
    faults: tuple[str, ...] = ()

    @property
    def newest(self) -> Head | None:
        return self.known[-1] if self.known else None


def verifier_at(anchor: Path) -> Verifier | None:
    """Return the verifier of the anchor's keys; None without keys."""
    try:
        return Verifier((anchor / KEYS_FILE).read_text().split())
    except (OSError, HeadError, UnicodeDecodeError):
        return None


def read_heads(anchor: Path, log_bytes: int | None = LOG_TAIL_BYTES) -> Heads:
    """Read an anchor, of its log only the end, or all (None); one that is not there says nothing.

    Raises OSError.
    """
    try:
        verifier = Verifier((anchor / KEYS_FILE).read_text().split())
    except FileNotFoundError:
        notes = [name for name in (HEAD_FILE, LOG_FILE) if (anchor / name).exists()]
        return Heads(faults=tuple(f"{anchor / KEYS_FILE} is missing" for _ in notes[:1]))
    except (HeadError, UnicodeDecodeError) as error:
        return Heads(faults=(f"{anchor / KEYS_FILE}: {error}",))
    known: list[Head] = []
    faults: list[str] = []
    for path, note in _notes(anchor, log_bytes):
        try:
            known.append(verifier.read(note))
        except HeadError as error:
            faults.append(f"{path}: {error}")
    known.sort(key=lambda head: (head.size, head.wall_ns))
    return Heads(tuple(known), tuple(faults))


def _notes(anchor: Path, log_bytes: int | None) -> list[tuple[Path, str]]:
    """Return the notes in the log, then the newest.

    A note is torn off where a crash ended it; that is no fault.
    """
    notes = []
    log, newest = anchor / LOG_FILE, anchor / HEAD_FILE
    if log.exists() and log_bytes != 0:
        start = 0 if log_bytes is None else max(0, log.stat().st_size - log_bytes)
        with log.open("rb") as file:
            file.seek(start)
            *whole, rest = file.read().decode(errors="replace").split(_NOTE_END)
        if rest.count("\n") >= _NOTE_LINES:  # no crash leaves so much: its end has changed
            whole.append(rest.removesuffix("\n").removesuffix("\n"))
        notes += [(log, f"{note}\n") for note in (whole[1:] if start else whole)]
    if newest.exists():
        notes.append((newest, newest.read_bytes().decode(errors="replace")))
    return notes


class Anchor:
    """Signs heads and writes them. The keeper of heads writes, a repair mends: a lock keeps them apart."""

    def __init__(self, places: Places, signer: Signer) -> None:
        self._directory = places.anchor
        self._log = places.anchor / LOG_FILE
        self._witness = places.witness
        self._signer = signer
        self._lock = threading.RLock()
        self._log_bytes = 0

    @classmethod
    def open(cls, places: Places) -> Anchor:
        """Make the missing files. Raises HeadError."""
        try:
            signer = load_or_make_key(places.key)
            places.anchor.mkdir(mode=0o700, parents=True, exist_ok=True)
            anchor = cls(places, signer)
            anchor._publish_key()
            _cut_torn_note(anchor._log)
            anchor._log_bytes = anchor._size_of_log()
        except OSError as error:
            raise HeadError(f"the ledger's heads cannot be kept: {error}") from error
        return anchor

    def read(self, log_bytes: int | None = LOG_TAIL_BYTES) -> Heads:
        """Read the heads written before. Raises HeadError."""
        try:
            return self._with_witness(read_heads(self._directory, log_bytes))
        except OSError as error:
            raise HeadError(f"the ledger's heads cannot be read: {error}") from error

    def write(self, head: Head, *, log: bool) -> None:
        """Sign a head and put it where the newest is, in one step. Raises HeadError."""
        note = self._signer.sign(head)
        try:
            with self._lock:
                if log:
                    self._append(note)
                    self._tell_witness(note)
                replace_file(self._directory / HEAD_FILE, note.encode())
        except OSError as error:
            raise HeadError(f"the ledger's head could not be written: {error}") from error

    def loss(self) -> str:
        """Say that the log of heads is shorter than it was left; empty while it is not."""
        if self._size_of_log() >= self._log_bytes:
            return ""
        with self._lock:  # another thread may have logged a head between the two, or be mending the log
            size, left = self._size_of_log(), self._log_bytes
        if size >= left:
            return ""
        return (
            f"{self._log} was cut from {left} to {size} bytes: the heads in between are "
            "lost; a repair, or a restart of epad, goes on without them"
        )

    def _size_of_log(self) -> int:
        try:
            return os.stat(self._log).st_size  # noqa: PTH116  asked at each commit, see `OpenFile.loss`
        except OSError:
            return 0

    def _tell_witness(self, note: str) -> None:
        """Leave a copy outside; a place where that cannot be done has none."""
        if self._witness is not None:
            with contextlib.suppress(OSError):
                replace_file(self._witness, f"{self._signer.verifier_key}\n{note}".encode())

    def _with_witness(self, heads: Heads) -> Heads:
        """Return the heads, and that of the witness if it knows of more."""
        if self._witness is None or not self._witness.exists():
            return heads
        key, _, note = self._witness.read_text(errors="replace").partition("\n")
        try:
            head = Verifier([key]).read(note)
        except HeadError:
            return heads  # it can only add to what is known
        if heads.newest is not None and head.size <= heads.newest.size:
            return heads
        return Heads((*heads.known, head), heads.faults)

    @property
    def signer(self) -> Signer:
        return self._signer

    def mend(self) -> None:
        """Put damaged files aside and write the believable heads again. Raises HeadError."""
        with self._lock:
            known = self.read(log_bytes=None).known
            try:
                for name in (LOG_FILE, HEAD_FILE):
                    path = self._directory / name
                    if path.exists():
                        path.replace(path.with_name(f"{name}.damaged"))
                self._log_bytes = 0
                self._publish_key()
            except OSError as error:
                raise HeadError(f"the ledger's heads cannot be mended: {error}") from error
            for head in known:
                self.write(head, log=True)

    def _publish_key(self) -> None:
        """Add the key's public half to those that are believed: heads under a former key stay valid."""
        path = self._directory / KEYS_FILE
        lines = path.read_text(errors="replace").split() if path.exists() else []
        lines = [line for line in lines if is_key(line)]
        if self._signer.verifier_key not in lines:
            replace_file(path, "".join(f"{line}\n" for line in [*lines, self._signer.verifier_key]).encode())

    def _append(self, note: str) -> None:
        data = f"{note}\n\n".encode()
        descriptor = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            _write_all(descriptor, data)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        self._log_bytes += len(data)


class HeadKeeper:
    """Writes heads of committed records, in a thread of its own: no turn waits for its fsync.

    A head follows when `head_records` have come since the last, or `head_seconds` after the first of them. One that
    could not be written is tried again every `head_seconds`, whether records come or not; `error` says why meanwhile.
    """

    def __init__(
        self, anchor: Anchor, head_records: int, head_seconds: float, wall_ns: Callable[[], int]
    ) -> None:
        self.error = ""
        self.size = 0
        self._anchor = anchor
        self._head_records = head_records
        self._head_seconds = head_seconds
        self._wall_ns = wall_ns
        self._condition = threading.Condition()
        self._pending: tuple[Frontier, bytes] | None = None
        self._log_next = True
        self._logged_ns = 0
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="ledger-heads", daemon=True)
        self._thread.start()

    def committed(self, frontier: Frontier, link: bytes, *, log: bool = False) -> None:
        """These records are on the disk; cheap, for the writer's thread."""
        with self._condition:
            first = self._pending is None
            self._pending = (frontier.copy(), link)
            self._log_next = self._log_next or log
            if first or self._is_due():  # the thread need not wake for what it would only wait on
                self._condition.notify()

    def stop(self) -> None:
        """Write the last head and end the thread."""
        with self._condition:
            self._stopping = self._log_next = True
            self._condition.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._pending or self._stopping)
                self._condition.wait_for(self._is_due, timeout=self._head_seconds)
                pending, log = self._pending, self._log_next
                self._pending, self._log_next = None, False
                stopping = self._stopping
            if pending is not None and not self._write(*pending, log=log):
                self._wait_to_try_again(pending, log=log)
            if stopping:
                return

    def _wait_to_try_again(self, pending: tuple[Frontier, bytes], *, log: bool) -> None:
        with self._condition:
            self._condition.wait_for(lambda: self._stopping, timeout=self._head_seconds)
            self._pending, self._log_next = self._pending or pending, self._log_next or log

    def _is_due(self) -> bool:
        many = self._pending is not None and self._pending[0].size - self.size >= self._head_records
        return many or self._log_next or self._stopping

    def _write(self, frontier: Frontier, link: bytes, *, log: bool) -> bool:
        now_ns = self._wall_ns()
        log = log or now_ns - self._logged_ns >= LOG_SECONDS * 1e9
        try:
            self._anchor.write(Head(frontier.size, frontier.root(), link, now_ns), log=log)
        except HeadError as error:
            self.error = str(error)
            return False
        self.error = ""
        self.size = frontier.size
        if log:
            self._logged_ns = now_ns
        return True


def _cut_torn_note(path: Path) -> None:
    """Drop a note torn by a crash, so that the next one stands alone. A note has some 300 bytes."""
    if not path.exists():
        return
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - LOG_TAIL_BYTES))
        data = file.read()
    end = data.rfind(_NOTE_END.encode())
    torn = len(data) - end - len(_NOTE_END) if end >= 0 else len(data)
    if torn:
        os.truncate(path, size - torn)


def replace_file(path: Path, data: bytes) -> None:
    """Write a whole file in one step, durable on return. Raises OSError."""
    temporary = path.with_name(f"{path.name}.new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        _write_all(descriptor, data)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    temporary.replace(path)
    sync_directory(path.parent)


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def sync_directory(directory: Path) -> None:
    """Make names in a directory durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
