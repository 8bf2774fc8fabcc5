"""Keep all foreign servers: as configured, their tools beside epad's own, their pins accepted by a person."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec
from msgspec.structs import replace

from epad.answers.foreign import ForeignServer as Answer
from epad.answers.foreign import ForeignTool, ServerDiff, ServerList
from epad.configuration.servers_schema import ServerConfig
from epad.foreign.content import UnreadableError, read_result
from epad.foreign.definitions import Pinned, shown_definition
from epad.foreign.errors import ServerError
from epad.foreign.names import listed_name, with_dot
from epad.foreign.scan import Remark
from epad.foreign.server import ForeignServer
from epad.gate.tool_risk import ToolRisk
from epad.gate.tool_table import Taint
from epad.tools.catalogue import Catalogue
from epad.tools.own import OwnCall, OwnTool, OwnToolError
from epad.tools.protocol import Definition
from epad.tools.results import SPILLED_BYTES
from epad.tools.sessions import Origin
from runners.tools.visible import visible

DEFAULT_RISK: Final = ToolRisk.RUNS_CODE
_EVERY: Final = "*"


class NoServerError(ServerError):
    """There is no foreign server of that name."""

    def __init__(self, name: str, known: list[str]) -> None:
        super().__init__(f"there is no foreign server {name[:64]!r}; there are: {', '.join(known) or 'none'}")
        self.known = known


@dataclass(slots=True)
class _Kept:
    server: ForeignServer
    config: ServerConfig
    task: asyncio.Task[None] | None = None


@dataclass(slots=True)
class ForeignServers:
    """The servers of the configuration. `make` returns a server that does not run yet.

    `changed` is told when what agents see has changed.
    """

    configured: Callable[[], Mapping[str, ServerConfig]]
    make: Callable[[str], ForeignServer]
    changed: Callable[[], None] = lambda: None
    before: Callable[[], object] = lambda: None
    """Ends what a run that was killed has left; called once, before any server is started."""
    tools: dict[str, OwnTool] = field(default_factory=dict)
    """The tools by the names that they are listed by, to be called."""
    _kept: dict[str, _Kept] = field(default_factory=dict)
    _ending: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def pids(self) -> frozenset[int]:
        """Return the processes of all servers."""
        return frozenset(
            one.server.facts.pid for one in self._kept.values() if one.server.facts.pid is not None
        )

    def serve(self, changed: Callable[[], None]) -> None:
        """Start what is configured, and tell of changes from now on."""
        self.changed = changed
        self.before()
        self.configure()

    def configure(self) -> None:
        """Start, restart and end servers, so that there are those of the configuration, as it says now."""
        wanted = self.configured()
        for name, kept in list(self._kept.items()):
            config = wanted.get(name)
            if config is None or _started_by(config) != _started_by(kept.config):
                self._end(self._kept.pop(name))
            else:
                kept.config = config
        for name, config in wanted.items():
            if name not in self._kept:
                kept = self._kept[name] = _Kept(self.make(name), config)
                kept.task = asyncio.get_running_loop().create_task(
                    self._run(kept.server), name=f"server-{name}"
                )
        self._know_tools()
        self.changed()

    def pins_changed(self) -> None:
        """Serve what is pinned now."""
        self._know_tools()
        self.changed()

    def beside(self, own: Catalogue) -> Catalogue:
        """Return epad's own definitions with those of the servers, sorted by name."""
        definitions, risks, also = dict(own.definitions), dict(own.risks), dict[str, str]()
        for name, kept in self._kept.items():
            for pinned in kept.server.tools:
                risk = risk_of(kept.config, pinned.name)
                leaves = bool(kept.config.url or kept.config.hosts)
                shown = shown_definition(name, pinned, risk, kept.config.call_seconds, leaves=leaves)
                definitions[shown.name], risks[shown.name] = shown, risk
                also[f"{name}.{pinned.name}"] = shown.name
        definitions, risks = dict(sorted(definitions.items())), dict(sorted(risks.items()))
        return Catalogue(definitions, risks, own.sha256, also)

    def held_back(self, definition: Definition) -> str:
        """Say why a tool's server is held; empty if it is not, or the tool is no server's."""
        kept = self._kept.get(definition.category)
        if kept is None or not kept.server.held:
            return ""
        fix = f"a person looks at it: epactl tools diff {kept.server.name}"
        return f"the server {kept.server.name} is held: {kept.server.held}; {fix}"

    def names(self) -> frozenset[str]:
        """Return the names of all servers' tools, as they are listed."""
        return frozenset(self.tools)

    def names_of_others(self, name: str) -> frozenset[str]:
        """Return the tools of all other servers, by their own names."""
        return frozenset(
            one.name for other, kept in self._kept.items() if other != name for one in kept.server.tools
        )

    # For a person.

    def show(self) -> ServerList:
        """Return all servers, as people see them."""
        return {"servers": [_shown(name, kept) for name, kept in sorted(self._kept.items())]}

    def diff(self, name: str) -> ServerDiff:
        """Return what differs between the pins of a server and what it lists. Raises NoServerError."""
        server = self._named(name).server
        pinned = "" if server.pins is None else server.pins.sha256
        lines = server.facts.drift.lines()
        if server.pins is None:
            lines = [f"+ {visible(one.name)}: {visible(msgspec.json.encode(one.definition).decode())[:2_000]}"
                     for one in server.seen]  # fmt: skip
        return {
            "name": name,
            "held": server.held,
            "pinned_sha256": pinned,
            "listed_sha256": server.facts.seen_sha256,
            "lines": lines,
            "remarks": [f"{visible(one.tool)} {one.text}" for one in server.remarks],
        }

    async def accept(self, name: str, sha256: str, reason: str, by: str) -> str:
        """Pin what a server lists; return a sentence. Raises ServerError, LedgerError, OSError."""
        return await self._named(name).server.accept(sha256, by, reason)

    async def close(self) -> None:
        """End all servers, and wait until their processes are gone."""
        for kept in self._kept.values():
            self._end(kept)
        while self._ending:
            await asyncio.wait(self._ending)

    def _named(self, name: str) -> _Kept:
        if name not in self._kept:
            raise NoServerError(name, sorted(self._kept))
        return self._kept[name]

    def _know_tools(self) -> None:
        self.tools.clear()
        for name, kept in self._kept.items():
            for pinned in kept.server.tools:
                self.tools[listed_name(name, pinned.name)] = _tool(kept.server, pinned)

    async def _run(self, server: ForeignServer) -> None:
        if self._ending:  # the former one of this name has its workspace still
            await asyncio.wait(self._ending)
        await server.run()

    def _end(self, kept: _Kept) -> None:
        if (task := kept.task) is not None:
            task.cancel()
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)


