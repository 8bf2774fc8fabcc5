"""A prompt with a decoy in it is not sent, and its sender is told of."""

from __future__ import annotations

import json
from pathlib import Path

from gateway_world import world

from epad.confinement.decoys import Decoys
from statemachine.finding import Finding, Severity

DECOYS = Decoys(b"a secret")


async def test_a_decoy_never_reaches_a_model(tmp_path: Path) -> None:
    """Refused with whose it is, in a hard finding; what has none goes through."""
    told: list[Finding] = []
    async with world(tmp_path) as w:
        w.put(alarm=told.append, decoy_in=lambda body: DECOYS.seen_in(body, ["writer", "reader"]))
        assert (await w.chat())[0] == 200
        content = f"what does {DECOYS.key('reader')} open?"
        status, _, body = await w.chat(messages=[{"role": "user", "content": content}])
        assert (await w.chat("reader"))[0] == 200
        await w.closings(2)
        assert len(w.ledger.opened) == 2
    assert status == 403
    assert json.loads(body)["error"]["code"] == "decoy_sent"
    [finding] = told
    assert (finding.probe, finding.subsystem, finding.severity) == ("decoy", "writer", Severity.ANOMALY)
    assert finding.hard
    assert "the decoy of reader" in finding.reason
    assert DECOYS.key("reader") not in finding.reason
