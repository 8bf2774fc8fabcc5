"""What is stated of the vault: about whom, how often, and what it looks like to a person."""

from __future__ import annotations

import pytest

from probes.probe import ProbeError
from probes.vault import DOCUMENTS, ROWS, VaultCheck, VaultIntegrity, VaultSettings
from statemachine.clock import ManualClock
from statemachine.finding import Severity


class Scene:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.known: VaultCheck | Exception | None = VaultCheck(size=3, versions=2)
        self.asked: list[float] = []
        settings = VaultSettings(interval_seconds=60.0, full_seconds=3_600.0)
        self.probe = VaultIntegrity(settings, check=self.check, clock=self.clock)

    async def check(self, full_seconds: float) -> VaultCheck | None:
        self.asked.append(full_seconds)
        if isinstance(self.known, Exception):
            raise self.known
        return self.known

    async def bad(self) -> set[str]:
        return {one.subsystem for one in await self.probe.sample() if one.severity is not Severity.OK}


async def test_a_fault_of_documents_holds_who_reads_documents() -> None:
    """One of rows whoever reads any; a sound vault nobody; each finding says what was changed, and the ways out."""
    scene = Scene()
    assert await scene.bad() == set()
    scene.clock.advance(60)
    scene.known = VaultCheck(documents=["version 1 was changed"])
    assert await scene.bad() == {DOCUMENTS}
    scene.clock.advance(60)
    scene.known = VaultCheck(rows=["tasks row 1 is gone", "and another"], documents=["version 1 was changed"])
    assert await scene.bad() == set(ROWS)
    told = {one.subsystem: one for one in await scene.probe.sample()}
    assert told[DOCUMENTS].value == 3
    assert told["tools-tasks"].evidence["faults"] == ["tasks row 1 is gone", "and another"]
    assert "tasks row 1 is gone (and 1 more)" in told["tools-tasks"].reason
    assert "epactl vault verify" in told["tools-tasks"].reason
    assert told["tools-tasks"].hard


async def test_it_states_oftener_than_it_looks() -> None:
    """So that a hold neither ends nor waits between two looks."""
    scene = Scene()
    assert scene.probe.interval_seconds == 2.0
    for _ in range(30):
        await scene.probe.sample()
        scene.clock.advance(2)
    assert scene.asked == [3_600.0]
    await scene.probe.sample()
    assert len(scene.asked) == 2


@pytest.mark.parametrize("known", [None, ProbeError("it cannot be looked at")])
async def test_nothing_is_said_of_what_is_not_seen(known: ProbeError | None) -> None:
    """Of no vault nothing; and it looks again at once where it could not."""
    scene = Scene()
    scene.known = known
    if known is None:
        assert await scene.probe.sample() == []
        return
    for _ in range(2):
        with pytest.raises(ProbeError):
            await scene.probe.sample()
    assert len(scene.asked) == 2
