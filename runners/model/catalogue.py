"""The embedded models that there are."""

from __future__ import annotations

from collections.abc import Mapping

from runners.model.analyst import CouncilAnalyst
from runners.model.attacker import GrammarAttacker
from runners.model.bayes import BayesDefender, letter_groups, training_examples, word_pairs, words
from runners.model.engine import Engine
from runners.model.markov import MarkovChat, stdlib_docstrings
from runners.model.rules import DriftDefender, StructureDefender
from runners.model.teacher import OracleTeacher
from runners.wargame.scenario.library import load_grammar


def embedded_engines() -> Mapping[str, Engine]:
    """Build and train every embedded model; the same interpreter gives the same models."""
    grammar = load_grammar()
    examples = training_examples(grammar)
    engines: tuple[Engine, ...] = (
        MarkovChat(stdlib_docstrings()),
        GrammarAttacker(grammar),
        BayesDefender("embedded-lexical-defender", words, examples),
        StructureDefender(),
        BayesDefender("embedded-letters-defender", letter_groups, examples),
        DriftDefender(),
        BayesDefender("embedded-phrase-defender", word_pairs, examples),
        OracleTeacher(),
        CouncilAnalyst(),
    )
    return {engine.name: engine for engine in engines}
