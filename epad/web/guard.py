"""Decide who may use the status page, from a request's headers. Pure.

The page listens on loopback, where every browser of the machine is, with whatever site it shows. A site can
point its own name at 127.0.0.1 (DNS rebinding), so the Host must be ours; and it can post a form across, so an
order must come from our own origin and bring the token, which no other origin can read.
"""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Mapping

# The page shows text of children and models. Should markup ever get through, this lets none of it run or call out.
SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self' data:; "
        "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    # With "no-referrer" a browser says `Origin: null` of our own forms, and every order is refused.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def refuse_host(host: str, names: frozenset[str] = frozenset()) -> str:
    """Say why a Host header is none of ours; empty if it is. `names` are those configured beside loopback's own."""
    name = _without_port(host)
    if name in {"localhost", *names} or name.endswith(".localhost"):
        return ""
    try:
        if ipaddress.ip_address(name).is_loopback:
            return ""
    except ValueError:
        pass
    return f"this page is not served as {name[:80]!r}: open it as localhost, or name the host in [web] hosts"


def refuse_origin(headers: Mapping[str, str], host: str) -> str:
    """Say why a request that changes something does not come from the page itself; empty if it does."""
    site = headers.get("Sec-Fetch-Site")
    if site is not None and site != "same-origin":
        return f"an order must come from the page itself; this one is {site[:20]}"
    origin = headers.get("Origin")
    if origin is not None and origin.partition("://")[2] != host:
        return f"an order must come from the page itself, not from {origin[:80]}"
    if site is None and origin is None:
        return "an order must say where it comes from (Origin): use a browser, or epactl"
    return ""


def refuse_token(given: str, expected: str) -> str:
    """Say why a token is not the one; empty if it is. Without a token of ours nothing may be changed."""
    if not expected:
        return "this page only shows: set [web] orders = true, or use epactl"
    if not hmac.compare_digest(given.encode(errors="surrogateescape"), expected.encode()):
        return "the token is wrong: it stands in the file that the page names"
    return ""


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0] if ":" in host else host
