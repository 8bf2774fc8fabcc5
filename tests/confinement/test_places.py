"""The places that every policy speaks of."""

from __future__ import annotations

import pytest

from epad.confinement.places import placeholder


@pytest.mark.parametrize(
    ("path", "planned"),
    [
        ("/w/.git/hooks", "/w/.git/hooks/"),
        ("/w/.git/config", "/w/.git/config"),
        ("/home/me/.config/autostart", "/home/me/.config/autostart/"),
        ("/w/x.vscode", "/w/x.vscode"),
        ("/w/docs/frozen.md", "/w/docs/frozen.md"),
    ],
)
def test_a_placeholder_is_a_directory_where_one_belongs(path: str, planned: str) -> None:
    """A file in the place of a directory would be in the way of whoever owns the workspace."""
    assert placeholder(path) == planned
