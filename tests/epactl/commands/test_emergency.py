"""`epactl stop-all` before it does anything: who may, and whether a daemon runs. The rest is tests/e2e's."""

from __future__ import annotations

import fcntl
import io
import os
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from epad.epactl.call import EXIT_FAILED, EXIT_REFUSED, Call
from epad.epactl.commands.emergency import stop_all
from epad.epactl.terminal import Terminal

NOBODY = 65534


@contextmanager
def somebody_else() -> Iterator[None]:
    """Root may look at everything; as anybody else this is who we are already."""
    own = os.geteuid()
    if own == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(own)


def ask(state: Path) -> tuple[int, str]:
    """The exit status of `stop-all --yes`, and what was said."""
    said = io.StringIO()
    terminal = Terminal({}, "text", (io.StringIO(), io.StringIO(), said))
    return stop_all(
        Call(Namespace(socket=None, state=str(state), yes=True, dry_run=False, reason="r"), {}, terminal)
    ), said.getvalue()


def test_who_may_not_look_is_told_so(tmp_path: Path) -> None:
    """A lock that cannot be read does not pass for a daemon's: nobody would look for what is left running."""
    state = tmp_path / "state"
    state.mkdir(mode=0)
    with somebody_else():
        status, said = ask(state)
    assert status == EXIT_REFUSED
    assert "daemon.lock: Permission denied: whether an epad runs on it cannot be told" in said


def test_a_held_lock_is_a_daemon(tmp_path: Path) -> None:
    """Named with what does it better."""
    with (tmp_path / "daemon.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        status, said = ask(tmp_path)
    assert status == EXIT_FAILED
    assert "an epad runs on" in said
    assert "lifeboat enter" in said
