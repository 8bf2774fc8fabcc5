"""Tools of thinking: what they compute is compared with a count by hand, and contradictions are refused."""

from __future__ import annotations

from typing import Any

import pytest
from direct_tool import direct
from hypothesis import given
from hypothesis import strategies as st
from tool_process import World

from runners.tools import thinking

SCORES = {"a": {"x": 5, "y": 2}, "b": {"x": 2, "y": 5}}
MATRIX = {"options": ["a", "b"], "criteria": [{"name": "x", "weight": 2}, {"name": "y", "weight": 1}]}


@pytest.mark.parametrize(
    ("arguments", "result"),
    [
        ({"number": 1, "total": 3, "more": True}, {"number": 1, "total": 3, "open": [2, 3]}),
        ({"number": 3, "total": 3, "more": True}, {"number": 3, "total": 4, "open": [4]}),
        ({"number": 2, "total": 9, "more": False}, {"number": 2, "total": 2, "open": []}),
        ({"number": 5, "total": 3, "more": True}, {"number": 5, "total": 6, "open": [6]}),
        ({"number": 5, "total": 6, "more": True, "revises": 2}, {"number": 5, "total": 6, "open": [3, 4, 6]}),
        ({"number": 4, "total": 4, "more": False, "revises": 3}, {"number": 4, "total": 4, "open": []}),
    ],
)
def test_steps_that_are_open(world: World, arguments: dict[str, Any], result: dict[str, Any]) -> None:
    """Those to come, and those between a revised thought and the one that revises it."""
    assert world.worker("sequential_think", thought="So.", **arguments) == result


def test_a_matrix_ranks_and_tells_where_the_winner_changes(world: World) -> None:
    """With x at two thirds a has 4 and b 3; at a half they are equal, below it b leads."""
    found = world.worker("decision_matrix", **MATRIX, scores=SCORES)
    assert found["ranking"] == [{"option": "a", "score": 4.0}, {"option": "b", "score": 3.0}]
    assert found["sensitivity"] == [
        {"criterion": "x", "share": 0.6667, "at": 0.5, "leader": "b"},
        {"criterion": "y", "share": 0.3333, "at": 0.5, "leader": "b"},
    ]


def test_a_winner_by_every_criterion_stays(world: World) -> None:
    """No weight changes that, and one criterion alone has nothing to be weighed with."""
    scores = {"a": {"x": 5, "y": 5}, "b": {"x": 2, "y": 2}}
    assert world.worker("decision_matrix", **MATRIX, scores=scores)["sensitivity"] == []
    alone = {"options": ["a", "b"], "criteria": [{"name": "x", "weight": 1}]}
    assert (
        world.worker("decision_matrix", **alone, scores={"a": {"x": 1}, "b": {"x": 2}})["sensitivity"] == []
    )


@given(st.data())
def test_beyond_the_share_that_is_told_the_other_leads(data: st.DataObject) -> None:
    """The matrix is asked again with the weight on the other side of the turn."""
    grades = st.integers(0, 10)
    names = ["x", "y", "z"]
    weights = data.draw(st.lists(st.integers(1, 10), min_size=3, max_size=3))
    scores = {each: {name: data.draw(grades) for name in names} for each in ("a", "b", "c")}

    def ask(given_weights: list[float]) -> dict[str, Any]:
        criteria = [
            {"name": name, "weight": weight} for name, weight in zip(names, given_weights, strict=True)
        ]
        return direct(thinking.decision_matrix, options=["a", "b", "c"], criteria=criteria, scores=scores)

    found = ask([float(weight) for weight in weights])
    for turn in found["sensitivity"]:
        at = names.index(turn["criterion"])
        others = sum(weight for place, weight in enumerate(weights) if place != at)
        step = 0.001 if turn["at"] >= turn["share"] else -0.001
        share = turn["at"] + step
        if turn["at"] == turn["share"] or not 0 < share < 1:  # equal as it is: either side may be the other's
            continue
        changed = [float(weight) for weight in weights]
        changed[at] = others * share / (1 - share)
        again = {each["option"]: each["score"] for each in ask(changed)["ranking"]}
        assert again[turn["leader"]] >= again[found["ranking"][0]["option"]] - 1e-6


