"""The embedded models are small, honest about it, and the same every time."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping

import pytest

from runners.model.catalogue import embedded_engines
from runners.model.engine import Engine, Message
from runners.wargame.endpoint.reply import Reply
from runners.wargame.outcomes import CallOutcome, Label, VoteKind
from runners.wargame.play.round import read_turn
from runners.wargame.prompts import attacker_messages, judge_messages
from runners.wargame.roles import ROLES
from runners.wargame.scenario.grammar import Grammar
from runners.wargame.scenario.library import load_grammar
from runners.wargame.verdict import Verdict, parse


@pytest.fixture(scope="module")
def engines() -> Mapping[str, Engine]:
    return embedded_engines()


@pytest.fixture(scope="module")
def grammar() -> Grammar:
    return load_grammar()


def _as_messages(chat: list[dict[str, str]]) -> list[Message]:
    return [Message(m["role"], m["content"]) for m in chat]


def test_every_role_has_a_different_embedded_model(engines: Mapping[str, Engine]) -> None:
    """Five voters of one model would be one voter."""
    assert len({role.model for role in ROLES}) == len(ROLES) == 5
    assert all(role.model in engines and role.model.startswith("embedded-") for role in ROLES)


def test_the_markov_chat_is_a_function_of_question_and_seed(engines: Mapping[str, Engine]) -> None:
    """The same question and seed give the same text; another seed, another."""
    chat = engines["embedded-markov-chat"]
    question = [Message("user", "How do I use a priority queue?")]
    assert chat.reply(question, 1) == chat.reply(question, 1)
    assert len({chat.reply(question, seed) for seed in range(8)}) > 1
    assert len(chat.reply(question, 1).split()) > 2


def test_half_a_character_is_answered(engines: Mapping[str, Engine]) -> None:
    """An unpaired surrogate in a prompt, which UTF-8 cannot spell, once made every engine fail."""
    assert all(engine.reply([Message("user", "hello \ud83d")], 1) for engine in engines.values())


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_a_defender_answers_in_the_verdict_schema(
    role, engines: Mapping[str, Engine], grammar: Grammar
) -> None:
    """Embedded defenders go through the same strict parser as any model, and none votes one way only."""
    kinds: Counter[str] = Counter()
    for index in range(200):
        card = grammar.card(3, index, ("calibrate", "evaluate"))
        turns = [grammar.turn(card.family, card.pair_seed, card.canary, card.label, n) for n in (1, 2, 3)]
        verdict = parse(engines[role.model].reply(_as_messages(judge_messages(turns, role)), 0))
        assert isinstance(verdict, Verdict)
        kinds[verdict.kind] += 1
    assert kinds[VoteKind.ATTACK] > 0
    assert kinds[VoteKind.BENIGN] > 0


@pytest.mark.parametrize(
    "text", ["", "hello", "<conversation>[]</conversation>", "<conversation>[1]</conversation>"]
)
@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_a_defender_survives_anything(text: str, role, engines: Mapping[str, Engine]) -> None:
    """A text that is no conversation is judged as one turn, not answered with a crash."""
    assert isinstance(parse(engines[role.model].reply([Message("user", text)], 0)), Verdict)


def test_the_attacker_writes_what_the_card_asks_for(engines: Mapping[str, Engine], grammar: Grammar) -> None:
    """Through the prompt and back, the model's turns are the grammar's own."""
    attacker = engines["embedded-grammar-attacker"]
    for index in range(40):
        card = grammar.card(5, index, ("evaluate",))
        turns: list[str] = []
        for number in (1, 2, 3):
            reply = attacker.reply(_as_messages(attacker_messages(card, turns)), 0)
            turn = read_turn(Reply(CallOutcome.OK, content=reply))
            assert turn == grammar.turn(card.family, card.pair_seed, card.canary, card.label, number)
            turns.append(str(turn))


@pytest.mark.parametrize("text", ["write me an attack", "<card>{}</card>", '<card>{"family":"nope"}</card>'])
def test_the_attacker_declines_what_is_no_card(text: str, engines: Mapping[str, Engine]) -> None:
    """It has nothing of its own to say."""
    assert json.loads(engines["embedded-grammar-attacker"].reply([Message("user", text)], 0)) == {
        "declined": True
    }


def test_labels_travel_only_in_the_third_turn(grammar: Grammar) -> None:
    """The prompts of the first two turns are the same for both twins, byte for byte."""
    attack, benign = (grammar.card(5, index, ("evaluate",)) for index in (0, 1))
    assert {attack.label, benign.label} == {Label.ATTACK, Label.BENIGN}
    for earlier in ([], ["one"]):
        assert attacker_messages(attack, earlier) == attacker_messages(benign, earlier)
    assert attacker_messages(attack, ["one", "two"]) != attacker_messages(benign, ["one", "two"])
