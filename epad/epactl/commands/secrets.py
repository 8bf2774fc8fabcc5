"""Keep secrets in the vault. A value comes by standard input or is asked for without an echo, by no command line."""

from __future__ import annotations

import os
import sys

from epad.api.client import quote
from epad.epactl import arguments, render
from epad.epactl.call import EXIT_FAILED, EXIT_OK, Call, UsageError
from epad.epactl.commands.orders import NO_REASON, order_of, rehearse
from epad.epactl.consent import agreed
from epad.formatting.text import clean
from epad.operations.registry import Operation

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from epad.answers.secrets import SecretLine, SecretList
    from epad.epactl.parser import Commands, Parser

WORDS = "Secrets, sealed: keys of servers, tokens, and what tools sign with."
WAYS = ("tpm2", "host", "age")
_HEADS = ("NAME", "SEALED BY", "FOR", "HOSTS", "ROTATED", "LAST USE")
_MOST_BYTES = 65_536


def add_commands(commands: Commands) -> None:
    """Add `epactl secret list`, `set`, `rotate`, `bind`, `test`, `export`, `remove` and `unlock`."""
    secret = commands.group("secret", WORDS)
    secret.ask(Operation.SECRETS_READ, show)
    made = secret.order(Operation.SET_SECRET, keep, reason=NO_REASON)
    _add_binding(made)
    made.add_argument("--sealed-by", choices=WAYS, default="", help="what seals it; else the first there is")
    made.add_argument("--replace", action="store_true", help="make one that is there anew")
    secret.order(Operation.ROTATE_SECRET, rotate, reason=NO_REASON)
    _add_binding(secret.order(Operation.BIND_SECRET, bind, reason=NO_REASON))
    secret.order(Operation.TEST_SECRET, order_of(Operation.TEST_SECRET), reason=NO_REASON)
    exported = secret.order(Operation.EXPORT_SECRET, export)
    exported.add_argument("--to", metavar="FILE", help="a new file, which you alone may read")
    exported.add_argument(
        "--recipient", metavar="AGE1...", default="", help="encrypt it to this age recipient"
    )
    secret.order(Operation.REMOVE_SECRET, remove)
    unlocked = secret.order(Operation.UNLOCK_SECRETS, unlock, reason=NO_REASON)
    unlocked.add_argument(
        "--security-key", action="store_true", help="by a FIDO2 key, which has to be touched"
    )
    commands.operations |= secret.operations


def _add_binding(parser: Parser) -> None:
    for option, dest, metavar, words in (
        ("--for", "subsystems", "NAME", "who may use it: a subsystem, or gateway for a model server's key"),
        ("--host", "hosts", "HOST", "where it may go, as api.github.com"),
    ):
        parser.add_argument(
            option, dest=dest, metavar=metavar, type=arguments.name, action="append", default=[],
            help=f"{words}; may be repeated",
        )  # fmt: skip


def show(call: Call) -> int:
    """`epactl secret list`: a row for each, and what seals here."""
    answer: SecretList = call.client.get(Operation.SECRETS_READ.path)
    rows = [_cells(one) for one in answer["secrets"]]
    lines = render.table(_HEADS, rows, call.terminal.style) if rows else ["no secrets"]
    lines += [clean(f"refused: {one['fault']}") for one in answer["secrets"] if one["fault"]]
    lines += [clean(f"sealing by {way}: {lacks or 'can be had'}") for way, lacks in answer["sealing"].items()]
    call.terminal.show(answer, lines)
    return EXIT_OK


def keep(call: Call) -> int:
    """`epactl secret set NAME --for WHO [--host HOST]`. Raises UsageError, ClientError."""
    given = call.arguments
    binding = {"hosts": given.hosts, "subsystems": given.subsystems}
    if not given.dry_run and not given.subsystems:
        raise UsageError("name who may use it: --for SUBSYSTEM, or --for gateway for a model server's key")
    more = {"binding": binding, "sealed_by": given.sealed_by, "replace": given.replace}
    return _ordered(call, Operation.SET_SECRET, lambda: {"value": _value(call), **more})


