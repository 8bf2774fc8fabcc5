"""A day of ten agents on a clock of its own, with runaways planted in it. Synthetic: no real traffic was seen.

What is assumed, all drawn from one seed:
- Six agents work in sessions: a session begins 20 minutes after the last (exponential) and has 5 to 40 turns. Its
  prompt begins at 1,500 tokens and grows by 100 to 700 a turn, up to 12,000. A turn takes 3.3 s (log-normal), the
  next comes 3.7 s later (log-normal). 3 % of last messages are "continue"; 5 % of answers are a plain "done".
- Two assistants answer people: short sessions of 1 to 8 turns, 5 minutes apart, half a minute between turns.
- One works in batches: every 40 minutes 60 to 200 different prompts of 800 to 2,000 tokens, six at once.
- One asks the same question every ten minutes, and a different one in between.
- Of all turns 2 % are sent again word for word by an impatient person, 1 % fail with 503 and are sent again by the
  client's library, up to twice, which counts its retries.
- An answer has 300 tokens (log-normal, at most 1,024) and is streamed in four pieces.
- A reservation is four bytes a prompt token, 64 for the template and 1,024 for the answer, so about four times what
  is charged. The day's budget is twice what the agent uses in the day; eight turns may be in flight.

A runaway runs on top of what the agent does anyway.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from shipped_settings import PROBES

from epad.configuration.load import load
from epad.control_loop.rules import make_enforcement
from probes.conversation import ConversationHealth
from probes.progress import Progress
from probes.subsystems import SubsystemSnapshot, SubsystemState
from probes.token_burn import SubsystemBudget, TokenBurn, TokenBurnSettings
from probes.turns import Last, TurnAdmitted, TurnFinished, TurnRefused, TurnStreamed
from statemachine.clock import ManualClock
from statemachine.finding import Finding
from statemachine.rung import Rung

DAY = 86_400.0
SAMPLE_SECONDS = 30.0
IN_FLIGHT = 8
OUTPUT_CAP, TEMPLATE = 1_024, 64
REFRACTORY_SECONDS = 600.0
"""A false alarm that is told of again within this time is the same one."""

Event = TurnAdmitted | TurnRefused | TurnStreamed | TurnFinished
Log = list[Event]


@dataclass
class Talk:
    """One conversation of an agent: what it says makes the events of its turns."""

    agent: str
    rng: random.Random
    name: str
    log: Log
    ids: Iterator[int]
    history: list[bytes] = field(default_factory=list)

    def bytes8(self) -> bytes:
        return self.rng.getrandbits(64).to_bytes(8, "big")

    def say(self, message: bytes = b"", kind: Last = Last.UNKNOWN) -> None:
        """Append an answer and a message, or only the first message."""
        self.last, self.kind = message or self.bytes8(), kind
        for _ in range(2 if self.history else 1):
            self.history.append(self.bytes8())

    def turn(
        self,
        at: float,
        seconds: float,
        prompt: int,
        *,
        output: int = 300,
        digest: bytes = b"",
        retry: int = 0,
        status: int = 200,
        reply: bytes = b"",
        pieces: Sequence[str] | None = None,
    ) -> float:
        """One turn; return when it ends."""
        turn, failed = f"t{next(self.ids)}", status >= 400
        self.log.append(
            TurnAdmitted(
                self.agent,
                at,
                turn,
                "m",
                4 * prompt + TEMPLATE + OUTPUT_CAP,
                digest or self.history[-1],
                retry,
                4 * prompt,
                self.last,
                self.name,
                len(self.history),
                tuple(self.history[-16:]),
                last=self.kind,
            )
        )
        texts = (
            [f"{self.rng.getrandbits(900):x}" for _ in range(0 if failed else 4)]
            if pieces is None
            else pieces
        )
        for number, text in enumerate(texts, 1):
            moment = at + seconds * number / (len(texts) + 1)
            self.log.append(TurnStreamed(self.agent, moment, turn, (text,), output * number // len(texts)))
        tokens = (0, 0) if failed else (prompt, output)
        outcome, ends = ("failed" if failed else "done"), at + seconds
        answer = b"" if failed else reply or self.bytes8()
        self.log.append(TurnFinished(self.agent, ends, turn, outcome, *tokens, sum(tokens), status, answer))
        return ends


class Agent:
    """Makes the log of one agent's ordinary day."""

    def __init__(self, name: str, kind: str, seed: int) -> None:
        self.name, self.kind = name, kind
        self.rng = random.Random(f"{seed}:{name}")
        self.log: Log = []
        self._ids = itertools.count()
        self._talks = itertools.count()
        getattr(self, f"_{kind}")()
        self.log.sort(key=lambda event: event.at)
        self.used = sum(event.charged_tokens for event in self.log if isinstance(event, TurnFinished))

    def talk(self, log: Log) -> Talk:
        number = next(self._talks)
        return Talk(self.name, self.rng, f"{self.name}-{number}", log, self._ids)

    def _ask(self, talk: Talk, at: float, seconds: float, prompt: int) -> float:
        """A turn as people and libraries make it: sometimes it fails and is retried, sometimes sent again."""
        rng = self.rng
        for _ in range(2 if rng.random() < 0.02 else 1):
            retry = 0
            while rng.random() < 0.01 and retry < 2:
                at = talk.turn(at, 0.3, prompt, retry=retry, status=503) + 0.4
                retry += 1
            output = min(OUTPUT_CAP, int(rng.lognormvariate(5.7, 0.8)))
            reply = b"done" if rng.random() < 0.05 else b""
            at = talk.turn(at, seconds, prompt, output=output, retry=retry, reply=reply)
        return at

    def _session(self, at: float, turns: int, pause: float, start: int, most: int) -> float:
        rng, talk, prompt = self.rng, self.talk(self.log), start
        for _ in range(turns):
            talk.say(b"continue" if rng.random() < 0.03 else b"")
            at = self._ask(talk, at, max(0.8, rng.lognormvariate(1.2, 0.5)), prompt)
            at += rng.lognormvariate(pause, 0.9)
            prompt = min(most, prompt + rng.randint(100, 700))
        return at

    def _sessions(self) -> None:
        at = self.rng.expovariate(1 / 600)
        while at < DAY:
            at = self._session(at, self.rng.randint(5, 40), 1.3, 1_500, 12_000)
            at += self.rng.expovariate(1 / 1_200)

    def _assistant(self) -> None:
        at = self.rng.expovariate(1 / 600)
        while at < DAY:
            at = self._session(at, self.rng.randint(1, 8), 3.4, 300, 4_000)
            at += self.rng.expovariate(1 / 300)

    def _batches(self) -> None:
        at = self.rng.uniform(0, 2_400)
        while at < DAY:
            workers = [at + self.rng.random() for _ in range(6)]
            for _ in range(self.rng.randint(60, 200)):
                worker = workers.index(min(workers))
                talk = self.talk(self.log)
                talk.say()
                seconds = max(0.8, self.rng.lognormvariate(1.2, 0.5))
                workers[worker] = self._ask(talk, workers[worker], seconds, self.rng.randint(800, 2_000))
            at += self.rng.uniform(1_800, 3_000)

    def _timer(self) -> None:
        for number, at in enumerate(range(60, int(DAY), 300)):
            talk = self.talk(self.log)
            talk.say()
            talk.turn(float(at), 4.0, 900, digest=b"status?" if number % 2 else b"")


