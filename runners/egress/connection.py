"""Serve one client's connection, from its first byte to its last.

**The walk** is `Connection.serve`: read the request, find its rule (or have a person asked), look the name up once
and check its addresses, connect, check that a tunnel begins with the right name, tell the daemon, and only then send
the client's first byte on.

A tunnel to an intercepted host (`_intercept`) is not passed on: TLS is spoken with the client here, its requests are
read, and the server is connected to, over TLS again, once the first of them is let through.

| ends by | the client sees | the daemon hears |
|---|---|---|
| a refusal before the tunnel | an answer with the reason (HTTP), or a code (SOCKS5) | `refused` |
| a refusal of a tunnel's first bytes | a TLS alert and the end | `refused` |
| the end of either side | the same end | `closed`, with the bytes each way |
| a refusal inside a tunnel that is read | an answer with the reason, and the end | as above; `closed` after the first |
| a cut: the door is closed, or nothing has moved for too long | the end, at once | `closed`, with the reason |

A cancellation is a cut, at whichever await it comes: `cut` has aborted both connections before.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Coroutine, Sequence
from dataclasses import replace
from typing import Final, Protocol

from runners.egress import plain, socks
from runners.egress.certificates import Certificates
from runners.egress.client_tls import begin_tls
from runners.egress.exchanges import Exchanges
from runners.egress.first_bytes import check_first_bytes
from runners.egress.messages import Event, EventKind, Limits, Secret
from runners.egress.network import READ_BYTES, Streams
from runners.egress.outgoing import OutgoingWatch
from runners.egress.placeholders import filled, is_bound
from runners.egress.refusal import RefusedError, Why
from runners.egress.request_head import HTTP_PORT, Target
from runners.egress.rules import HTTPS_PORT, HostRule
from runners.egress.tunnel import Tunnel
from runners.egress.wanted import RESOLVE, Wanted, hear

_ACCESS_DENIED: Final = b"\x15\x03\x03\x00\x02\x02\x31"
"""A fatal alert of TLS: from it a client's library tells more than that the connection ended."""
_ESTABLISHED: Final = b"HTTP/1.1 200 Connection established\r\n\r\n"
_LINGER_SECONDS: Final = 2.0


class Behind(Protocol):
    """Defines the parts of its door that a connection uses."""

    limits: Limits
    secrets: tuple[Secret, ...]
    outgoing: OutgoingWatch
    certificates: Certificates | None

    async def rule_for(self, connection: Connection, target: Target) -> HostRule:
        """Return the rule by which a target may be reached. Raises RefusedError."""
        ...

    async def connect(self, target: Target, rule: HostRule, *, tls: bool) -> tuple[str, Streams]:
        """Reach a target by its rule; over TLS that is spoken here, if so. Raises RefusedError."""
        ...

    async def look_up(self, target: Target, rule: HostRule) -> Sequence[str]:
        """Return the addresses of a target, by its rule. Raises RefusedError."""
        ...

    def report(self, event: Event) -> None:
        """Report something to the daemon."""
        ...

    async def hold_back(self) -> None:
        """Let a refusal wait if there are too many."""
        ...


