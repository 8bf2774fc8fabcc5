"""`kill -9` of the daemon in the middle of a quarantine, then a start."""

from __future__ import annotations

from installed import Installation, stands_still


def test_kill_9_during_quarantine_changes_nothing_that_was_decided(house: Installation) -> None:
    """Same phase, same subsystem closed, no child doubled, the ledger verifies, nothing forwarded in between."""
    house.start()
    house.wait(lambda: house.subsystem("chat")["tokens"]["turns"] >= 1, "a chat turn")
    house.loop_switch().touch()
    house.wait_phase("QUARANTINE")
    house.wait(lambda: house.subsystem("chat")["state"] == "quarantined", "chat to be quarantined")
    before, turns = house.children(), house.subsystem("chat")["tokens"]["turns"]
    budget = house.subsystem("chat")["budget"]["tokens_per_minute"]

    house.kill()
    assert house.children() == before
    assert house.verify_ledger().returncode == 0
    house.start()

    status = house.status()
    assert status["phase"] == "QUARANTINE"
    chat = house.subsystem("chat")
    assert chat["state"] == "quarantined"
    assert chat["tokens"]["turns"] == turns
    # What it had spent in this minute is still spent: a crash gives nobody a fresh budget.
    assert 0 < chat["budget"]["tokens_per_minute"]["used"] <= budget["limit"]
    assert house.children() == before
    assert stands_still(chat["pid"])
    assert house.verify_ledger().returncode == 0
    rounds = house.subsystem("wargame")["tokens"]["turns"]
    house.wait(lambda: house.subsystem("wargame")["tokens"]["turns"] > rounds, "adopted children to go on")

    # Room to work again at once, not when the minute is over.
    assert house.ctl("budget", "set", "chat", "tokens_per_minute=100000", "--reason", "go on").returncode == 0
    house.loop_switch().unlink()
    assert house.ctl("release", "chat", "--reason", "fixed").returncode == 0
    assert house.subsystem("chat")["pid"] == chat["pid"]
    house.wait(lambda: house.subsystem("chat")["tokens"]["turns"] > turns, "chat to work again")
    house.wait_phase("NORMAL")
