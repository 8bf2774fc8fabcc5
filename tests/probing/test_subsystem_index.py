"""What the probes know of the configured subsystems stays true through a reload."""

from __future__ import annotations

import pytest

from epad.configuration.schema import BudgetConfig, SubsystemConfig, UpstreamConfig
from epad.probing.cascade_signals import upstream_node
from epad.probing.subsystem_index import Roster
from probes.memory import MemoryLimits

UPSTREAMS = {"ours": UpstreamConfig(url="http://x", dialects=("openai",), served_by="model")}
MODEL = SubsystemConfig(command=("x",), fills_gpu=True)
CHAT = SubsystemConfig(command=("x",), depends_on=("model",), budget=BudgetConfig(tokens_per_minute=500))
OLLAMA = SubsystemConfig(kind="unit", unit="ollama.service", serves="ours")


@pytest.fixture
def roster() -> Roster:
    return Roster({"model": MODEL, "chat": CHAT}, UPSTREAMS)


def test_what_a_reload_adds_is_known(roster: Roster) -> None:
    """Its name, budget, unit, its way with GPUs, and what it needs."""
    budget = BudgetConfig(tokens_per_minute=7)
    agent = SubsystemConfig(
        command=("x",), depends_on=("chat",), budget=budget, memory_max="4GiB", memory_high="3GB"
    )
    roster.configure({"model": MODEL, "chat": CHAT, "agent": agent, "ollama": OLLAMA})
    assert set(roster.names()) == {"model", "chat", "agent", "ollama"}
    assert roster.budget("agent").tokens_per_minute == 7
    assert roster.memory_limits("agent") == MemoryLimits(4 << 30, 3_000_000_000)
    assert roster.units() == {"ollama.service": "ollama"}
    assert set(roster.gpu_fillers()) == {"model", "ollama"}
    assert roster.graph.above("agent") == {"chat", "model"}


def test_what_a_reload_removes_is_forgotten(roster: Roster) -> None:
    """And nothing limits what is not configured."""
    roster.configure({"model": MODEL})
    assert set(roster.names()) == {"model"}
    assert roster.budget("chat").tokens_per_minute == 0
    assert roster.memory_limits("chat") == MemoryLimits()
    assert roster.graph.below("model") == {upstream_node("ours")}


def test_what_turns_have_shown_outlives_a_reload_while_both_ends_do(roster: Roster) -> None:
    """Else the first failure after it would have no root."""
    roster.graph.learn("chat", upstream_node("ours"))
    roster.configure({"model": MODEL, "chat": CHAT, "ollama": OLLAMA})
    assert upstream_node("ours") in roster.graph.above("chat")
    roster.configure({"model": MODEL})
    roster.configure({"model": MODEL, "chat": CHAT})
    assert upstream_node("ours") not in roster.graph.above("chat")


def test_a_reload_that_contradicts_what_was_learnt_is_believed(roster: Roster) -> None:
    """A learnt edge that would close a circle with the told ones is dropped."""
    roster.configure({"model": MODEL, "chat": SubsystemConfig(command=("x",))})
    roster.graph.learn("chat", "model")
    roster.configure(
        {"model": SubsystemConfig(command=("x",), depends_on=("chat",)), "chat": SubsystemConfig()}
    )
    assert roster.graph.above("model") == {"chat"}
    assert roster.graph.above("chat") == frozenset()
