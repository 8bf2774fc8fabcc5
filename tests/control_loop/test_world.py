"""The house as the decider sees it."""

from __future__ import annotations

from typing import cast

from hypothesis import given
from hypothesis import strategies as st

from epad.configuration.schema import SubsystemConfig
from epad.control_loop.plans import LEDGER, Target
from epad.control_loop.world import DaemonWorld, WorldContext, dependency_layers
from epad.gateway.access import Access
from epad.supervisor.supervisor import Supervisor
from statemachine.clock import ManualClock
from statemachine.containment import Containable


class Toys:
    """A supervisor and a detector."""

    def __init__(self) -> None:
        self.forgotten: list[str] = []
        self.faults = 0
        self.to_restore: dict[str, str] = {}

    def failed(self) -> frozenset[str]:
        return frozenset({"chat"})

    def forget(self, subsystem: str) -> None:
        self.forgotten.append(subsystem)


def world(toys: Toys, access: Access) -> DaemonWorld:
    subsystems = {
        "chat": SubsystemConfig(command=("x",), depends_on=("model",)),
        "guest": SubsystemConfig(kind="client"),
        "model": SubsystemConfig(command=("x",), essential=True),
    }
    context = WorldContext(
        cast("Supervisor", toys),
        access,
        [toys, toys],
        lambda: toys.faults,
        lambda: frozenset({"vram"}),
        stores_to_restore=lambda: toys.to_restore,
    )
    return DaemonWorld(subsystems, context)


def test_containables_come_providers_first() -> None:
    """With what the ladder needs to know of each."""
    seen = world(Toys(), Access(ManualClock())).containables()
    assert list(seen) == [
        Containable("guest", essential=False, has_process=False),
        Containable("model", essential=True, has_process=True),
        Containable("chat", essential=False, has_process=True, layer=1),
    ]


def test_who_may_be_cut_and_who_is_needed_by_others() -> None:
    """Needed is what another depends on, what serves an upstream, and what an upstream is served by."""
    specs = {
        "chat": SubsystemConfig(command=("x",), depends_on=("model",)),
        "model": SubsystemConfig(command=("x",)),
        "vllm": SubsystemConfig(command=("x",), serves="vllm"),
        "ollama": SubsystemConfig(kind="unit", unit="ollama.service"),
        "night": SubsystemConfig(command=("x",), background=True),
    }
    toys = Toys()
    view = DaemonWorld(
        specs, WorldContext(cast("Supervisor", toys), Access(ManualClock()), [], lambda: 0, frozenset)
    )
    view.serve(["ollama", ""])
    assert {c.name for c in view.containables() if c.needed} == {"model", "vllm", "ollama"}
    assert {c.name for c in view.containables() if c.background} == {"night"}


@given(st.data())
def test_the_order_has_providers_first_and_is_the_same_however_the_file_is_written(
    data: st.DataObject,
) -> None:
    """Names decide where dependencies do not."""
    names = [f"s{number}" for number in range(6)]
    specs = {
        name: SubsystemConfig(
            command=("x",),
            depends_on=tuple(
                data.draw(st.lists(st.sampled_from(names[:index]), unique=True)) if index else ()
            ),
        )
        for index, name in enumerate(names)
    }
    order = dependency_layers(specs)
    layer = {name: number for number, layer in enumerate(order) for name in layer}
    assert sorted(layer) == names
    for name, spec in specs.items():
        assert all(layer[provider] < layer[name] for provider in spec.depends_on)
    shuffled = data.draw(st.permutations(names))
    assert dependency_layers({name: specs[name] for name in shuffled}) == order


def test_the_order_is_alphabetical_where_nothing_depends() -> None:
    """A provider that is named by somebody does not come before one that is not."""
    specs = {
        "a": SubsystemConfig(command=("x",), depends_on=("z",)),
        "b": SubsystemConfig(command=("x",)),
        "z": SubsystemConfig(command=("x",)),
    }
    assert dependency_layers(specs) == [["b", "z"], ["a"]]


def test_a_ledger_with_faults_is_damaged() -> None:
    """And whole again once they are repaired."""
    toys = Toys()
    view = world(toys, Access(ManualClock()))
    assert view.damaged() == frozenset()
    toys.faults = 2
    assert view.damaged() == {LEDGER}


def test_a_store_that_may_be_restored_is_damaged_too() -> None:
    """With who writes it."""
    toys = Toys()
    toys.to_restore = {"memory": "chat"}
    view = world(toys, Access(ManualClock()))
    assert view.damaged() == {Target.datastore("memory", "chat")}


def test_a_release_reaches_every_detector() -> None:
    """None of them goes on counting what was before."""
    toys = Toys()
    view = world(toys, Access(ManualClock()))
    view.forget("chat")
    assert toys.forgotten == ["chat", "chat"]
    assert (view.failed(), view.blind_probes()) == ({"chat"}, {"vram"})


def test_the_gateway_closes_to_everyone_and_opens_again() -> None:
    """The holds of single subsystems are not touched by it."""
    access = Access(ManualClock())
    view = world(Toys(), access)
    view.close_gateway("the journal cannot be written")
    refusal = access.check("model")
    assert refusal is not None
    assert "the journal cannot be written" in refusal.message
    view.reopen_gateway()
    assert access.check("model") is None
