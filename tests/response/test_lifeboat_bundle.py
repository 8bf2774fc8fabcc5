"""The last bundle, and the story in it."""

from __future__ import annotations

from pathlib import Path

import pytest
from epad_story import Story

from epad.checkpoint.bundle import read_bundle
from epad.checkpoint.source import BytesSource
from epad.config import CheckpointConfig
from epad.explain import History
from epad.response.lifeboat import Lifeboat
from epad.response.step import Lane, StepFailedError, StepName, StepState


@pytest.fixture
def story() -> Story:
    story = Story()
    story.find("chat")
    story.find("game", "cascade")
    story.end(state=StepState.FAILED)
    return story


def lifeboat(story: Story, directory: Path) -> Lifeboat:
    return Lifeboat(
        directory,
        CheckpointConfig(keep=1, deadline_seconds=30.0),
        lambda: [BytesSource("config.json", b"{}")],
        lambda: {"phase": story.phase, "ledger_records": 42},
        History(story.database),
        story.clock,
    )


async def test_the_bundle_holds_the_state_and_the_story_of_why(story: Story, tmp_path: Path) -> None:
    """What was found, which phases were taken by which rule, what was tried, and how it is left."""
    operation = story.operations(Lane.PHASE)[-1]
    step = operation.steps[-1].step
    assert step.name is StepName.LIFEBOAT
    result = await lifeboat(story, tmp_path).save(step, operation)
    bundle = read_bundle(tmp_path / operation.key)
    assert bundle.verified
    assert bundle.manifest.kind == "lifeboat"
    assert bundle.manifest.reason == "the state could not be persisted"
    assert {part.name for part in bundle.manifest.parts} == {"REPORT.md", "config.json"}
    assert result.endswith("written, verified; `epactl lifeboat relaunch` starts clean")
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
