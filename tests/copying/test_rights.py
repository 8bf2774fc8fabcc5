"""Copies of another user's files by root: no link of theirs leads to what only root may read, whenever it is put."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import apsw
import pytest

from epad.copying.file_copy import report
from epad.copying.rights import Rights, as_owner_of, our_own, rights_beside, rights_for
from epad.copying.sqlite_copy import report as report_database

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0, reason="only root can be led astray by another user's links"
)

UID = 12345
SECRET = b"root:$6$only-root-reads-this\n"


class Place:
    """A directory of root's with a secret, a directory of the user's, and one for copies."""

    def __init__(self, root: Path) -> None:
        self.secret, self.theirs, self.bundle = root / "shadow", root / "theirs", root / "bundle"
        self.secret.write_bytes(SECRET)
        self.secret.chmod(0o600)
        self.theirs.mkdir()
        self.bundle.mkdir(mode=0o700)

    def give(self) -> None:
        for path in (self.theirs, *self.theirs.rglob("*")):
            os.chown(path, UID, UID, follow_symlinks=False)

    def leaked(self) -> bool:
        return any(SECRET in path.read_bytes() for path in self.bundle.rglob("*") if path.is_file())


@pytest.fixture
def place() -> Iterator[Place]:
    root = Path(tempfile.mkdtemp(prefix="epad-rights-", dir="/var/tmp"))
    root.chmod(0o755)
    yield Place(root)
    shutil.rmtree(root)


def test_a_link_to_what_only_root_reads_is_not_followed(place: Place) -> None:
    """As the file itself, in a directory, and as the directory on the way; the rest is copied."""
    (place.theirs / "data").symlink_to(place.secret)
    (place.theirs / "sound").write_text("sound")
    closed = place.secret.parent / "closed"
    closed.mkdir(mode=0o700)
    (closed / "token").write_bytes(SECRET)
    (place.theirs / "way").symlink_to(closed)
    place.give()
    assert "Permission denied" in report(place.theirs / "data", place.bundle / "one").files[0].error
    assert "Permission denied" in report(place.theirs / "way/token", place.bundle / "two").files[0].error
    files = {file.file: file.error for file in report(place.theirs, place.bundle / "tree").files}
    assert (place.bundle / "tree/sound").read_text() == "sound"
    assert "Permission denied" in files["data"]
    assert not place.leaked()
    assert os.geteuid() == 0


def test_a_hard_link_is_no_way_either(place: Place) -> None:
    """Where the kernel lets a user make one (fs.protected_hardlinks = 0)."""
    (place.theirs / "data").hardlink_to(place.secret)
    os.chown(place.theirs, UID, UID)
    assert "Permission denied" in report(place.theirs / "data", place.bundle / "one").files[0].error
    assert not place.leaked()


def test_a_database_behind_a_link_is_not_opened(place: Place) -> None:
    """Neither as a database nor as a file that turns out to be one; the user's own is, with its log."""
    hidden = place.secret.with_name("hidden.db")
    for path in (hidden, place.theirs / "own.db"):
        connection = apsw.Connection(str(path))
        connection.pragma("journal_mode", "wal")
        connection.execute("create table t (x); insert into t values ('only root')")
        connection.close()
    hidden.chmod(0o600)
    (place.theirs / "data.db").symlink_to(hidden)
    place.give()
    for copy in (report, report_database):
        assert copy(place.theirs / "data.db", place.bundle / "x.db").files[0].error
        assert not (place.bundle / "x.db").exists()
        [own] = copy(place.theirs / "own.db", place.bundle / "own.db").files
        assert (own.error, own.how) == ("", "sqlite_backup")
        assert (place.bundle / "own.db").stat().st_uid == 0


def test_a_link_that_is_swapped_in_between_leads_nowhere(place: Place) -> None:
    """A user who puts it there and takes it away as fast as they can: some copies are made, none has the secret."""
    data, link = place.theirs / "data", place.theirs / "link"
    ended = threading.Event()

    def swap() -> None:
        sound = place.theirs / "sound"
        while not ended.is_set():
            sound.write_bytes(b"sound")
            os.chown(sound, UID, UID)
            sound.rename(data)
            link.symlink_to(place.secret)
            link.rename(data)

    place.give()
    pid = os.fork()
    if pid == 0:
        swap()
        os._exit(0)
    try:
        made = [report(data, place.bundle / str(number)).files[0].error for number in range(300)]
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
    assert not place.leaked()
    assert any(made), "the link was never met"


def test_rights_end_at_the_first_name_that_is_not_roots(place: Place) -> None:
    """A link of root's is followed, one of the user's is the user's; what is root's alone is root's."""
    (place.theirs / "file").touch()
    place.give()
    ours = place.secret.with_name("ours")
    ours.symlink_to("theirs")
    assert rights_for(ours / "file") == rights_for(place.theirs) == Rights(UID, UID)
    assert rights_for(place.theirs / "not/there") == Rights(UID, UID)
    assert rights_for(place.secret) is None
    ours.with_name("circle").symlink_to("circle")
    assert rights_for(ours.with_name("circle")) is None


def test_the_neighbours_of_a_file_are_made_by_the_owner_of_its_directory(place: Place) -> None:
    """Of a user's file in a directory of root's, too; a link of root's leads to the directory that counts."""
    (place.theirs / "notes").write_text("mine")
    alone, link = place.theirs.parent / "alone", place.theirs.parent / "link"
    alone.write_text("mine")
    os.chown(alone, UID, UID)
    link.symlink_to(place.theirs / "notes")
    place.give()
    assert rights_for(alone) == Rights(UID, UID)
    assert rights_beside(alone) is None
    assert rights_beside(link) == rights_beside(place.theirs / "notes") == Rights(UID, UID)


def test_a_directory_that_root_has_closed_is_read_by_root_and_left_by_no_link(place: Place) -> None:
    """As a cell's own directory below epad's state: its user may not pass to it by its path."""
    (place.theirs / "own").write_text("own")
    (place.theirs / "data").symlink_to(place.secret)
    (place.theirs / "near").symlink_to("own")
    place.give()
    place.theirs.parent.chmod(0o700)
    files = {file.file: file.error for file in report(place.theirs, place.bundle / "tree").files}
    assert (files["own"], files["near"]) == ("", "")
    assert "leads out" in files["data"]
    assert "leads out" in report_database(place.theirs / "data", place.bundle / "one").files[0].error
    assert not place.leaked()


def test_rights_are_had_within_and_given_back(place: Place) -> None:
    """Root's within the user's, and after an error too."""
    place.give()
    groups = os.getgroups()
    seen = []
    with suppress(ValueError), as_owner_of(place.theirs):
        seen.append((os.geteuid(), os.getegid(), os.getgroups()))
        with our_own():
            seen.append((os.geteuid(), os.getegid(), os.getgroups()))
        raise ValueError("planted")
    assert seen == [(UID, UID, [UID]), (0, 0, [0])]
    assert (os.geteuid(), os.getegid(), os.getgroups()) == (0, 0, groups)
