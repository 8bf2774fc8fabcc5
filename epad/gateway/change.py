"""Apply a reload to a running gateway: its upstreams, its prices, and subsystems' own listeners.

A change is made ready first: keys are read, tokenizers loaded, new listeners opened. A step that can fail fails there,
and then nothing has changed.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass

from epad.configuration.schema import Config, PriceConfig
from epad.gateway.authenticator import Doorkeeper
from epad.gateway.http.server import HttpServer, Listener
from epad.gateway.own_listeners import Door, doors, open_door
from epad.gateway.parts import GatewayParts
from epad.gateway.tokenizing import Tokenizer, Tokenizers, load_tokenizers
from epad.gateway.upstream_making import KeyedUpstreams


@dataclass(frozen=True, slots=True)
class ReadyChange:
    """A change of which nothing can fail any more. `opened` are the sockets of each subsystem that listens anew."""

    upstreams: KeyedUpstreams
    tokenizers: Mapping[str, Tokenizer]
    prices: Mapping[str, PriceConfig]
    doors: tuple[Door, ...]
    opened: Mapping[str, list[Listener]]


class GatewayChanges:
    """Brings a gateway from one configuration to the next, while turns go through it."""

    def __init__(
        self, parts: GatewayParts, server: HttpServer, doorkeeper: Doorkeeper, tokenizers: Tokenizers
    ) -> None:
        self._parts = parts
        self._server = server
        self._doorkeeper = doorkeeper
        self._tokenizers = tokenizers
        self._doors = parts.doors

    async def make_ready(self, config: Config) -> ReadyChange:
        """Do all of a change that can fail. Raises GatewayError, UpstreamError."""
        keyed = await self._parts.upstreams.read_keys(config.upstreams)
        tokenizers = await asyncio.to_thread(load_tokenizers, config.upstreams)
        wanted = doors(config.subsystems)
        listens = {door.subsystem: door.listen for door in self._doors}
        opened: dict[str, list[Listener]] = {}
        try:
            for door in wanted:
                if door.listen and door.listen != listens.get(door.subsystem):
                    before = self._server.listeners_of(door.subsystem)
                    await open_door(self._server, door)
                    now = self._server.listeners_of(door.subsystem)
                    opened[door.subsystem] = [each for each in now if each not in before]
        except BaseException:
            await self._close(opened)
            raise
        return ReadyChange(keyed, tokenizers, config.prices, wanted, opened)

    async def take(self, change: ReadyChange) -> None:
        """Put a change in force. Who is being served at a door that goes is served to the end."""
        parts = self._parts
        parts.upstreams.configure(change.upstreams)
        self._tokenizers.configure(change.tokenizers)
        parts.prices.configure(change.prices)
        self._doorkeeper.configure(change.doors)
        former, self._doors = self._doors, change.doors
        listens = {door.subsystem: door.listen for door in change.doors}
        kept_paths = {door.path for door in change.doors}
        for door in former:
            if door.listen and door.listen != listens.get(door.subsystem):
                await self._server.close_door(door.subsystem, change.opened.get(door.subsystem, ()))
                if door.path is not None and door.path not in kept_paths:
                    with contextlib.suppress(OSError):
                        door.path.unlink()

    async def give_up(self, change: ReadyChange) -> None:
        """Let a change go that was made ready."""
        await self._close(change.opened)

    async def _close(self, opened: Mapping[str, list[Listener]]) -> None:
        for name, listeners in opened.items():
            kept = [each for each in self._server.listeners_of(name) if each not in listeners]
            await self._server.close_door(name, kept)
