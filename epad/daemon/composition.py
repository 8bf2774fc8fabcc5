"""Compose the daemon: make every part, step by step, each step from what the steps before it have made.

`compose` is the order. A step opens nothing and has no await, and what it returns is whole. Calls that run against the
order go through `joints.py`, which is connected last. `lifecycle.py` opens and closes the parts.
"""

from __future__ import annotations

import os
from pathlib import Path

import structlog

from epad.audit.trail import AuditTrail
from epad.checkpoint.critical_state import DATASTORES, critical_state
from epad.configuration.model_load import is_loading
from epad.confinement.authorities import Authorities
from epad.confinement.decoys import load_decoys
from epad.control_loop.decider import Decider
from epad.control_loop.history import History
from epad.control_loop.loop import Controller
from epad.control_loop.responder import Responder
from epad.control_loop.rules import make_rules
from epad.control_loop.world import DaemonWorld, WorldContext
from epad.daemon.agents import TemplateStarts, once
from epad.daemon.cells import CellContents, make_cells, make_policies, make_way_out
from epad.daemon.identity import endpoint, make_identity
from epad.daemon.intent import make_intent
from epad.daemon.joints import Joints
from epad.daemon.lifecycle import Composition
from epad.daemon.metrics import make_metrics
from epad.daemon.parts import Control, Core, Foundation, Given, Probing, Supervision
from epad.daemon.scheduled_jobs import Chores
from epad.daemon.surfaces import make_surfaces
from epad.daemon.tools import make_tools
from epad.datastore.datastores import Datastores
from epad.gateway.access import Access
from epad.gateway.child_environment import Environments
from epad.gateway.client_keys import Keys
from epad.gateway.idempotency import Answers
from epad.gateway.inference_check import OneToken
from epad.gateway.money import Prices
from epad.gateway.own_listeners import doors
from epad.gateway.parts import GatewayParts
from epad.gateway.screening import NoScreen
from epad.gateway.server import Gateway
from epad.gateway.side_routes import ManySideRoutes, NoSideRoutes, SideRoutes
from epad.gateway.spending import SpendingBook
from epad.gateway.tokenizing import load_tokenizers
from epad.gateway.upstream import Upstreams
from epad.ledger.integrity import Integrity
from epad.measurement.starts import Starts
from epad.probing.build import Senses, make_assessor, make_watchers
from epad.probing.cascade_signals import Sights, no_vault
from epad.probing.fan_out import ExitFanout, TurnFanout
from epad.probing.loops import ProbeLoops
from epad.response.last_resort import Lent
from epad.response.step_table import Hands, Responses
from epad.secrets.uses import LastUses
from epad.secrets.vault import open_vault
from epad.simulate.recorder import Recorder
from epad.storage.event_log import EventLog
from epad.supervisor.engine_choice import choose
from epad.supervisor.health import HealthChecker
from epad.supervisor.identity import ProcessTable
from epad.supervisor.launch import inherited
from epad.supervisor.log_pump import LogPump, log_configs
from epad.supervisor.supervisor import Supervisor, Surroundings
from epad.tools.wire.door import ToolDoor
from epad.vault.watched import own_datastores


def compose(given: Given) -> Composition:
    """Make the daemon: every part, in this order; and then join them."""
    joints = Joints(given)
    foundation = make_foundation(given, joints)
    supervision = make_supervision(given, joints, foundation)
    probing = make_probing(given, joints, foundation, supervision)
    gateway = make_gateway(given, joints, foundation, supervision, probing)
    responses = make_responses(given, joints, foundation, supervision, probing)
    control = make_control(given, joints, foundation, supervision, probing, responses)
    core = Core(foundation, supervision, probing, gateway, responses, control)
    surfaces = make_surfaces(given, joints, core)
    joints.connect(core, surfaces)
    return Composition(given, joints, core, surfaces)


