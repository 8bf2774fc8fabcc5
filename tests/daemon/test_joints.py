"""The calls to parts that a later step makes: refused before all are there, and handed on after."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
from epad_story import shipped
from msgspec import structs

from epad.configuration.schema import Config
from epad.control_loop.step import Lane, Operation, OperationEnded, Step, StepName, StepRecord, StepState
from epad.daemon.joints import Joints
from epad.daemon.parts import Core, Given, Surfaces
from probes.subsystems import SubsystemExited
from statemachine.clock import ManualClock
from statemachine.containment import Hold, Rung
from statemachine.finding import HOST, Finding, Severity

FINDING = Finding("token_burn", "chat", Severity.ANOMALY, 0.0, "a test")
EXIT = SubsystemExited("chat", 0.0, "exit status 1", False, True, "a test", 1.0)
CALLS: list[Callable[[Joints], object]] = [
    lambda joints: joints.push(FINDING),
    lambda joints: joints.operation_ended(ended(StepName.HOLD, Lane.CONTAINMENT)),
    lambda joints: joints.hold_of("chat"),
    lambda joints: joints.parked(),
    lambda joints: joints.exited(EXIT),
    lambda joints: joints.remember("chat", [1.0]),
    lambda joints: joints.snapshots(),
    lambda joints: joints.output("chat"),
    lambda joints: joints.last_verified(),
    lambda joints: joints.facts(),
    lambda joints: joints.line_of("chat"),
    lambda joints: joints.configured(shipped()),
]


class Controller:
    """Remembers what came in."""

    def __init__(self) -> None:
        self.pushed: list[Finding] = []
        self.ended: list[OperationEnded] = []

    def push(self, finding: Finding) -> None:
        self.pushed.append(finding)

    def operation_ended(self, operation: OperationEnded) -> None:
        self.ended.append(operation)

    def hold_of(self, _: str) -> Hold:
        return Hold(Rung.BLOCK, "decided")


def ended(name: StepName, lane: Lane, state: StepState = StepState.DONE) -> OperationEnded:
    records = (StepRecord(1, Step(name, HOST), state),)
    return OperationEnded(Operation(1, "a", lane, "a test", records), state)


def given(config: Config | None = None, **fields: Any) -> Given:
    nothing = cast("Any", None)
    return Given(config or shipped(), shipped, nothing, nothing, ManualClock(), "boot", **fields)


def connected(joints: Joints, controller: Controller, **foundation: Any) -> Joints:
    core = SimpleNamespace(
        control=SimpleNamespace(controller=controller),
        foundation=SimpleNamespace(tools=None, **foundation),
        probing=SimpleNamespace(exits=SimpleNamespace(exited=lambda _: None)),
    )
    surfaces = SimpleNamespace(daemon_status=SimpleNamespace(config=joints.config))
    joints.connect(cast("Core", core), cast("Surfaces", surfaces))
    return joints


@pytest.mark.parametrize("call", CALLS)
def test_a_part_that_is_not_made_yet_cannot_be_called(call: Callable[[Joints], object]) -> None:
    """A step that called one would work in another order only: it is refused in words."""
    with pytest.raises(RuntimeError, match="before all parts were made"):
        call(Joints(given()))


def test_the_end_of_a_lifeboat_ends_the_daemon_where_it_is_to() -> None:
    """Done or failed, but not called off; and no other step does."""
    config = shipped()
    leaving = structs.replace(config, lifeboat=structs.replace(config.lifeboat, then="exit"))
    for chosen, name, state, ends in (
        (leaving, StepName.LIFEBOAT, StepState.DONE, True),
        (leaving, StepName.LIFEBOAT, StepState.FAILED, True),
        (leaving, StepName.LIFEBOAT, StepState.ABORTED, False),
        (leaving, StepName.FIRST_TIER, StepState.DONE, False),
        (config, StepName.LIFEBOAT, StepState.DONE, False),
    ):
        controller = Controller()
        joints = connected(Joints(given(chosen)), controller)
        joints.operation_ended(ended(name, Lane.PHASE, state))
        assert joints.abandoned.is_set() is ends
        assert [len(controller.ended), controller.pushed] == [1, []]


def test_a_scheduled_checkpoint_is_a_finding() -> None:
    """One that failed is an anomaly, one that was called off is nothing."""
    for state, severity in (
        (StepState.DONE, [Severity.OK]),
        (StepState.FAILED, [Severity.ANOMALY]),
        (StepState.ABORTED, []),
    ):
        controller = Controller()
        connected(Joints(given()), controller).operation_ended(
            ended(StepName.CHECKPOINT, Lane.MAINTENANCE, state)
        )
        assert [finding.severity for finding in controller.pushed] == severity


def test_the_hold_of_a_writer_goes_before_the_decided_one() -> None:
    """A store that is restored has its writer stopped, whatever was decided of it."""
    stopped = Hold(Rung.STOP, "its store is restored")
    writer = SimpleNamespace(hold_on=lambda name: stopped if name == "chat" else None)
    joints = connected(Joints(given()), Controller(), datastores=writer)
    assert joints.hold_of("chat") is stopped
    assert joints.hold_of("game").reason == "decided"


def test_one_configuration_is_in_force() -> None:
    """The status shows what every part asks for; and whoever else is to know of an exit does."""
    heard: list[SubsystemExited] = []
    joints = connected(Joints(given(also_exited=heard.append)), Controller())
    changed = structs.replace(shipped())
    joints.configured(changed)
    assert joints.config is changed is joints._surfaces.daemon_status.config
    joints.exited(EXIT)
    assert heard == [EXIT]
