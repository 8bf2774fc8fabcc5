"""Make the tool door's parts: calls, sessions, workers in cells. It starts nothing before the first call."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial

import structlog

from epad.answers.orders import Limit
from epad.confinement.planning import MachinePlanner
from epad.confinement.policies import Policies
from epad.confinement.user import find_user
from epad.confinement.way_out import WayOut
from epad.confinement.zygote import Zygote
from epad.daemon.joints import Joints
from epad.daemon.own_tools import make_own_tools
from epad.daemon.parts import Given
from epad.daemon.tooling import Tooling
from epad.gate.tiers import Tier, tier_of
from epad.gate.tool_profile import Profile
from epad.gateway.access import Access
from epad.metrics.registry import Metrics
from epad.operations.tool_looks import ToolLooks, ToolsInForce
from epad.operations.undo_orders import UndoOrders
from epad.runtime.side_tasks import Tasks
from epad.storage.event_log import EventLog
from epad.supervisor.identity import ProcessTable
from epad.tools.call import CallContext, ToolCalls
from epad.tools.consent import ConsentContext, Consents
from epad.tools.limits import limit_rows
from epad.tools.metrics import ToolSeries
from epad.tools.output_budget import OutputBudget
from epad.tools.processes import Processes
from epad.tools.rates import CallRates
from epad.tools.repeats import Repeats
from epad.tools.results import ResultStore
from epad.tools.sessions import Sessions
from epad.tools.undo_store import Owner, UndoStore
from epad.tools.undoing import Undoing
from epad.tools.worker_cell import CellStarter
from epad.tools.worker_doors import WorkerDoors
from epad.tools.workers import Workers
from epad.vault.answers import make_vault_tools
from epad.vault.child import VaultChild
from probes.tool_calls import ToolCalled

_NO_PROFILE = Profile(())


def make_tools(
    given: Given, joints: Joints, access: Access, events: EventLog, way_out: WayOut, metrics: Metrics
) -> Tooling:
    """Make the calls of tools, and what they need. The questions for a person have their numbers with the way out's."""
    zygote = Zygote()
    planner = MachinePlanner(zygote, lambda name: joints.config.subsystems[name].user, tuple)
    log = structlog.get_logger("epad.tools")
    store = UndoStore(given.directories.undo, lambda name: _owner(joints.config.subsystems[name].user))
    policies, doors = Policies(given.directories, os.environ), WorkerDoors(way_out, log)
    starter = CellStarter(lambda: joints.config, policies, planner, zygote, doors, store.directory)
    results = ResultStore(given.directories.results)
    workers = Workers(starter, log)
    undoing = Undoing.make(store, workers, given.stores.ledger, given.clock.monotonic, log)
    processes = Processes(joints.snapshot, ProcessTable(given.boot_id).identity)

    def tier(subsystem: str) -> Tier:
        spec = joints.config.subsystems[subsystem]
        return tier_of(spec.tier, has_workspace=bool(starter.workspace(subsystem)))

    def profile(subsystem: str) -> Profile:
        spec = joints.config.subsystems.get(subsystem)
        return _NO_PROFILE if spec is None else Profile(spec.tools)

    def limit(subsystem: str) -> int:
        spec = joints.config.subsystems.get(subsystem)
        own = None if spec is None else spec.tool_calls_per_minute
        return joints.config.tools.calls_per_minute if own is None else own

    def output_limit(subsystem: str) -> int:
        spec = joints.config.subsystems.get(subsystem)
        own = None if spec is None else spec.tool_output_tokens_per_hour
        return joints.config.tools.output_tokens_per_hour if own is None else own

    series, output = ToolSeries(metrics), OutputBudget(output_limit, given.clock)

    def observe(event: ToolCalled) -> None:
        series.called(event)
        joints.tool_called(event)

    sessions = Sessions(processes.name, tier, f"{given.boot_id}/{given.stores.ledger.epoch}")
    consents = Consents(
        ConsentContext(
            clock=given.clock,
            numbers=way_out.approvals.numbers,
            workspace=lambda name: starter.workspace(name) if name in joints.config.subsystems else "",
            lives=sessions.lives,
            emit=events.emit,
            log=log,
        )
    )
    rates = CallRates(limit, given.clock)

    def sees_shared(subsystem: str) -> bool:
        spec = joints.config.subsystems.get(subsystem)
        return spec is not None and spec.memory == "shared"

    vault = VaultChild(given.directories.vault, log)
    context = CallContext(
        ledger=given.stores.ledger,
        workers=workers,
        sessions=sessions,
        rates=rates,
        access=access,
        phase=joints.phase,
        profile=profile,
        clock=given.clock,
        log=log,
        undoing=undoing,
        results=results,
        observe=observe,
        output=output,
        own={
            **make_own_tools(given, joints, given.stores.identities, rates, events),
            **make_vault_tools(vault, sees_shared),
        },
        consents=consents,
        repeats=Repeats(given.stores.database, given.stores.ledger, given.clock, log),
    )
    calls = ToolCalls(context)

    def limits() -> list[Limit]:
        kinds = (
            ("tool_calls_per_minute", limit, rates.left),
            ("tool_output_tokens_per_hour", output_limit, output.left),
        )
        return list(limit_rows(callers(), kinds))

    def callers() -> Mapping[str, tuple[Tier, Profile]]:
        names = [name for name, spec in joints.config.subsystems.items() if spec.gateway]
        return {name: (tier(name), profile(name)) for name in names}

    in_force = ToolsInForce(lambda: calls.catalogue, callers)
    adopting = partial(
        calls.session_log.adopt, sessions, given.stores.ledger, lambda name: name in joints.config.subsystems
    )
    return Tooling(
        calls,
        workers,
        zygote,
        in_force,
        consents,
        vault,
        series,
        limits,
        undoing,
        Tasks(log),
        adopting,
        results,
    )


def make_tool_looks(given: Given, joints: Joints, tools: Tooling | None) -> ToolLooks:
    """Make the answers to questions about tools; without tools, those about the past remain."""
    in_force = None if tools is None else tools.in_force
    ledger = given.stores.ledger
    undo = UndoOrders(ledger, None if tools is None else tools.undoing)
    return ToolLooks(ledger, in_force, lambda: joints.config.subsystems, undo)


def _owner(user: str) -> Owner | None:
    found = find_user(user)
    return None if found is None else (found.uid, found.gid)
