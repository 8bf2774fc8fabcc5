"""Bugs to plant: each breaks one rule of what the gateway charges, in the code itself, and some row must notice.

A plant names functions, and in each a piece of its source and what stands there instead. Where that piece is not found
any more, the plant does not fit and says so: it is to be written anew, not dropped.
"""

from __future__ import annotations

import importlib
import inspect
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import CodeType, FunctionType
from typing import Any

_CHARGE, _COUNTS, _SEEN = "epad.gateway.charge", "epad.gateway.dialects.counts", "epad.gateway.dialects.seen"
_EVENTS, _TURN, _RELAY = "epad.gateway.dialects.events", "epad.gateway.turn", "epad.gateway.relay"
_CHUNKS, _CHOICES = "epad.gateway.dialects.openai_chunks", "epad.gateway.dialects.openai_choices"


@dataclass(frozen=True, slots=True)
class Edit:
    """A function (module:name or module:Class.name), a piece of its source, and what is there instead."""

    where: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Plant:
    """A broken rule."""

    name: str
    rule: str
    edits: tuple[Edit, ...]


class DoesNotFit(Exception):  # noqa: N818 - the plant is at fault, not the code
    """The piece of source is not there."""


def _p(name: str, rule: str, *edits: tuple[str, str, str]) -> Plant:
    return Plant(name, rule, tuple(Edit(*edit) for edit in edits))


PLANTS = (
    _p("believes-zero", "a count of 0 beside text is no count",
       (f"{_SEEN}:seen_whole", "(counted > 0 or not any(choice_bytes))", "True"),
       (f"{_EVENTS}:EventStream._count", "or (output == 0 and said)", "")),
    _p("believes-input-of-zero", "nothing is said to no prompt",
       (f"{_CHARGE}:_of_a_prompt", "if usage.input_tokens == 0 and seen.said_bytes:", "if False:")),
    _p("believes-the-last", "a count that falls is none; the largest of each counts",
       (f"{_COUNTS}:_larger", "return max(first, second)", "return second"),
       (f"{_EVENTS}:EventStream._count", "self._fell = output < self._most_output", "self._fell = False")),
    _p("believes-running-usage", "the count of a stream that did not end is no final one",
       (f"{_EVENTS}:EventStream.seen", "and self._has_ended()", "")),
    _p("believes-an-early-count", "a count before more text is no final one",
       (f"{_EVENTS}:EventStream.seen", "and self._counted_at == said", "")),
    _p("ignores-total", "a total above the parts counts",
       (f"{_COUNTS}:Counts.usage", "if self.total is not None and tokens is not None:", "if False:")),
    _p("ignores-reasoning-beside", "reasoning that is more than the output is no part of it",
       (f"{_COUNTS}:Counts.usage", "elif output is not None and reasoning > output:", "elif False:")),
    _p("ignores-a-total-alone", "a total alone is a count",
       (f"{_SEEN}:seen_whole", "counted = total if usage.output_tokens is None else", "counted ="),
       (f"{_EVENTS}:EventStream._count", "output = counts.total if", "output = None if")),
    _p("ignores-the-cache-beside", "Anthropic's cache stands beside the input",
       (f"{_COUNTS}:Counts.usage", "if tokens is not None and self.beside:", "if False:")),
    _p("ignores-n", "an n whose usage counts one answer is charged for n",
       (f"{_CHARGE}:_for_every_choice", "if terms.counts_all or", "if True or")),
    _p("ignores-best-of", "answers that are made and not shown are charged",
       (f"{_CHARGE}:_for_every_choice", "terms.choices if terms.hides_choices else", "")),
    _p("multiplies-what-is-counted", "a server that counts all choices is believed",
       (f"{_CHARGE}:_for_every_choice", "if terms.counts_all or made <= 1", "if made <= 1")),
    _p("one-odd-detail-costs-all", "usage is read field by field",
       (f"{_COUNTS}:_details", "if isinstance(fields.get(name), dict):",
        "if name in fields and not isinstance(fields[name], dict): raise ValueError\n        if name in fields:")),
    _p("believes-absurd-counts", "a number that no context comes near is no count",
       (f"{_COUNTS}:count", "not 0 <= value <= MOST_TOKENS or", ""),
       (f"{_COUNTS}:is_absurd", "return not 0 <= value <= MOST_TOKENS", "return False")),
    _p("drops-odd-shapes", "text in another shape is heard",
       (f"{_CHOICES}:Hearing.hear_loosely", "self._other(index) if index else self.reply", "Reply()")),
    _p("drops-unknown-fields", "a field that nobody knows is bounded by its bytes",
       ("epad.gateway.dialects.hearing:_hear_field", "elif key not in _STRUCTURE:", "elif False:")),
    _p("drops-what-is-no-json", "what cannot be read is bounded by its bytes",
       (f"{_EVENTS}:EventStream._weigh", "self._unread_bytes += len(text)", "pass")),
    _p("takes-a-chunk-for-a-token", "a chunk may have several tokens",
       (f"{_CHARGE}:_charge_most", "most = seen.unread_bytes + sum(", "most = seen.chunks or sum(")),
    _p("takes-bytes-for-all", "tokens that no text shows are chunks at least",
       (f"{_CHARGE}:charge_stream", "min(chunks, bound.output_tokens)", "0")),
    _p("believes-that-all-is-shown", "a server that may think unseen costs its reservation",
       (f"{_CHARGE}:_charge_most", "seen.streamed and terms.shows_all and", "seen.streamed and")),
    _p("lets-a-prompt-go-free", "a prompt that is not counted costs its bound",
       (f"{_CHARGE}:charge_stream", "input_tokens = bound.input_tokens if", "input_tokens = 0 if")),
    _p("lets-who-leaves-go-free", "an answer that was never seen costs its reservation",
       (f"{_TURN}:Turn.charge", "return forfeit(self.bound)", "return NOTHING")),
    _p("lets-a-failure-go-free", "a failure in the middle of the work has cost something",
       (f"{_CHARGE}:charge_status", "return forfeit(terms.bound)", "return NOTHING")),
    _p("lets-the-compressed-go-free", "a compressed answer that cannot be unpacked costs its reservation",
       (f"{_RELAY}:Relay.carry", "turn.end(Outcome.FAILED, message.message, Failure.UNREADABLE)",
        "self._turns.settle(turn, NOTHING)")),
    _p("lets-the-cap-go", "a stream beyond its cap is cut",
       (f"{_RELAY}:_overruns", "most, usage = ", "return False\n    most, usage = ")),
    _p("charges-errors", "an answer that is none costs nothing",
       (f"{_CHARGE}:charge_answer", "if seen.nothing_came and not seen.counts_something:", "if False:")),
    _p("charges-refusals", "a refusal of the upstream's costs nothing",
       (f"{_CHARGE}:charge_status", "if status < 500 or status in _NOT_BEGUN:", "if False:")),
    _p("waits-for-done", "a finish_reason is an end",
       (f"{_CHUNKS}:ChunkStream._all_finished", "return bool(self._finished) and", "return False and"),
       (f"{_CHUNKS}:ChunkStream._note", "self._usage_alone_at = self._said_bytes()", "pass")),
    _p("believes-the-content-type", "a stream is one whatever it is called",
       ("epad.gateway.upstream:Answer.form", "form = form_of(", "form = Form.WHOLE or form_of(")),
)  # fmt: skip
BY_NAME = {plant.name: plant for plant in PLANTS}


