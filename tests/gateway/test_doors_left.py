"""Unix sockets that the daemon before has left: which of them are taken over."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from epad.gateway import own_listeners
from epad.runtime.listener_handover import Handover

if TYPE_CHECKING:
    from epad.gateway.http.server import HttpServer


@pytest.fixture
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="epad-", dir="/tmp") as one:
        yield Path(one)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make sockets of other users")
@pytest.mark.parametrize("uid", [None, 61_234])
@pytest.mark.parametrize(
    "there", ["as it was left", "another user's", "listed for another", "a file", "nothing"]
)
def test_a_socket_is_taken_over_only_where_its_path_lets_in_whom_it_is_for(
    directory: Path, uid: int | None, there: str
) -> None:
    """Whatever the daemon before has left: one that is not right is closed for good, and made anew."""
    path, told = directory / "door.sock", list[tuple[str, ...]]()
    left = own_listeners._bind(path, uid)
    left.listen()

    def tell(*lines: str, **_: object) -> bool:
        told.append(lines)
        return True

    handover = Handover({"EPAD_LISTENING": str(left.detach())}, tell)
    match there:
        case "another user's":
            os.chown(path, 61_235, -1)
        case "listed for another":
            os.setxattr(path, "system.posix_acl_access", own_listeners._access_list(61_235))
        case "a file" | "nothing":
            path.unlink()
            if there == "a file":
                path.write_text("mine")
    taken = own_listeners._left_at(cast("HttpServer", SimpleNamespace(handover=handover)), path, uid)
    if there == "as it was left":
        assert taken is not None
        taken.close()
        assert told == []
    else:
        assert taken is None
        assert [line[0] for line in told] == ["FDSTOREREMOVE=1"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make sockets of other users")
def test_a_socket_of_a_daemon_that_may_give_nothing_away_is_taken_over(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the daemon's own, and lists who may use it."""

    def no_right(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "chown", no_right)
    path = directory / "door.sock"
    with own_listeners._bind(path, 61_234):
        assert own_listeners._is_for(path, 61_234)
        assert not own_listeners._is_for(path, 61_235)
        assert not own_listeners._is_for(path, None)
