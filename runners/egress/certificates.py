"""Keep the certificates by which the way out speaks for hosts, and make the TLS contexts of their connections.

A host's certificate has a key of its own, made when the host is first asked for. No key is written to a disk: the
library that wants one as a file is given a file in memory.
"""

from __future__ import annotations

import contextlib
import os
import ssl
from collections import OrderedDict
from datetime import UTC, datetime, timedelta
from importlib import import_module
from typing import Any, Final

from runners.egress.messages import Authority
from runners.egress.refusal import RefusedError, Why

_LEAF_KEPT: Final = timedelta(days=7)
_MOST_LEAVES: Final = 64
_PROTOCOLS: Final = ("http/1.1",)
_MAKER: Final = "runners.egress.authority"
"""Loaded when it is needed: it takes 5 MiB, and the package may not be there."""


class Certificates:
    """Makes the certificates of an authority's hosts, and keeps those that were used last."""

    def __init__(self, authority: Authority) -> None:
        self.hosts = frozenset(authority.hosts)
        self._authority = authority
        self._kept: OrderedDict[str, tuple[datetime, bytes]] = OrderedDict()

    def context(self, host: str, hello: bytes) -> ssl.SSLContext:
        """Return a server's context for a host, which begins with a hello that was read. Raises RefusedError."""
        try:
            return _context(self._leaf(host), hello)
        except (ImportError, ValueError, OSError) as error:
            words = f"the way out cannot speak TLS for {host}: {error}"
            raise RefusedError(Why.UNREACHABLE, words) from None

    def _leaf(self, host: str) -> bytes:
        """Return a host's key and certificate, as PEM."""
        now = datetime.now(UTC)
        made_at, leaf = self._kept.pop(host, (now, b""))
        if not leaf or now - made_at > _LEAF_KEPT or made_at > now:
            made_at, leaf = now, _maker().make_leaf(self._authority, host)
        self._kept[host] = made_at, leaf
        if len(self._kept) > _MOST_LEAVES:
            self._kept.popitem(last=False)
        return leaf


class _BegunContext(ssl.SSLContext):
    """A server's context for one connection, whose hello was taken off the wire before."""

    hello = b""

    def wrap_bio(self, incoming: ssl.MemoryBIO, *arguments: object, **named: object) -> ssl.SSLObject:
        """Begin a connection; asyncio calls this once for each."""
        incoming.write(self.hello)
        return super().wrap_bio(incoming, *arguments, **named)  # type: ignore[arg-type]  # passed on as they are


def _context(leaf: bytes, hello: bytes) -> ssl.SSLContext:
    context = _BegunContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.num_tickets = 0  # each connection has a context of its own, so none could be resumed
    context.set_alpn_protocols(list(_PROTOCOLS))
    context.hello = hello
    file = os.memfd_create("leaf", os.MFD_CLOEXEC)
    with os.fdopen(file, "wb", buffering=0) as memory:
        memory.write(leaf)
        context.load_cert_chain(f"/proc/self/fd/{file}")
    return context


def _maker() -> Any:
    """Return the module that makes certificates. Raises ImportError."""
    return import_module(_MAKER)


def import_now() -> None:
    """Load the package while its files can be read; a connection that needs it without is told so."""
    with contextlib.suppress(ImportError):
        _maker()
