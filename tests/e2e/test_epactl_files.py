"""What `epactl` reads from the files alone: `simulate` on what an installed daemon went through, and the emergency."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from installed import QUICK, Installation, installation, process_state

CONFIG = (
    QUICK + "[hysteresis.token_burn]\nclear_after_seconds = 20.0\n[probes.liveness]\ninterval_seconds = 0.5\n"
)


def simulate(house: Installation, *arguments: str) -> tuple[int, dict[str, Any]]:
    done = house.ctl("-o", "json", "simulate", "--state", str(house.state), *arguments)
    assert done.returncode in {0, 11}, done.stderr
    return done.returncode, json.loads(done.stdout)


def test_a_replay_with_nothing_changed_repeats_what_happened() -> None:
    """Through a runaway, a `kill -9` in mid-quarantine, a release and a person's hold; then under other thresholds."""
    with installation(CONFIG) as house:
        house.start()
        house.loop_switch().touch()
        house.wait_phase("QUARANTINE")
        house.kill()
        house.start()
        assert house.status()["phase"] == "QUARANTINE"
        house.loop_switch().unlink()
        assert house.ctl("release", "chat", "--reason", "cured").returncode == 0
        house.wait_phase("NORMAL")
        assert house.ctl("quarantine", "wargame", "--reason", "a look at it").returncode == 0
        house.wait_phase("QUARANTINE")
        assert house.ctl("release", "wargame", "--reason", "seen").returncode == 0
        house.wait_phase("NORMAL")
        assert house.stop() == 0

        status, same = simulate(house)
        happened = [
            ("NORMAL", "QUARANTINE"),
            ("QUARANTINE", "NORMAL"),
            ("NORMAL", "QUARANTINE"),
            ("QUARANTINE", "NORMAL"),
        ]
        assert [(row["source"], row["destination"]) for row in same["transitions"]] == happened
        assert [row["which"] for row in same["transitions"]] == ["="] * 4
        assert same["lives"] == 2
        assert all(row["did"] == row["would"] for row in same["refusals"])
        assert any(row["code"] == "budget_exceeded" for row in same["refusals"])
        assert status == 0

        # With a budget that it never reaches, and no detector that minds, the runaway would not have been stopped.
        detectors = ("identical_prompts", "sampled_prompts", "appended_loops", "min_calls", "cusum_act")
        loose = ["subsystems.chat.budget.tokens_per_minute=100000000"]
        loose += [f"probes.token_burn.{key}=1000" for key in detectors]
        status, other = simulate(house, *(part for text in loose for part in ("--set", text)))
        assert status == 11
        assert other["transitions"][0]["which"] == "-"
        assert [row["which"] for row in other["transitions"]][-2:] == ["=", "="]

        typo = house.ctl("simulate", "--state", str(house.state), "--set", "policy.dwel_seconds=1")
        assert typo.returncode == 2
        assert "did you mean dwell_seconds?" in typo.stderr


HIDDEN = """
[subsystems.plain]
command = ["sleep", "600"]
notifies = false
[subsystems.hidden]
command = ["env", "-i", "/bin/sleep", "600"]
notifies = false
"""


def test_with_the_daemon_dead_everything_can_still_be_stopped() -> None:
    """Beside a living daemon it refuses, and names what does it better; with a dead one nothing is left.

    Nor a child without its marks, which the journal tells of.
    """
    with installation(QUICK + HIDDEN) as house:
        house.start()
        hidden = house.subsystem("hidden")["pid"]
        assert (house.status()["config_file"], house.status()["state_directory"]) == (
            str(house.config),
            str(house.state),
        )
        refused = house.ctl("stop-all", "--yes", "--state", str(house.state))
        assert refused.returncode == 1
        assert "lifeboat enter" in refused.stderr
        house.kill()
        assert list(house.children().values()) == ["plain"]
        assert house.ctl("stop-all", "--state", str(house.state)).returncode == 2
        done = house.ctl("-o", "json", "stop-all", "--yes", "--state", str(house.state))
        assert done.returncode == 0, done.stderr
        answer = json.loads(done.stdout)
        assert (answer["daemon"], answer["journal"], answer["left"]) == ("none", "read", [])
        assert hidden in answer["ended"]
        assert house.children() == {}
        assert not Path(f"/proc/{hidden}/stat").exists() or process_state(hidden) == "Z"


def test_a_damaged_journal_does_not_keep_anything_running() -> None:
    """It is named in a line, and what bears its marks is ended."""
    with installation(QUICK) as house:
        house.start()
        house.wait(lambda: len(house.children()) >= 3, "the children")
        house.kill()
        for path in house.state.glob("state.db*"):
            path.write_bytes(b"damaged" * 4096)
        done = house.ctl("stop-all", "--yes", "--state", str(house.state))
        assert done.returncode == 0, done.stderr
        assert done.stderr.startswith(f"epactl: {house.state}/state.db: file is not a database")
        assert "0 left" in done.stdout
        assert house.children() == {}