class Connection:
    """One client's connection through a door. `number` is its own among all of this process."""

    def __init__(self, door: Behind, number: int, client: Streams) -> None:
        self.number = number
        self._door = door
        self._client = self._below = client
        self._server: Streams | None = None
        self._tunnel: Tunnel | None = None
        self._exchanges: Exchanges | None = None
        self._is_established = False
        self._why_cut = ""
        self._said = Event(EventKind.REFUSED, connection=number, peer=_port_of(client))

    async def serve(self) -> None:
        """Let the client through, or refuse it; tell of either."""
        try:
            wanted = await self._hear()
            rule = await self._door.rule_for(self, wanted.target)
            if wanted.how == RESOLVE:
                await self._tell_addresses(await self._door.look_up(wanted.target, rule))
                return
            if (certificates := self._certificates(wanted)) is not None:
                await self._intercept(wanted, rule, certificates)
                return
            address, self._server = await self._door.connect(wanted.target, rule, tls=wanted.over_tls)
            self._said = replace(self._said, address=address)
            first = await self._first_bytes(wanted, rule)
            tunnel = self._tunnel = Tunnel(self._client, self._server)
            self.report(EventKind.OPENED)
            await self._carry(tunnel, wanted, first)
            await self._end()
        except RefusedError as refused:
            await self._refuse(refused)
        except asyncio.CancelledError:
            self._why_cut = self._why_cut or Why.CUT
            raise
        except OSError:
            pass  # either side has ended it
        finally:
            self._finish()

    def report(self, kind: EventKind) -> None:
        """Report something of this connection."""
        self._door.report(replace(self._said, kind=kind))

    @property
    def has_hung_up(self) -> bool:
        """Tell if the client has ended its side, and has sent nothing that is not read."""
        reader, _ = self._client
        return reader.at_eof()

    @property
    def place(self) -> tuple[str, int]:
        """Return the host and port that it leads, or is to lead, to; no host before it has said."""
        return self._said.host, self._said.port

    def wants(self, host: str, port: int) -> bool:
        """Tell if it leads, or is to lead, to a host and port."""
        return self.place == (host, port)

    @property
    def is_open(self) -> bool:
        """Tell if bytes of the client have been sent on."""
        return self._tunnel is not None

    def revoke(self) -> None:
        """End both sides now, since its host may no longer be reached."""
        self._why_cut = Why.REVOKED
        self.cut()

    def cut(self) -> None:
        """End both sides now."""
        for streams in (self._client, self._server):
            if streams is not None:
                streams[1].transport.abort()

    async def _hear(self) -> Wanted:
        """Read the request of the client. Raises RefusedError, and OSError if it has hung up."""
        seconds = self._door.limits.head_seconds
        try:
            async with asyncio.timeout(seconds):
                wanted = await hear(self._client)
        except TimeoutError:
            raise RefusedError(Why.TOO_SLOW, f"no request came within {seconds:g} s") from None
        except asyncio.IncompleteReadError:
            raise ConnectionResetError from None
        if wanted.head is not None:
            wanted = self._with_secrets(wanted, wanted.head)
        target = wanted.target
        self._said = replace(self._said, how=wanted.how, host=target.host, port=target.port)
        return wanted

    def _with_secrets(self, wanted: Wanted, head: bytes) -> Wanted:
        """Fill a plain request's placeholders; to the host of a secret it goes over TLS. Raises RefusedError."""
        host, secrets = wanted.target.host, self._door.secrets
        self._said = replace(self._said, how=wanted.how, host=host, port=wanted.target.port)
        self._door.outgoing.check(head, host)
        head = filled(head, secrets, wanted.target, used=self._tell_filled)
        if wanted.target.port != HTTP_PORT or not is_bound(secrets, host):
            return replace(wanted, head=head)
        return replace(wanted, head=head, target=Target(host, HTTPS_PORT), over_tls=True)

    def _tell_filled(self, name: str) -> None:
        self._door.report(replace(self._said, kind=EventKind.FILLED, words=name))

    async def _first_bytes(self, wanted: Wanted, rule: HostRule) -> bytes:
        """Return the bytes to send first: a checked hello, or the head of a plain request. Raises RefusedError."""
        if wanted.head is not None:
            return wanted.head
        _, writer = self._client
        self._is_established = True
        writer.write(socks.reply(socks.SUCCEEDED) if wanted.how == "socks5" else _ESTABLISHED)
        seconds = self._door.limits.hello_seconds
        try:
            async with asyncio.timeout(seconds):
                return await check_first_bytes(self._client[0], wanted.target, rule)
        except TimeoutError:
            raise RefusedError(
                Why.NO_TLS, f"the tunnel did not begin with a TLS hello within {seconds:g} s"
            ) from None
        except asyncio.IncompleteReadError:
            raise RefusedError(Why.HUNG_UP, "the tunnel ended before its TLS hello") from None

    async def _tell_addresses(self, addresses: Sequence[str]) -> None:
        """Answer a look-up. It is no connection to a host, and so no event of one."""
        body = json.dumps({"addresses": list(addresses)}).encode()
        head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
        self._client[1].write(f"{head}\r\nconnection: close\r\n\r\n".encode() + body)
        await self._end()

    def _certificates(self, wanted: Wanted) -> Certificates | None:
        """Return the certificates by which a tunnel is read; None for one that is passed on as it is."""
        certificates, target = self._door.certificates, wanted.target
        reads = wanted.head is None and target.port == HTTPS_PORT
        return certificates if reads and certificates and target.host in certificates.hosts else None

    async def _intercept(self, wanted: Wanted, rule: HostRule, certificates: Certificates) -> None:
        """Read the requests of a tunnel, and carry them over TLS of our own. Raises RefusedError."""
        hello = await self._first_bytes(wanted, rule)
        host, limits = wanted.target.host, self._door.limits
        context = certificates.context(host, hello)
        self._below = self._client  # its writer would close the connection when it is forgotten
        self._client = await begin_tls(self._client, context, host, limits.hello_seconds)
        self._is_established = False  # refusals are answers in HTTP from now on
        self._said = replace(self._said, how="intercept")
        self._exchanges = exchanges = Exchanges(self._client, wanted.target, self._door)
        request = await exchanges.first()
        address, self._server = await self._door.connect(wanted.target, rule, tls=True)
        self._said = replace(self._said, address=address)
        tunnel = self._tunnel = Tunnel(self._client, self._server)
        self.report(EventKind.OPENED)
        await self._watch(tunnel, exchanges.run(tunnel, self._server, request))
        await self._end()

    async def _carry(self, tunnel: Tunnel, wanted: Wanted, first: bytes) -> None:
        """Send the first bytes, then copy until the end."""
        await tunnel.send(first)
        await self._watch(tunnel, self._copy(tunnel, wanted))

    async def _watch(self, tunnel: Tunnel, work: Coroutine[object, object, None]) -> None:
        """Wait for the end of a tunnel's work, and report its bytes meanwhile; cut it if nothing moves any more."""
        carrying = asyncio.create_task(work)
        limits, loop = self._door.limits, asyncio.get_running_loop()
        reported = 0
        try:
            while not (await asyncio.wait({carrying}, timeout=limits.report_seconds))[0]:
                if loop.time() - tunnel.moved_at >= limits.idle_seconds:
                    self._why_cut = Why.IDLE
                    self.cut()
                elif tunnel.up + tunnel.down != reported:
                    reported = tunnel.up + tunnel.down
                    self._count(EventKind.MOVED)
            await carrying
        finally:
            carrying.cancel()

    async def _copy(self, tunnel: Tunnel, wanted: Wanted) -> None:
        if wanted.head is None or self._server is None:
            await tunnel.run()
            return
        body = plain.BodyReader(self._client[0], self._door.limits.body_seconds)
        pieces = self._door.outgoing.pieces(body.pieces(wanted.body_length), wanted.target.host)
        await plain.carry(tunnel, pieces, self._server, is_head=wanted.is_head)

    async def _refuse(self, refused: RefusedError) -> None:
        """Tell the daemon first, and the client then, in the protocol that it speaks by now."""
        if self._tunnel is not None:
            self._why_cut = refused.why
            self._said = replace(self._said, words=refused.words)
            if self._exchanges is not None and self._exchanges.may_answer:
                await self._tell_client(refused)
            return
        self._said = replace(self._said, why=refused.why, words=refused.words)
        if refused.address:
            self._said = replace(self._said, address=refused.address)
        self.report(EventKind.REFUSED)
        await self._door.hold_back()
        await self._tell_client(refused)

    async def _tell_client(self, refused: RefusedError) -> None:
        reader, writer = self._client
        with contextlib.suppress(OSError, TimeoutError):
            writer.write(self._refusal(refused))
            if writer.can_write_eof():  # TLS has no half of a connection
                writer.write_eof()
            # An end with bytes unread would take the answer along.
            async with asyncio.timeout(_LINGER_SECONDS):
                while await reader.read(READ_BYTES):
                    pass

    def _refusal(self, refused: RefusedError) -> bytes:
        if self._is_established:
            return _ACCESS_DENIED
        if refused.is_socks or self._said.how == "socks5":
            return socks.refusal(refused)
        return refused.answer(self._said.host, self._said.port)

    def _count(self, kind: EventKind) -> None:
        """Report how much has passed."""
        tunnel = self._tunnel
        if tunnel is not None:
            seconds = round(asyncio.get_running_loop().time() - tunnel.opened_at, 3)
            told = replace(self._said, up=tunnel.up, down=tunnel.down, seconds=seconds, why=self._why_cut)
            self._door.report(replace(told, kind=kind))

    async def _end(self) -> None:
        """Wait until the bytes that were taken are sent: a door that is closed meanwhile cuts them off too."""
        writers = [streams[1] for streams in (self._client, self._server) if streams is not None]
        for writer in writers:
            writer.close()
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(self._door.limits.body_seconds):
                for writer in writers:
                    await writer.wait_closed()

    def _finish(self) -> None:
        """Tell of the end, and leave nothing open."""
        self._count(EventKind.CLOSED)
        self.cut()


def _port_of(client: Streams) -> int:
    """Return the port at the client's end: by it the daemon finds the program that asks."""
    peer = client[1].get_extra_info("peername")
    return int(peer[1]) if isinstance(peer, tuple) else 0
