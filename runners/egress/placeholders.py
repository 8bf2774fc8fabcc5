"""Fill the placeholders of secrets, `{{secret:NAME}}`, into the fields of a request that can be read.

The program inside a cell holds the placeholder alone. A secret goes to the hosts that it is bound to, over TLS that is
spoken here; anywhere else its placeholder is refused, so that a mistake is seen and not sent.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Sequence

from runners.egress.messages import Secret
from runners.egress.refusal import RefusedError, Why
from runners.egress.request_head import HTTP_PORT, Target

_PLACEHOLDER = re.compile(rb"\{\{secret:([A-Za-z0-9_.-]{1,64})\}\}")
_BASIC = re.compile(rb"(?<=\r\nauthorization: )(basic )([A-Za-z0-9+/=]+)(?=\r\n)", re.IGNORECASE)


def is_bound(secrets: Sequence[Secret], host: str) -> bool:
    """Tell if any secret may go to a host: plain requests to it then go out over TLS."""
    return any(host in secret.hosts for secret in secrets)


def filled(
    head: bytes,
    secrets: Sequence[Secret],
    target: Target,
    *,
    over_tls: bool = False,
    used: Callable[[str], None] = lambda _: None,
) -> bytes:
    """Return the head of a request with its secrets, also those of a password; `used` is told the name of each.

    Raises RefusedError.

    `over_tls`: it came by TLS, and goes on so. A plain request is turned into one if it asks for port 80.
    """
    host = target.host
    first, end, fields = head.partition(b"\r\n")
    if _PLACEHOLDER.search(first):
        raise RefusedError(
            Why.PLACEHOLDER, "a secret is filled into a field, never into a URL, which servers write down"
        )

    def value(found: re.Match[bytes]) -> bytes:
        name = found[1].decode()
        if not over_tls and target.port != HTTP_PORT:
            raise RefusedError(
                Why.PLACEHOLDER, f"the secret {name} goes over TLS alone: ask for http://{host}/"
            )
        secret = next((one for one in secrets if one.name == name and host in one.hosts), None)
        if secret is None:
            raise RefusedError(Why.PLACEHOLDER, f"the secret {name} is not for {host}, or is not there")
        used(name)
        return secret.value.encode("latin-1")

    def password(found: re.Match[bytes]) -> bytes:
        try:
            pair = base64.b64decode(found[2], validate=True)
        except binascii.Error:
            return found[0]
        return found[1] + base64.b64encode(_PLACEHOLDER.sub(value, pair))

    return first + _PLACEHOLDER.sub(value, _BASIC.sub(password, end + fields))
