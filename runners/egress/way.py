"""Find the way to a host: one look-up, its addresses checked, and a connection to one of just these.

A name that answers differently the second time gains nothing, since there is no second time.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence

from runners.egress.addresses import why_not_public
from runners.egress.network import Network, Streams
from runners.egress.refusal import RefusedError, Why
from runners.egress.request_head import Target
from runners.egress.rules import HostRule

_LOOK_UPS_AT_ONCE = 8


class Ways:
    """Finds the ways of one door, which may look up a few names at once and leaves the others' threads alone."""

    def __init__(self, network: Network, dial_seconds: float) -> None:
        self._network = network
        self._dial_seconds = dial_seconds
        self._look_ups = asyncio.Semaphore(_LOOK_UPS_AT_ONCE)

    async def connect(self, target: Target, rule: HostRule, *, tls: bool = False) -> tuple[str, Streams]:
        """Return the address that was reached, and the connection to it. Raises RefusedError."""
        try:
            async with asyncio.timeout(self._dial_seconds):
                addresses = [rule.pinned] if rule.pinned else await self._public_addresses(target)
                return await self._dial(target, addresses, target.host if tls else "")
        except TimeoutError:
            words = f"{target} was not reached within {self._dial_seconds:g} s"
            raise RefusedError(Why.UNREACHABLE, words) from None

    async def look_up(self, target: Target, rule: HostRule) -> Sequence[str]:
        """Return the addresses that a host would be reached at. Raises RefusedError."""
        try:
            async with asyncio.timeout(self._dial_seconds):
                return [rule.pinned] if rule.pinned else await self._public_addresses(target)
        except TimeoutError:
            words = f"{target.host} was not looked up within {self._dial_seconds:g} s"
            raise RefusedError(Why.UNKNOWN_NAME, words) from None

    async def _public_addresses(self, target: Target) -> Sequence[str]:
        """Look a name up, once. Raises RefusedError if one of its addresses is not public."""
        try:
            addresses = await self._look_up(target.host)
        except (OSError, UnicodeError) as error:
            raise RefusedError(Why.UNKNOWN_NAME, f"{target.host} was not found: {error}") from None
        if not addresses:
            raise RefusedError(Why.UNKNOWN_NAME, f"{target.host} has no address")
        for address in addresses:
            kind = why_not_public(address) or ("this machine's own" if self._network.is_own(address) else "")
            if kind:
                words = f"{target.host} leads to {kind}: only a rule NAME=ADDRESS:PORT allows that"
                raise RefusedError(Why.NOT_PUBLIC, words, address)
        return addresses

    async def _look_up(self, host: str) -> Sequence[str]:
        """Ask the network; a look-up that is given up takes its place until it has really ended."""
        await self._look_ups.acquire()
        asking = asyncio.ensure_future(self._network.look_up(host))
        asking.add_done_callback(self._looked_up)
        return await asyncio.shield(asking)

    def _looked_up(self, asked: asyncio.Future[Sequence[str]]) -> None:
        self._look_ups.release()
        if not asked.cancelled():
            asked.exception()  # its reader may have given up

    async def _dial(self, target: Target, addresses: Sequence[str], tls_name: str) -> tuple[str, Streams]:
        """Try the addresses in their order, each for its share of the time that is left."""
        deadline = asyncio.get_running_loop().time() + self._dial_seconds
        trouble = ""
        for number, address in enumerate(addresses):
            share = (deadline - asyncio.get_running_loop().time()) / (len(addresses) - number)
            try:
                async with asyncio.timeout(share):
                    return address, await self._network.connect(address, target.port, tls_name)
            except TimeoutError:
                trouble = trouble or "no answer"
            except ssl.SSLCertVerificationError as error:  # no other address is tried: the name is the same
                words = f"{target} does not prove its name: {error.verify_message}"
                raise RefusedError(Why.BAD_CERTIFICATE, words, address) from None
            except OSError as error:
                trouble = trouble or error.strerror or str(error)
        raise RefusedError(Why.UNREACHABLE, f"{target} was not reached: {trouble}")
