"""Every phase in one night: damage, two dead subsystems, and back by itself; or the last resort, and back from that."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from pathlib import Path

from damage import flip_one_bit
from installed import QUICK, Installation, installation

SEQUENCE = 7
# As QUICK, and no patience: two attempts in one incident, and a subsystem that dies twice has failed.
IMPATIENT = QUICK.replace(
    "[policy]", "[policy]\nrecovery_attempts = 1\nrecovery_limit_seconds = 60.0\nattempts_per_subsystem = 1"
)


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
        house.wait(
            lambda exits=exits: len(house.events("subsystem.exited")) > exits, "the exit to be noticed"
        )


def test_damage_and_two_dead_subsystems_are_healed_and_no_turn_is_paid_twice(house: Installation) -> None:
    """QUARANTINE, PRESERVATION, RECOVERY and NORMAL by itself; the wargame goes on at its next round."""
    house.start()
    house.wait(lambda: rounds(house) >= 2, "two rounds")
    kill(house, "chat", 3)
    house.wait(lambda: house.ask("phase")["history"] != [], "QUARANTINE")
    played = rounds(house)
    kill(house, "wargame", 1)
    flip_one_bit(house.state / "ledger.db", SEQUENCE)
    house.wait(lambda: len(house.ask("phase")["history"]) >= 3, "RECOVERY", 60)
    tried = house.ask("recovery")["tried"][0]
    steps = [(step["name"], step["target"]) for step in tried["steps"]]
    assert steps[0] == ("repair_ledger", "ledger")
    assert steps[-1] == ("replay", "host")
    assert any(f"record {SEQUENCE}" in one["text"] for one in tried["evidence"])
    house.wait_phase("NORMAL", 60)
    walked = [t["destination"] for t in house.ask("phase")["history"]]
    assert walked[:3] == ["QUARANTINE", "PRESERVATION", "RECOVERY"]
    assert walked[-1] == "NORMAL"
    house.wait(lambda: rounds(house) > played, "the next round", 60)
    assert house.verify_ledger().returncode == 0
    assert max(paid_answers(house).values()) == 1


def test_hopeless_recovery_ends_in_the_lifeboat_and_a_relaunch_elsewhere_brings_it_back(
    tmp_path: Path,
) -> None:
    """The model's socket is taken: recovery fails, everything is saved; an empty directory takes it all up again."""
    with installation(IMPATIENT) as house:
        house.start()
        house.wait(lambda: rounds(house) >= 1, "a round")
        played = rounds(house)
        (house.state / "run/model.sock").unlink()
        (house.state / "run/model.sock").mkdir()
        kill(house, "model", 1)
        flip_one_bit(house.state / "ledger.db", SEQUENCE)
        house.wait_phase("LIFEBOAT", 120)
        house.wait(lambda: house.children() == {}, "every child to be gone", 60)
        boats = house.state / "checkpoints"
        house.wait(
            lambda: any(m.with_name("REPORT.md").exists() for m in boats.glob("*/VERIFIED")), "the bundle"
        )
        listed = house.ask("lifeboat", "list")
        (boat,) = (b for b in listed["bundles"] if b["kind"] == "lifeboat")
        assert listed["first_tier"][-1]["name"] == "END"
        report = house.ask("lifeboat", "inspect", boat["name"])["report"]
        for heading in ("Timeline", "What was found", "What was tried", "What is saved", "What is lost"):
            assert f"## {heading}" in report
        charged = house.subsystem("wargame")["tokens"]
        assert house.stop() == 0
        with installation() as other:
            order = ("lifeboat", "relaunch", "--from", boat["path"], "--state", str(other.state))
            done = house.ctl(*order, "--reason", "the socket is free again")
            assert done.returncode == 0, done.stdout + done.stderr
            other.start()
            other.wait_phase("NORMAL")
            assert "the socket is free again" in other.ctl("explain", "NORMAL").stdout
            other.wait(lambda: rounds(other) > played, "the next round", 60)
            assert other.subsystem("wargame")["tokens"]["turns"] >= charged["turns"]
            assert other.verify_ledger().returncode == 0
            assert max(paid_answers(other).values()) == 1
