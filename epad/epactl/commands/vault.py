"""Show the documents of the knowledge vault, add, retract and undo."""

from __future__ import annotations

import sys
from base64 import b64decode, b64encode
from hashlib import sha256

from epad.epactl import arguments, render
from epad.epactl.call import EXIT_FAILED, EXIT_OK, Call, UsageError
from epad.epactl.commands.orders import rehearse
from epad.epactl.consent import agreed
from epad.formatting.footprints import size
from epad.formatting.text import clean
from epad.operations.registry import Operation

TYPE_CHECKING = False
if TYPE_CHECKING:
    from epad.answers.vault import DocumentChange, DocumentHistory, DocumentPiece, VaultList, VaultProof
    from epad.epactl.parser import Commands

WORDS = "The knowledge vault: documents that agents only read."
_PIECE_BYTES = 720_000
"""Raw bytes of a piece of an upload: less than a mebibyte as base64."""


def add_commands(commands: Commands) -> None:
    """Add `epactl vault list`, `show`, `history`, `verify`, `add`, `retract` and `undo`."""
    vault = commands.group("vault", WORDS)
    vault.ask(Operation.VAULT_READ, show_all)
    shown = vault.ask(Operation.VAULT_SHOW_READ, show)
    history = vault.ask(Operation.VAULT_HISTORY_READ, show_history)
    vault.ask(Operation.VAULT_VERIFY_READ, verify)
    added = vault.order(Operation.ADD_DOCUMENT, add)
    orders = vault.order(Operation.RETRACT_DOCUMENT, retract), vault.order(Operation.UNDO_DOCUMENT, undo)
    for parser in (shown, history, added, *orders):
        parser.add_argument(
            "document", metavar="PATH", type=arguments.name, help="the document, as runbooks/disk.md"
        )
    added.add_argument("file", metavar="FILE", help="the file that has its bytes; - is the standard input")
    shown.add_argument("--version", metavar="N", type=int, help="an earlier version of it", dest="wanted")
    commands.operations |= vault.operations


def show_all(call: Call) -> int:
    """`epactl vault list`: a row for each document. Exit 1 where the newest look has found a fault."""
    answer: VaultList = call.client.get(Operation.VAULT_READ.path)
    rows = [(one["path"], *_cells(one)) for one in answer["documents"]]
    lines = render.table(("PATH", "VERSION", "KIND", "SIZE", "SHA256", "WHY"), rows, call.terminal.style)
    told = [clean(f"changed around epad: {fault}") for fault in answer["faults"]]
    call.terminal.show(answer, [*(lines if rows else ["the vault has no document"]), *told])
    return EXIT_FAILED if answer["faults"] else EXIT_OK


def show(call: Call) -> int:
    """`epactl vault show PATH [--version N]`: its bytes; to a terminal, with what that would obey shown."""
    pieces, offset = bytearray(), 0
    while True:
        query = {"document": call.arguments.document, "offset": str(offset)}
        if call.arguments.wanted is not None:
            query["version"] = str(call.arguments.wanted)
        answer: DocumentPiece = call.client.get(Operation.VAULT_SHOW_READ.path, query)
        pieces += b64decode(answer["data"])
        offset = answer["next"]
        if not offset:
            break
    if call.arguments.output == "table" and not sys.stdout.isatty():
        sys.stdout.buffer.write(pieces)
        sys.stdout.buffer.flush()
        return EXIT_OK
    text = pieces.decode(errors="replace")
    call.terminal.show({**answer, "data": text}, [clean(line) for line in text.splitlines()])
    return EXIT_OK


def show_history(call: Call) -> int:
    """`epactl vault history PATH`: a row for each change, oldest first."""
    query = {"document": call.arguments.document}
    answer: DocumentHistory = call.client.get(Operation.VAULT_HISTORY_READ.path, query)
    rows = [(*_cells(one), one["author"]) for one in answer["changes"]]
    lines = render.table(("VERSION", "KIND", "SIZE", "SHA256", "WHY", "BY"), rows, call.terminal.style)
    call.terminal.show(answer, lines)
    return EXIT_OK


def verify(call: Call) -> int:
    """`epactl vault verify`: exit 1 where anything was changed around epad."""
    answer: VaultProof = call.client.get(Operation.VAULT_VERIFY_READ.path)
    told = [clean(fault) for fault in answer["faults"]] or ["all of it is as it was appended"]
    call.terminal.show(answer, [*told, f"{answer['rows']} rows and {answer['versions']} versions were read"])
    return EXIT_FAILED if answer["faults"] else EXIT_OK


def add(call: Call) -> int:
    """`epactl vault add PATH FILE --reason R`. Raises UsageError, ClientError."""
    file = call.arguments.file
    try:
        if file == "-":
            data = sys.stdin.buffer.read()
        else:
            with open(file, "rb") as document:  # noqa: PTH123 - pathlib takes 10 ms to import
                data = document.read()
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}") from error
    if call.arguments.dry_run:
        return rehearse(call, Operation.ADD_DOCUMENT)
    digest, answers = sha256(data).hexdigest(), []
    for offset in range(0, max(len(data), 1), _PIECE_BYTES):
        piece = b64encode(data[offset : offset + _PIECE_BYTES]).decode()
        whole = {"document": call.arguments.document, "sha256": digest, "size": len(data), "offset": offset}
        answers.append(
            call.client.order(Operation.ADD_DOCUMENT.path, call.arguments.reason, **whole, data=piece)
        )
    call.terminal.show(answers[-1], render.result_lines(answers[-1]))
    return EXIT_FAILED if answers[-1].get("failed") else EXIT_OK


def retract(call: Call) -> int:
    """`epactl vault retract PATH --reason R`. Raises ClientError."""
    name = clean(call.arguments.document)
    if not call.arguments.dry_run and not agreed(call, f"takes {name} from every agent until it is undone"):
        return EXIT_FAILED
    return _order(call, Operation.RETRACT_DOCUMENT)


def undo(call: Call) -> int:
    """`epactl vault undo PATH --reason R`. Raises ClientError."""
    return _order(call, Operation.UNDO_DOCUMENT)


def _order(call: Call, operation: Operation) -> int:
    if call.arguments.dry_run:
        return rehearse(call, operation)
    answer = call.client.order(operation.path, call.arguments.reason, document=call.arguments.document)
    call.terminal.show(answer, render.result_lines(answer))
    return EXIT_FAILED if answer.get("failed") else EXIT_OK


def _cells(one: DocumentChange) -> tuple[str, ...]:
    return str(one["version"]), one["kind"], size(one["size"]), one["sha256"][:16] or "-", one["reason"]
