"""Tools of the category `thinking`: order a decision, by pure functions of their arguments. Nothing is kept."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Annotated, Final

import msgspec
from msgspec import UNSET, Meta, UnsetType

from runners.tools import output
from runners.tools.signature import Args, Result, ToolError, meta

_Step = Annotated[int, Meta(ge=1)]
_Grade = Annotated[int, Meta(ge=1, le=5)]
_MOST_STEPS: Final = 999
_MOST_WEIGHT: Final = 1e6
"""Weights and scores beyond it would lose the small ones beside them."""
_MOST: Final = 100
"""Options, criteria, assumptions or points of one call."""


class ThinkArgs(Args, frozen=True):
    """Holds one thought, its number, the total that is expected, and the number of the thought that it revises."""

    thought: str
    number: _Step
    total: _Step
    more: bool
    revises: _Step | None = None


class ThinkResult(Result, frozen=True):
    """Tells the total as it is expected after this thought, and the numbers of the thoughts that are open."""

    number: int
    total: int
    open: list[int]


SEQUENTIAL_THINK: Final = meta(
    "sequential_think",
    ThinkArgs,
    ThinkResult,
    risk="P",
    timeout=5,
    description="Think step by step: number thoughts, revise earlier ones, learn which are open.",
    examples=(
        {"thought": "The test fails only under load.", "number": 1, "total": 3, "more": True},
        {"thought": "It fails alone too.", "number": 3, "total": 3, "more": True, "revises": 1},
    ),
)


@SEQUENTIAL_THINK.tool
async def sequential_think(args: ThinkArgs) -> ThinkResult:
    """Count the steps that are open: those still to come, and those that were built upon a revised one."""
    _said(args.thought, "the thought")
    _within(max(args.number, args.total), 1, _MOST_STEPS, "the number of thoughts")
    if args.revises is not None and args.revises >= args.number:
        raise ToolError(
            f"thought {args.number} cannot revise thought {args.revises}",
            "`revises` names an earlier thought",
        )
    total = max(args.total, args.number + 1) if args.more else args.number
    shaken = range(args.revises + 1, args.number) if args.revises else range(0)
    return ThinkResult(number=args.number, total=total, open=[*shaken, *range(args.number + 1, total + 1)])


class Criterion(msgspec.Struct, frozen=True):
    """Names a criterion and its weight, as a share of the sum of all weights."""

    name: str
    weight: float


class MatrixArgs(Args, frozen=True):
    """Holds options, criteria, and the score of each option by each criterion: a higher one is better."""

    options: Annotated[list[str], Meta(min_length=2, max_length=_MOST)]
    criteria: Annotated[list[Criterion], Meta(min_length=1, max_length=_MOST)]
    scores: dict[str, dict[str, float]]


class Ranked(msgspec.Struct, frozen=True):
    """Describes an option with the weighted mean of its scores."""

    option: str
    score: float


class Turn(msgspec.Struct, frozen=True):
    """Tells that another option leads once a criterion's share of the weight goes beyond `at`."""

    criterion: str
    share: float
    at: float
    leader: str


class MatrixResult(Result, frozen=True):
    """Holds the options, best first, and the shares that would change the leader, nearest first."""

    ranking: list[Ranked]
    sensitivity: list[Turn]


DECISION_MATRIX: Final = meta(
    "decision_matrix",
    MatrixArgs,
    MatrixResult,
    risk="P",
    timeout=5,
    description="Rank options by weighted criteria; tells what would change the winner.",
    examples=(
        {
            "options": ["sqlite", "postgres"],
            "criteria": [{"name": "effort", "weight": 2}, {"name": "scale", "weight": 1}],
            "scores": {"sqlite": {"effort": 5, "scale": 2}, "postgres": {"effort": 2, "scale": 5}},
        },
    ),
)


