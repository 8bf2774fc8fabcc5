"""Check a tunnel's first bytes: a TLS hello that names its host, or SSH where a rule names its port."""

from __future__ import annotations

import asyncio
from typing import Final

from runners.egress.client_hello import HelloRecords
from runners.egress.refusal import RefusedError, Why
from runners.egress.request_head import Target
from runners.egress.rules import SSH_PORT, HostRule, address_of

_SSH_BANNER: Final = b"SSH-"


async def check_first_bytes(reader: asyncio.StreamReader, target: Target, rule: HostRule) -> bytes:
    """Return the first bytes. Raises RefusedError, and IncompleteReadError if they do not come."""
    if rule.port == SSH_PORT:
        banner = await reader.readexactly(len(_SSH_BANNER))
        if banner != _SSH_BANNER:
            raise RefusedError(Why.SSH, "port 22 is allowed for SSH only")
        return banner
    records = HelloRecords()
    while wanted := records.wanted:
        records.take(await reader.readexactly(wanted))
    hello = records.read()
    if hello.is_encrypted:
        words = "the TLS hello is encrypted, so its name is no proof: switch off Encrypted Client Hello"
        raise RefusedError(Why.ENCRYPTED_HELLO, words)
    if hello.server_name == target.host or (not hello.server_name and address_of(rule.name)):
        return bytes(records.raw)
    if not hello.server_name:
        raise RefusedError(Why.NO_SERVER_NAME, f"the TLS hello names no host: it must name {target.host}")
    raise RefusedError(
        Why.OTHER_SERVER_NAME,
        f"the tunnel is to {target.host}, its TLS hello names {hello.server_name[:253]}",
    )
