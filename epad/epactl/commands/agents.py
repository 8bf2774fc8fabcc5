"""Show the living agents that agents have spawned, each below its parent."""

from __future__ import annotations

from epad.epactl import render
from epad.epactl.call import EXIT_OK, Call
from epad.formatting.text import clean
from epad.operations.registry import Operation

TYPE_CHECKING = False
if TYPE_CHECKING:
    from epad.answers.agents import AgentList, SpawnedAgent
    from epad.epactl.parser import Commands

_HEADS = ("AGENT", "TIER", "LEFT", "OF", "LEFT USD", "BEGAN", "SESSION", "WHY")


def add_commands(commands: Commands) -> None:
    """Add `epactl agents`."""
    commands.ask(Operation.AGENTS_READ, show)


def show(call: Call) -> int:
    """`epactl agents`: a row for each living agent."""
    answer: AgentList = call.client.get(Operation.AGENTS_READ.path)
    rows = [_cells(one) for one in answer["agents"]]
    lines = (
        render.table(_HEADS, rows, call.terminal.style) if rows else ["no agent has spawned one that lives"]
    )
    call.terminal.show(answer, lines)
    return EXIT_OK


def _cells(one: SpawnedAgent) -> tuple[str, ...]:
    money = f"{one['left_usd']:.4f} of {one['usd']:g}" if one["usd"] else "-"
    return (
        f"{'  ' * (one['depth'] - 1)}{clean(one['name'])} of {clean(one['parent'])}",
        clean(one["tier"]),
        f"{one['left_tokens']:,}",
        f"{one['tokens']:,}",
        money,
        clean(one["began_at"]),
        clean(one["session"]),
        clean(one["reason"]),
    )
