"""Compute the output a turn may have: the smallest of its wish, the rest of its budgets, and the rest of its context.

A client that names a cap gets it as far as it fits. One that names none gets its part of the rest, since others are to
run beside it. A turn that could get less is not refused; but an answer of a few tokens helps no one either, so while
waiting may bring more, less than `LEAST_USEFUL_TOKENS` is not taken. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from epad.gateway.money import FREE, Price

LEAST_USEFUL_TOKENS = 256
"""A short answer or a call of a tool fits; what is smaller is given only when waiting brings no more."""


class Room(Struct, frozen=True, gc=False):
    """Holds the rest of one scope, and the number of turns that may have to share it; None is no limit."""

    scope: str
    tokens: int | None
    microusd: int | None
    expected: int


class Wish(Struct, frozen=True, gc=False):
    """Holds the output tokens wanted for each choice, the client's own number or the default.

    `context_tokens` is the rest of the model's context for one choice, 0 if that is not known.
    """

    prompt_tokens: int
    tokens: int
    named: bool
    choices: int = 1
    price: Price = FREE
    context_tokens: int = 0

    @property
    def most(self) -> int:
        """Return the most that a choice can have, whatever the budgets say."""
        return min(self.tokens, self.context_tokens) if self.context_tokens else self.tokens

    @property
    def useful(self) -> int:
        """Return the tokens a choice needs for the answer to be of use."""
        most = self.most
        return min(LEAST_USEFUL_TOKENS, most)


class Allowance(Struct, frozen=True, gc=False):
    """The output tokens of each choice, and the scope that left no more; empty if none cut it."""

    tokens: int
    scope: str = ""


def allow(wish: Wish, rooms: Iterable[Room]) -> Allowance:
    """Return the allowance of a turn now; -1 tokens if not even its prompt and one token of each choice fit."""
    most = wish.most
    allowance = Allowance(most)
    least = 1 if most else 0
    for room in rooms:
        fits = _fits(wish, room)
        if fits is None:
            continue
        if fits < least:
            return Allowance(-1, room.scope)
        # Its part of what is left, but never so small a part that the answer would be of no use.
        shared = fits if wish.named else min(fits, max(fits // room.expected, wish.useful))
        if shared < allowance.tokens:
            allowance = Allowance(shared, room.scope)
    return allowance


def _fits(wish: Wish, room: Room) -> int | None:
    """Return the most tokens each choice could have in this scope; -1 if the prompt alone is too much."""
    fits: int | None = None
    if room.tokens is not None:
        fits = (room.tokens - wish.prompt_tokens) // wish.choices
        fits = -1 if fits < 0 else fits
    if room.microusd is not None and wish.price is not FREE:
        affordable = wish.price.affordable_output(wish.prompt_tokens, room.microusd)
        affordable = max(-1, affordable // wish.choices)
        fits = affordable if fits is None else min(fits, affordable)
    return fits
