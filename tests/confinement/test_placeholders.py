"""Placeholders go with the cell they were made for, unless somebody has made something of them."""

from __future__ import annotations

from pathlib import Path

from epad.confinement.placeholders import clear


def test_what_is_empty_goes(tmp_path: Path) -> None:
    """Files, and directories of them; not what has been written meanwhile, and no link."""
    for name in (".vscode", ".husky"):
        (tmp_path / name).mkdir()
    for name in (".envrc", ".bashrc", ".husky/hook"):
        (tmp_path / name).touch()
    (tmp_path / ".bashrc").write_text("a person's")
    (tmp_path / ".zshrc").symlink_to(tmp_path / ".envrc")
    names = (".vscode", ".husky", ".envrc", ".bashrc", ".zshrc", ".gone")
    clear([str(tmp_path / name) for name in names], [])
    assert sorted(path.name for path in tmp_path.iterdir()) == [".bashrc", ".husky", ".zshrc"]


def test_another_cells_stay(tmp_path: Path) -> None:
    """Deleted, they would be open for that one."""
    (tmp_path / "w").mkdir()
    for name in ("w/.envrc", ".envrc"):
        (tmp_path / name).touch()
    clear([str(tmp_path / name) for name in ("w/.envrc", ".envrc")], [str(tmp_path / "w")])
    assert (tmp_path / "w/.envrc").exists()
    assert not (tmp_path / ".envrc").exists()


def test_no_link_leads_to_a_file_elsewhere(tmp_path: Path) -> None:
    """Whoever owns a workspace could have root delete what they may not: by a link in the place of a directory."""
    (tmp_path / "w").mkdir()
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "hooks").mkdir(parents=True)
    (elsewhere / "config").touch()
    (tmp_path / "w/.git").symlink_to(elsewhere)
    clear([str(tmp_path / "w/.git" / name) for name in ("hooks", "config")], [])
    assert sorted(path.name for path in elsewhere.iterdir()) == ["config", "hooks"]
