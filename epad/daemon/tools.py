"""Make the tool door's parts: calls, sessions, workers in cells. It starts nothing before the first call."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import structlog
from structlog.typing import FilteringBoundLogger

from epad.agents.listing import listed
from epad.answers.orders import Limit
from epad.confinement.planning import MachinePlanner
from epad.confinement.policies import Policies
from epad.confinement.way_out import WayOut
from epad.confinement.zygote import Zygote
from epad.daemon.agents import make_agents, usage_of
from epad.daemon.foreign_servers import make_servers
from epad.daemon.joints import Joints
from epad.daemon.own_tools import make_own_tools
from epad.daemon.parts import Given
from epad.daemon.tool_settings import ToolSettings, owner_of
from epad.daemon.tooling import Labels, Tooling
from epad.gateway.access import Access
from epad.metrics.registry import Metrics
from epad.operations.tool_looks import ToolLooks, ToolsInForce
from epad.operations.undo_orders import UndoOrders
from epad.runtime.side_tasks import Tasks
from epad.secrets.vault import Vault
from epad.storage.event_log import EventLog
from epad.storage.restores import FILE as RESTORES
from epad.supervisor.identity import ProcessTable
from epad.tools.call import CallContext, ToolCalls
from epad.tools.consent import ConsentContext, Consents
from epad.tools.file_labels import FileLabels
from epad.tools.labelling import Labelling
from epad.tools.limits import limit_rows
from epad.tools.metrics import ToolSeries
from epad.tools.output_budget import OutputBudget
from epad.tools.own_signing import signing_tools
from epad.tools.processes import Processes
from epad.tools.rates import CallRates
from epad.tools.repeats import Repeats
from epad.tools.results import URI as RESULTS
from epad.tools.results import ResultStore
from epad.tools.sessions import Sessions, process_of_agent
from epad.tools.undo_store import UndoStore
from epad.tools.undoing import Undoing
from epad.tools.wire.all_resources import AllResources
from epad.tools.wire.result_resources import ResultResources
from epad.tools.worker_cell import CellStarter
from epad.tools.worker_doors import WorkerDoors
from epad.tools.workers import Workers
from epad.vault.answers import URI as DOCUMENTS
from epad.vault.answers import House, make_vault_tools
from epad.vault.child import VaultChild
from epad.vault.resources import VaultResources
from epad.vault.watch import Watch
from probes.tool_calls import ToolCalled


def make_tools(
    given: Given,
    joints: Joints,
    access: Access,
    events: EventLog,
    way_out: WayOut,
    metrics: Metrics,
    secrets: Vault,
) -> Tooling:
    """Make the calls of tools, and what they need. The questions for a person have their numbers with the way out's."""
    log = structlog.get_logger("epad.tools")
    zygote = Zygote()
    starter, store = make_starter(given, joints, zygote, WorkerDoors(way_out, log))
    settings, workers = ToolSettings(lambda: joints.config, starter.workspace), Workers(starter, log)
    agents, sessions = given.stores.agents, make_sessions(given, joints, settings)
    rates = CallRates(settings.calls_per_minute, given.clock, agents.root)
    output = OutputBudget(settings.output_tokens_per_hour, given.clock, agents.root)
    series, vault = ToolSeries(metrics), make_vault(given, log)
    house = House(settings.sees_shared, access.quarantined, lambda: joints.config.vault)
    watch = Watch(vault, given.stores.ledger, given.directories.state / RESTORES, given.clock, log)
    foreign = make_servers(given, joints, zygote, WorkerDoors(way_out, log), events, secrets)
    undoing = Undoing.make(store, workers, given.stores.ledger, given.clock.monotonic, log)
    files = FileLabels(given.stores.database, log)
    results = ResultStore(given.directories.results)
    consents = make_consents(given, way_out, settings, sessions, events)

    def observe(event: ToolCalled) -> None:
        series.called(event)
        joints.tool_called(event)

    calls = ToolCalls(
        CallContext(
            ledger=given.stores.ledger,
            workers=workers,
            sessions=sessions,
            rates=rates,
            access=access,
            phase=joints.phase,
            profile=settings.profile,
            clock=given.clock,
            log=log,
            undoing=undoing,
            results=results,
            labelling=Labelling(way_out.guard, settings.workspace, settings.synced, files),
            observe=observe,
            output=output,
            own={
                **make_own_tools(given, joints, given.stores.identities, rates, events),
                **signing_tools(secrets.open),
                **make_vault_tools(vault, house),
            },
            foreign=foreign.tools,
            held_back=foreign.held_back,
            consents=consents,
            repeats=Repeats(given.stores.database, given.stores.ledger, given.clock, log),
        )
    )
    spawning, agent_door = make_agents(
        given, joints, sessions, calls.session_log, consents, events.emit, calls.label_counts
    )
    documents = VaultResources(vault, house, sessions.of, partial(_shut, access), calls.label_counts)
    return Tooling(
        calls=calls,
        workers=workers,
        zygote=zygote,
        in_force=ToolsInForce(lambda: calls.catalogue, settings.callers),
        consents=consents,
        vault=vault,
        watch=watch,
        resources=AllResources({RESULTS: ResultResources(results), DOCUMENTS: documents}),
        foreign=foreign,
        series=series,
        limits=partial(limits_now, settings, rates, output),
        undoing=undoing,
        side=Tasks(log),
        adopting=partial(calls.session_log.adopt, sessions, given.stores.ledger, settings.is_present),
        results=results,
        labels=Labels(sessions, files),
        spawning=spawning,
        agent_door=agent_door,
        agents=partial(listed, agents, lambda name: usage_of(given, name)),
    )


