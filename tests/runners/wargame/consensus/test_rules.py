"""What the rules learn: whom to trust, who only repeats others, and what a silence means."""

from __future__ import annotations

import math
from collections.abc import Sequence
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runners.wargame.consensus import log_odds, stack
from runners.wargame.consensus.judgement import LOG_ODDS, STACK, WEIGHTED, learn
from runners.wargame.consensus.measures import auc
from runners.wargame.consensus.rounds import Judged, held_out_scores
from runners.wargame.consensus.voters import effective_voters, error_correlation, worth_of_roles
from runners.wargame.consensus.weighted import Ballot
from runners.wargame.outcomes import VoteKind

KINDS = {
    "a": VoteKind.ATTACK,
    "b": VoteKind.BENIGN,
    "-": VoteKind.ABSTAIN,
    "?": VoteKind.INVALID,
    "!": VoteKind.ERROR,
}


def one(is_attack: bool, letters: str, family: str = "f", confidence: int = 80) -> Judged:
    """A round from its letters, a role each."""
    ballots = tuple(Ballot(f"r{n}", 1.0, KINDS[letter], confidence) for n, letter in enumerate(letters))
    return Judged(is_attack, family, ballots)


def voters(number: int, rng: Random, accuracies: Sequence[float], copies: int = 0) -> list[Judged]:
    """Rounds in which each role is right so often; `copies` roles say what the first says."""
    rounds = []
    for index in range(number):
        truth = rng.random() < 0.5
        sides = [truth if rng.random() < accuracy else not truth for accuracy in accuracies]
        sides += [sides[0]] * copies
        rounds.append(one(truth, "".join("a" if side else "b" for side in sides), f"f{index % 8}"))
    return rounds


def test_a_role_counts_as_its_record_says() -> None:
    """Nine of ten right is strong evidence; a coin is none; one that flags everything adds next to nothing."""
    rounds = voters(2_000, Random(1), (0.9, 0.5))
    rounds = [
        Judged(r.is_attack, r.family, (*r.ballots, Ballot("all", 1.0, VoteKind.ATTACK, 99))) for r in rounds
    ]
    roles = log_odds.fit(rounds).roles
    assert roles["r0"].attack == pytest.approx(math.log(9), abs=0.3)
    assert roles["r1"].attack == pytest.approx(0.0, abs=0.2)
    assert roles["all"].attack == pytest.approx(0.0, abs=0.05)


def test_before_any_label_it_is_a_vote_count() -> None:
    """Beta(2, 1) for everybody: three against two flags, two against three does not, nobody is even."""
    rule = log_odds.fit([])
    assert rule.score(one(True, "aaabb").ballots) > 0.5 > rule.score(one(True, "aabbb").ballots)
    assert rule.score(one(True, "?!-").ballots) == 0.5


@pytest.mark.parametrize("letter", "-?!")
def test_a_silence_moves_neither_side_until_it_is_known_to_mean_something(letter: str) -> None:
    """A dead defender must not vote benign; one that dies of attacks is evidence."""
    rounds = [one(n % 2 == 0, "a" + letter if n % 2 == 0 else "bb", f"f{n % 3}") for n in range(200)]
    rule = log_odds.fit(rounds)
    assert rule.roles["r1"].missing > 2
    balanced = log_odds.fit([one(n % 2 == 0, "a" + letter if n % 4 < 2 else "bb") for n in range(200)])
    assert balanced.roles["r1"].missing == pytest.approx(0.0, abs=0.05)


def test_tempering_finds_out_that_roles_only_repeat_each_other() -> None:
    """Five copies of one role are one role: summed log-odds are far too sure, and the temper says so."""
    rng = Random(2)
    alone = log_odds.fit_tempered(voters(800, rng, (0.8, 0.75, 0.7)))
    copied = log_odds.fit_tempered(voters(800, rng, (0.75,), copies=4))
    assert alone.temper >= 0.8
    assert copied.temper <= 0.3


