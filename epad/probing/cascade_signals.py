"""Give the cascade probe its inputs: processes, turns and upstreams, as nodes of one dependency graph."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from epad.answers import status
from epad.configuration.schema import SubsystemConfig, UpstreamConfig
from probes.blame import Fault
from probes.cascade import DependencyGraph, Look
from probes.datastore import DatastoreCheck
from probes.subsystems import Snapshots, SubsystemSnapshot, SubsystemState
from probes.turns import TurnAdmitted, TurnFinished, TurnRefused
from probes.vault import VaultCheck
from statemachine.clock import Clock
from statemachine.containment import Hold, Rung
from statemachine.finding import HOST


async def _no_datastores() -> Sequence[DatastoreCheck]:
    return ()


async def no_vault(_: float) -> VaultCheck | None:
    """For a daemon without tools."""
    return None


@dataclass(frozen=True, slots=True)
class Sights:
    """Gives the knowledge about the daemon beside its processes.

    `upstreams` gives each with its `name`, its `healthy`, and the `reason` if it is not; `hold_of`, the hold of a
    subsystem; `datastores`, the last looks at them; `last_verified`, the name of the checkpoint to go back to;
    `vault`, a look at the vault, at all of it if that is longer ago than so many seconds.
    """

    upstreams: Callable[[], list[status.Upstream]] = list
    hold_of: Callable[[str], Hold] = lambda _: Hold(Rung.OPEN)
    datastores: Callable[[], Awaitable[Sequence[DatastoreCheck]]] = _no_datastores
    last_verified: Callable[[], str] = str
    vault: Callable[[float], Awaitable[VaultCheck | None]] = no_vault


# The gateway looks at each upstream this often: more looks at one answer would be no more evidence.
UPSTREAM_LOOK_SECONDS = 10.0
# Between two looks; more turns than this are no more evidence.
MAX_TURN_LOOKS = 64
# Whose upstream is remembered: a client may make names up.
MAX_MODELS = 1_024
_UNANSWERED = "its turns are not answered"
_PREFIX = "upstream/"
_NO_TROUBLE = frozenset({"loading"})
_UNSERVED = frozenset({Fault.UPSTREAM, Fault.KEY})
_NOT_THE_UPSTREAMS = frozenset({Fault.CLIENT, Fault.HOST, Fault.EPAD})
_UP = frozenset({SubsystemState.RUNNING, SubsystemState.THROTTLED})


def upstream_node(name: str) -> str:
    """Return an upstream's node; no subsystem can have this name."""
    return _PREFIX + name


def needs(
    subsystems: Mapping[str, SubsystemConfig], upstreams: Mapping[str, UpstreamConfig]
) -> dict[str, set[str]]:
    """Return the configured dependencies; the models that a client uses are learnt from its turns."""
    providers = {name: set(spec.depends_on) for name, spec in subsystems.items()}
    for name, upstream in upstreams.items():
        providers[upstream_node(name)] = {upstream.served_by} if upstream.served_by else set()
    return providers