def risk_of(config: ServerConfig, tool: str) -> ToolRisk:
    """Return a tool's risk: what a person has said, else the one of running code."""
    return ToolRisk(config.risks.get(tool) or config.risks.get(_EVERY) or DEFAULT_RISK)


def _started_by(config: ServerConfig) -> ServerConfig:
    """Return the part of a table that a server is started by: its risks and its times are looked up at each call."""
    plain = ServerConfig()
    return replace(config, risks={}, call_seconds=plain.call_seconds, start_seconds=plain.start_seconds)


def _tool(server: ForeignServer, pinned: Pinned) -> OwnTool:
    async def tool(call: OwnCall) -> msgspec.Struct:
        # Before anything of it is read, an error's words too.
        call.session.label(Taint.UNTRUSTED, Origin(f"the foreign server {server.name}", call.turn))
        try:
            told = await server.call(pinned.name, call.arguments)
            read = read_result(server.name, pinned.name, told, call.room)
        except ServerError as error:
            raise OwnToolError(
                f"the foreign server {server.name} gave no result: {error}",
                "other tools are not concerned; epactl tools servers says how it is",
            ) from error
        except UnreadableError as error:
            raise OwnToolError(
                f"the foreign server {server.name} gave no result: {error}", "call another tool"
            ) from error
        if read.is_error:
            raise OwnToolError(
                f"{read.result.origin}; it says that it has failed: {read.result.text}",
                "change the arguments if its words are about them; they are not a person's",
            )
        if 0 < len(read.whole) <= SPILLED_BYTES:
            call.beside.whole = msgspec.json.encode(read.whole)
        call.beside.blocks = read.images
        return read.result

    return tool


def _shown(name: str, kept: _Kept) -> Answer:
    server, config = kept.server, kept.config
    facts, pins = server.facts, server.pins
    return {
        "name": name,
        "kind": "url" if config.url else "child",
        "state": facts.state,
        "trouble": facts.trouble,
        "pid": facts.pid,
        "restarts": facts.restarts,
        "version": facts.version,
        "identity": facts.identity,
        "missing": sorted(facts.missing),
        "pinned_sha256": "" if pins is None else pins.sha256,
        "pinned_by": "" if pins is None else pins.by,
        "pinned_at": 0.0 if pins is None else pins.at,
        "unfit": list(facts.unfit),
        "tools": [_shown_tool(name, config, one, server.remarks) for one in server.tools],
    }


def _shown_tool(name: str, config: ServerConfig, pinned: Pinned, told: tuple[Remark, ...]) -> ForeignTool:
    listed = listed_name(name, pinned.name)
    claims = [f"{visible(str(key))}={visible(str(value))}" for key, value in pinned.claims.items()]
    return {
        "name": listed,
        "also": with_dot(listed),
        "risk": risk_of(config, pinned.name),
        "is_classified": pinned.name in config.risks or _EVERY in config.risks,
        "claims": sorted(claims)[:10],
        "remarks": [one.text for one in told if one.tool == pinned.name],
        "sha256": pinned.sha256,
    }
