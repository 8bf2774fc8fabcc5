"""The probe: every source looked at, each GPU remembered, one verdict."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from probes.probe import ProbeError
from probes.vram import NAME, GpuFailure, GpuReading, GpuSample, VramSettings, Xid
from probes.vram.attribution import GpuHistory, GpuState, OwnerOf
from probes.vram.source import GpuSource
from probes.vram.verdict import judge, lost, reported
from statemachine.clock import Clock
from statemachine.finding import Finding


@dataclass(frozen=True, slots=True)
class _Look:
    """Holds one look at all sources; `failure` is why a source, or a GPU, could not be seen."""

    states: tuple[GpuState, ...]
    gone: tuple[GpuFailure, ...]
    failure: str


@dataclass(frozen=True, slots=True)
class HeldVram:
    """Holds a subsystem's bytes on all GPUs, and those that no process owns; None if unknown."""

    held_bytes: int | None
    unattributed_bytes: int | None


class Vram:
    """Watches the memory of every GPU here; where there is none, says so once and is silent."""

    def __init__(
        self,
        settings: VramSettings,
        *,
        sources: Sequence[GpuSource],
        owner_of: OwnerOf,
        clock: Clock,
        tell: Callable[[str], None],
        fills_by_design: Callable[[], Collection[str]] = frozenset,
    ) -> None:
        self._settings = settings
        self._sources = sources
        self._owner_of = owner_of
        self._clock = clock
        self._tell = tell
        self._fills_by_design = fills_by_design
        self._notice = ""
        self._states: dict[str, GpuState] = {}
        self._histories: dict[str, GpuHistory] = {}
        self._xids: dict[Xid, float] = {}
        self._unsaid: list[Xid] = []
        self._concerned: set[str] = set()
        self._asked: dict[GpuSource, asyncio.Task[GpuSample]] = {}
        self._one_at_a_time = asyncio.Lock()

    @property
    def name(self) -> str:
        return NAME

    @property
    def interval_seconds(self) -> float:
        return self._settings.interval_seconds

    @property
    def notice(self) -> str:
        """Return why nothing is watched here; empty while something is."""
        return self._notice

    @property
    def xids(self) -> Mapping[Xid, float]:
        """Return when each error was last reported, in `Clock.utc()` timestamp seconds."""
        return self._xids

    def states(self) -> tuple[GpuState, ...]:
        """Return the last knowledge of each GPU, at any age: `reading.at` tells when it was true."""
        return tuple(self._states[gpu] for gpu in sorted(self._states))

    def readings(self) -> tuple[GpuReading, ...]:
        """Return the readings alone."""
        return tuple(state.reading for state in self.states())

    def is_fresh(self, reading: GpuReading) -> bool:
        """Tell if a reading is current: no older than a sample that may have been slow, and the next."""
        limit = 2 * self._settings.interval_seconds + self._settings.timeout_seconds
        return reading.age_seconds(self._clock.monotonic()) <= limit

    async def sample(self) -> Sequence[Finding]:
        look = await self._look()
        now = self._clock.monotonic()
        said = [reported(xid, now) for xid in self._unsaid]
        self._unsaid.clear()
        if look.gone:
            return [lost(look.gone, now), *said]
        findings = self._judge(look.states, now)
        self._concerned = {f.subsystem for f in findings[1:] if f.value}
        if look.failure and not any(finding.bad for finding in (*findings, *said)):
            raise ProbeError(look.failure)
        return [*findings, *said]

    def _judge(self, states: Sequence[GpuState], now: float) -> list[Finding]:
        if not states:
            return []
        return judge(
            states,
            self._settings,
            now,
            concerned=self._concerned,
            fills_by_design=self._fills_by_design(),
        )

    async def measure(self, subsystem: str) -> HeldVram:
        """Measure now the bytes a subsystem holds on all GPUs, and those that no process owns."""
        look = await self._look()
        unknown = look.failure or look.gone or not look.states
        ghosts = [state.reading.unattributed_bytes for state in look.states]
        if unknown or any(size is None for size in ghosts):
            return HeldVram(None, None)
        held = sum(state.subsystems.get(subsystem, 0) for state in look.states)
        return HeldVram(held, sum(size or 0 for size in ghosts))

    def forget(self, subsystem: str) -> None:
        """Start afresh with a subsystem that was released."""
        for history in self._histories.values():
            history.forget(subsystem)

    async def close(self) -> None:
        """End the workers."""
        await asyncio.gather(*(source.close() for source in self._sources))
        await asyncio.gather(*self._asked.values(), return_exceptions=True)

    async def _look(self) -> _Look:
        """Ask all sources side by side; one that hangs harms nothing but its own GPUs."""
        async with self._one_at_a_time:
            answers = await self._answers()
        samples = [answer for answer in answers if isinstance(answer, GpuSample)]
        errors = [str(answer) for answer in answers if isinstance(answer, ProbeError)]
        readings = [reading for sample in samples for reading in sample.readings]
        failures = [failure for sample in samples for failure in sample.failures]
        for xid in (xid for sample in samples for xid in sample.xids):
            self._xids[xid] = self._clock.utc().timestamp()
            self._unsaid.append(xid)
        states = tuple(self._remember(reading) for reading in readings)
        self._take_note_of_absence(anything=bool(readings or failures or errors))
        unread = [
            f"GPU {f.gpu} could not be read: {f.message} (code {f.code})" for f in failures if not f.lost
        ]
        return _Look(
            states,
            tuple(failure for failure in failures if failure.lost),
            next(iter(errors + unread), ""),
        )

    async def _answers(self) -> list[GpuSample | ProbeError]:
        """Return each source's answer. A late one is waited for only while no other has a GPU to report.

        A late answer is taken at the next look: a source is never asked twice at once.
        """
        for source in self._sources:
            if source not in self._asked:
                self._asked[source] = asyncio.create_task(source.read(), name="gpus")
        tasks = [self._asked[source] for source in self._sources]
        await asyncio.wait(tasks, timeout=self._settings.timeout_seconds)
        if not any(task.done() and not task.exception() and task.result().readings for task in tasks):
            await asyncio.wait(tasks)
        return [self._answer(source) for source in self._sources]

    def _answer(self, source: GpuSource) -> GpuSample | ProbeError:
        if not self._asked[source].done():
            return ProbeError(f"a GPU's driver did not answer within {self._settings.timeout_seconds:g} s")
        try:
            return self._asked.pop(source).result()
        except ProbeError as error:
            return error

    def _remember(self, reading: GpuReading) -> GpuState:
        window = self._settings.growth_window_seconds
        history = self._histories.setdefault(reading.gpu, GpuHistory(window))
        state = history.add(reading, self._owner_of)
        self._states[reading.gpu] = state
        return state

    def _take_note_of_absence(self, *, anything: bool) -> None:
        absences = [source.absence for source in self._sources if source.absence]
        notice = "" if anything or not absences else f"{' and '.join(absences)}: VRAM is not watched"
        if notice and notice != self._notice:
            self._tell(notice)
        self._notice = notice
