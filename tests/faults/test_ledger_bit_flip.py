"""One flipped bit in the ledger while the daemon runs."""

from __future__ import annotations

from damage import flip_one_bit
from installed import Installation

SEQUENCE = 7


def test_flipped_bit_is_found_and_named_and_preserved_and_healed(house: Installation) -> None:
    """Critical, PRESERVATION with the sequence number named; then the record is repaired and NORMAL returns."""
    house.start()
    house.wait(lambda: house.status()["ledger"]["records"] >= SEQUENCE + 5, "some records")
    flip_one_bit(house.state / "ledger.db", SEQUENCE)
    house.wait(lambda: bool(house.events("anomaly.raised")), "the damage to be found")
    raised = house.events("anomaly.raised")[0]
    assert (raised["subsystem"], raised["fields"]["severity"]) == ("host", "critical")
    assert f"record {SEQUENCE}" in raised["fields"]["reason"]

    house.wait(lambda: len(house.ask("phase")["history"]) >= 2, "the phases to be walked")
    first, second = house.ask("phase")["history"][:2]
    assert (first["source"], first["destination"]) == ("NORMAL", "PRESERVATION")
    assert second["destination"] == "RECOVERY"
    explained = house.ctl("explain", "PRESERVATION").stdout
    assert f"record {SEQUENCE}" in explained
    assert "checkpoint" in explained

    house.wait_phase("NORMAL")
    assert house.verify_ledger().returncode == 0
    assert f"{SEQUENCE}" in house.ctl("explain").stdout
    assert list((house.state / "checkpoints").glob("*/MANIFEST.json"))