@DECISION_MATRIX.tool
async def decision_matrix(args: MatrixArgs) -> MatrixResult:
    """Weigh the scores. The sensitivity changes one share at a time; the others keep their proportions."""
    names = [criterion.name for criterion in args.criteria]
    _unique(args.options, "option")
    _unique(names, "criterion")
    table = [_row(args.scores, option, names) for option in args.options]
    _no_others(args.scores, args.options, "options")
    for criterion in args.criteria:
        _within(criterion.weight, 0, _MOST_WEIGHT, f"the weight of {criterion.name!r}")
    if (whole := sum(criterion.weight for criterion in args.criteria)) <= 0:
        raise ToolError("all weights are 0", "give at least one criterion a weight above 0")
    shares = [criterion.weight / whole for criterion in args.criteria]
    totals = [_mean(shares, row) for row in table]
    order = sorted(range(len(table)), key=lambda place: -totals[place])
    turns = [turn for at in range(len(names)) if (turn := _turn(args.options, names[at], at, shares, table))]
    turns.sort(key=lambda turn: abs(turn.at - turn.share))
    ranking = [Ranked(args.options[place], round(totals[place], 6)) for place in order]
    return MatrixResult(ranking=output.whole(ranking, "compare fewer options"), sensitivity=turns)


def _row(scores: dict[str, dict[str, float]], option: str, names: Sequence[str]) -> list[float]:
    given = scores.get(option, {})
    if missing := [name for name in names if name not in given]:
        raise ToolError(
            f"the option {option!r} has no score for {missing[0]!r}", "score each option by each criterion"
        )
    _no_others(given, names, "criteria")
    for name in names:
        _within(given[name], -_MOST_WEIGHT, _MOST_WEIGHT, f"the score of {option!r} by {name!r}")
    return [given[name] for name in names]


def _no_others(
    given: dict[str, float] | dict[str, dict[str, float]], known: Sequence[str], what: str
) -> None:
    if others := sorted(given.keys() - set(known)):
        raise ToolError(
            f"there are scores for {others[0]!r}, which is none of the {what}", "name it, or drop it"
        )


def _mean(shares: Sequence[float], row: Sequence[float]) -> float:
    return sum(share * score for share, score in zip(shares, row, strict=True))


def _turn(
    options: Sequence[str], name: str, at: int, shares: Sequence[float], table: Sequence[Sequence[float]]
) -> Turn | None:
    """Return the nearest share of one criterion at which another option overtakes the leader; None if none does."""
    rest = 1 - shares[at]
    if rest < 1e-9:
        return None
    lines = [(row[at], (_mean(shares, row) - shares[at] * row[at]) / rest) for row in table]
    means = [shares[at] * own + rest * others for own, others in lines]
    leader = max(range(len(means)), key=lambda place: means[place])
    best: Turn | None = None
    for place, (own, others) in enumerate(lines):
        slope = (own - others) - (lines[leader][0] - lines[leader][1])
        if place == leader or abs(slope) < 1e-9:
            continue
        crossing = (lines[leader][1] - others) / slope
        distance = abs(crossing - shares[at])
        if 0 <= crossing <= 1 and (best is None or distance < abs(best.at - shares[at])):
            best = Turn(name, round(shares[at], 4), round(crossing, 4), options[place])
    return best


class Assumption(msgspec.Struct, frozen=True):
    """Holds an assumption, what speaks for it, and the cost if it is wrong: 1 little to 5 most."""

    text: str
    cost_if_wrong: _Grade
    evidence: str | None = None


class AssumptionArgs(Args, frozen=True):
    """Holds assumptions."""

    assumptions: Annotated[list[Assumption], Meta(min_length=1, max_length=_MOST)]


class AssumptionResult(Result, frozen=True):
    """Holds the assumptions in the order in which they are best tested, and those that have no evidence."""

    order: list[str]
    untested: list[str]


ASSUMPTION_CHECK: Final = meta(
    "assumption_check",
    AssumptionArgs,
    AssumptionResult,
    risk="P",
    timeout=5,
    description="Order assumptions by what to test first: costly if wrong, and without evidence.",
    examples=(
        {
            "assumptions": [
                {"text": "The disk has room.", "evidence": "df shows 40 GiB", "cost_if_wrong": 5},
                {"text": "Nobody else writes the file.", "cost_if_wrong": 4},
            ]
        },
    ),
)


@ASSUMPTION_CHECK.tool
async def assumption_check(args: AssumptionArgs) -> AssumptionResult:
    """Put those without evidence first, the costliest first. Evidence that repeats the assumption is none."""
    for each in args.assumptions:
        _said(each.text, "an assumption")
    _unique([each.text for each in args.assumptions], "assumption")
    order = sorted(args.assumptions, key=lambda each: (_has_evidence(each), -each.cost_if_wrong))
    texts = [output.cut_line(each.text) for each in order]
    untested = [output.cut_line(each.text) for each in order if not _has_evidence(each)]
    output.whole([texts, untested], "check fewer assumptions at once")
    return AssumptionResult(order=texts, untested=untested)


