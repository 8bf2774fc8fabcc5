"""Files and directories as sources."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import apsw
import pytest

from epad.copying import file_copy
from epad.copying.file_copy import report


def test_a_directory_is_copied_with_all_below_it(tmp_path: Path, database: Path) -> None:
    """Nested and odd names, links to files and databases are taken; sockets, FIFOs and WALs are not."""
    home = database.parent
    (home / "deep" / "er").mkdir(parents=True)
    (home / "deep" / "er" / "ünï \\ code.txt").write_text("x")
    (home / "link").symlink_to("deep/er/ünï \\ code.txt")
    os.mkfifo(home / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(home / "sock"))
        writer = apsw.Connection(str(database))
        writer.execute("INSERT INTO entity VALUES (900, 'late')")
        answer = report(home, tmp_path / "copy")
        writer.close()
    assert not answer.failure
    assert {file.file: file.how for file in answer.files} == {
        "graph.db": "sqlite_backup",
        "link": "copy",
        "deep/er/ünï \\ code.txt": "copy",
    }
    assert not any(file.error for file in answer.files)
    assert (tmp_path / "copy" / "link").read_text() == "x"


def test_what_cannot_be_taken_from_a_directory_is_named(tmp_path: Path) -> None:
    """A link to a directory, a dangling link and a name that no manifest can hold are losses, not silence."""
    home = tmp_path / "home"
    (home / "real").mkdir(parents=True)
    (home / "loop").symlink_to(home)
    (home / "dangling").symlink_to("nowhere")
    (home / "good").write_text("good")
    Path(os.fsdecode(os.fsencode(home) + b"/bad\xff")).write_text("bad")
    errors = {file.file: file.error for file in report(home, tmp_path / "copy").files}
    assert errors.pop("good") == ""
    assert errors.pop("loop").endswith("a link to a directory; name that directory itself")
    assert errors.pop("dangling").endswith("No such file or directory")
    assert "a name no manifest can hold" in errors.pop("")
    assert not errors


def test_a_file_that_bears_the_name_of_a_bundles_own_is_taken(tmp_path: Path) -> None:
    """It lies in a folder of the bundle, where no file of the bundle's own is."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "MANIFEST.json").write_text("mine")
    assert [(file.file, file.error) for file in report(home, tmp_path / "copy").files] == [
        ("MANIFEST.json", "")
    ]


def test_a_file_that_never_holds_still_is_called_what_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A torn reading is retried, and if there is no other, kept under its own name."""
    source = tmp_path / "log"
    source.write_bytes(b"a")
    real = file_copy._copy_bytes
    readings = []

    def growing(path: Path, destination: Path) -> None:
        real(path, destination)
        readings.append(path)
        with source.open("ab") as file:
            file.write(b"a")

    monkeypatch.setattr(file_copy, "_copy_bytes", growing)
    assert report(source, tmp_path / "copy").files[0].how == "copy_of_changing"
    assert len(readings) == file_copy.QUIET_ATTEMPTS


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_we_may_not_read_is_named(tmp_path: Path) -> None:
    """Permission is a fact about the source."""
    (tmp_path / "secret").write_text("s")
    (tmp_path / "secret").chmod(0)
    assert report(tmp_path / "secret", tmp_path / "copy").files[0].error.endswith("Permission denied")
