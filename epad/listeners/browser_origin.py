"""Decide if a request may come from the origin its browser states: pure decisions about headers.

A listener on loopback is within reach of every browser of the machine, with whatever site it shows. A site can post
across (text/plain needs no leave), and point its own name at 127.0.0.1 (DNS rebinding). Only browsers send Origin and
Sec-Fetch-Site, and all of them send Host: so no other client meets a refusal but for a Host that is a public name.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Container

# Names that no site can own: ICANN keeps `internal` for private use (host.docker.internal), RFC 6761 `localhost`.
_PRIVATE_SUFFIXES = (".localhost", ".internal")
# What programs of this machine that are made of web pages say of themselves; no site can say it.
_OWN_PROGRAMS = frozenset({"app", "tauri", "vscode-file", "vscode-webview"})
NOBODY: frozenset[str] = frozenset()


def without_port(host: str) -> str:
    """Return the name or address in a Host, in lower case and without the root's dot."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    name = host.rpartition(":")[0] if ":" in host else host
    return name.lower().removesuffix(".")


def refuse_name(host: str | None, names: Container[str]) -> str:
    """Say why a Host is none of ours; empty if it may be. A rebound name is a public one, with a dot in it.

    An address cannot be rebound, a single label (a container's name, a machine's) cannot be bought. Whoever sends no
    Host at all is no browser.
    """
    name = without_port(host or "")
    if not name or name in names or "." not in name or name.endswith(_PRIVATE_SUFFIXES) or _is_address(name):
        return ""
    return f"nothing here is served as {name[:80]!r}"


def refuse_site(origin: str | None, site: str | None, host: str | None, names: Container[str]) -> str:
    """Say why a request of another site's page is refused; empty if it is none, or of a page of this machine."""
    if origin is not None:
        scheme, _, place = origin.partition("://")
        name = without_port(place)
        ours = scheme in _OWN_PROGRAMS or (
            scheme in {"http", "https"}
            and (
                place == host
                or name in names
                or name == "localhost"
                or name.endswith(".localhost")
                or _is_loopback(name)
            )
        )
        return "" if ours else f"a page of {origin[:80]!r} may not ask here"
    if site in {"cross-site", "same-site"}:
        return "a page of another site may not ask here"
    return ""


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _is_loopback(name: str) -> bool:
    return _is_address(name) and ipaddress.ip_address(name).is_loopback
