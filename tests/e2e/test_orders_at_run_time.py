"""What an operator changes while all goes on: a limit, and the phase."""

from __future__ import annotations

from typing import Any

from installed import QUICK, Installation, installation

CLIENT = "[subsystems.agent]\nkind = 'client'\nbudget = {{ tokens_per_hour = {} }}\n"


def limit(house: Installation) -> dict[str, Any]:
    rows = house.ask("budget")
    return next(row for row in rows if row["scope"] == "agent" and row["name"] == "tokens_per_hour")


def test_a_limit_holds_from_the_order_on_and_through_a_restart() -> None:
    """Until the configuration says something else, or a person takes it back."""
    with installation(QUICK + CLIENT.format(1000)) as house:
        house.start()
        assert (limit(house)["limit"], limit(house)["origin"]) == (1000, "configured")
        set_it = ("budget", "set", "agent", "tokens_per_hour=77", "--reason", "a long night")
        assert "tokens_per_hour: 1,000 -> 77" in house.ctl(*set_it).stdout
        assert house.subsystem("agent")["budget"]["tokens_per_hour"]["limit"] == 77
        assert limit(house)["origin"].endswith(": a long night")
        assert house.events("order.given")[-1]["fields"]["order"] == "set_budget"
        house.kill()
        house.start()
        assert (limit(house)["limit"], limit(house)["configured"]) == (77, 1000)
        assert "nothing has changed" in house.ctl("reload").stdout
        back = ("budget", "set", "agent", "tokens_per_hour=configured", "--reason", "morning")
        assert "77 -> 1,000 (as configured)" in house.ctl(*back).stdout
        assert limit(house)["origin"] == "configured"
        house.ctl(*set_it)
        house.config.write_text(QUICK + CLIENT.format(500))
        house.ctl("reload")
        assert (limit(house)["limit"], limit(house)["origin"]) == (500, "configured")


def test_a_dwell_is_spared_by_order_and_simulated_alike() -> None:
    """Refused while something is wrong; then journalled with who and why, and the same in a replay."""
    slow = QUICK.replace("dwell_seconds = 1.0", "dwell_seconds = 600.0")
    assert slow != QUICK
    with installation(slow + CLIENT.format(1000)) as house:
        house.start()
        house.ctl("quarantine", "agent", "--reason", "a look")
        house.wait_phase("QUARANTINE")
        forced = ("phase", "--force", "NORMAL", "--reason", "I have looked")
        refused = house.ctl(*forced)
        assert refused.returncode == 1
        assert "1 active anomaly" in refused.stderr
        house.ctl("release", "agent", "--reason", "fine")
        assert "QUARANTINE -> NORMAL: the waiting was spared" in house.ctl(*forced).stdout
        assert house.status()["phase"] == "NORMAL"
        assert ": I have looked" in house.ctl("explain", "NORMAL").stdout
        number = house.events("phase.changed")[-1]["id"]
        assert "QUARANTINE -> NORMAL" in house.ctl("explain", str(number)).stdout
        replayed = house.ctl("simulate", "--state", str(house.state))
        assert replayed.returncode == 0, replayed.stdout
