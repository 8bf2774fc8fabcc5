"""Apply a reload to a running gateway: its upstreams, its prices, and subsystems' own listeners.

A change is made ready first: keys are read, tokenizers loaded, new listeners opened. A step that can fail fails there,
and then nothing has changed.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from epad.configuration.schema import Config, PriceConfig
from epad.gateway.authenticator import Doorkeeper
from epad.gateway.http.server import HttpServer, Listener
from epad.gateway.own_listeners import Door, doors, open_door, put_back, set_aside
from epad.gateway.parts import GatewayParts
from epad.gateway.prompts import Prompts
from epad.gateway.tokenizing import Tokenizer, Tokenizers, load_tokenizers
from epad.gateway.upstream_making import KeyedUpstreams


@dataclass(frozen=True, slots=True)
class KeyedServers:
    """The model servers of a change, with all that is read from files for them."""

    upstreams: KeyedUpstreams
    tokenizers: Mapping[str, Tokenizer]


@dataclass(frozen=True, slots=True)
class OpenedDoor:
    """A door that is open already; `aside` is where the socket lies that its path led to before."""

    door: Door
    listeners: tuple[Listener, ...]
    aside: Path | None


@dataclass(frozen=True, slots=True)
class ReadyChange:
    """A change of which nothing can fail any more. Without `servers` these stay as they are."""

    servers: KeyedServers | None
    prices: Mapping[str, PriceConfig]
    doors: tuple[Door, ...]
    opened: tuple[OpenedDoor, ...]


class GatewayChanges:
    """Brings a gateway from one configuration to the next, while turns go through it."""

    def __init__(
        self,
        parts: GatewayParts,
        server: HttpServer,
        doorkeeper: Doorkeeper,
        tokenizers: Tokenizers,
        prompts: Prompts,
    ) -> None:
        self._parts = parts
        self._server = server
        self._doorkeeper = doorkeeper
        self._tokenizers = tokenizers
        self._prompts = prompts
        self._doors = parts.doors

    async def make_ready(self, config: Config, tables: Collection[str]) -> ReadyChange:
        """Do all of a change that can fail; `tables` are those of the configuration that differ.

        Raises GatewayError, UpstreamError.
        """
        servers = await self._read(config) if "upstreams" in tables else None
        wanted = doors(config.subsystems, self._doors)
        listens = {door.subsystem: door.listen for door in self._doors}
        opened: list[OpenedDoor] = []
        try:
            for door in wanted:
                if door.listen and door.listen != listens.get(door.subsystem):
                    await self._open(door, opened)
        except BaseException:
            await self._shut(opened)
            raise
        return ReadyChange(servers, config.prices, wanted, tuple(opened))

    async def take(self, change: ReadyChange) -> None:
        """Put a change in force. Who is being served at a door that goes is served to the end."""
        parts = self._parts
        if change.servers is not None:
            self._prompts.forget(parts.upstreams.configure(change.servers.upstreams))
            self._tokenizers.configure(change.servers.tokenizers)
        parts.prices.configure(change.prices)
        self._doorkeeper.configure(change.doors)
        former, self._doors = self._doors, change.doors
        listens = {door.subsystem: door.listen for door in change.doors}
        kept_paths = {door.path for door in change.doors}
        new = {each.door.subsystem: each.listeners for each in change.opened}
        for door in former:
            if door.listen and door.listen != listens.get(door.subsystem):
                await self._server.close_door(door.subsystem, new.get(door.subsystem, ()))
                if door.path is not None and door.path not in kept_paths:
                    _remove(door.path)
        for each in change.opened:
            if each.aside is not None:
                _remove(each.aside)

    async def give_up(self, change: ReadyChange) -> None:
        """Let a change go that was made ready."""
        await self._shut(change.opened)

    async def _read(self, config: Config) -> KeyedServers:
        """Read the keys and the tokenizers of the model servers. Raises GatewayError, UpstreamError."""
        keyed = await self._parts.upstreams.read_keys(config.upstreams)
        return KeyedServers(keyed, await asyncio.to_thread(load_tokenizers, config.upstreams))

    async def _open(self, door: Door, opened: list[OpenedDoor]) -> None:
        """Open one door beside those that are open. Raises GatewayError, and then its path leads where it led."""
        before = self._server.listeners_of(door.subsystem)
        aside = set_aside(door)
        try:
            await open_door(self._server, door)
        except BaseException:
            put_back(door, aside)
            raise
        now = self._server.listeners_of(door.subsystem)
        opened.append(OpenedDoor(door, tuple(each for each in now if each not in before), aside))

    async def _shut(self, opened: Sequence[OpenedDoor]) -> None:
        for each in reversed(opened):
            open_now = self._server.listeners_of(each.door.subsystem)
            put_back(each.door, each.aside)
            kept = [listener for listener in open_now if listener not in each.listeners]
            await self._server.close_door(each.door.subsystem, kept)


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()