def make_sessions(given: Given, joints: Joints, settings: ToolSettings) -> Sessions:
    """Make the sessions: of processes, and of agents that agents have spawned."""
    processes = Processes(joints.snapshot, ProcessTable(given.boot_id).identity)
    agents, run = given.stores.agents, f"{given.boot_id}/{given.stores.ledger.epoch}"

    def process_of(subsystem: str) -> str:
        return process_of_agent(subsystem) if subsystem in agents.living else processes.name(subsystem)

    return Sessions(process_of, settings.tier, run, settings.labels)


def make_vault(given: Given, log: FilteringBoundLogger) -> VaultChild:
    """Make the child that keeps the stores of agents, and the documents of the knowledge vault."""
    documents = given.config.vault.directory
    return VaultChild(given.directories.vault, log, Path(documents) if documents else None)


def make_consents(
    given: Given, way_out: WayOut, settings: ToolSettings, sessions: Sessions, events: EventLog
) -> Consents:
    """Make the questions about tools, which are numbered with those of the way out."""
    return Consents(
        ConsentContext(
            clock=given.clock,
            numbers=way_out.approvals.numbers,
            workspace=settings.workspace,
            lives=sessions.lives,
            emit=events.emit,
            log=structlog.get_logger("epad.tools"),
        )
    )


def _shut(access: Access, subsystem: str) -> str:
    refusal = access.shut(subsystem)
    return "" if refusal is None else refusal.message


def make_starter(
    given: Given, joints: Joints, zygote: Zygote, doors: WorkerDoors
) -> tuple[CellStarter, UndoStore]:
    """Make what starts workers in cells, and the store of before-images that these cells show."""
    planner = MachinePlanner(zygote, lambda name: joints.config.subsystems[name].user, tuple)
    store = UndoStore(given.directories.undo, lambda name: owner_of(joints.config.subsystems[name].user))
    policies = Policies(given.directories, os.environ)
    return CellStarter(lambda: joints.config, policies, planner, zygote, doors, store.directory), store


def limits_now(settings: ToolSettings, rates: CallRates, output: OutputBudget) -> list[Limit]:
    """Return the limits on tools, with their use, of each subsystem that may call some."""
    kinds = (
        ("tool_calls_per_minute", settings.calls_per_minute, rates.left),
        ("tool_output_tokens_per_hour", settings.output_tokens_per_hour, output.left),
    )
    return list(limit_rows(settings.callers(), kinds))


def make_tool_looks(given: Given, joints: Joints, tools: Tooling | None) -> ToolLooks:
    """Make the answers to questions about tools; without tools, those about the past remain."""
    in_force = None if tools is None else tools.in_force
    ledger = given.stores.ledger
    undo = UndoOrders(ledger, None if tools is None else tools.undoing)
    return ToolLooks(ledger, in_force, lambda: joints.config.subsystems, undo)