def test_assumptions_without_evidence_are_tested_first(world: World) -> None:
    """The costliest of them first; evidence that is blank, or repeats the assumption, is none."""
    assumptions = [
        {"text": "sure", "evidence": "measured", "cost_if_wrong": 5},
        {"text": "cheap", "cost_if_wrong": 1},
        {"text": "It is so.", "evidence": "it is SO", "cost_if_wrong": 4},
        {"text": "blank", "evidence": " ", "cost_if_wrong": 3},
    ]
    assert world.worker("assumption_check", assumptions=assumptions) == {
        "order": ["It is so.", "blank", "cheap", "sure"],
        "untested": ["It is so.", "blank", "cheap"],
    }


def test_pros_and_cons_are_weighed(world: World) -> None:
    """And what nobody has looked at is named, as is a point that is on both sides."""
    pros = [{"text": "Costs less time", "weight": 3}, {"text": "Users like it"}]
    cons = [{"text": "users LIKE it!"}, {"text": "Hard to undo, a risk"}]
    assert world.worker("pros_cons", option="it", pros=pros, cons=cons) == {
        "balance": 0.3333,
        "missing": ["upkeep", "doing nothing"],
        "both_sides": ["users LIKE it!"],
    }
    empty = world.worker("pros_cons", option="it", pros=[], cons=[])
    assert empty["balance"] == 0
    assert empty["missing"][:2] == ["a point for it", "a point against it"]


HOSTILE = [
    ("sequential_think", {"thought": " ", "number": 1, "total": 1, "more": False}, "blank"),
    (
        "sequential_think",
        {"thought": "x", "number": 2, "total": 3, "more": True, "revises": 2},
        "cannot revise",
    ),
    ("sequential_think", {"thought": "x", "number": 10**9, "total": 10**9, "more": True}, "from 1 to 999"),
    ("decision_matrix", {**MATRIX, "scores": {"a": SCORES["a"]}}, "'b' has no score for 'x'"),
    ("decision_matrix", {**MATRIX, "scores": {**SCORES, "c": {}}}, "none of the options"),
    (
        "decision_matrix",
        {**MATRIX, "scores": {**SCORES, "b": {**SCORES["b"], "z": 1}}},
        "none of the criteria",
    ),
    ("decision_matrix", {**MATRIX, "options": ["a", "a"], "scores": SCORES}, "twice"),
    ("decision_matrix", {**MATRIX, "scores": {**SCORES, "a": {"x": 1e300, "y": 1}}}, "from -1e+06 to 1e+06"),
    (
        "decision_matrix",
        {**MATRIX, "criteria": [{"name": "x", "weight": 0}, {"name": "y", "weight": 0}], "scores": SCORES},
        "all weights are 0",
    ),
    (
        "decision_matrix",
        {**MATRIX, "options": [str(number) for number in range(5000)], "scores": {}},
        "length <= 100",
    ),
    ("assumption_check", {"assumptions": []}, "length >= 1"),
    ("assumption_check", {"assumptions": [{"text": "a", "cost_if_wrong": 1}] * 2}, "twice"),
    ("pros_cons", {"option": "x", "pros": [{"text": "\n"}], "cons": []}, "blank"),
    ("pros_cons", {"option": "x", "pros": [{"text": "a", "weight": 6}], "cons": []}, "from 1 to 5"),
    (
        "decision_matrix",
        {**MATRIX, "criteria": [{"name": "x", "weight": -1}, {"name": "y", "weight": 2}], "scores": SCORES},
        "from 0 to",
    ),
]


@pytest.mark.parametrize(("tool", "arguments", "said"), HOSTILE)
def test_contradictions_and_floods_are_refused(
    world: World, tool: str, arguments: dict[str, Any], said: str
) -> None:
    """With the argument that is wrong."""
    assert said in world.worker.refusal(tool, **arguments)
