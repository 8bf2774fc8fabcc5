"""The last phase, entered and left only on purpose or when nothing else helps."""

from __future__ import annotations

import json
import subprocess

from installed import QUICK, Installation, installation
from patience import PATIENCE_SECONDS

from epad.daemon.process import EXIT_LIFEBOAT


def test_operator_lifeboat_saves_first_and_relaunch_brings_everything_back(house: Installation) -> None:
    """PRESERVATION's persist step runs, children stop, a bundle with the story is there; relaunch starts clean."""
    house.start()
    house.wait(lambda: house.subsystem("chat")["tokens"]["turns"] >= 1, "a chat turn")
    assert house.ctl("lifeboat", "enter", "--reason", "a drill").returncode == 2
    assert house.ctl("lifeboat", "enter", "--reason", "a drill", "--yes").returncode == 0
    house.wait_phase("LIFEBOAT")
    house.wait(lambda: house.children() == {}, "every child to be gone")
    walked = [t["destination"] for t in house.ask("phase")["history"]]
    assert walked == ["PRESERVATION", "LIFEBOAT"]
    explained = house.ctl("explain").stdout
    assert "an operator ordered the lifeboat: a drill (" in explained
    assert "the trouble is critical" not in explained

    bundles = house.state / "checkpoints"
    house.wait(
        lambda: any((m.parent / "REPORT.md").exists() for m in bundles.glob("*/VERIFIED")), "the bundle"
    )
    (report,) = (
        m.parent / "REPORT.md" for m in bundles.glob("*/VERIFIED") if (m.parent / "REPORT.md").exists()
    )
    assert "an operator ordered the lifeboat: a drill (" in report.read_text()
    manifest = json.loads((report.parent / "MANIFEST.json").read_text())
    assert manifest["kind"] == "lifeboat"
    inspected = house.ctl("lifeboat", "inspect", str(report.parent))
    assert inspected.returncode == 0
    assert "every byte is as it was made; signed by the key of the ledger beside it" in inspected.stdout
    subprocess.run(
        ["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd=report.parent, check=True, timeout=PATIENCE_SECONDS
    )

    assert house.ctl("release", "chat", "--reason", "no").returncode == 1
    house.kill()
    house.start()
    assert house.status()["phase"] == "LIFEBOAT"
    assert house.children() == {}

    assert house.ctl("lifeboat", "relaunch", "--reason", "the drill is over").returncode == 0
    house.wait_phase("NORMAL")
    house.wait(lambda: {s["state"] for s in house.status()["subsystems"]} == {"running"}, "everything to run")


def test_crash_loop_of_an_expendable_subsystem_is_contained_and_the_rest_goes_on(house: Installation) -> None:
    """Killed again and again, the chat client is stopped and the wargame plays on."""
    house.start()
    house.wait(lambda: house.subsystem("wargame")["tokens"]["turns"] >= 1, "a wargame turn")
    for exits in (1, 2, 3):
        house.wait(lambda: house.subsystem("chat")["pid"] is not None, "a chat process")
        subprocess.run(["kill", "-9", str(house.subsystem("chat")["pid"])], check=True)
        house.wait_exits(exits)
    house.wait(lambda: house.subsystem("chat")["state"] == "stopped", "chat to be stopped")
    assert house.status()["phase"] == "QUARANTINE"
    turns = house.subsystem("wargame")["tokens"]["turns"]
    house.wait(lambda: house.subsystem("wargame")["tokens"]["turns"] > turns, "the wargame to go on")


def test_a_lifeboat_that_is_told_to_exit_ends_with_the_status_that_systemd_does_not_restart() -> None:
    """Everything is saved and stopped first; started again by a person, it waits in LIFEBOAT for the relaunch."""
    with installation(QUICK + '[lifeboat]\nthen = "exit"\n') as house:
        house.start()
        assert house.ctl("lifeboat", "enter", "--reason", "a drill", "--yes").returncode == 0
        assert house.process is not None
        assert house.process.wait(60) == EXIT_LIFEBOAT
        assert house.children() == {}
        assert list((house.state / "checkpoints").glob("*/REPORT.md"))
        house.start()
        assert house.status()["phase"] == "LIFEBOAT"