@contextmanager
def planted(plant: Plant) -> Iterator[None]:
    """Have the rule broken. Raises DoesNotFit."""
    originals: list[tuple[FunctionType, CodeType]] = []
    try:
        for edit in plant.edits:
            function = _function(edit.where)
            originals.append((function, function.__code__))
            function.__code__ = _edited(function, edit)
        yield
    finally:
        for function, code in reversed(originals):
            function.__code__ = code


def _function(where: str) -> FunctionType:
    module, _, path = where.partition(":")
    found: Any = importlib.import_module(module)
    for name in path.split("."):
        found = inspect.getattr_static(found, name, None)
        if found is None:
            raise DoesNotFit(f"{where}: there is no such function")
    found = found.fget if isinstance(found, property) else found
    assert isinstance(found, FunctionType)
    return found


def _edited(function: FunctionType, edit: Edit) -> CodeType:
    """Compile the function's source with the edit in it; everybody who has the function has the new code."""
    source = textwrap.dedent(inspect.getsource(function))
    source = source[source.index("async def " if source.lstrip("@").startswith("async def ") else "def ") :]
    if source.count(edit.old) != 1:
        raise DoesNotFit(f"{edit.where}: {edit.old!r} stands there {source.count(edit.old)} times, not once")
    names: dict[str, Any] = {}
    text = "from __future__ import annotations\n" + source.replace(edit.old, edit.new)
    exec(compile(text, edit.where, "exec"), function.__globals__, names)  # noqa: S102 - our own source
    code = names[function.__name__].__code__
    assert isinstance(code, CodeType)
    return code
