"""Show what sessions have stored, share a text with later sessions, and hide rows."""

from __future__ import annotations

from epad.epactl import arguments, render
from epad.epactl.call import EXIT_FAILED, EXIT_OK, Call, UsageError
from epad.epactl.commands.orders import rehearse
from epad.epactl.consent import agreed
from epad.formatting.text import clean
from epad.operations.registry import Operation

TYPE_CHECKING = False
if TYPE_CHECKING:
    from epad.answers.memory import MemoryList, MemoryProof, StoredEntity
    from epad.epactl.parser import Commands

WORDS = "What tools have stored for agents."
_HEADS = ("NAME", "TYPE", "SCOPE", "AUTHOR", "TEXT")
_TEXT_CHARACTERS = 60


def add_commands(commands: Commands) -> None:
    """Add `epactl memory list`, `verify`, `promote` and `retract`."""
    memory = commands.group("memory", WORDS)
    listed = memory.ask(Operation.MEMORY_READ, show)
    memory.ask(Operation.MEMORY_VERIFY_READ, verify)
    promoted = memory.order(Operation.PROMOTE_MEMORY, promote)
    promoted.add_argument(
        "name", metavar="NAME", type=arguments.name, help="the name in the session's memory"
    )
    retracted = memory.order(Operation.RETRACT_MEMORY, retract)
    retracted.add_argument(
        "name", metavar="NAME", type=arguments.name, nargs="?", help="a shared name, or one of --session"
    )
    commands.operations |= memory.operations
    for parser, words in (
        (listed, "only its names"),
        (promoted, "whose it is, where several have the name"),
        (retracted, "whose it is; without a NAME, all its rows"),
    ):
        parser.add_argument("--session", metavar="SESSION", type=arguments.name, help=words)


def show(call: Call) -> int:
    """`epactl memory list [--session SESSION]`: a row for each name, the newest first."""
    session = call.arguments.session
    query = {"session": session} if session else {}
    answer: MemoryList = call.client.get(Operation.MEMORY_READ.path, query)
    rows = [_cells(one) for one in answer["entities"]]
    lines = render.table(_HEADS, rows, call.terminal.style) if rows else ["nothing is stored"]
    lines += [clean(f"hidden: all rows of session {session}") for session in answer["hidden_sessions"]]
    lines += [clean(f"lost: {loss}") for loss in answer["losses"]]
    call.terminal.show(answer, lines)
    return EXIT_OK


def verify(call: Call) -> int:
    """`epactl memory verify`: exit 1 where a row is not as it was appended."""
    answer: MemoryProof = call.client.get(Operation.MEMORY_VERIFY_READ.path)
    told = [clean(fault) for fault in answer["faults"]] or ["every row is as it was appended"]
    call.terminal.show(answer, [*told, f"{answer['rows']} rows, head {clean(answer['head'])}"])
    return EXIT_FAILED if answer["faults"] else EXIT_OK


def promote(call: Call) -> int:
    """`epactl memory promote NAME [--session SESSION] --reason R`. Raises ClientError."""
    return _order(call, Operation.PROMOTE_MEMORY)


def retract(call: Call) -> int:
    """`epactl memory retract [NAME] [--session SESSION] --reason R`. Raises UsageError, ClientError."""
    name, session = call.arguments.name, call.arguments.session
    if not name and not session:
        raise UsageError("name what is shared, or add --session SESSION")
    what = f"{clean(name)}" if name else f"all rows of session {clean(session)}"
    if not call.arguments.dry_run and not agreed(call, f"hides {what}, and no order shows them again"):
        return EXIT_FAILED
    return _order(call, Operation.RETRACT_MEMORY)


def _order(call: Call, operation: Operation) -> int:
    if call.arguments.dry_run:
        return rehearse(call, operation)
    body = {"name": call.arguments.name or "", "session": call.arguments.session or ""}
    answer = call.client.order(operation.path, call.arguments.reason, **body)
    call.terminal.show(answer, render.result_lines(answer))
    return EXIT_FAILED if answer.get("failed") else EXIT_OK


def _cells(one: StoredEntity) -> tuple[str, ...]:
    text = one["text"]
    cut = text if len(text) <= _TEXT_CHARACTERS else text[:_TEXT_CHARACTERS] + "…"
    return one["name"], one["type"], one["scope"], one["author"], cut