def ten_agents(seed: int) -> list[Agent]:
    kinds = ["sessions"] * 6 + ["assistant"] * 2 + ["batches", "timer"]
    return [Agent(f"agent{number}", kind, seed) for number, kind in enumerate(kinds)]


# The runaways. Each fills a log, from a moment on, for some seconds.


def tight(agent: Agent, at: float, seconds: float) -> Log:
    """The same request every 1.55 s, and the same answer."""
    log: Log = []
    talk, end = agent.talk(log), at + seconds
    talk.say()
    while at < end:
        at = talk.turn(at, 1.5, 3_000, digest=b"the same", reply=b"as before") + 0.05
    return log


def warm(agent: Agent, at: float, seconds: float) -> Log:
    """As `tight`, at a temperature: no two answers are alike."""
    log: Log = []
    talk, end = agent.talk(log), at + seconds
    talk.say()
    while at < end:
        at = talk.turn(at, 1.5, 3_000, digest=b"warm") + 0.05
    return log


def growing(agent: Agent, at: float, seconds: float) -> Log:
    """The same error of a tool, appended every 4.2 s to a prompt that grows."""
    log: Log = []
    talk, end, prompt = agent.talk(log), at + seconds, 2_000
    while at < end:
        talk.say(b"error: no such file", Last.ERROR)
        at = talk.turn(at, 4.0, min(12_000, prompt)) + 0.2
        prompt += 300
    return log


def rambling(agent: Agent, at: float, seconds: float) -> Log:
    """As `growing`, but no two messages and no two answers are alike: there is only its speed."""
    log: Log = []
    talk, end, prompt = agent.talk(log), at + seconds, 2_000
    while at < end:
        talk.say()
        at = talk.turn(at, 4.0, min(12_000, prompt)) + 0.2
        prompt += 300
    return log


