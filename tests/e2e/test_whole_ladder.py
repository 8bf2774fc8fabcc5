"""Every phase in one night: damage, two dead subsystems, and back by itself; or the last resort, and back from that."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from typing import Any

from damage import flip_one_bit
from installed import QUICK, Installation, installation

SEQUENCE = 7
# As QUICK, but one attempt in an incident, and time enough for the damage to come back before it counts as healed.
IMPATIENT = QUICK.replace("verify_seconds = 2.0", "verify_seconds = 15.0\nrecovery_attempts = 1")


def paid_answers(house: Installation) -> Counter[tuple[str, str]]:
    """How often each message was answered and charged, by subsystem and Idempotency-Key."""
    lines = house.ctl("ledger", "export", "--state", str(house.state)).stdout.splitlines()
    records = [json.loads(line) for line in lines]
    keys = {r["turn"]: r.get("idempotency_key") for r in records if r["kind"] == "opened"}
    done = [r for r in records if r["kind"] == "closed" and r["outcome"] == "done" and r["charged_tokens"]]
    return Counter((r["subsystem"], key) for r in done if (key := keys.get(r["turn"])))


def rounds(house: Installation) -> int:
    progress = house.subsystem("wargame")["progress"]
    return int(progress["done"]) if progress else 0


def kill(house: Installation, name: str, times: int) -> None:
    """Kill a subsystem's process again and again, each time once the daemon has noticed the last."""
    for _ in range(times):
        exits = len(house.events("subsystem.exited"))
        house.wait(lambda: house.subsystem(name)["pid"] is not None, f"a process of {name}")
        subprocess.run(["kill", "-9", str(house.subsystem(name)["pid"])], check=False)
        house.wait_exits(exits + 1)


def test_damage_and_two_dead_subsystems_are_healed_and_no_turn_is_paid_twice(house: Installation) -> None:
    """QUARANTINE, PRESERVATION, RECOVERY and NORMAL by itself; the wargame goes on at its next round."""
    house.start()
    house.wait(lambda: rounds(house) >= 2, "two rounds")
    kill(house, "chat", 3)
    house.wait(lambda: house.ask("phase")["history"] != [], "QUARANTINE")
    played = rounds(house)
    kill(house, "wargame", 1)
    flip_one_bit(house.state / "ledger.db", SEQUENCE)
    house.wait(lambda: len(house.ask("phase")["history"]) >= 3, "RECOVERY")
    tried = house.ask("recovery")["tried"][0]
    steps = [(step["name"], step["target"]) for step in tried["steps"]]
    assert steps[0] == ("repair_ledger", "ledger")
    assert steps[-1] == ("replay", "host")
    assert any(f"record {SEQUENCE}" in one["text"] for one in tried["evidence"])
    house.wait_phase("NORMAL")
    walked = [t["destination"] for t in house.ask("phase")["history"]]
    assert walked[:3] == ["QUARANTINE", "PRESERVATION", "RECOVERY"]
    assert walked[-1] == "NORMAL"
    house.wait(lambda: rounds(house) > played, "the next round")
    assert house.verify_ledger().returncode == 0
    assert max(paid_answers(house).values()) == 1


def test_hopeless_recovery_ends_in_the_lifeboat_and_a_relaunch_elsewhere_brings_it_back() -> None:
    """A disk that goes on damaging the ledger: everything is saved; an empty directory takes it all up again."""
    with installation(IMPATIENT) as house, installation() as other:
        house.start()
        house.wait(lambda: rounds(house) >= 1, "a round")
        played, turns = rounds(house), house.subsystem("wargame")["tokens"]["turns"]
        flip_one_bit(house.state / "ledger.db", SEQUENCE)
        house.wait(lambda: f"lost for good {SEQUENCE}" in house.ctl("recovery").stdout, "the repair")
        flip_one_bit(house.state / "ledger.db", SEQUENCE + 2)
        house.wait_phase("LIFEBOAT")
        house.wait(lambda: house.children() == {}, "every child to be gone")
        house.wait(lambda: boats(house) != [], "the bundle")
        (boat,) = boats(house)
        assert house.ask("lifeboat", "list")["first_tier"][-1]["name"] == "END"
        inspected = house.ctl("-o", "json", "lifeboat", "inspect", boat["name"])
        assert inspected.returncode == 1  # the damage that nobody could mend is in it, and named
        report = json.loads(inspected.stdout)["report"]
        for heading in ("Timeline", "What was found", "What was tried", "What is saved", "What is lost"):
            assert f"## {heading}" in report
        assert house.stop() == 0
        order = ("lifeboat", "relaunch", "--from", boat["path"], "--state", str(other.state), "--yes")
        done = house.ctl(*order, "--reason", "another disk")
        assert done.returncode == 0, done.stdout + done.stderr
        other.start()
        other.wait(lambda: "RELAUNCH" in {t["trigger"].upper() for t in other.ask("phase")["history"]}, "it")
        other.wait(lambda: rounds(other) > played, "the next round")
        assert other.subsystem("wargame")["tokens"]["turns"] > turns
        other.wait(lambda: other.verify_ledger().returncode == 0, "the damage to be mended here")
        other.wait_phase("NORMAL")
        assert max(paid_answers(other).values()) == 1


def boats(house: Installation) -> list[dict[str, Any]]:
    return [b for b in house.ask("lifeboat", "list")["bundles"] if b["kind"] == "lifeboat"]
