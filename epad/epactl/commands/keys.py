"""`epactl key list`: which keys there are. It reads `state.db`, daemon or no daemon, where only their hashes stand."""

from __future__ import annotations

import stat

from epad.epactl import render
from epad.epactl.call import EXIT_OK, EXIT_UNKNOWN, Call, is_there, refuse_unreadable, state_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from epad.answers.reports import Key

_KEYS = "SELECT subsystem, issued_utc, lower(hex(key_sha256)) FROM subsystem_key ORDER BY subsystem, id"
_HEADS = ("SUBSYSTEM", "ISSUED", "SHA256 OF THE KEY")
SHOWN_DIGITS = 16  # enough to tell keys apart


def show_list(call: Call) -> int:
    """`epactl key list [--state DIR]`."""
    path = f"{state_of(call)}/state.db"
    if not is_there(path, stat.S_ISREG):
        call.terminal.say(f"{path}: there are no keys; give the state directory with --state")
        return EXIT_UNKNOWN
    refuse_unreadable(path)
    import apsw  # noqa: PLC0415

    from epad.storage.database import DatabaseError  # noqa: PLC0415

    try:
        keys = _keys_of(path)
    except (DatabaseError, apsw.Error) as error:
        call.terminal.say(f"{path}: {error}")
        return EXIT_UNKNOWN
    cells = [(key["subsystem"], key["issued"], key["sha256"][:SHOWN_DIGITS]) for key in keys]
    lines = render.table(_HEADS, cells, call.terminal.style) if keys else ["no keys"]
    call.terminal.show(keys, lines)
    return EXIT_OK


def _keys_of(path: str) -> list[Key]:
    """Read every valid key, the oldest of a subsystem first. Raises DatabaseError, apsw.Error."""
    import contextlib  # noqa: PLC0415
    from pathlib import Path  # noqa: PLC0415

    from epad.storage.database import connect, fetch  # noqa: PLC0415

    with contextlib.closing(connect(Path(path), readonly=True)) as database:
        rows = fetch(database, _KEYS)
    return [{"subsystem": name, "issued": issued, "sha256": digest} for name, issued, digest in rows]
