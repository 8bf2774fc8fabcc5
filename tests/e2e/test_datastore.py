"""A knowledge graph damaged under the program that writes it, with `restore = true` and without."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest
from installed import QUICK, Installation, installation

CONFIG = """
[probes.datastore]
interval_seconds = 0.2
core_share = 1.0
[hysteresis.datastore]
raise_after = 1
out_of = 1
clear_after_seconds = 0.5
flap_window_seconds = 3600.0
flap_hold_max_seconds = 600.0

[datastores.memory]
path = "{directory}/memory.db"
subsystem = "keeper"
restore = {restore}

[subsystems.keeper]
command = ["{python}", "{directory}/keeper.py", "{directory}/memory.db"]
restart = {{ backoff_seconds = 0.1 }}

[subsystems.bystander]
command = ["sleep", "100000"]
gateway = false
"""
KEEPER = """
import itertools, sys, time
import apsw
connection = apsw.Connection(sys.argv[1])
connection.set_busy_timeout(10_000)
connection.pragma("journal_mode", "wal")
connection.execute("CREATE TABLE IF NOT EXISTS entities(id INTEGER PRIMARY KEY, name TEXT UNIQUE)")
(said,), = connection.execute("SELECT count(*) FROM entities")
for number in itertools.count(said):
    connection.execute("INSERT INTO entities(name) VALUES (?)", (f"entity {number} " + 100 * "of the graph ",))
    if number % 20 == 0:
        connection.pragma("wal_checkpoint(passive)")
    time.sleep(0.02)
"""
PAGE = 4096


@pytest.fixture
def house() -> Iterator[Installation]:
    with installation() as house:
        (house.directory / "keeper.py").write_text(KEEPER)
        yield house


def configure(house: Installation, *, restore: bool, quick: str = QUICK) -> None:
    values = {"directory": house.directory, "python": sys.executable, "restore": str(restore).lower()}
    house.config.write_text(quick + CONFIG.format(**values))


def damage(path: Path) -> None:
    """What a bad cable does: the third and the fourth page, which hold rows, are something else."""
    with path.open("r+b") as file:
        file.seek(2 * PAGE)
        file.write(b"\xa5" * 2 * PAGE)


def rows(path: Path) -> int:
    connection = apsw.Connection(str(path))
    connection.set_busy_timeout(10_000)
    try:
        return int(connection.execute("SELECT count(*) FROM entities").get)
    finally:
        connection.close()


def has_pages(path: Path) -> bool:
    return path.exists() and path.stat().st_size >= 6 * PAGE


def test_a_damaged_graph_is_restored_and_its_writer_goes_on(house: Installation) -> None:
    """PRESERVATION, RECOVERY, NORMAL by itself, though the daemon is killed in the middle of it.

    `explain` and `status` say what is there now, and where the old file is.
    """
    memory, good = house.directory / "memory.db", house.state / "datastores/memory/good"
    configure(house, restore=True)
    house.start()
    house.wait(lambda: has_pages(good) and has_pages(memory), "a sound copy with some pages")
    writer = house.subsystem("keeper")["pid"]
    with memory.open("rb"):  # whoever has it open is waited for: time enough to be killed in
        damage(memory)
        house.wait(lambda: house.subsystem("keeper")["state"] == "stopped", "the writer to be stopped")
        house.kill()
        house.start()
        assert (house.status()["phase"], house.subsystem("keeper")["pid"]) == ("RECOVERY", None)
    house.wait_phase("NORMAL")
    assert moves(house) == ["PRESERVATION", "RECOVERY", "NORMAL"]

    (restored,) = [e for e in house.events("step.ended") if e["fields"]["step"] == "restore_datastore"]
    assert restored["fields"]["state"] == "done", restored
    said = restored["fields"]["result"]
    assert "keeper stopped; restored " in said
    (aside,) = house.directory.glob("memory.db.damaged-*Z")
    assert said.endswith(f"from the last sound copy; what was written since is in {aside}")
    assert b"\xa5" * PAGE in aside.read_bytes()
    assert all(said in house.ctl("explain", name).stdout for name in ("keeper", "memory"))
    assert said.partition("keeper stopped; ")[2] in " ".join(house.status()["notices"])
    assert house.subsystem("keeper")["pid"] not in {writer, None}
    before = rows(memory)
    house.wait(lambda: rows(memory) > before, "the writer to go on")
    assert apsw.Connection(str(memory)).pragma("integrity_check") == "ok"


def test_a_damaged_graph_that_may_not_be_restored_is_left_to_a_person_and_all_else_runs(
    house: Installation,
) -> None:
    """Recovery restarts the writer twice, parks it and goes no further; put back by hand, it is NORMAL again."""
    memory, good = house.directory / "memory.db", house.state / "datastores/memory/good"
    configure(
        house, restore=False, quick=QUICK.replace("[policy]", "[policy]\nquarantine_limit_seconds = 3.0")
    )
    house.start()
    house.wait(lambda: has_pages(good) and has_pages(memory), "a sound copy with some pages")
    bystander = house.subsystem("bystander")["pid"]
    damage(memory)
    parked = "parked after 2 recoveries"
    house.wait(lambda: parked in house.ctl("status").stdout, "the writer to be parked")
    house.wait_phase("QUARANTINE")
    assert "LIFEBOAT" not in moves(house)
    assert (house.subsystem("keeper")["state"], house.subsystem("bystander")["pid"]) == ("stopped", bystander)
    house.kill()
    house.start()
    assert house.status()["phase"] == "QUARANTINE"

    shutil.copyfile(good, memory)
    for name in ("memory.db-wal", "memory.db-shm"):
        (house.directory / name).unlink(missing_ok=True)
    house.wait_phase("NORMAL")
    assert house.ctl("release", "keeper", "--reason", "the copy is back").returncode == 0
    before = rows(memory)
    house.wait(lambda: rows(memory) > before, "the writer to go on")


def moves(house: Installation) -> list[str]:
    return [event["fields"]["destination"] for event in house.events("phase.changed")]
