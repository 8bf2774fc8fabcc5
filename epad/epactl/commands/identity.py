"""Show the SPIFFE identities of subsystems, and the trust bundle; have new authorities made."""

from __future__ import annotations

from epad.epactl import render
from epad.epactl.call import EXIT_FAILED, EXIT_OK, Call
from epad.epactl.commands.orders import rehearse
from epad.epactl.consent import agreed
from epad.formatting.text import clean
from epad.operations.registry import Operation

TYPE_CHECKING = False
if TYPE_CHECKING:
    from epad.answers.identity import IdentityBundle, IdentityList
    from epad.epactl.parser import Commands

WORDS = "SPIFFE identities of subsystems."
_HEADS = ("AT", "SPIFFE ID", "SVID", "AUDIENCE", "UNTIL", "PID")
_SECONDS = len("2026-01-01T00:00:00")


def add_commands(commands: Commands) -> None:
    """Add `epactl identity list`, `bundle` and `rotate`."""
    identity = commands.group("identity", WORDS)
    identity.ask(Operation.IDENTITY_READ, show)
    identity.ask(Operation.IDENTITY_BUNDLE_READ, bundle)
    identity.order(Operation.ROTATE_IDENTITY, rotate)
    commands.operations |= identity.operations


def show(call: Call) -> int:
    """`epactl identity list`: a row for each SVID of the last 24 hours, the newest first."""
    answer: IdentityList = call.client.get(Operation.IDENTITY_READ.path)
    rows = [
        (
            one["at"][:_SECONDS],
            clean(one["spiffe_id"]),
            one["svid"],
            clean(", ".join(one["audience"])) or "-",
            one["until"][:_SECONDS],
            str(one["pid"]),
        )
        for one in answer["svids"]
    ]
    lines = render.table(_HEADS, rows, call.terminal.style) if rows else ["no SVID in the last 24 hours"]
    where = f"{answer['socket'] or 'no socket'}: {answer['state']}"
    call.terminal.show(answer, [f"trust domain {answer['trust_domain']}, {clean(where)}", *lines])
    return EXIT_OK


def bundle(call: Call) -> int:
    """`epactl identity bundle`: the trust bundle as a SPIFFE bundle document, to be put where others read it."""
    answer: IdentityBundle = call.client.get(Operation.IDENTITY_BUNDLE_READ.path)
    call.terminal.show(answer, answer["document"].splitlines())
    return EXIT_OK


def rotate(call: Call) -> int:
    """`epactl identity rotate --reason R`. Raises ClientError."""
    if call.arguments.dry_run:
        return rehearse(call, Operation.ROTATE_IDENTITY)
    if not agreed(
        call, "has whoever keeps a copy of the bundle distrust all new SVIDs until it is given the new one"
    ):
        return EXIT_FAILED
    answer = call.client.order(Operation.ROTATE_IDENTITY.path, call.arguments.reason)
    call.terminal.show(answer, render.result_lines(answer))
    return EXIT_FAILED if answer.get("failed") else EXIT_OK
