"""Plan the cells of this machine: its walls are tried when the first cell is wanted, once for each user."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace

from epad.confinement.cell_parts import CellOrder
from epad.confinement.machine import examine
from epad.confinement.plan import Abilities, Program, plan_of
from epad.confinement.spawner import Spawner
from epad.confinement.user import User, find_user
from epad.runtime.environment_marks import INSTANCE_MARK, STATE_MARK, SUBSYSTEM_MARK
from runners.cell.plan import CellPlan, Wall

_MARKS = (STATE_MARK, SUBSYSTEM_MARK, INSTANCE_MARK)


class MachinePlanner:
    """Implements `epad.confinement.cells.Planner`.

    `users` returns a subsystem's setting `user`, `ports` the ports of this machine that a cell may reach where it has
    no network of its own.
    """

    def __init__(
        self, spawner: Spawner, users: Callable[[str], str], ports: Callable[[], tuple[int, ...]]
    ) -> None:
        self._spawner = spawner
        self._users = users
        self._ports = ports
        self._examining = asyncio.Lock()
        self._abilities: dict[int | None, Abilities] = {}

    def use(self, spawner: Spawner) -> None:
        """Try the walls by this from now on: they are other ones there."""
        self._spawner = spawner
        self._abilities.clear()

    async def has_network(self, subsystem: str) -> bool:
        """Tell if a subsystem's cell here has a network of its own, and so doors. Raises ConfinementError."""
        return (await self._examined(find_user(self._users(subsystem)))).have(Wall.NETWORK)

    async def plan(self, order: CellOrder) -> CellPlan:
        """Plan the walls. Raises ConfinementError for those that are required and cannot be had."""
        user = find_user(self._users(order.policy.subsystem))
        program = Program(
            order.command,
            order.environment,
            {name: order.environment[name] for name in _MARKS if name in order.environment},
            shown=order.shown,
            texts=order.texts,
        )
        if user is not None:
            program = replace(program, uid=user.uid, gid=user.gid, groups=user.groups)
        return plan_of(
            order.policy, program, await self._examined(user), order.doors, self._ports(), order.watched
        )

    def abilities(self) -> Mapping[int | None, Abilities]:
        """Return the abilities tried so far, by user."""
        return self._abilities

    async def _examined(self, user: User | None) -> Abilities:
        uid = None if user is None else user.uid
        async with self._examining:
            if uid not in self._abilities:
                self._abilities[uid] = await examine(self._spawner, uid)
            return self._abilities[uid]
