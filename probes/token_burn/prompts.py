"""Find repetition: one prompt after the other, a few in turn, one message appended to the former ones.

A loop is the same question and the same answer, one after the other, and nothing new beside them. How many that takes
goes by how sure it is: a request for the likeliest answer (temperature 0) that is repeated is a loop soon, one that
says nothing of how it is drawn later, one that asks for a sample only after more than any sampling takes.
"""

from __future__ import annotations

from collections import OrderedDict

import msgspec
from msgspec import Struct

from probes.blame import Fault
from probes.token_burn import prompts_told as told
from probes.token_burn.rounds import Asked, Question, Rounds, weight_of_pause
from probes.token_burn.settings import TokenBurnSettings
from probes.token_burn.verdict import Verdict
from probes.turns import Last, TurnAdmitted, TurnFinished

MAX_CONVERSATIONS = 64
"""Of one subsystem, how many are followed for appended loops; those that were quiet longest go first."""

MESSAGES_OF_A_CONVERSATION = 16
MAX_OPEN_TURNS = 1_024
"""Of one subsystem, whose answer is awaited; the gateway lets far fewer be in flight."""

UNSAID_LONG, UNSAID_SHORT = 0.5, 0.25
"""What a repeated answer counts where the request leaves it to the server how answers are drawn. Most servers draw by
chance, and then a long answer does not come twice; a single letter may, forty times."""

LONG_TOKENS = 16
RENUMBERED, RENUMBERED_TOKENS = 0.5, 32
"""What it counts that prompts which differ in numbers alone have the same answer, if the answer is so long: of a
thousand bookings that are looked through for fraud nearly all are answered by one word or one report in JSON, and no
two by a sentence."""

LIKELIEST_DRAWS = 24
"""So often the likeliest answer is asked for again, whatever was answered: there is only one, but for rounding. So
there is of a text that is embedded, where nothing is said at all."""

PARAGRAPH_TOKENS = 32

UNANSWERED = 4.0
"""What a request counts among the draws that the client itself gave up or got wrong: a library tries three to ten
times, nobody fifty times."""

GROWN_TURNS = 5
"""Fewer turns, each with a larger prompt, are nothing to speak of."""

ERRORS_APPENDED = 9
"""So often the same error comes back, whatever is tried: one that is worked on changes sooner; "ok" and "continue" come
back ten times as often in honest work, with other answers."""

STILL_SECONDS = 90.0
"""So long after it was found, a loop that comes back late is one still: a throttle lets one request pass in 10 s."""


class _Conversation(Struct):
    """Holds a growing conversation: its last message, how often that came in a row, and its questions."""

    rounds: Rounds = msgspec.field(default_factory=lambda: Rounds(most=MESSAGES_OF_A_CONVERSATION))
    message: bytes = b""
    prompt: bytes = b""
    prompt_tokens: int = 0
    first_tokens: int = 0
    in_a_row: float = 0.0
    times: int = 0
    begun_tokens: int = 0
    turns: int = 0


class _Open(Struct, frozen=True):
    """Holds a turn in flight: the question it answers, and its weight if the answer is the former one again."""

    asked: tuple[Asked, ...]
    repeats: bool
    unsaid: bool


