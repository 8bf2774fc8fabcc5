"""Tell a silent failure from a quiet night, by rates that no healthy run shows. No I/O."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final

from runners.wargame.outcomes import CallOutcome, VoteKind
from runners.wargame.play.round import RoundRecord

EMPTY_SHARE: Final = 0.02
INVALID_SHARE: Final = 0.10
LEAST_CALLS: Final = 100
SAME_VERDICT_ROUNDS: Final = 50
SAME_REPLY_ROUNDS: Final = 20


class Tripwires:
    """Fed with each round; gives every alarm once."""

    def __init__(self) -> None:
        self._raised: set[str] = set()
        self._calls: Counter[tuple[str, str]] = Counter()
        self._votes: Counter[tuple[str, str]] = Counter()
        self._same: dict[str, tuple[str, int]] = {}

    def see(self, record: RoundRecord) -> list[str]:
        """Take in a round and return the alarms it set off."""
        found = [*self._empty(record), *self._invalid(record), *self._alike(record)]
        fresh = [alarm for alarm in found if alarm.partition(":")[0] not in self._raised]
        self._raised.update(alarm.partition(":")[0] for alarm in fresh)
        return fresh

    def _empty(self, record: RoundRecord) -> Iterator[str]:
        for call in record.calls:
            self._calls[call.model, call.reply.outcome] += 1
            total = sum(n for (model, _), n in self._calls.items() if model == call.model)
            empty = self._calls[call.model, CallOutcome.EMPTY]
            if total >= LEAST_CALLS and empty > EMPTY_SHARE * total:
                yield f"empty replies of {call.model}: {empty} of {total}"

    def _invalid(self, record: RoundRecord) -> Iterator[str]:
        for vote in record.votes:
            self._votes[vote.role.name, vote.kind] += 1
            total = sum(n for (role, _), n in self._votes.items() if role == vote.role.name)
            invalid = self._votes[vote.role.name, VoteKind.INVALID]
            if total >= LEAST_CALLS and invalid > INVALID_SHARE * total:
                yield f"invalid verdicts of {vote.role.name}: {invalid} of {total}"

    def _alike(self, record: RoundRecord) -> Iterator[str]:
        for vote in record.votes:
            if self._run_length(f"vote {vote.role.name}", vote.kind) == SAME_VERDICT_ROUNDS:
                yield f"{vote.role.name} says nothing but {vote.kind}: {SAME_VERDICT_ROUNDS} rounds"
        last = next((c for c in reversed(record.calls) if c.purpose.startswith("attacker")), None)
        if last is not None and self._run_length("attacker", last.reply.content) == SAME_REPLY_ROUNDS:
            yield f"the attacker writes the same again and again: {SAME_REPLY_ROUNDS} rounds"

    def _run_length(self, key: str, value: str) -> int:
        before, length = self._same.get(key, ("", 0))
        self._same[key] = (value, length + 1 if value == before else 1)
        return self._same[key][1]