def _has_evidence(assumption: Assumption) -> bool:
    words = _words(assumption.evidence or "")
    return bool(words) and words != _words(assumption.text)


class Point(msgspec.Struct, frozen=True):
    """Holds one point for or against, and its weight."""

    text: str
    weight: int = 1


class ProsConsArgs(Args, frozen=True):
    """Holds an option with what speaks for it and against it."""

    option: str
    pros: Annotated[list[Point], Meta(max_length=_MOST)]
    cons: Annotated[list[Point], Meta(max_length=_MOST)]


class ProsConsResult(Result, frozen=True):
    """Holds the balance, -1 (all against) to 1 (all for), the views that no point takes, and points on both sides."""

    balance: float
    missing: list[str]
    both_sides: list[str] | UnsetType = UNSET


PROS_CONS: Final = meta(
    "pros_cons",
    ProsConsArgs,
    ProsConsResult,
    risk="P",
    timeout=5,
    description="Weigh pros and cons of an option (weights 1 to 5); names sides that no point looks at.",
    examples=(
        {
            "option": "Cache the answers on disk.",
            "pros": [{"text": "Each answer takes less time.", "weight": 3}],
            "cons": [{"text": "Stale answers are a risk."}],
        },
    ),
)

_VIEWS: Final = {
    "cost": "cost price money budget cheap expensive pay license",
    "time": "time fast slow delay deadline quick latency week day hour",
    "risk": "risk fail break lose loss danger unsafe bug stale wrong",
    "undoing it": "undo revert reversible irreversible rollback back migrate lock",
    "upkeep": "maintain maintenance upkeep update upgrade complexity complex simple dependency support",
    "people": "user team people customer staff person learn skill train",
    "doing nothing": "nothing wait alternative instead otherwise status",
}
"""Sides of a matter, by the English words that a point on it would have."""


@PROS_CONS.tool
async def pros_cons(args: ProsConsArgs) -> ProsConsResult:
    """Sum the weights, and look for sides without a point by their words."""
    _said(args.option, "the option")
    for point in (*args.pros, *args.cons):
        _said(point.text, "a point")
        _within(point.weight, 1, 5, f"the weight of {output.cut_line(point.text)!r}")
    gain, loss = (sum(point.weight for point in side) for side in (args.pros, args.cons))
    both = {" ".join(_words(point.text)) for point in args.pros}
    clashes = [output.cut_line(point.text) for point in args.cons if " ".join(_words(point.text)) in both]
    return ProsConsResult(
        balance=round((gain - loss) / (gain + loss), 4) if gain + loss else 0.0,
        missing=[*_empty_sides(args), *_views_not_taken((*args.pros, *args.cons))],
        both_sides=output.whole(clashes, "weigh fewer points") or UNSET,
    )


def _empty_sides(args: ProsConsArgs) -> Iterator[str]:
    if not args.pros:
        yield "a point for it"
    if not args.cons:
        yield "a point against it"


def _views_not_taken(points: Sequence[Point]) -> Iterator[str]:
    said = {word for point in points for word in _words(point.text)}
    for view, words in _VIEWS.items():
        if not any(each.startswith(word) for word in words.split() for each in said):
            yield view


def _within(value: float, least: float, most: float, what: str) -> None:
    if not least <= value <= most:
        raise ToolError(f"{what} is {value:g}", f"it goes from {least:g} to {most:g}")


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())


def _said(text: str, what: str) -> None:
    if not text.strip():
        raise ToolError(f"{what} is blank", "say it in words")


def _unique(names: Sequence[str], what: str) -> None:
    seen = set[str]()
    for name in names:
        _said(name, f"the name of an {what}" if what[0] in "ao" else f"the name of a {what}")
        if name in seen:
            raise ToolError(f"the {what} {output.cut_line(name)!r} is there twice", "name each once")
        seen.add(name)


TOOLS: Final = (ASSUMPTION_CHECK, DECISION_MATRIX, PROS_CONS, SEQUENTIAL_THINK)
