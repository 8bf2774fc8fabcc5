"""Harm done to files from a child process: a daemon's own file must not be opened and closed in-process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from patience import PATIENCE_SECONDS

_FLIP = """
import pathlib, sys
import apsw
path, sequence = sys.argv[1], int(sys.argv[2])
connection = apsw.Connection(path, flags=apsw.SQLITE_OPEN_READONLY)
(body,) = connection.execute("SELECT body FROM record WHERE seq = ?", (sequence,)).fetchone()
connection.close()
flipped = 0
for file in (pathlib.Path(path), pathlib.Path(path + "-wal")):
    data = file.read_bytes() if file.exists() else b""
    at = data.find(body)
    while at >= 0:
        with file.open("r+b") as handle:
            handle.seek(at + len(body) // 2)
            handle.write(bytes([data[at + len(body) // 2] ^ 1]))
        flipped += 1
        at = data.find(body, at + 1)
sys.exit(0 if flipped else 3)
"""


def flip_one_bit(ledger: Path, sequence: int) -> None:
    """Flip one bit in the body of a ledger record, in the file and in the write-ahead log, wherever it stands."""
    subprocess.run(
        [sys.executable, "-c", _FLIP, str(ledger), str(sequence)], check=True, timeout=PATIENCE_SECONDS
    )
