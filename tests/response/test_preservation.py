"""The persist step: a verified bundle under the operation's own name."""

from __future__ import annotations

from pathlib import Path

import apsw
import pytest
from patience import PATIENCE_SECONDS

from epad.checkpoint.bundle import read_bundle
from epad.checkpoint.retention import Retention
from epad.checkpoint.source import BytesSource, FileSource, Source, SqliteSource
from epad.configuration.schema import CheckpointConfig
from epad.control_loop.step import Lane, Operation, Step, StepFailedError, StepName
from epad.copying.errors import CheckpointError, DiskFullError
from epad.ledger.head import Signer
from epad.metrics.registry import Metrics
from epad.response import preservation as module
from epad.response.preservation import Preservation, Safeguards
from statemachine.clock import ManualClock

STEP = Step(StepName.CHECKPOINT, "host", {"reason": "the trouble is critical"})


def operation(number: int = 1) -> Operation:
    return Operation(number, f"20260101T000000Z-{number:06d}", Lane.PHASE, "a test", ())


class Bench:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.sources: list[Source] = [BytesSource("config.json", b"{}")]
        self.metrics = Metrics()
        self.doubts: list[str] = []
        self.silent: list[str] = []
        self.preservation = Preservation(
            directory,
            CheckpointConfig(keep=2, deadline_seconds=PATIENCE_SECONDS),
            lambda: self.sources,
            lambda: {"phase": "PRESERVATION"},
            ManualClock(),
            self.metrics,
            Safeguards(signer=Signer(b"k" * 32), doubts=lambda: self.doubts, ask_to_save=self._ask),
        )

    async def _ask(self) -> list[str]:
        return self.silent

    def verified_at(self) -> float:
        name = "epad_checkpoint_last_verified_timestamp_seconds"
        return self.metrics.registry.get_sample_value(name) or 0.0


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "checkpoints")


async def test_a_checkpoint_is_written_verified_and_counted(bench: Bench) -> None:
    """Its name is the operation's key, and it says why it was made and in which state."""
    assert await bench.preservation.checkpoint(STEP, operation()) == (
        "20260101T000000Z-000001 written and verified"
    )
    bundle = read_bundle(bench.directory / operation().key)
    assert bundle.verified
    assert bundle.manifest.reason == "the trouble is critical"
    assert bundle.manifest.facts == {"phase": "PRESERVATION"}
    assert bench.verified_at() == ManualClock().utc().timestamp()


async def test_a_retry_finishes_the_same_one(bench: Bench) -> None:
    """A step that was done when the daemon died makes no second bundle."""
    for _ in range(2):
        await bench.preservation.checkpoint(STEP, operation())
    assert [path.name for path in bench.directory.iterdir()] == [operation().key]


async def test_a_source_that_is_gone_does_not_stop_the_rest(bench: Bench, tmp_path: Path) -> None:
    """What can be saved is saved."""
    bench.sources.append(FileSource("subsystems/chat/notes", tmp_path / "missing"))
    await bench.preservation.checkpoint(STEP, operation())
    assert read_bundle(bench.directory / operation().key).partial


async def test_what_is_damaged_is_saved_as_it_is_and_said(bench: Bench, tmp_path: Path) -> None:
    """Salvage needs it, and the step is done; but it does not count as verified."""
    connection = apsw.Connection(str(tmp_path / "state.db"))
    connection.execute(
        "CREATE TABLE parent(id INTEGER PRIMARY KEY); CREATE TABLE child(parent REFERENCES parent(id));"
        "INSERT INTO child VALUES (7)"
    )
    connection.close()
    bench.sources.append(SqliteSource("state.db", tmp_path / "state.db"))
    result = await bench.preservation.checkpoint(STEP, operation())
    assert result.startswith("20260101T000000Z-000001 written, NOT verified: state.db: row 1 of child")
    assert bench.verified_at() == 0.0
    assert (bench.directory / operation().key / "state.db").stat().st_size > 0


async def test_what_cannot_be_written_is_a_failed_step(bench: Bench) -> None:
    """The policy decides what follows."""
    bench.directory.write_text("a file stands in the way")
    with pytest.raises(StepFailedError, match="checkpoints"):
        await bench.preservation.checkpoint(STEP, operation())
    assert bench.verified_at() == 0.0


async def test_older_ones_are_removed_beyond_those_to_keep(bench: Bench) -> None:
    """As many as the configuration says."""
    for number in (1, 2, 3):
        await bench.preservation.checkpoint(STEP, operation(number))
    assert sorted(path.name for path in bench.directory.iterdir()) == [operation(n).key for n in (2, 3)]


async def test_a_checkpoint_that_is_safe_is_not_failed_by_an_old_one_that_will_not_go(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failed persist step means LIFEBOAT: tidying up may not lead there."""

    async def refuse(directory: Path, retention: Retention) -> list[Path]:
        raise CheckpointError(f"{directory}: read-only")

    monkeypatch.setattr(module, "prune", refuse)
    result = await bench.preservation.checkpoint(STEP, operation())
    assert result.startswith("20260101T000000Z-000001 written and verified")
    assert "read-only" in result


async def test_while_a_datastore_is_damaged_nothing_is_promoted_and_no_good_one_goes(bench: Bench) -> None:
    """The new one is kept unverified, with the reason; the good ones stay however many follow."""
    for number in (1, 2):
        await bench.preservation.checkpoint(STEP, operation(number))
    bench.doubts = ["datastore memory: flip: a bit"]
    for number in range(3, 8):
        result = await bench.preservation.checkpoint(STEP, operation(number))
        assert result.startswith(
            f"{operation(number).key} written, NOT verified: datastore memory: flip: a bit"
        )
        assert "rotation is frozen" in result
    left = sorted(path.name for path in bench.directory.iterdir())
    assert left == [operation(number).key for number in (1, 2, 6, 7)]
    newest = bench.preservation.last_verified()
    assert newest is not None
    assert newest.id == operation(2).key
    bench.doubts = []
    assert "written and verified" in await bench.preservation.checkpoint(STEP, operation(8))


async def test_a_bundle_is_signed_and_its_age_survives_a_restart(bench: Bench) -> None:
    """By the key of the ledger's heads; the next life of the daemon shows what the last one made."""
    await bench.preservation.checkpoint(STEP, operation())
    assert read_bundle(bench.directory / operation().key).manifest.signer == Signer(b"k" * 32).verifier_key
    other = Bench(bench.directory)
    other.preservation.observe()
    assert other.verified_at() == bench.verified_at() > 0


async def test_who_did_not_save_in_time_is_named(bench: Bench) -> None:
    """The checkpoint is made all the same."""
    bench.silent = ["wargame did not say X_EPAD_SAVED=1 within 5 s"]
    result = await bench.preservation.checkpoint(STEP, operation())
    assert result == f"{operation().key} written and verified; {bench.silent[0]}"


async def test_a_full_disk_gives_up_older_ones_before_the_next_attempt(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All but the last good one; the step fails, and is tried again by the responder."""
    for number in (1, 2):
        await bench.preservation.checkpoint(STEP, operation(number))

    async def full(*_: object, **__: object) -> None:
        raise DiskFullError("/x: disk full")

    monkeypatch.setattr(module, "create", full)
    with pytest.raises(StepFailedError, match="disk full"):
        await bench.preservation.checkpoint(STEP, operation(3))
    assert [path.name for path in bench.directory.iterdir()] == [operation(2).key]