def circling(agent: Agent, at: float, seconds: float) -> Log:
    """A conversation that goes A, B, A, B, once in 20 s: neither fast nor word for word the same."""
    log: Log = []
    talk, end = agent.talk(log), at + seconds
    for number in itertools.count():
        if at >= end:
            return log
        talk.say()
        at = talk.turn(at, 3.0, 3_000 + 20 * number, reply=(b"A", b"B")[number % 2]) + 17.0
    raise AssertionError


def storm(agent: Agent, at: float, seconds: float) -> Log:
    """An upstream that answers 503 to eight workers; the library tries three times, the agent for ever."""
    log: Log = []
    for _ in range(8):
        now = at + agent.rng.random()
        while now < at + seconds:
            talk = agent.talk(log)
            talk.say()
            for attempt in range(3):
                talk.turn(now, 0.1, 1_500, retry=attempt, status=503)
                now += 0.1 + 0.5 * 2**attempt
            now += 1.0
    return log


def fan_out(agent: Agent, at: float, seconds: float) -> Log:
    """Forty workers; eight get in, the others are told to come back in a second."""
    log: Log = []
    ends = [0.0] * IN_FLIGHT
    waiting = [at + agent.rng.random() for _ in range(40)]
    while (now := min(waiting)) < at + seconds:
        worker, slot = waiting.index(now), ends.index(min(ends))
        if ends[slot] <= now:
            talk = agent.talk(log)
            talk.say()
            waiting[worker] = ends[slot] = talk.turn(now, 6.0, 2_200)
        else:
            refused = TurnRefused(
                agent.name, now, "too_many_in_flight", "max_in_flight", IN_FLIGHT, IN_FLIGHT, 1
            )
            log.append(refused)
            waiting[worker] = now + 1.0
    return log


def looping_stream(agent: Agent, at: float, seconds: float) -> Log:
    """One answer without an end: a sentence of 70 characters over and over, twenty tokens a second."""
    sentence = "I will now check whether the file is there, and then I will go on. So "
    words = sentence.split(" ")
    pieces = [words[n % len(words)] + " " for n in range(int(20 * seconds))]
    log: Log = []
    talk = agent.talk(log)
    talk.say()
    talk.turn(at, seconds, 1_000, output=len(pieces), pieces=pieces)
    return log


def slow_expensive(agent: Agent, at: float, seconds: float) -> Log:
    """A large prompt every 10 s, each different: 100,000 tokens a minute that lead nowhere."""
    log: Log = []
    talk, end = agent.talk(log), at + seconds
    while at < end:
        talk.say()
        at = talk.turn(at, 9.0, 15_500, output=1_000) + 1.0
    return log


Plant = Callable[[Agent, float, float], Log]
RUNAWAYS: dict[str, tuple[Plant, int, float]] = {
    "tight identical loop": (tight, 0, 900.0),
    "the same at a temperature": (warm, 8, 900.0),
    "growing-prompt loop": (growing, 1, 900.0),
    "growing, all different": (rambling, 2, 900.0),
    "retry storm": (storm, 3, 900.0),
    "fan-out x40": (fan_out, 4, 900.0),
    "looping stream": (looping_stream, 6, 600.0),
    "slow expensive loop": (slow_expensive, 5, 7_200.0),
    "circling conversation": (circling, 7, 900.0),
}
"""What is planted, in which agent, and for how long it runs if nobody stops it."""


@dataclass
class Sighting:
    """When a detector first saw a runaway, and what had been charged to it by then."""

    seconds: float
    tokens: int
    rung: str


@dataclass
class DayReport:
    """What was seen in a day: by runaway and detector, and what was seen where nothing was."""

    sightings: dict[str, dict[str, Sighting]] = field(default_factory=dict)
    false_alarms: list[tuple[float, str, str]] = field(default_factory=list)
    events: int = 0
    tokens: int = 0

    def first(self, runaway: str) -> tuple[str, Sighting]:
        """The detector that was quickest."""
        return min(self.sightings[runaway].items(), key=lambda seen: seen[1].seconds)


@dataclass
class _Running:
    name: str
    agent: Agent
    at: float
    until: float
    tokens: int = 0
    stopped: bool = False


