"""Writes down every input of a decision as it comes, so that it can be decided again under other thresholds."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial

import apsw
import msgspec
import structlog

from epad.configuration.schema import Config
from epad.control_loop.cycle_recorder import Watching
from epad.control_loop.decider import Decider
from epad.control_loop.journal import Loaded
from epad.control_loop.seen import Seen
from epad.control_loop.stimulus import Stimulus
from epad.control_loop.world_protocol import World
from epad.simulate.record import (
    Admitted,
    Began,
    Cycle,
    Finished,
    Input,
    Reconfigured,
    Record,
    Refused,
    as_input,
)
from epad.storage.database import Database, DatabaseError
from probes.turns import TurnAdmitted, TurnFinished, TurnRefused
from statemachine.clock import Clock
from statemachine.finding import AnomalyKey, Finding
from statemachine.phase import Phase

RECORDING_SCHEMA = """
CREATE TABLE IF NOT EXISTS recording(
    id INTEGER PRIMARY KEY AUTOINCREMENT, utc REAL NOT NULL, at REAL NOT NULL, began INTEGER NOT NULL,
    record BLOB NOT NULL) STRICT;
CREATE INDEX IF NOT EXISTS recording_began ON recording(utc) WHERE began;
"""

PRUNE_EVERY = 1_000
# A new place to begin a replay at, so that dropping the oldest records leaves one.
BEGIN_EVERY = 20_000
# What is no decision waits this long to be written with others: a disk is woken no oftener.
WRITE_SECONDS = 5.0
# ... or for this many others: at 2,500 turns a second, five seconds of them took 25 MB.
WRITE_RECORDS = 1_000
# Nothing to say for this long is said: a replay with something changed must know how far time has gone.
MARK_SECONDS = 600.0
# What follows so many good findings in a row changes nothing, unless a rule looks back further than any shipped
# one by far. At 100 those of the ledger and the host kept the disk awake for eight minutes (bench/supervision.py).
QUIET_FINDINGS = 32


class Recorder:
    """Records cycles and turns; implements `CycleRecorder` and `probes.turns.TurnObserver`. Nothing here waits."""

    def __init__(self, database: Database, clock: Clock, boot_id: str, kept: int = 300_000) -> None:
        self._database = database
        self._clock = clock
        self._boot_id = boot_id
        self._kept = kept
        self._config = b"{}"
        self._log = structlog.get_logger("epad.recorder")
        self._waiting: list[tuple[float, bool, bytes]] = []
        self._urgent = asyncio.Event()
        self._seen: Seen | None = None
        self._quiet: dict[AnomalyKey, int] = {}
        self._repeats: dict[AnomalyKey, Watching] = {}
        self._refusals: dict[tuple[str, str, str], tuple[TurnRefused, int]] = {}
        self._since_began = 0
        self._added_at = float("-inf")
        self._since_pruned = PRUNE_EVERY
        self._encoder = msgspec.json.Encoder()

    # What is told.

    def started(self, config: Config, loaded: Loaded) -> None:
        """Record that the daemon has taken up the state of the previous run."""
        self._config = self._encoder.encode(config)
        self._add(self._clock.monotonic(), Began.of(self._boot_id, self._config, loaded))

    def configured(self, config: Config) -> None:
        """A reload has changed the configuration."""
        self._config = self._encoder.encode(config)
        self._add(self._clock.monotonic(), Reconfigured(msgspec.Raw(self._config)))

    def begin(self, stimulus: Stimulus, decider: Decider, world: World) -> Watching:
        """A cycle begins."""
        if self._since_began >= BEGIN_EVERY and _is_idle(decider):
            self._begin_anew(decider)
        watching = Watching(self._clock.monotonic(), stimulus, partial(_seen, world))
        if isinstance(stimulus, Finding):
            standing = (a.severity for a in decider.assessor.active if a.key == stimulus.key)
            watching.severity_before = next(standing, 0)
        return watching

    def end(self, watching: Watching) -> None:
        """End a cycle: keep the records that could make a difference, leave out the others."""
        stimulus = watching.stimulus
        if isinstance(stimulus, Finding):
            quiet = 0 if stimulus.bad else self._quiet.get(stimulus.key, 0) + 1
            self._quiet[stimulus.key] = quiet
            if not watching.decided and quiet > QUIET_FINDINGS:
                stimulus = None
            elif not watching.decided and stimulus.bad and watching.severity_before >= stimulus.severity:
                # Of what is found again and again, only the last time counts: its quiet begins there.
                self._repeats[stimulus.key] = watching
                return
        overdue = watching.at - self._added_at >= MARK_SECONDS
        if stimulus is not None or watching.decided or overdue or self._news(watching):
            self._put_off()
            self._add_cycle(watching, as_input(stimulus))
        if watching.decided:
            self._urgent.set()

    def admitted(self, event: TurnAdmitted) -> None:
        # The digests of a conversation are as long as it is, and its detector is not run again.
        self._add(event.at, Admitted(msgspec.structs.replace(event, history=())))

    def refused(self, event: TurnRefused) -> None:
        key = (event.subsystem, event.code, event.limit)
        first, more = self._refusals.get(key, (event, -1))
        if event.at - first.at >= 1.0:
            self._add(first.at, Refused(first, more))
            first, more = event, -1
        self._refusals[key] = (first, more + 1)

    def finished(self, event: TurnFinished) -> None:
        self._add(event.at, Finished(event))

    # What is kept.

    def _begin_anew(self, decider: Decider) -> None:
        now = self._clock.monotonic()
        notes = {"incident": decider.incident.as_json(self._boot_id), "paused": dict(decider.paused)}
        self._put_off()
        self._add(
            now,
            Began(
                self._boot_id,
                msgspec.Raw(self._config),
                decider.phase.value,
                now - decider.phase_seconds,
                notes=notes,
                life=False,
            ),
        )
        self._seen = None

    def _put_off(self) -> None:
        """Add the held-back records, each at its own time."""
        repeats, self._repeats = self._repeats, {}
        for watching in sorted(repeats.values(), key=lambda one: one.at):
            self._add_cycle(watching, as_input(watching.stimulus))
        refusals, self._refusals = self._refusals, {}
        for event, more in refusals.values():
            self._add(event.at, Refused(event, more))

    def _add_cycle(self, watching: Watching, kept: Input | None) -> None:
        seen = self._news(watching)
        self._seen = seen or self._seen
        cycle = Cycle(kept, seen, watching.seen is not None, watching.decided, tuple(watching.moves))
        self._add(watching.at, cycle)

    def _news(self, watching: Watching) -> Seen | None:
        """Return the seen world, if it differs from the last one."""
        return watching.seen if watching.seen != self._seen else None

    def _add(self, at: float, record: Record) -> None:
        began = isinstance(record, Began)
        self._since_began = 0 if began else self._since_began + 1
        self._added_at = at
        self._waiting.append((at, began, self._encoder.encode(record)))
        if len(self._waiting) >= WRITE_RECORDS:
            self._urgent.set()

    # How it gets to the disk.

    async def run(self) -> None:
        """Write until cancelled: decisions at once, the rest every few seconds."""
        while True:
            try:
                async with asyncio.timeout(WRITE_SECONDS):
                    await self._urgent.wait()
            except TimeoutError:
                pass
            self._urgent.clear()
            await self.flush()

    def take(self) -> list[tuple[float, float, bool, bytes]]:
        """Return the records that wait to be written, with the held-back ones."""
        self._put_off()
        batch, self._waiting = self._waiting, []
        boot = self._clock.utc().timestamp() - self._clock.monotonic()
        return [(boot + at, at, began, record) for at, began, record in batch]

    async def flush(self) -> None:
        """Write the waiting records."""
        batch = self.take()
        if not batch:
            return
        self._since_pruned += len(batch)
        kept = self._kept if self._since_pruned >= PRUNE_EVERY else None
        self._since_pruned %= PRUNE_EVERY
        try:
            await asyncio.shield(self._database.write(lambda connection: _write(connection, batch, kept)))
        except DatabaseError as error:
            # Nothing is decided from it: a gap in it makes a replay incomplete, and the replay says so.
            self._log.error("recording.lost", count=len(batch), error=str(error))


def _write(
    connection: apsw.Connection, batch: Sequence[tuple[float, float, bool, bytes]], kept: int | None
) -> None:
    connection.executemany("INSERT INTO recording(utc, at, began, record) VALUES (?, ?, ?, ?)", batch)
    if kept is not None:  # weeks of a workstation's turns and troubles
        connection.execute("DELETE FROM recording WHERE id <= (SELECT max(id) FROM recording) - ?", (kept,))


def _seen(world: World) -> Seen:
    damaged = world.damaged()
    return Seen(
        subsystems=tuple((c.name, c.essential, c.has_process) for c in world.containables()),
        failed=tuple(sorted(world.failed())),
        damaged=tuple(sorted((target.is_subsystem, target.name) for target in damaged)),
        writers={target.name: target.writer for target in damaged if target.writer},
        blind=tuple(sorted(world.blind_probes())),
        victims=dict(world.victims()),
        background=tuple(c.name for c in world.containables() if c.background),
        needed=tuple(c.name for c in world.containables() if c.needed),
        parents={c.name: c.parent for c in world.containables() if c.parent},
    )


def _is_idle(decider: Decider) -> bool:
    return decider.phase is Phase.NORMAL and not decider.assessor.active
