"""Know who uses the page: whoever has the token, or the person for whom an authenticating reverse proxy vouches.

The proxy reaches the page on a Unix socket of its own, and shows with each request a token that only the daemon's user
and the proxy can read. It has signed the person in (OIDC), or verified the certificate (SPIFFE), and names the person
in a header, which it must set itself whatever the client sent.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from dataclasses import dataclass

from aiohttp import web

from epad import EpadError
from epad.api.unix import user_name
from epad.configuration.persons_schema import ProxyConfig
from epad.gate.permissions import Tier
from epad.gate.persons import Caller, Person, caller_by_claim, caller_by_uid
from epad.web.guard import refuse_token

TOKEN_HEADER = "X-Epad-Proxy-Token"  # noqa: S105 - the header's name
BY_TOKEN = "the status page"  # noqa: S105 - the name that orders are recorded by
CALLER = web.RequestKey("caller", Caller)
"""The key of a request whose caller a proxy vouches for."""


class NoPersonError(EpadError):
    """A request is of nobody who may use the page so; the message says why."""


@dataclass(frozen=True, slots=True)
class Proxy:
    """Reads who a proxied request is of."""

    config: ProxyConfig
    token: str
    persons: Callable[[], Collection[Person]]

    def caller(self, request: web.BaseRequest) -> Caller:
        """Return the person. Raises NoPersonError."""
        if refuse_token(_one(request, TOKEN_HEADER), self.token):
            raise NoPersonError(f"the proxy must send {TOKEN_HEADER}, with what stands in its file")
        subject = _one(request, self.config.user_header)
        spiffe = _one(request, self.config.spiffe_header) if self.config.spiffe_header else ""
        oidc = f"{subject}@{self.config.issuer}" if subject and self.config.issuer else ""
        caller = caller_by_claim(self.persons(), oidc=oidc, spiffe=spiffe)
        if caller is None:
            told = oidc or spiffe or "nobody: the proxy named no one"
            raise NoPersonError(f"{told[:200]} is no person of [persons]; an owner adds one, and reloads")
        return caller


def by_token(persons: Collection[Person]) -> Caller:
    """Return whoever has the page's token, and so can read the daemon's own files. Raises NoPersonError."""
    if not persons:
        return Caller(BY_TOKEN, Tier.OPERATOR, BY_TOKEN)
    own = os.geteuid()
    caller = caller_by_uid(persons, own, (), own, None, user_name(own))
    if caller.tier is Tier.OBSERVER:
        raise NoPersonError(
            f"the token is no person's: {caller.described} and may not give orders; {caller.way_in}"
        )
    return caller


def _one(request: web.BaseRequest, header: str) -> str:
    """Return a header that is there once; of two one may be the client's own. Raises NoPersonError."""
    found = request.headers.getall(header, [])
    if len(found) > 1:
        raise NoPersonError(f"{header} came {len(found)} times: the proxy must replace what a client sends")
    return found[0].strip() if found else ""
