"""The last bundle, and the story in it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from epad_story import Story
from patience import PATIENCE_SECONDS

from epad.checkpoint.bundle import read_bundle
from epad.checkpoint.source import BytesSource, SqliteSource
from epad.checkpoint.verify import bundle_faults
from epad.configuration.schema import CheckpointConfig
from epad.control_loop.history import History
from epad.control_loop.step import Lane, StepFailedError, StepName, StepState
from epad.ledger.head import Signer
from epad.lifeboat.ballast import Ballast
from epad.lifeboat.first_tier import FirstTier, Item
from epad.lifeboat.frames import newest
from epad.response.lifeboat import Lifeboat


@pytest.fixture
def story() -> Story:
    story = Story()
    story.find("chat")
    story.find("game", "cascade")
    story.end(state=StepState.FAILED)
    return story


def lifeboat(story: Story, directory: Path) -> Lifeboat:
    tier = FirstTier(
        directory / "lifeboat/first-tier", 1 << 17, lambda reason: [Item("why", lambda _: reason.encode())]
    )
    return Lifeboat(
        directory,
        CheckpointConfig(keep=1, deadline_seconds=PATIENCE_SECONDS),
        lambda: [BytesSource("config.json", b"{}")],
        lambda: {"phase": story.phase, "ledger_records": 42},
        History(story.database),
        story.clock,
        tier,
        Ballast(directory / "lifeboat/ballast", 1 << 20),
        Signer(bytes(32)),
    )


async def test_the_bundle_holds_the_state_and_the_story_of_why(story: Story, tmp_path: Path) -> None:
    """What was found, which phases were taken by which rule, what was tried, and how it is left."""
    operation = story.operations(Lane.PHASE)[-1]
    step = operation.steps[-1].step
    assert step.name is StepName.LIFEBOAT
    result = await lifeboat(story, tmp_path).save(step, operation)
    bundle = read_bundle(tmp_path / operation.key)
    assert bundle.verified
    assert bundle.manifest.signer == Signer(bytes(32)).verifier_key
    assert bundle_faults(bundle.path, keys=[bundle.manifest.signer]) == ()
    assert bundle_faults(bundle.path, keys=[Signer(bytes(31) + b"x").verifier_key]) != ()
    assert bundle.manifest.kind == "lifeboat"
    assert bundle.manifest.reason == "the state could not be persisted"
    assert {part.name for part in bundle.manifest.parts} == {"REPORT.md", "config.json"}
    assert result.endswith("written, verified; `epactl lifeboat relaunch` starts clean")
    assert "- config.json: 2 bytes (bytes)" in report_of(bundle.path)
    assert "nothing that is known of" in report_of(bundle.path)
    report = (bundle.path / "REPORT.md").read_text()
    assert "Entered at 2026-01-01 00:00:00 UTC: the state could not be persisted." in report
    assert "- ledger_records: 42" in report
    assert "| QUARANTINE | PRESERVATION | grave |" in report
    assert "cascade/game: cascade of game" in report
    assert "checkpoint host: failed" in report


async def test_a_bundle_that_cannot_be_written_is_a_failed_step(story: Story, tmp_path: Path) -> None:
    """It is tried again, and then recorded."""
    (tmp_path / "checkpoints").write_text("a file stands in the way")
    operation = story.operations(Lane.PHASE)[-1]
    with pytest.raises(StepFailedError, match="checkpoints"):
        await lifeboat(story, tmp_path / "checkpoints").save(operation.steps[-1].step, operation)


async def test_a_journal_that_cannot_be_read_costs_the_story_and_not_the_bundle(
    story: Story, tmp_path: Path
) -> None:
    """The state is what matters; the report says why it is short."""
    boat = lifeboat(story, tmp_path)
    operation = story.operations(Lane.PHASE)[-1]
    await story.database.write(lambda c: c.execute("DROP TABLE anomaly"))
    await boat.save(operation.steps[-1].step, operation)
    report = (tmp_path / operation.key / "REPORT.md").read_text()
    assert "no such table: anomaly" in report
    assert "- ledger_records: 42" in report


def report_of(bundle: Path) -> str:
    return (bundle / "REPORT.md").read_text()


async def test_the_first_tier_is_written_and_the_ballast_gives_its_room(story: Story, tmp_path: Path) -> None:
    """Without a file prepared it says so, and the bundle is tried all the same."""
    boat = lifeboat(story, tmp_path)
    operation = story.operations(Lane.PHASE)[-1]
    step = operation.steps[0].step
    assert step.name is StepName.FIRST_TIER
    assert "could not be written" in await boat.save_first(step, operation)
    assert await boat.first.prepare() == ""
    assert boat.ballast.make()
    said = await boat.save_first(step, operation)
    assert said == "first tier written: why; 1 MiB of ballast released"
    saved = newest(boat.first.path.read_bytes())
    assert [(f.name, f.data) for f in saved[:1]] == [("why", b"the state could not be persisted")]
    assert not boat.ballast.is_there


async def test_a_source_that_its_library_refuses_is_named_as_lost_and_copied_raw(
    story: Story, tmp_path: Path
) -> None:
    """The report says what is missing, and the bytes lie beside the bundle as they were."""
    broken = tmp_path / "graph.db"
    broken.write_bytes(b"SQLite format 3\x00" + b"no database at all" * 500)
    operation = story.operations(Lane.PHASE)[-1]
    boat = replace(lifeboat(story, tmp_path), sources=lambda: [SqliteSource("graph.db", broken)])
    said = await boat.save(operation.steps[-1].step, operation)
    assert "raw copies in" in said
    assert "- graph.db: " in report_of(tmp_path / operation.key)
    salvaged = tmp_path / f"{operation.key}.salvage" / "graph.db"
    assert salvaged.read_bytes() == broken.read_bytes()
