"""Names that tools never write or read: the same that cells protect."""

from __future__ import annotations

import pytest

from epad.confinement import places
from runners.tools import protected


@pytest.mark.parametrize("path", [*places.PROTECTED, *places.PROTECTED_AT_HOME])
def test_what_a_cell_protects_no_tool_writes(path: str) -> None:
    """Wherever it is in a path, and what is below a directory."""
    for each in (path.rstrip("/"), f"docs/{path.rstrip('/')}", f"{path.rstrip('/')}/below"):
        assert protected.never_written(each)


@pytest.mark.parametrize("path", places.SECRETS)
def test_what_a_cell_hides_no_tool_reads(path: str) -> None:
    """Nor writes."""
    assert protected.never_read(f"home/{path}")
    assert protected.never_written(path)
    assert not protected.never_read(f"{path}-like")


def test_plain_files_are_read_and_written() -> None:
    """The benign twin."""
    for path in ("notes.txt", ".gitignore", "src/config", ".config/nvim/init.lua", ".github/x.yml"):
        assert not protected.never_written(path)
        assert not protected.never_read(path)


def test_a_path_that_a_protected_one_begins_with_is_told() -> None:
    """A link there would give a protected name to what it leads to; other directories are plain."""
    for path in (".config", "home/.local/share", "SNAP", ".local"):
        assert protected.leads_to_protected(path)
    for path in ("config", "docs", ".config/nvim", "share", ".configs"):
        assert not protected.leads_to_protected(path)
