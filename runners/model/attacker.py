"""`embedded-grammar-attacker`: reads a scenario card as a language model would, and writes the turn it asks for."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Final

from runners.model.engine import Message, last_user_text
from runners.wargame.outcomes import Label
from runners.wargame.scenario.grammar import Grammar, GrammarError

_CARD: Final = re.compile(r"<card>\s*(\{.*?\})\s*</card>", re.DOTALL)


class GrammarAttacker:
    """Writes turns from the seeded grammar; a request without a scenario card is declined."""

    name = "embedded-grammar-attacker"

    def __init__(self, grammar: Grammar) -> None:
        self._grammar = grammar

    def reply(self, messages: Sequence[Message], seed: int) -> str:
        del seed  # the card carries its own
        marked = _CARD.search(last_user_text(messages))
        if marked is None:
            return json.dumps({"declined": True})
        try:
            card = json.loads(marked[1])
            text = self._grammar.turn(
                card["family"],
                int(card["pair_seed"]),
                str(card["canary"]),
                Label(card.get("label", Label.BENIGN)),
                int(card["turn"]),
            )
        except (ValueError, TypeError, KeyError, IndexError, GrammarError):
            return json.dumps({"declined": True})
        return json.dumps({"message": text})