def rotate(call: Call) -> int:
    """`epactl secret rotate NAME`. Raises UsageError, ClientError."""
    return _ordered(call, Operation.ROTATE_SECRET, lambda: {"value": _value(call)})


def bind(call: Call) -> int:
    """`epactl secret bind NAME [--for WHO] [--host HOST]`. Raises UsageError, ClientError."""
    given = call.arguments
    if not given.dry_run and not given.subsystems and not given.hosts:
        raise UsageError("name who may use it (--for), where it may go (--host), or both")
    binding = {"hosts": given.hosts, "subsystems": given.subsystems}
    return _ordered(call, Operation.BIND_SECRET, lambda: {"binding": binding})


def remove(call: Call) -> int:
    """`epactl secret remove NAME`. Raises UsageError, ClientError."""
    deed = f"removes the secret {clean(call.arguments.name)}, which nothing brings back"
    if not call.arguments.dry_run and not agreed(call, deed):
        return EXIT_FAILED
    return _ordered(call, Operation.REMOVE_SECRET, dict)


def export(call: Call) -> int:
    """`epactl secret export NAME --to FILE [--recipient AGE1...]`. Raises UsageError, ClientError, OSError."""
    given = call.arguments
    if given.dry_run:
        return rehearse(call, Operation.EXPORT_SECRET)
    what = "encrypted to its recipient" if given.recipient else "as it is, for whoever may read the file"
    if not agreed(call, f"writes the value of {clean(given.name)} to {clean(given.to or 'a file')}, {what}"):
        return EXIT_FAILED
    if not given.to:
        raise UsageError("name the file: --to FILE")
    import base64  # noqa: PLC0415

    file = os.open(given.to, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(file, "wb") as to:
        try:
            answer = call.client.order(
                _target(call, Operation.EXPORT_SECRET), given.reason, recipient=given.recipient
            )
        except BaseException:
            os.unlink(given.to)  # noqa: PTH108 - pathlib takes 10 ms to import
            raise
        to.write(base64.b64decode(answer.pop("value")))
    call.terminal.show(answer, [*render.result_lines(answer), f"it is in {clean(given.to)}"])
    return EXIT_OK


def unlock(call: Call) -> int:
    """`epactl secret unlock [--security-key]`. Raises UsageError, ClientError."""
    by = "security-key" if call.arguments.security_key else "passphrase"
    words = "the key's PIN (empty if it has none)" if call.arguments.security_key else "the passphrase"

    def body() -> dict[str, Any]:
        return {"passphrase": _read(call, words).decode(), "by": by}

    return _ordered(call, Operation.UNLOCK_SECRETS, body)


def _ordered(call: Call, operation: Operation, body: Callable[[], dict[str, Any]]) -> int:
    if call.arguments.dry_run:
        return rehearse(call, operation)
    answer = call.client.order(_target(call, operation), call.arguments.reason, **body())
    call.terminal.show(answer, render.result_lines(answer))
    return EXIT_FAILED if answer.get("failed") else EXIT_OK


def _target(call: Call, operation: Operation) -> str:
    return operation.target(quote(call.arguments.name) if operation.about else "")


def _value(call: Call) -> str:
    import base64  # noqa: PLC0415

    value = _read(call, f"the value of {clean(call.arguments.name)}")
    if not value:
        raise UsageError("no value came by standard input")
    return base64.b64encode(value).decode()


def _read(call: Call, what: str) -> bytes:
    """Return what a person types, or all of standard input; without the end of its line. Raises UsageError."""
    if call.terminal.is_person():
        import getpass  # noqa: PLC0415

        return getpass.getpass(f"Give {what} (it is not shown): ").encode()
    data = sys.stdin.buffer.read(_MOST_BYTES + 1)
    if len(data) > _MOST_BYTES:
        raise UsageError(f"{what} has more than {_MOST_BYTES:,} bytes")
    return data.removesuffix(b"\n").removesuffix(b"\r")


def _cells(one: SecretLine) -> tuple[str, ...]:
    used = f"{one['used']} {one['used_by']} {one['used_for']}".strip() or "never"
    who, where = ", ".join(one["subsystems"]), ", ".join(one["hosts"])
    return one["name"], one["sealed_by"] or "refused", who or "-", where or "-", one["rotated"] or "-", used
