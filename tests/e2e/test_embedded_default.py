"""`epad run` with nothing configured: what a newcomer sees first."""

from __future__ import annotations

import urllib.request

from installed import Installation


def test_embedded_default_works_and_says_that_no_llm_is_behind_it(house: Installation) -> None:
    """Three subsystems run, rounds advance, tokens are counted, and the status says what answers."""
    house.start()
    house.wait(lambda: (house.subsystem("wargame")["progress"] or {"done": 0})["done"] >= 2, "two rounds")
    house.wait(lambda: house.subsystem("chat")["tokens"]["turns"] >= 2, "two chat turns")
    status = house.status()
    assert {s["name"]: s["state"] for s in status["subsystems"]} == {
        "model": "running",
        "wargame": "running",
        "chat": "running",
    }
    assert status["phase"] == "NORMAL"
    assert house.subsystem("wargame")["tokens"]["input"] > 0
    assert house.subsystem("wargame")["tokens"]["output"] > 0
    table = house.ctl("status").stdout
    assert "not an LLM" in table
    assert "wargame" in table


def test_metrics_are_served_with_every_probe_and_phase(house: Installation) -> None:
    """Prometheus text: one phase is 1, every probe that can see says so, tokens are counted by subsystem."""
    house.start()
    house.wait(lambda: house.subsystem("chat")["tokens"]["turns"] >= 1, "a chat turn")
    house.wait(lambda: all(p["success"] for p in house.status()["probes"]), "every probe to have looked")
    with urllib.request.urlopen(house.status()["metrics"]["url"]) as answer:
        text = answer.read().decode()
    assert 'epad_phase{phase="NORMAL"} 1.0' in text
    assert 'epad_phase{phase="LIFEBOAT"} 0.0' in text
    for probe in ("token_burn", "progress", "ledger_integrity", "vram", "cascade"):
        assert f'epad_probe_success{{probe="{probe}"}} 1.0' in text
    assert 'epad_tokens_total{kind="input",subsystem="chat"}' in text
    assert "epad_ledger_intact 1.0" in text


def test_orderly_stop_leaves_nothing_running_and_the_ledger_verifies(house: Installation) -> None:
    """SIGTERM ends every child, and the exit status is 0."""
    house.start()
    house.wait(lambda: house.subsystem("chat")["tokens"]["turns"] >= 1, "a chat turn")
    assert len(house.children()) >= 3
    assert house.stop() == 0
    assert house.children() == {}
    assert house.ctl("status").returncode == 3
    verified = house.verify_ledger()
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert "OK:" in verified.stdout


def test_second_daemon_on_the_same_state_is_refused_with_the_fix(house: Installation) -> None:
    """Two daemons on one state would double every child."""
    house.start()
    said = house.start_refused()
    assert "another epad runs on this state" in said
    assert "Traceback" not in said
    assert house.status()["phase"] == "NORMAL"