class Repetition:
    """Counts the repetition of one subsystem."""

    def __init__(self, settings: TokenBurnSettings) -> None:
        self._settings = settings
        share = settings.duplicate_ratio
        self._leak = share / (1.0 - share)
        self._open: OrderedDict[str, _Open] = OrderedDict()
        self._busy, self._busy_since, self._repeats = 0.0, 0.0, 0
        self._refused_at = self._found_at = float("-inf")
        self.clear(0.0)

    def clear(self, at: float) -> None:
        """Begin to count anew; the turns in flight stay known. `since` is when something new was asked last."""
        self._prompts, self._numbered = Rounds(self._leak), Rounds(self._leak)
        self._conversations: OrderedDict[str, _Conversation] = OrderedDict()
        self.since = at

    def admitted(self, event: TurnAdmitted) -> list[Verdict]:
        """Take in a request; return the verdicts on its repetition."""
        verdicts: list[Verdict] = []
        asked: list[Asked] = []
        appends = self._append(event, asked, verdicts)
        repeats = self._prompt(event, asked, verdicts)
        if not (appends or repeats):
            repeats = self._renumber(event, asked, verdicts)
        if verdicts:
            self._found_at = event.at
        elif not (repeats or appends):
            self.since = event.at
        nothing_new = False
        for one in asked:
            if one.question.answers and _nothing_new(one):
                nothing_new = True
        self._begin(event, _Open(tuple(asked), nothing_new, event.random and not _drawn(event)))
        return verdicts

    def growth(self) -> str:
        """Describe the growth of the last conversation's prompts, if there is any, as it explains the spending."""
        talk = next(reversed(self._conversations.values()), None)
        if talk is None or talk.turns < GROWN_TURNS or talk.prompt_tokens < 2 * talk.begun_tokens:
            return ""
        return f"; its prompts grow: from {talk.begun_tokens} to {talk.prompt_tokens} tokens in {talk.turns} turns"

    def refused(self, at: float) -> None:
        """A request was turned away: who waits because it was told to is not polling."""
        self._refused_at = at

    def finished(self, event: TurnFinished) -> None:
        """Take in an answer."""
        ended = self._open.pop(event.turn, None)
        if ended is None:
            return
        if ended.repeats:
            self._repeats -= 1
            if not self._repeats:
                self._busy += event.at - self._busy_since
        if event.outcome == "done" and event.http_status < 400:
            self._answered(ended, event)
        elif event.fault is Fault.CLIENT:
            for asked in ended.asked:
                asked.question.drawn += UNANSWERED
                asked.question.unanswered += 1

    def _answered(self, ended: _Open, event: TurnFinished) -> None:
        said = bool(event.reply) or event.output_tokens > 0
        unsaid = UNSAID_LONG if event.output_tokens >= LONG_TOKENS else UNSAID_SHORT
        busy = self._busy_at(event.at)
        for asked in ended.asked:
            weight = asked.weight if said else 0.0
            if asked.rounds is self._numbered:
                telling = event.output_tokens >= RENUMBERED_TOKENS and not event.data
                weight *= RENUMBERED if telling else 0.0
            elif asked.rounds is self._prompts and ended.unsaid:
                weight *= unsaid
            asked.rounds.answer(asked, event.reply, weight)
            question = asked.question
            question.answered_at, question.busy_at_answer = event.at, busy
            question.tokens = event.output_tokens

    def _prompt(self, event: TurnAdmitted, asked: list[Asked], verdicts: list[Verdict]) -> bool:
        """Take in the whole prompt, word for word; say whether it came back."""
        if not event.prompt_digest:
            return False
        question, again = self._prompts.ask(event.prompt_digest)
        pause = self._pause(question, event.at, exactly=True) if question.answers else 1.0
        sampling, known = (event.sampling, event.attempt), question.number > 0 and question.answers > 0
        sample = (event.random and _drawn(event)) or (known and sampling != question.sampling)
        question.sampling = sampling
        if again:
            question.drawn += pause * max(1, event.choices)
        weight = 0.0 if sample else pause
        asked.append(Asked(self._prompts, question, question.answers, weight, again=not sample))
        if again or question.drawn:
            found = self._judge_prompt(event, question, sample=sample)
            verdicts += [found] if found is not None else []
        return known

    def _judge_prompt(self, event: TurnAdmitted, question: Question, *, sample: bool) -> Verdict | None:
        t, looping = self._settings, self._prompts.looping()
        same, needed = _sum_same(looping), t.identical_prompts - 2
        cycle = sum(1 for one in looping if one.same)
        if question.same and same >= _for_cycle(needed, cycle):
            return told.identical(t, event, question) if cycle == 1 else told.cycle(t, event, looping, needed)
        drawn = sum(one.drawn for one in looping) if question.counted else question.drawn
        mute = question.reply == b"" and not question.tokens
        one_answer = mute or not (event.random or sample)
        most = min(t.sampled_prompts, LIKELIEST_DRAWS) if one_answer else t.sampled_prompts
        of = sum(1 for one in looping if one.drawn)
        if drawn < _for_cycle(most, of):
            return None
        if 2 * UNANSWERED * question.unanswered > drawn:
            return told.unanswered(t, event, question.unanswered)
        return told.sampled(t, event, round(drawn) + of, of)

    def _append(self, event: TurnAdmitted, asked: list[Asked], verdicts: list[Verdict]) -> bool:
        """Take in the last message, on a prompt that has grown; say whether it came back."""
        if not (event.conversation and event.last_message):
            return False
        talk = self._conversations.pop(event.conversation, None) or _Conversation()
        self._conversations[event.conversation] = talk
        if len(self._conversations) > MAX_CONVERSATIONS:
            self._conversations.popitem(last=False)
        if event.prompt_digest and event.prompt_digest == talk.prompt:
            return False  # the same prompt again has not grown
        grown = event.prompt_tokens > talk.prompt_tokens
        talk.turns = talk.turns + 1 if grown else 1
        if talk.turns == 1:
            talk.begun_tokens = event.prompt_tokens
        question, again = talk.rounds.ask(event.last_message)
        pause = self._pause(question, event.at) if question.answers else 1.0
        if event.last_message != talk.message or not question.answered_at:
            talk.in_a_row, talk.times, talk.first_tokens = 1.0, 1, event.prompt_tokens
        elif again and grown:
            talk.in_a_row += pause
            talk.times += 1
        talk.message, talk.prompt, talk.prompt_tokens = (
            event.last_message,
            event.prompt_digest,
            event.prompt_tokens,
        )
        asked.append(Asked(talk.rounds, question, question.answers, pause))
        if again:
            found = self._judge_append(event, talk, question)
            verdicts += [found] if found is not None else []
        return question.answers > 0

    def _judge_append(self, event: TurnAdmitted, talk: _Conversation, question: Question) -> Verdict | None:
        t, looping = self._settings, talk.rounds.looping()
        cycle, needed = sum(1 for one in looping if one.same), t.identical_prompts - 2
        if question.same and _sum_same(looping) >= _for_cycle(needed, cycle):
            times = sum(one.in_a_row for one in looping)
            return told.appended(t, event, times, talk.first_tokens, cycle, answers_differ=False)
        most = min(t.appended_loops, ERRORS_APPENDED) if event.last is Last.ERROR else t.appended_loops
        if talk.in_a_row >= most:
            return told.appended(t, event, talk.times, talk.first_tokens, 1, answers_differ=True)
        return None

    def _renumber(self, event: TurnAdmitted, asked: list[Asked], verdicts: list[Verdict]) -> bool:
        """Take in the last message but for its numbers; say whether it came back."""
        if not event.shape:
            return False
        question, again = self._numbered.ask(event.shape)
        pause = self._pause(question, event.at) if question.answers else 1.0
        asked.append(Asked(self._numbered, question, question.answers, pause))
        if again and question.same:
            looping = self._numbered.looping()
            cycle, needed = sum(1 for one in looping if one.same), self._settings.identical_prompts - 2
            if _sum_same(looping) >= _for_cycle(needed, cycle):
                verdicts.append(told.renumbered(self._settings, event, question))
        return bool(question.same)

    def _begin(self, event: TurnAdmitted, opened: _Open) -> None:
        lost = self._open.pop(event.turn) if event.turn in self._open else None
        self._open[event.turn] = opened
        if len(self._open) > MAX_OPEN_TURNS:
            lost = self._open.popitem(last=False)[1]
        if lost is not None and lost.repeats:
            self._repeats -= 1
        if opened.repeats:
            if not self._repeats:
                self._busy_since = event.at
            self._repeats += 1

    def _pause(self, question: Question, at: float, *, exactly: bool = False) -> float:
        """Return the weight of asking an answered question again now; an unanswered one counts in full.

        The time that other repetitions took is no pause of its own: two agents that thank each other for ever wait for
        nothing but each other.
        """
        if self._refused_at >= question.answered_at:
            return 1.0
        waited = at - question.answered_at
        if waited >= self._settings.window_seconds:
            question.same, question.drawn, question.in_a_row = 0.0, 0.0, 0
            return 0.0
        if at - self._found_at < STILL_SECONDS:
            return 1.0
        idle = waited - (self._busy_at(at) - question.busy_at_answer)
        before, question.paused = question.paused, idle
        return weight_of_pause(idle, long=exactly and question.tokens >= PARAGRAPH_TOKENS, before=before)

    def _busy_at(self, at: float) -> float:
        return self._busy + (at - self._busy_since if self._repeats else 0.0)


def _drawn(event: TurnAdmitted) -> bool:
    """Tell if a request asks for a sample itself; if that is not known, tell if it mentions sampling."""
    asks = bool(event.sampling) if event.drawn is None else event.drawn
    return asks or bool(event.attempt)


def _nothing_new(asked: Asked) -> bool:
    """Tell if a turn repeats an answered question, as far as is known yet; false if its answers have differed."""
    question = asked.question
    return asked.again and (question.answers == 1 or question.same > 0)


def _sum_same(questions: list[Question]) -> float:
    return sum(question.same for question in questions)


def _for_cycle(needed: float, questions: int) -> float:
    """Return the count for several questions in turn: twice as many need half as much again, not twice as much."""
    return needed * (1 + max(1, questions)) / 2