def test_the_stack_is_not_taken_in_by_copies() -> None:
    """Four roles that say the same outvote a better one by count, not by evidence."""
    rng = Random(3)
    train, test = voters(600, rng, (0.7, 0.9), copies=3), voters(600, rng, (0.7, 0.9), copies=3)
    ranked = {
        name: auc([(rule.score(r.ballots), r.is_attack) for r in test])
        for name, rule in (("stack", stack.fit(train)), ("odds", log_odds.fit(train)))
    }
    stacked, odds = ranked["stack"], ranked["odds"]
    assert stacked is not None
    assert odds is not None
    assert stacked > 0.88
    assert stacked > odds + 0.02


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.booleans(), st.text("ab-?!", min_size=3, max_size=3), st.sampled_from("xyz")),
        max_size=25,
    )
)
def test_every_rule_gives_a_probability_for_any_votes(drawn: list[tuple[bool, str, str]]) -> None:
    """One class only, constant columns, roles that never vote: the score stays between 0 and 1."""
    rounds = [one(*values) for values in drawn]
    for fit in (log_odds.fit, log_odds.fit_tempered, stack.fit):
        rule = fit(rounds)
        for letters in ("aaa", "bbb", "-?!", "ab-"):
            assert 0.0 <= rule.score(one(True, letters).ballots) <= 1.0


def test_the_ridge_solution_is_the_optimum() -> None:
    """At the end the penalised gradient is nil; were it not, Newton would have stopped short."""
    rounds = voters(300, Random(4), (0.8, 0.7, 0.6))
    learnt = stack.fit(rounds)
    rows = [stack._features(r.ballots, learnt.scales) for r in rounds]
    for column in range(len(learnt.weights)):
        slope = sum(
            (r.is_attack - learnt.score(r.ballots)) * row[column] for r, row in zip(rounds, rows, strict=True)
        )
        penalty = stack.RIDGE * learnt.weights[column] if column else 0.0
        assert slope == pytest.approx(penalty, abs=1e-4)


def test_a_family_is_never_scored_by_a_rule_that_saw_it() -> None:
    """The one family that says the opposite is got wrong when it is held out."""
    rounds = [one(n % 2 == 0, "a" if n % 2 == 0 else "b", f"f{n % 3}") for n in range(60)]
    odd = [one(n % 2 == 0, "b" if n % 2 == 0 else "a", "odd") for n in range(20)]
    scored = held_out_scores([*rounds, *odd], log_odds.fit)
    assert len(scored) == 80
    assert all((p > 0.5) != is_attack for p, is_attack in scored[-20:])


def test_the_rule_that_decides_depends_on_how_much_is_known() -> None:
    """Too few labels: the weighted rule; some: log-odds; a hundred of each kind: the stack."""
    rng = Random(5)
    chosen = {n: learn(voters(n, rng, (0.8, 0.7, 0.6)), 0.05, 0.5) for n in (10, 100, 400)}
    assert [chosen[n].chosen for n in (10, 100, 400)] == [WEIGHTED, LOG_ODDS, STACK]
    assert chosen[10].why.endswith("20 are needed")
    assert not chosen[10].rule.is_calibrated
    assert chosen[100].rule.is_calibrated


def test_the_false_alarm_ceiling_holds_on_families_that_were_not_seen() -> None:
    """Set on held-out scores of the calibration families, it carries over: 5 % asked, at most 9 % found."""
    rng = Random(6)
    judgement = learn(voters(1_000, rng, (0.85, 0.8, 0.75, 0.7, 0.65)), 0.05, 0.5)
    fresh = [r for r in voters(2_000, rng, (0.85, 0.8, 0.75, 0.7, 0.65)) if not r.is_attack]
    assert sum(judgement.rule.flags(r) for r in fresh) <= 0.09 * len(fresh)


def test_effective_voters_and_error_correlation() -> None:
    """Copies correlate at 1; five voters at rho 0.5 are 1.67; independent ones are nearly five."""
    copied = error_correlation(voters(500, Random(7), (0.7,), copies=1))
    assert copied["r0", "r1"] == pytest.approx(1.0)
    assert effective_voters({("a", "b"): 0.5}, 5) == pytest.approx(5 / 3)
    independent = error_correlation(voters(4_000, Random(8), (0.7,) * 5))
    assert effective_voters(independent, 5) == pytest.approx(5, abs=0.6)
    assert error_correlation([one(True, "aa")])["r0", "r1"] is None
    assert effective_voters({("a", "b"): None}, 5) is None


def test_a_useless_role_is_exposed_and_a_good_one_is_missed() -> None:
    """Leave one out: without the good role the AUC falls, without the coin it does not."""
    rng = Random(9)
    train, test = voters(400, rng, (0.9, 0.5, 0.7)), voters(400, rng, (0.9, 0.5, 0.7))
    worth = worth_of_roles(train, test, log_odds.fit)
    assert worth["r0"].drop > 0.1
    assert worth["r0"].interval is not None
    assert worth["r0"].interval[0] > 0
    assert abs(worth["r1"].drop) < 0.02
