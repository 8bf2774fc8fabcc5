"""The main job: a runaway agent is refused at the exact request, contained alone, explained, and let go again."""

from __future__ import annotations

from installed import Installation, stands_still


def plant_runaway(house: Installation) -> None:
    """Start, let everybody work, then make the chat client loop until it is quarantined."""
    house.start()
    house.wait(lambda: house.subsystem("chat")["tokens"]["turns"] >= 1, "a chat turn")
    house.wait(lambda: house.subsystem("wargame")["tokens"]["turns"] >= 1, "a wargame turn")
    house.loop_switch().touch()
    house.wait_phase("QUARANTINE")
    house.wait(lambda: house.subsystem("chat")["state"] == "quarantined", "chat to be quarantined")


def test_runaway_is_refused_at_the_exact_request_and_frozen_while_others_go_on(house: Installation) -> None:
    """The first refusal is the request that would have crossed; no token past the limit was ever admitted."""
    plant_runaway(house)
    refusal = house.events("turn.refused")[0]["fields"]
    assert refusal["code"] == "budget_exceeded"
    assert refusal["used_tokens"] <= refusal["limit_tokens"]
    assert refusal["used_tokens"] + refusal["asked_tokens"] > refusal["limit_tokens"]
    chat = house.subsystem("chat")
    budget = chat["budget"]["tokens_per_minute"]
    assert budget["used"] <= budget["limit"]
    assert chat["hold"]["rung"] == "freeze"
    house.wait(lambda: stands_still(chat["pid"]), "the freeze")
    before = house.subsystem("wargame")["tokens"]["turns"]
    house.wait(lambda: house.subsystem("wargame")["tokens"]["turns"] > before, "the wargame to go on")
    assert house.subsystem("wargame")["state"] == "running"


def test_explain_prints_the_chain_and_release_brings_it_back(house: Installation) -> None:
    """Finding, anomaly, rule, step, result; then a person lets it go and the phase returns by itself."""
    plant_runaway(house)
    kinds = [link["kind"] for link in house.ask("explain")["chain"]]
    assert [kinds.index(kind) for kind in ("finding", "anomaly", "rule", "step", "result")] == sorted(
        kinds.index(kind) for kind in ("finding", "anomaly", "rule", "step", "result")
    )
    text = house.ctl("explain").stdout
    for words in ("token_burn/chat", "NORMAL -> QUARANTINE", "hold chat freeze", "gateway closed"):
        assert words in text
    house.loop_switch().unlink()
    released = house.ctl("release", "chat", "--reason", "the loop is fixed")
    assert released.returncode == 0, released.stderr
    assert house.subsystem("chat")["state"] == "running"
    assert not stands_still(house.subsystem("chat")["pid"])
    house.wait_phase("NORMAL")


def test_release_of_a_client_that_still_loops_quarantines_it_again(house: Installation) -> None:
    """Letting go is not forgetting how to look: the same loop is caught again."""
    plant_runaway(house)
    assert house.ctl("release", "chat", "--reason", "by mistake").returncode == 0
    house.wait(lambda: len(house.events("anomaly.raised")) >= 2, "the second anomaly")
    house.wait(lambda: house.subsystem("chat")["state"] == "quarantined", "the second quarantine")


def test_operator_quarantine_and_release_need_a_reason_and_hold_until_released(house: Installation) -> None:
    """A person's hold is an anomaly like any other, but only a person's word ends it."""
    house.start()
    assert house.ctl("quarantine", "wargame").returncode == 2
    assert house.ctl("quarantine", "nobody", "--reason", "x").returncode == 4
    assert house.ctl("quarantine", "wargame", "--reason", "a look").returncode == 0
    assert house.subsystem("wargame")["state"] == "quarantined"
    assert house.status()["phase"] == "QUARANTINE"
    assert house.ctl("status", "--check").returncode == 10
    assert "a look" in house.ctl("status").stdout
    assert house.ctl("release", "wargame", "--reason", "seen enough").returncode == 0
    house.wait_phase("NORMAL")
    assert house.ctl("status", "--check").returncode == 0