def make_foundation(given: Given, joints: Joints) -> Foundation:
    """Make the parts that need the stores alone."""
    config, stores, clock, directories = given.config, given.stores, given.clock, given.directories
    metrics = make_metrics(config.subsystems)
    access = Access(clock)
    access.tell = joints.line_of
    audit = AuditTrail(stores.ledger, clock)
    events = EventLog(stores.database, clock, config.retention.events, audit.take)
    policies = make_policies(given, joints)
    uses = LastUses(stores.database, events, clock)
    vault = open_vault(directories.secrets, os.environ, uses, clock)
    decoys = load_decoys(directories.decoys)
    contents = CellContents(decoys, Authorities(directories.cells, directories.trusted, vault.own_keys()))
    way_out = make_way_out(given, joints, policies, events, metrics, contents, vault)
    cells = make_cells(given, joints, policies, way_out, events, metrics, contents)
    identity = make_identity(given, joints, access, events, metrics)
    return Foundation(
        metrics=metrics,
        audit=audit,
        events=events,
        history=History(stores.database),
        environments=Environments(
            config.subsystems, stores.identities, cells, decoys, endpoint(config.identity, directories)
        ),
        keys=Keys(config.subsystems, stores.identities, directories.keys),
        access=access,
        cells=cells,
        decoys=decoys,
        authorities=contents.authorities,
        way_out=way_out,
        integrity=Integrity(
            directories.ledger_database,
            config.ledger,
            stores.ledger,
            clock,
            metrics,
            beside=[directories.state_database],
        ),
        datastores=Datastores(
            own_datastores(directories) | config.datastores,
            directories.state / DATASTORES,
            config.probes.datastore,
            clock,
            metrics,
        ),
        recorder=Recorder(stores.database, clock, given.boot_id, config.retention.recordings),
        secrets=vault,
        secret_uses=uses,
        spending=SpendingBook(stores.totals, stores.budgets, clock, stores.spent_microusd),
        tools=make_tools(given, joints, access, events, way_out, metrics, vault)
        if config.tools.enabled
        else None,
        identity=identity,
        intent=make_intent(given, joints, metrics) if config.intent.enabled else None,
    )


def make_supervision(given: Given, joints: Joints, foundation: Foundation) -> Supervision:
    """Make the upstreams, then the supervisor, which asks them for a token, then the logs of its processes."""
    config, directories, credentials = (
        given.config,
        given.directories,
        os.environ.get("CREDENTIALS_DIRECTORY"),
    )
    upstreams = Upstreams(
        config.upstreams,
        config.gateway.connect_seconds,
        config.gateway.idle_seconds,
        given.clock,
        Path(credentials) if credentials else None,
        lambda name: is_loading(name, joints.snapshots(), joints.config, given.clock),
        foundation.secrets,
    )
    starts = Starts(
        directories.measurements,
        foundation.events,
        lambda: given.clock.utc().timestamp(),
        structlog.get_logger("epad.measurement"),
    )
    surroundings = Surroundings(
        database=given.stores.database,
        directories=directories,
        environment=once(given.stores.agents, foundation.environments.of),
        engine=choose(
            config.daemon.engine, ProcessTable(given.boot_id), directories, os.environ, foundation.cells
        ),
        clock=given.clock,
        observer=joints,
        log=structlog.get_logger("epad.supervisor"),
        boot_id=given.boot_id,
        checker=HealthChecker(OneToken(upstreams).ask, inherited(os.environ)),
        remember=joints.remember,
        output=joints.output,
        cells=foundation.cells,
        start_check=TemplateStarts(given.stores.agents, joints, starts),
    )
    supervisor = Supervisor(config.subsystems, surroundings)
    logs = LogPump(directories, supervisor.workloads, log_configs(config))
    return Supervision(upstreams, supervisor, logs, starts)


def make_probing(given: Given, joints: Joints, foundation: Foundation, supervision: Supervision) -> Probing:
    """Make the probes, and what runs them."""
    sights = Sights(
        supervision.upstreams.status,
        joints.hold_of,
        foundation.datastores.check,
        joints.last_verified,
        foundation.tools.watch.check if foundation.tools is not None else no_vault,
    )
    senses = Senses(
        supervision.supervisor.snapshots,
        foundation.integrity,
        given.directories,
        joints.parked,
        sights,
        supervision.supervisor.workloads,
    )
    events, metrics = foundation.events, foundation.metrics
    watchers = make_watchers(given.config, senses, given.clock, joints.push, events)
    return Probing(
        watchers,
        ExitFanout(watchers.cascade, events, metrics),
        ProbeLoops(watchers.all(), joints.push, given.clock, events, metrics),
    )


