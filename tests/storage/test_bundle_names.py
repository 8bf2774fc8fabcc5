"""Names inside a bundle."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from epad.storage.bundle_names import is_safe, name_fault, subsystem_file


@given(st.text(max_size=40))
def test_a_safe_name_stays_inside(name: str) -> None:
    """Whatever is called safe resolves below the bundle."""
    if is_safe(name):
        assert Path("/bundle") in Path("/bundle", name).parents
        assert ".." not in Path(name).parts


def test_a_reserved_name_is_refused_at_the_top_alone() -> None:
    """The bundle's own files lie there; below a folder their names are as good as any."""
    assert not is_safe("VERIFIED", {"VERIFIED"})
    assert is_safe("notes/VERIFIED", {"VERIFIED"})


def test_no_name_is_a_folder_of_another() -> None:
    """In either order; and none is there twice."""
    assert name_fault(["a", "b/c", "b/d"]) == ""
    for names in (["a", "a/b"], ["a/b", "a"], ["a", "a"]):
        assert "another source has this place" in name_fault(names)


def test_a_path_from_the_root_gets_a_place_of_its_own() -> None:
    """As one below the subsystem's directory does."""
    assert subsystem_file("chat", "/srv/notes") == "subsystems/chat/srv/notes"
    assert subsystem_file("chat", "logs/") == "subsystems/chat/logs"
