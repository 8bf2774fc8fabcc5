"""The same again: one prompt in a row, a few prompts in turn, one message appended to what was said before."""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from dataclasses import dataclass

from probes.token_burn.thresholds import LONGEST_RUN, REMEMBERED_PROMPTS, TokenBurnThresholds
from probes.token_burn.verdict import Detector, Verdict
from probes.turns import TurnAdmitted
from statemachine.finding import Severity

# Google's SRE book gives a request three attempts; a client that claims more is looping, not retrying.
MAX_CLIENT_RETRIES = 3
MAX_CONVERSATIONS = 64
"""Of one subsystem, how many are followed for appended loops; those that were quiet longest go first."""


class IdenticalRun:
    """Counts the same prompt in a row, as long as each follows the last turn within `gap_seconds`.

    A job that asks the same once an hour is no loop. Nor are a client's own retries of one request, as long
    as it counts them honestly: 1, 2, 3. Nor is asking again what nobody answered, while a model server starts:
    where that does not end, the ratio of errors says so.
    """

    def __init__(self, gap_seconds: float) -> None:
        self._gap_seconds = gap_seconds
        self._digest = b""
        self._length = 0
        self._retry = 0
        self._active_at = 0.0
        self.fresh = False
        self.honest_retry = False

    def admitted(self, event: TurnAdmitted) -> int:
        """Take in a request and say how long the run is now."""
        self.fresh = event.at - self._active_at <= self._gap_seconds
        same = self.fresh and bool(event.prompt_digest) and event.prompt_digest == self._digest
        self.honest_retry = same and event.retry == self._retry + 1 <= MAX_CLIENT_RETRIES
        if not same:
            self._length = 0
        self._length = min(self._length + (not self.honest_retry), LONGEST_RUN)
        self._digest, self._retry, self._active_at = event.prompt_digest, event.retry, event.at
        return self._length

    def finished(self, at: float) -> None:
        """A turn ended: a slow model's answer keeps the run alive."""
        self._active_at = at

    def unanswered(self, digest: bytes) -> None:
        """A prompt came to nothing: it does not count."""
        if digest == self._digest:
            self._length = max(0, self._length - 1)


class RecentPrompts:
    """How many of the last prompts were duplicates of others among them."""

    def __init__(self) -> None:
        self._prompts: deque[bytes] = deque()
        self._counts: dict[bytes, int] = {}

    def add(self, digest: bytes) -> int:
        """Take in a prompt and say how many of the remembered ones are duplicates."""
        prompts, counts = self._prompts, self._counts
        prompts.append(digest)
        counts[digest] = counts.get(digest, 0) + 1
        if len(prompts) > REMEMBERED_PROMPTS:
            oldest = prompts.popleft()
            left = counts.pop(oldest) - 1
            if left:
                counts[oldest] = left
        return len(prompts) - len(counts)

    def remove(self, digest: bytes) -> None:
        """Forget a prompt once, if it is among them."""
        if digest in self._counts:
            self._prompts.remove(digest)
            left = self._counts.pop(digest) - 1
            if left:
                self._counts[digest] = left

    def clear(self) -> None:
        self._prompts.clear()
        self._counts.clear()


@dataclass(slots=True)
class _Tail:
    """The end of one conversation."""

    message: bytes = b""
    prompt_tokens: int = 0
    length: int = 0
    at: float = 0.0


class AppendedLoops:
    """Counts, for each conversation, the same last message in a row while the prompt grows."""

    def __init__(self, gap_seconds: float) -> None:
        self._gap_seconds = gap_seconds
        self._tails: OrderedDict[str, _Tail] = OrderedDict()

    def __len__(self) -> int:
        return len(self._tails)

    def admitted(self, event: TurnAdmitted) -> int:
        """Take in a request and say how long the run in its conversation is now."""
        tail = self._tails.pop(event.conversation, None) or _Tail()
        self._tails[event.conversation] = tail
        if len(self._tails) > MAX_CONVERSATIONS:
            self._tails.popitem(last=False)
        fresh = event.at - tail.at <= self._gap_seconds
        same = fresh and bool(event.last_message) and event.last_message == tail.message
        if not same:
            tail.length = 1
        elif event.prompt_tokens > tail.prompt_tokens:
            tail.length = min(tail.length + 1, LONGEST_RUN)
        tail.message, tail.prompt_tokens, tail.at = event.last_message, event.prompt_tokens, event.at
        return tail.length


class Repetition:
    """The three of them, for one subsystem."""

    def __init__(self, thresholds: TokenBurnThresholds) -> None:
        self._thresholds = thresholds
        self._run = IdenticalRun(thresholds.window_seconds)
        self._recent = RecentPrompts()
        self._appended = AppendedLoops(thresholds.window_seconds)
        self._duplicates_limit = math.ceil(thresholds.duplicate_ratio * REMEMBERED_PROMPTS)

    def admitted(self, event: TurnAdmitted) -> list[Verdict]:
        verdicts = []
        length = self._run.admitted(event)
        if length >= self._thresholds.identical_prompts:
            verdicts.append(self._identical(event, length))
        duplicates = self._duplicates(event)
        if duplicates >= self._duplicates_limit:
            verdicts.append(self._duplicated(event, duplicates))
        appended = self._appended.admitted(event)
        if appended >= self._thresholds.appended_loops:
            verdicts.append(self._growing(event, appended))
        return verdicts

    def finished(self, at: float) -> None:
        self._run.finished(at)

    def unanswered(self, prompt_digest: bytes) -> None:
        """A prompt came to nothing, and cost nothing."""
        self._run.unanswered(prompt_digest)
        self._recent.remove(prompt_digest)

    def _duplicates(self, event: TurnAdmitted) -> int:
        if not self._run.fresh:
            self._recent.clear()
        if not event.prompt_digest or self._run.honest_retry:
            return 0
        return self._recent.add(event.prompt_digest)

    def _identical(self, event: TurnAdmitted, length: int) -> Verdict:
        return Verdict(
            Detector.IDENTICAL_PROMPTS,
            Severity.ANOMALY,
            self._thresholds.rung(Detector.IDENTICAL_PROMPTS),
            f"the same prompt {length} times in a row",
            length,
            self._thresholds.identical_prompts,
            "prompts",
            {"turn": event.turn, "prompt": event.prompt_digest.hex(), "in_a_row": length},
        )

    def _duplicated(self, event: TurnAdmitted, duplicates: int) -> Verdict:
        return Verdict(
            Detector.DUPLICATE_PROMPTS,
            Severity.ANOMALY,
            self._thresholds.rung(Detector.DUPLICATE_PROMPTS),
            f"{duplicates} of its last {REMEMBERED_PROMPTS} prompts were asked before among them",
            duplicates,
            self._duplicates_limit,
            "prompts",
            {"turn": event.turn, "prompt": event.prompt_digest.hex(), "out_of": REMEMBERED_PROMPTS},
        )

    def _growing(self, event: TurnAdmitted, length: int) -> Verdict:
        return Verdict(
            Detector.APPENDED_LOOP,
            Severity.ANOMALY,
            self._thresholds.rung(Detector.APPENDED_LOOP),
            f"the same message appended {length} times in a row to a prompt that has grown to "
            f"{event.prompt_tokens} tokens",
            length,
            self._thresholds.appended_loops,
            "messages",
            {
                "turn": event.turn,
                "conversation": event.conversation,
                "message": event.last_message.hex(),
                "prompt_tokens": event.prompt_tokens,
            },
        )
