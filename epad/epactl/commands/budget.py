"""`epactl budget`, of all or of one, and `epactl budget set`."""

from __future__ import annotations

from epad.api.client import FailedError, UnknownNameError, quote
from epad.epactl import render
from epad.epactl.call import EXIT_FAILED, EXIT_OK, Call, UsageError
from epad.formatting import amounts as limits
from epad.formatting.text import clean
from epad.operations.registry import Operation

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from epad.answers.orders import Limit

CONFIGURED = "configured"
MOST = 2**63  # and "1.0e999" is read as infinite
_HEADS = ("SCOPE", "LIMIT", "ALLOWED", "USED", "LEFT", "SET BY")


def show(call: Call) -> int:
    """`epactl budget [NAME]`. Raises UnknownNameError."""
    rows, name = (
        call.client.get(Operation.BUDGETS_READ.path)["budgets"],
        getattr(call.arguments, "name", None),
    )
    if name is not None:
        rows = _of_scope(call, rows, name)
    call.terminal.show(rows, lines(rows, call.terminal.style))
    return EXIT_OK


def _of_scope(call: Call, rows: list[Limit], name: str) -> list[Limit]:
    """Return the limits of one; a subsystem may have none. Raises UnknownNameError."""
    chosen = [row for row in rows if row["scope"] == name]
    scopes = {row["scope"] for row in rows}
    if not chosen:
        scopes |= {
            subsystem["name"] for subsystem in call.client.get(Operation.STATUS_READ.path)["subsystems"]
        }
    if name not in scopes:
        from epad.formatting.nearest import fix  # noqa: PLC0415

        raise UnknownNameError(f"there is no budget {name!r}", fix(name, sorted(scopes)))
    return chosen


def lines(rows: Sequence[Limit], style: render.Style) -> list[str]:
    """Return the limits, one a row; who set it stands last, since it is a sentence."""
    if not rows:
        return ["no limits"]
    cells = [
        (
            row["scope"],
            row["name"],
            _said(row["name"], row["limit"]),
            amount(row["name"], row["used"]),
            "-" if row["left"] is None else amount(row["name"], row["left"]),
            _origin(row),
        )
        for row in rows
    ]
    return render.table(_HEADS, cells, style)


def _origin(row: Limit) -> str:
    if row["origin"] == CONFIGURED:
        return CONFIGURED
    return f"{row['origin']} (configured: {_said(row['name'], row['configured'])})"


def amount(name: str, value: float) -> str:
    """Return an amount in a limit's own unit."""
    return limits.dollars(round(value * limits.MICROUSD)) if name.startswith("usd_") else f"{value:,}"


def change(call: Call) -> int:
    """`epactl budget set NAME LIMIT=VALUE... --reason R`. Raises UsageError, ClientError."""
    scope, wanted = call.arguments.name, dict(_pair(text) for text in call.arguments.limits)
    if call.arguments.dry_run:
        return _rehearse(call, scope, wanted)
    answer = call.client.order(
        Operation.SET_BUDGET.target(quote(scope)), call.arguments.reason, limits=wanted
    )
    call.terminal.show(answer, render.result_lines(answer))
    return EXIT_FAILED if answer["failed"] else EXIT_OK


def _rehearse(call: Call, scope: str, wanted: dict[str, float | None]) -> int:
    """Say which limits would be set, or why that would be refused. Raises FailedError, ClientError."""
    from epad.operations.budget_changes import BudgetChangeError, check_limits  # noqa: PLC0415

    rows = call.client.get(Operation.BUDGETS_READ.path)["budgets"]
    try:
        check_limits({name: value or 0 for name, value in wanted.items()})
    except BudgetChangeError as error:
        raise FailedError(f"would be refused: {error}") from error
    now = {row["name"]: row["limit"] for row in rows if row["scope"] == scope}
    answer = {"order": f"budget {scope}", "dry_run": True, "limits": wanted, "now": now}
    told = [
        f"would set {clean(scope)} {clean(name)}: {_said(name, now.get(name, 0))} -> "
        + (CONFIGURED if value is None else _said(name, value))
        for name, value in wanted.items()
    ]
    call.terminal.show(answer, [*told, "nothing was done"])
    return EXIT_OK


def _said(name: str, value: float) -> str:
    return amount(name, value) if value else "no limit"


def _pair(text: str) -> tuple[str, float | None]:
    """Split LIMIT=VALUE into the limit and its new value. Raises UsageError."""
    name, _, value = text.partition("=")
    if value == CONFIGURED:
        return name, None
    way = f"give LIMIT=AMOUNT (0 is no limit) or LIMIT={CONFIGURED}, as in tokens_per_hour=200k"
    if not name or not value:
        raise UsageError(f"{text!r} is no limit; {way}")
    try:
        number = limits.read(value)
    except limits.AmountError as error:
        raise UsageError(f"{name}: {error}") from None
    if not 0 <= number < MOST:
        raise UsageError(f"{text!r} is no limit, for it is not at least 0 and under 2^63; {way}")
    return name, number
