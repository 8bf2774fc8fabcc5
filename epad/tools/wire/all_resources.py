"""Serve the resources of several families at one door: each by how its URIs begin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from epad.tools.protocol import Caller
from epad.tools.wire.resources import Content, Resource, Resources


class AllResources:
    """Implements `epad.tools.wire.resources.Resources` by several of them, each by how its URIs begin."""

    def __init__(self, families: Mapping[str, Resources]) -> None:
        self._families = families

    def listed(self, caller: Caller) -> Sequence[Resource]:
        """Return the resources of every family."""
        return [one for family in self._families.values() for one in family.listed(caller)]

    def templates(self, caller: Caller) -> Sequence[Resource]:
        """Return the templates of every family."""
        return [one for family in self._families.values() for one in family.templates(caller)]

    async def read(self, caller: Caller, uri: str) -> Content | None:
        """Return what a resource holds; None if no family has one of that URI."""
        family = next((one for begin, one in self._families.items() if uri.startswith(begin)), None)
        return None if family is None else await family.read(caller, uri)