class Day:
    """Plays a day to the probes: what they say is the report.

    Told to stop, a runaway ends at its first finding; else it runs its time, so that every detector has its say. What
    a detector that only tells has found does not count, for better or worse.
    """

    def __init__(
        self,
        seed: int,
        *,
        planted: Sequence[str] = tuple(RUNAWAYS),
        thresholds: TokenBurnSettings | None = None,
        stop_when_seen: bool = True,
    ) -> None:
        self.clock = ManualClock(0.0)
        self.report = DayReport()
        self._stop_when_seen = stop_when_seen
        self._enforcement = make_enforcement(load())
        self._agents = {agent.name: agent for agent in ten_agents(seed)}
        budgets = {
            name: SubsystemBudget(0, 2 * agent.used, IN_FLIGHT) for name, agent in self._agents.items()
        }
        self._burn = TokenBurn(
            thresholds or PROBES.token_burn,
            budget=budgets.__getitem__,
            clock=self.clock,
            push=self._heard,
        )
        self._talk = ConversationHealth(PROBES.conversation, clock=self.clock, push=self._heard)
        self._progress = Progress(PROBES.progress, snapshots=self._snapshots, clock=self.clock)
        self._done = dict.fromkeys(self._agents, 0)
        self._held: dict[str, int] = {}
        self._running: dict[str, _Running] = {}
        self._last_alarm: dict[tuple[str, str], float] = {}
        self._events = self._plan(seed, planted)

    def _plan(self, seed: int, planted: Sequence[str]) -> list[tuple[Event, _Running | None]]:
        rng = random.Random(f"{seed}:plan")
        events: list[tuple[Event, _Running | None]] = []
        for agent in self._agents.values():
            events += [(event, None) for event in agent.log]
            self.report.tokens += agent.used
        for name in planted:
            plant, number, seconds = RUNAWAYS[name]
            agent = self._agents[f"agent{number}"]
            at = 43_200.0 + rng.uniform(0, 14_400.0)
            running = _Running(name, agent, at, at + seconds)
            self._running[agent.name] = running
            self.report.sightings[name] = {}
            events += [(event, running) for event in plant(agent, at, seconds)]
        return sorted(events, key=lambda entry: entry[0].at)

    async def play(self) -> DayReport:
        sampled = 0.0
        for event, running in self._events:
            while sampled + SAMPLE_SECONDS <= event.at:
                sampled += SAMPLE_SECONDS
                self._move(sampled)
                await self._sample()
            self._move(event.at)
            self._tell(event, running)
        return self.report

    def _move(self, at: float) -> None:
        self.clock.advance(max(0.0, at - self.clock.monotonic()))
        for name, running in list(self._running.items()):
            if at >= running.until and not running.stopped:
                self._stop(name, running)

    def _stop(self, name: str, running: _Running) -> None:
        """It was contained and released, or ended by itself: the detectors start afresh."""
        running.stopped = True
        for probe in (self._burn, self._talk, self._progress):
            probe.forget(name)

    def _tell(self, event: Event, running: _Running | None) -> None:
        if running is not None and running.stopped:
            return
        self.report.events += 1
        match event:
            case TurnAdmitted():
                for probe in (self._burn, self._talk, self._progress):
                    probe.admitted(event)
            case TurnRefused():
                self._burn.refused(event)
            case TurnStreamed():
                self._burn.streamed(event)
            case TurnFinished():
                if running is None:
                    self._done[event.subsystem] += 1
                else:
                    running.tokens += event.charged_tokens
                for probe in (self._burn, self._talk, self._progress):
                    probe.finished(event)

    async def _sample(self) -> None:
        for probe in (self._burn, self._talk, self._progress):
            for finding in await probe.sample():
                self._heard(finding)

    def _heard(self, told: Finding) -> None:
        finding = self._enforcement.judge(told)
        if not finding.bad:
            return
        detector = str(finding.evidence.get("detector", ""))
        detector = (
            f"{finding.probe}/{detector}" if finding.probe == "conversation" else detector or finding.probe
        )
        running = self._running.get(finding.subsystem)
        now = self.clock.monotonic()
        if running is None or running.stopped or now < running.at:
            if now - self._last_alarm.get((finding.subsystem, detector), -DAY) > REFRACTORY_SECONDS:
                self.report.false_alarms.append((now, finding.subsystem, f"{detector}: {finding.reason}"))
            self._last_alarm[finding.subsystem, detector] = now
            return
        rung = (Rung.FREEZE if finding.rung is None else finding.rung).label
        seen = Sighting(now - running.at, running.tokens, rung)
        self.report.sightings[running.name].setdefault(detector, seen)
        if self._stop_when_seen:
            running.until = now

    def _snapshots(self) -> list[SubsystemSnapshot]:
        """An agent's progress is the turns it has done; a runaway holds it up, from one step after its start."""
        now = self.clock.monotonic()
        for name, running in self._running.items():
            if running.at <= now and not running.stopped:
                self._done[name] = self._held.setdefault(name, self._done[name] + 1)
        return [
            SubsystemSnapshot(name, "process", SubsystemState.RUNNING, False, 0.0, progress_done=done)
            for name, done in self._done.items()
        ]