def make_gateway(
    given: Given, joints: Joints, foundation: Foundation, supervision: Supervision, probing: Probing
) -> Gateway:
    """Make the gateway, which tells the probes of its turns."""
    config, stores, clock = given.config, given.stores, given.clock
    observers = [*probing.watchers.turn_observers(), foundation.spending, foundation.recorder]
    return Gateway(
        GatewayParts(
            config=config.gateway,
            identities=stores.identities,
            budgets=stores.budgets,
            access=foundation.access,
            upstreams=supervision.upstreams,
            ledger=stores.ledger,
            observer=TurnFanout(observers, foundation.events, clock),
            clock=clock,
            metrics=foundation.metrics,
            log=structlog.get_logger("epad.gateway"),
            prices=Prices(config.prices),
            costs=stores.costs,
            doors=doors(config.subsystems),
            answers=Answers(stores.database, config.gateway, clock),
            alarm=joints.push,
            decoy_in=lambda body: foundation.decoys.seen_in(body, joints.config.subsystems),
            tokenizer_files=load_tokenizers(config.upstreams),
            handover=given.handover,
            side=make_side(foundation, old_clients=config.tools.sse),
            screen=foundation.intent or NoScreen(),
        )
    )


def make_side(foundation: Foundation, *, old_clients: bool) -> SideRoutes:
    """Make the tool door beside the gateway's routes, if there is to be one."""
    if foundation.tools is None:
        return NoSideRoutes()
    log = structlog.get_logger("epad.tools")
    resources = foundation.tools.resources
    door = ToolDoor(foundation.tools.calls, log, old_clients=old_clients, resources=resources)
    return ManySideRoutes(door, foundation.tools.agent_door)


def make_responses(
    given: Given, joints: Joints, foundation: Foundation, supervision: Supervision, probing: Probing
) -> Responses:
    """Make the work of each step of a response."""
    lent = Lent(
        configured=lambda: joints.config,
        directories=given.directories,
        stores=given.stores,
        clock=given.clock,
        history=foundation.history,
        sources=lambda: critical_state(joints.config, given.directories),
        facts=joints.facts,
    )
    hands = Hands(
        access=foundation.access,
        cells=foundation.cells,
        supervisor=supervision.supervisor,
        integrity=foundation.integrity,
        upstreams=supervision.upstreams,
        datastores=foundation.datastores,
        measure=probing.watchers.vram.measure,
        hold_of=joints.hold_of,
        gateway_url=lambda: foundation.environments.gateway_url,
        push=joints.push,
        events=foundation.events,
        metrics=foundation.metrics,
    )
    return Responses(lent, hands)


def make_control(
    given: Given,
    joints: Joints,
    foundation: Foundation,
    supervision: Supervision,
    probing: Probing,
    responses: Responses,
) -> Control:
    """Make the control loop around the world that it sees, and the schedule that gives it work."""
    config, journal, events, metrics = (
        given.config,
        given.stores.journal,
        foundation.events,
        foundation.metrics,
    )
    world = make_world(given, foundation, supervision, probing, responses)
    decider = Decider(make_rules(config), make_assessor(config.hysteresis), world, given.clock, given.boot_id)
    controller = Controller(decider, journal, world, given.clock, events, metrics, foundation.recorder)
    chores = Chores(
        foundation.integrity,
        given.stores.ledger,
        events,
        controller,
        responses.drill,
        lambda: decider.has_room_for_chores,
    )
    failed = responses.rescue.journal_failed
    return Control(
        world,
        decider,
        controller,
        Responder(journal, responses.work(), events, metrics, joints.operation_ended, failed),
        chores.schedule(config.schedule),
    )


def make_world(
    given: Given, foundation: Foundation, supervision: Supervision, probing: Probing, responses: Responses
) -> DaemonWorld:
    """Make the world as the control loop sees it."""
    context = WorldContext(
        supervisor=supervision.supervisor,
        access=foundation.access,
        forgetful=[*probing.watchers.forgetful(), given.stores.budgets, foundation.datastores],
        ledger_faults=lambda: foundation.integrity.faults,
        blind_probes=probing.loops.blind,
        victims=probing.watchers.cascade.waiting,
        stores_to_restore=foundation.datastores.to_restore,
        on_journal_failed=responses.rescue.journal_failed,
        parent_of=given.stores.agents.parent_of,
    )
    world = DaemonWorld(given.config.subsystems, context)
    world.serve([upstream.served_by for upstream in given.config.upstreams.values()])
    return world
