"""Make the surfaces of the daemon: the state of everything, the operations, and the doors to them.

The last step of `composition.py`: it has every other part already.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial

from epad.answers.status import Status
from epad.api.server import ControlApi
from epad.configuration.persons_schema import persons_of
from epad.configuration.schema import Config
from epad.confinement.kept_policies import KeptPolicies
from epad.confinement.metrics import show_cells
from epad.confinement.policies import Policies
from epad.confinement.policy import Policy
from epad.confinement.tool_doors import policies_with_tools
from epad.daemon.identity import make_identity_looks
from epad.daemon.joints import Joints
from epad.daemon.live_changes import LiveChanges
from epad.daemon.parts import Core, Given, Surfaces
from epad.daemon.tools import make_tool_looks
from epad.foreign.cell import server_policies
from epad.ledger.effects import states_of
from epad.metrics.server import MetricsServer
from epad.operations.all_approvals import AllApprovals
from epad.operations.host_approvals import HostApprovals
from epad.operations.implementation import DaemonOperations
from epad.operations.learning import Learning
from epad.operations.machine_status import MachineView
from epad.operations.memory_orders import MemoryOrders
from epad.operations.recorded_orders import RecordedOrders
from epad.operations.reload import Reloader
from epad.operations.server_orders import ServerOrders
from epad.operations.status import DaemonStatus, NoTools
from epad.operations.tool_approvals import ToolApprovals
from epad.operations.vault_orders import VaultOrders
from epad.probing.metrics import SubsystemSeries
from epad.probing.process_owners import ProcessOwners
from epad.supervisor.engine_choice import unit_tag
from epad.supervisor.identity import ProcessTable
from epad.vault.answers import EFFECT
from epad.web.alerts import AlertDoor
from epad.web.reports import Reports
from epad.web.server import WebPage


def make_surfaces(given: Given, joints: Joints, core: Core) -> Surfaces:
    """Make what shows the daemon and what is asked of it: the operations, then the doors to them."""
    foundation, watchers = core.foundation, core.probing.watchers
    machine = MachineView(watchers.vram, watchers.host, given.clock, foundation.metrics)
    snapshots, footprints = core.supervision.supervisor.snapshots, watchers.memory.footprints
    subsystems = SubsystemSeries(foundation.metrics, snapshots, footprints)
    daemon_status = make_status(given, core, machine)
    policies = Policies(given.directories, os.environ)
    kept = KeptPolicies(given.directories.cells / "policies.json")
    former = kept.read()

    def in_force(config: Config) -> Mapping[str, Policy]:
        own = {**policies.all(config), **server_policies(policies, config)}
        return policies_with_tools(own, config)

    reloader = Reloader(given.config, given.read, joints.apply, foundation.events, in_force, kept)
    reloader.tell_of_start(former)
    operations = make_operations(given, joints, core, daemon_status, reloader)
    metrics_server = MetricsServer(
        given.config.metrics.listen,
        foundation.metrics,
        partial(refresh, core, daemon_status, machine, subsystems),
        given.config.metrics.hosts,
    )
    page = WebPage(
        given.config.web,
        operations,
        Reports(given.directories.work),
        given.directories.web_token,
        AlertDoor(given.directories.alerts_token, watchers.alerts.receive),
        lambda: persons_of(joints.config.persons),
        given.directories.proxy,
    )
    return Surfaces(
        daemon_status=daemon_status,
        metrics_server=metrics_server,
        reloader=reloader,
        operations=operations,
        api=ControlApi(
            operations,
            given.directories.control_socket,
            given.config.control.operator_group,
            persons=lambda: persons_of(joints.config.persons),
            owner_of=make_owner_of(given, core),
        ),
        page=page,
        live=make_live(given, joints, core, daemon_status, metrics_server, page),
    )


def make_owner_of(given: Given, core: Core) -> Callable[[int], str | None]:
    """Make what tells whose process a pid is: no agent gives orders, whatever its uid."""
    directories, tag = given.directories, unit_tag(given.directories, os.environ)
    snapshots, units = core.supervision.supervisor.snapshots, core.probing.watchers.roster.units
    table = ProcessTable(given.boot_id)
    return ProcessOwners(snapshots, table, directories.state, tag=tag, units=units).owner_of


def make_status(given: Given, core: Core, machine: MachineView) -> DaemonStatus:
    """Make the state of everything, as one answer."""
    supervisor, watchers = core.supervision.supervisor, core.probing.watchers
    return DaemonStatus(
        config=given.config,
        clock=given.clock,
        started_at=given.clock.monotonic(),
        decider=core.control.decider,
        controller=core.control.controller,
        snapshots=supervisor.snapshots,
        spending=core.foundation.spending,
        probes=core.probing.loops,
        ledger=core.foundation.integrity.status,
        directories=given.directories,
        upstreams=core.gateway.upstreams,
        incidents=watchers.cascade.incidents,
        gpus=machine.gpus,
        host=machine.host,
        footprints=watchers.memory.footprints,
        engine=supervisor.engine,
        newest_checkpoint=core.responses.newest_checkpoint,
        shut=given.stores.shut,
        confinement=core.foundation.cells.confinement,
        questions=core.foundation.questions,
        tools=core.foundation.tools or NoTools(),
    )


def make_operations(
    given: Given, joints: Joints, core: Core, daemon_status: DaemonStatus, reloader: Reloader
) -> DaemonOperations:
    """Make the operations that can be asked of the daemon."""
    foundation, control, stores, clock = core.foundation, core.control, given.stores, given.clock
    return DaemonOperations(
        daemon_status=daemon_status,
        controller=control.controller,
        decider=control.decider,
        history=foundation.history,
        event_log=foundation.events,
        clock=clock,
        keys=foundation.keys,
        logs=core.supervision.logs.files,
        reloads=reloader,
        datastores=foundation.datastores,
        budget_orders=stores.budget_orders(reloader, clock),
        newest_checkpoint=core.responses.newest_checkpoint,
        give_up_records=lambda reason: stores.accept_loss(joints.config, reason, clock.monotonic()),
        begin_again=joints.begin_again.set,
        plan_recovery=lambda: core.responses.rescue.plan(control.decider),
        all_approvals=AllApprovals(
            HostApprovals(foundation.way_out, stores.known_hosts),
            ToolApprovals(foundation.tools.consents) if foundation.tools else None,
        ),
        starts=core.supervision.starts,
        learning=Learning(reloader, given.directories.work),
        tool_looks=make_tool_looks(given, joints, foundation.tools),
        memory_orders=MemoryOrders(
            foundation.tools.vault if foundation.tools else None,
            lambda: stores.ledger.read(lambda connection: states_of(connection, EFFECT)),
            foundation.tools.watch if foundation.tools else None,
        ),
        vault_orders=VaultOrders(
            foundation.tools.vault if foundation.tools else None,
            foundation.tools.watch if foundation.tools else None,
        ),
        recorded_orders=RecordedOrders(foundation.audit),
        secret_vault=foundation.secrets,
        identity_looks=make_identity_looks(given, foundation.identity),
        server_orders=ServerOrders(foundation.tools.foreign if foundation.tools else None),
    )


def make_live(
    given: Given,
    joints: Joints,
    core: Core,
    daemon_status: DaemonStatus,
    metrics_server: MetricsServer,
    page: WebPage,
) -> LiveChanges:
    """Make what carries a reload out, on every part that it reaches."""
    foundation = core.foundation
    return LiveChanges(
        configured=joints.configured,
        access=foundation.access,
        cells=foundation.cells,
        way_out=foundation.way_out,
        daemon_status=daemon_status,
        decider=core.control.decider,
        environments=foundation.environments,
        gateway=core.gateway,
        keys=foundation.keys,
        logs=core.supervision.logs,
        metrics=foundation.metrics,
        metrics_server=metrics_server,
        page=page,
        recorder=foundation.recorder,
        stores=given.stores,
        supervisor=core.supervision.supervisor,
        tools=foundation.tools,
        watchers=core.probing.watchers,
        world=core.control.world,
    )


def refresh(
    core: Core, daemon_status: DaemonStatus, machine: MachineView, subsystems: SubsystemSeries
) -> Status:
    """Bring the series that follow state, not events, up to date, and return the state."""
    subsystems.show()
    core.gateway.show_series()
    machine.show()
    if core.foundation.tools is not None:
        core.foundation.tools.show_series()
    show_cells(core.foundation.metrics, daemon_status.confinements())
    daemon_status.report.observe(core.foundation.metrics)
    return daemon_status.render()