class Looks:
    """Gives the looks since the last call. Implements `probes.turns.TurnObserver`."""

    def __init__(
        self,
        upstreams: Mapping[str, UpstreamConfig],
        graph: DependencyGraph,
        snapshots: Snapshots,
        sights: Sights,
        clock: Clock,
    ) -> None:
        self._upstreams = upstreams
        self._graph = graph
        self._snapshots = snapshots
        self._sights = sights
        self._clock = clock
        self._upstreams_looked_at = float("-inf")
        self._answered: set[str] = set()
        self._unanswered: set[str] = set()
        self._open_turns: dict[str, str] = {}
        self._nodes: dict[str, str] = {}
        self._turn_looks: list[Look] = []
        self._shut: set[str] = set()

    def serve(self, upstreams: Mapping[str, UpstreamConfig]) -> None:
        """Look at these upstreams from now on."""
        self._upstreams = upstreams
        self._shut &= set(map(upstream_node, upstreams))
        self._nodes.clear()

    def answers_for(self, node: str) -> str:
        """The subsystem that a node's trouble is about; HOST for an upstream that is not served from here."""
        if not node.startswith(_PREFIX):
            return node
        upstream = self._upstreams.get(node.removeprefix(_PREFIX))
        return (upstream.served_by if upstream else "") or HOST

    def __call__(self) -> Iterator[Look]:
        now = self._clock.monotonic()
        for snapshot in self._snapshots():
            if (look := self._process(snapshot, now)) is not None:
                yield look
        yield from self._turn_looks
        self._answered.clear()
        self._unanswered.clear()
        self._turn_looks.clear()
        due = now - self._upstreams_looked_at >= UPSTREAM_LOOK_SECONDS
        if due:
            self._upstreams_looked_at = now
        for upstream in self._sights.upstreams():
            yield from self._upstream(upstream, now, due=due)

    def _upstream(self, upstream: Mapping[str, object], now: float, *, due: bool) -> Iterator[Look]:
        """Yield the gateway's knowledge of an upstream.

        Of a breaker that is open or has just closed it has seen enough to be sure. A server that loads has no trouble
        to be told of; but who suffers from it is its victim.
        """
        node, reason = upstream_node(str(upstream["name"])), str(upstream["reason"])
        if upstream.get("breaker") == "open":
            self._shut.add(node)
            yield Look(node, now, reason, told=upstream["state"] in _NO_TROUBLE)
        elif node in self._shut:
            self._shut.discard(node)
            yield Look(node, now, hard=True)
        elif due:
            yield Look(node, now, "" if upstream["healthy"] else reason)

    def admitted(self, event: TurnAdmitted) -> None:
        node = self._nodes.get(event.model)
        if node is None:
            if len(self._nodes) >= MAX_MODELS:
                self._nodes.clear()
            node = self._nodes[event.model] = self._node_of(event.model)
        if node:
            self._graph.learn(event.subsystem, node)
            self._open_turns[event.turn] = node

    def _node_of(self, model: str) -> str:
        """Return the node of the one upstream that serves a model.

        Empty where there are several: such a model depends on none of them, since where one is down, another is
        asked.
        """
        serving = [name for name in self._upstreams if self._serves(name, model)]
        naming = [name for name in serving if self._serves(name, model, but="*")]
        match naming or serving:
            case [name]:
                return upstream_node(name)
        return ""

    def _serves(self, upstream: str, model: str, but: str = "") -> bool:
        patterns = self._upstreams[upstream].models
        return any(fnmatchcase(model, pattern) for pattern in patterns if pattern != but)

    def refused(self, event: TurnRefused) -> None:
        """Note a turn that its upstream cannot serve; any other refusal says nothing of who is well."""
        if event.upstream not in self._upstreams or event.fault not in _UNSERVED:
            return
        self._graph.learn(event.subsystem, upstream_node(event.upstream))
        self._unanswered.add(event.subsystem)

    def finished(self, event: TurnFinished) -> None:
        upstream, done = self._open_turns.pop(event.turn, ""), event.outcome == "done"
        if done:
            self._answered.add(event.subsystem)
        elif event.fault in _UNSERVED or _came_to_nothing(event):
            self._unanswered.add(event.subsystem)
        # An error of a server that is there may be the request's own doing; no answer at all is not.
        silent = (
            event.outcome == "failed" and event.http_status == 0 and event.fault not in _NOT_THE_UPSTREAMS
        )
        if upstream and (done or silent) and len(self._turn_looks) < MAX_TURN_LOOKS:
            self._turn_looks.append(Look(upstream, event.at, "" if done else _UNANSWERED, told=True))

    def _process(self, snapshot: SubsystemSnapshot, now: float) -> Look | None:
        """Return None where there is nothing to judge: it is paused, has ended, or has not begun."""
        name, state = snapshot.name, snapshot.state
        answered = name in self._answered
        if fact := self._fact(snapshot):
            return Look(name, now, fact, hard=True, told=True)
        if state is SubsystemState.RECOVERING or snapshot.hung:
            return Look(name, now, "it hangs" if snapshot.hung else "it is not ready again yet", told=True)
        if state in _UP and name in self._unanswered and not answered:
            return Look(name, now, _UNANSWERED, told=True)
        # A client is seen by its turns alone.
        seen = state in _UP and (snapshot.pid is not None or answered)
        return Look(name, now) if seen else None

    def _fact(self, snapshot: SubsystemSnapshot) -> str:
        hold = self._sights.hold_of(snapshot.name)
        if hold.rung >= Rung.FREEZE and not hold.paused:
            return f"it is held: {hold.reason}"
        return "it failed and is not restarted" if snapshot.state is SubsystemState.FAILED else ""


def _came_to_nothing(event: TurnFinished) -> bool:
    """Tell if no one answered, regardless of the fault."""
    silent = event.http_status == 0 or event.http_status >= 500
    return event.outcome == "failed" and silent and event.fault not in _NOT_THE_UPSTREAMS
