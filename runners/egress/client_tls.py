"""Speak TLS with a client whose hello was read already, as the server that it asked for."""

from __future__ import annotations

import asyncio
import ssl

from runners.egress.network import BUFFER_BYTES, Streams
from runners.egress.refusal import RefusedError, Why


async def begin_tls(client: Streams, context: ssl.SSLContext, host: str, seconds: float) -> Streams:
    """Return the streams inside. Raises RefusedError for a client that does not agree, and OSError if it is gone.

    `StreamWriter.start_tls` cannot be used: of a connection that was not accepted by asyncio it is a client's.
    """
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=BUFFER_BYTES, loop=loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    await client[1].drain()
    try:
        transport = await loop.start_tls(
            client[1].transport, protocol, context, server_side=True, ssl_handshake_timeout=seconds
        )
    except ConnectionAbortedError:
        raise RefusedError(Why.TOO_SLOW, f"the TLS handshake was not done within {seconds:g} s") from None
    except (ssl.SSLError, ConnectionResetError) as error:  # some clients say why, others end
        reason = getattr(error, "reason", None) or "it has ended the handshake"
        words = (
            f"the program does not take epad's certificate for {host} ({reason}): it must trust the bundle that"
            " SSL_CERT_FILE names, or the host be taken out of intercept"
        )
        raise RefusedError(Why.NOT_TRUSTED, words) from None
    if transport is None:
        raise ConnectionResetError
    protocol.connection_made(transport)
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)
