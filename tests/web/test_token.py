"""The tokens' files: whole or not there, for the daemon's own user, kept where another program was given them."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from epad.copying.disk import Disk
from epad.web.token import keep_token, make_token


class FullDisk(Disk):
    """Makes the file, and has no room for what belongs in it."""

    def write(self, path: Path, data: bytes) -> None:
        super().write(path, b"")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_token_is_kept_or_made_anew_for_its_own_user_alone(tmp_path: Path) -> None:
    """The one for alerts outlives the daemon, the one for orders does not."""
    path = tmp_path / "token"
    kept = keep_token(path)
    assert keep_token(path) == kept
    assert path.read_text() == f"{kept.value}\n"
    assert make_token(path).value != kept.value
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_leaves_no_empty_token(tmp_path: Path) -> None:
    """It once did, and the next life took it for the token; what stood there before stays."""
    path = tmp_path / "token"
    with pytest.raises(OSError, match="No space left") as full:
        keep_token(path, FullDisk())
    assert full.value.filename == str(path)
    assert list(tmp_path.iterdir()) == []
    kept = keep_token(path)
    with pytest.raises(OSError, match="No space left"):
        make_token(path, FullDisk())
    assert keep_token(path) == kept


@pytest.mark.parametrize("left", [b"", b"\n", b"abc\n", b"\xff" * 43])
def test_what_is_left_of_a_token_is_none_and_is_said_once(tmp_path: Path, left: bytes) -> None:
    """As an earlier version left it on a full disk; the next life finds a whole one."""
    path = tmp_path / "token"
    path.write_bytes(left)
    with capture_logs() as said:
        made = keep_token(path)
        assert keep_token(path) == made
    assert len(made.value) == 43
    assert [(line["event"], line["file"]) for line in said] == [("token.made_anew", str(path))]
