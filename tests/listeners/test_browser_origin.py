"""Who may knock: names that a site cannot own, and pages that are of this machine."""

from __future__ import annotations

import pytest

from epad.listeners.browser_origin import refuse_name, refuse_site

NAMES = frozenset({"gpu.example.org"})
HOST = "127.0.0.1:8700"


@pytest.mark.parametrize(
    "host",
    [
        None, "", "localhost", "LOCALHOST:8700", "localhost.", HOST, "10.0.0.7:8700", "[::1]:8700", "0.0.0.0",
        "epad:8700", "host.docker.internal:8700", "x.localhost", "gpu.example.org", "GPU.example.org.:1", "2130706433",
    ],
)  # fmt: skip
def test_what_cannot_be_rebound_is_let_in(host: str | None) -> None:
    """Addresses, single labels, private suffixes, configured names, and clients that are no browsers."""
    assert refuse_name(host, NAMES) == ""


@pytest.mark.parametrize(
    "host",
    [
        "evil.example", "evil.example:8700", "127.0.0.1.evil.example", "localhost.evil.example", "127.0.0.1.nip.io",
        "evil.example:8702@127.0.0.1", "gpu.example.org.evil.example", "evil.local", "internal.evil", "a.b:",
        "[evil.example]:8700",
    ],
)  # fmt: skip
def test_a_public_name_is_refused(host: str) -> None:
    """Whatever stands before or behind it."""
    assert refuse_name(host, NAMES)


@pytest.mark.parametrize(
    ("origin", "site", "refused"),
    [
        (None, None, False), (None, "none", False), (None, "same-origin", False),
        (f"http://{HOST}", "same-origin", False),
        ("http://localhost:3000", "cross-site", False), ("http://127.0.0.1:3000", "same-site", False),
        ("https://gpu.example.org", "cross-site", False), ("app://obsidian.md", "cross-site", False),
        ("tauri://localhost", None, False), (None, "cross-site", True), (None, "same-site", True), ("null", None, True),
        ("null", "cross-site", True), ("http://evil.example", None, True), ("http://evil.example", "none", True),
        ("http://203.0.113.5", None, True), ("http://localhost.evil.example", None, True), ("", None, True),
        ("http://evil.example:80@localhost", None, True), ("ftp://localhost", None, True), ("evil", "cross-site", True),
    ],
)  # fmt: skip
def test_pages_of_other_sites_are_refused(origin: str | None, site: str | None, refused: bool) -> None:
    """An address of another machine is another site; a page of this machine is none."""
    assert bool(refuse_site(origin, site, HOST, NAMES)) is refused
