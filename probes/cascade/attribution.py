"""Roots against victims: a failed node above which nothing has failed is a root, all others are its victims."""

from __future__ import annotations

from dataclasses import dataclass

from probes.cascade.graph import DependencyGraph
from probes.cascade.node import Look, LookRule, NodeHealth


@dataclass(frozen=True, slots=True)
class CascadeIncident:
    """Holds a root and the failures below it. `since` is when it became the root; `settled` tells if it is final.

    Until it is settled, something above it may still turn out to have failed: it is then a victim itself.
    """

    root: str
    since: float
    reason: str
    victims: tuple[str, ...]
    settled: bool
    told: bool
    flapping: bool


class Attribution:
    """Holds every node's health, and says at any time which incidents there are.

    A victim whose last root has recovered is looked at afresh: it must fail again to be a root of its own.
    """

    def __init__(self, graph: DependencyGraph, rule: LookRule, settle_seconds: float) -> None:
        self.graph = graph
        self._rule = rule
        self._settle_seconds = settle_seconds
        self._nodes: dict[str, NodeHealth] = {}
        self._root_since: dict[str, float] = {}
        self._victims: frozenset[str] = frozenset()

    def observe(self, look: Look) -> None:
        """Take in one look, and sort roots from victims anew."""
        if (node := self._nodes.get(look.node)) is None:
            if look.ok:
                return  # what has never failed needs no memory: an unknown node is a good one
            node = self._nodes[look.node] = NodeHealth(self._rule)
        before = node.failed
        node.add(look)
        if node.failed is not before:
            self._sort(look.at)

    def forget(self, name: str, now: float) -> None:
        """Look at a node afresh."""
        if self._nodes.pop(name, None) is not None:
            self._sort(now)

    def postpone(self, now: float) -> None:
        """Restart every settle window: observations until now, or their absence, are no evidence."""
        self._root_since = dict.fromkeys(self._root_since, now)

    @property
    def is_calm(self) -> bool:
        """Tell if every node was well at each of its last looks."""
        return all(node.is_calm for node in self._nodes.values())

    def is_victim(self, name: str) -> bool:
        return name in self._victims

    def incidents(self, now: float) -> list[CascadeIncident]:
        """Return every root with its victims, the one that explains most first, then the earliest."""
        below = {root: self._victims & self.graph.below(root) for root in self._root_since}
        ranked = sorted(self._root_since, key=lambda root: (-len(below[root]), self._root_since[root], root))
        return [self._incident(root, below[root], now) for root in ranked]

    def _incident(self, root: str, victims: frozenset[str], now: float) -> CascadeIncident:
        node, since = self._nodes[root], self._root_since[root]
        settled = node.hard or now - since >= self._settle_seconds
        in_order = tuple(name for name in self.graph.order if name in victims)
        return CascadeIncident(root, since, node.reason, in_order, settled, node.told, node.flapping)

    def _sort(self, now: float) -> None:
        """Sort providers first, so that the former victims of a recovered root are judged again from the top down."""
        failed = {name for name, node in self._nodes.items() if node.failed}
        victims: set[str] = set()
        for name in (*self.graph.order, *sorted(failed.difference(self.graph.order))):
            if name not in failed:
                continue
            if self.graph.above(name) & failed:
                victims.add(name)
            elif name in self._victims:
                failed.discard(name)
                del self._nodes[name]
        self._victims = frozenset(victims)
        roots = failed - victims
        self._root_since = {name: self._root_since.get(name, now) for name in sorted(roots)}
