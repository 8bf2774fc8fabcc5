"""Checkpoint and restore on a file system that is full, at random sizes, or read-only: a stated outcome each."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from patience import PATIENCE_SECONDS

# Runs in a mount namespace of its own: the file systems it fills go with it.
INSIDE = """
import asyncio, json, os, random, subprocess, sys
from datetime import UTC, datetime
from pathlib import Path
import apsw
from epad.checkpoint.bundle import Label, bundle_id, create, verify
from epad.copying.errors import CheckpointError, DiskFullError
from epad.checkpoint.restore import restore
from epad.checkpoint.source import BytesSource, SqliteSource

root = Path(sys.argv[1])
small, big = root / "small", root / "big"
AT = datetime(2026, 11, 22, tzinfo=UTC)

def mount(size_kib):
    small.mkdir(exist_ok=True)
    subprocess.run(["umount", small], stderr=subprocess.DEVNULL)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size_kib}k", "none", small], check=True)

def attempt(work):
    try:
        return "done", work()
    except DiskFullError as error:
        return "full", str(error)
    except CheckpointError as error:
        return "failed", str(error)

big.mkdir()
database = apsw.Connection(str(big / "graph.db"))
database.execute("CREATE TABLE t(a); BEGIN")
for number in range(3000):
    database.execute("INSERT INTO t VALUES (?)", ("x" * 100,))
database.execute("COMMIT")
database.close()
sources = [BytesSource("config.json", b"{}"), SqliteSource("graph.db", big / "graph.db")]

def make(directory, number):
    return asyncio.run(create(directory, sources, Label(bundle_id(AT, number), "checkpoint", "t", AT),
        deadline_seconds=60.0))

good = make(big / "checkpoints", 1).path
assert asyncio.run(verify(good, 60.0)).ok
generator, results = random.Random(9), []
for number in range(8):
    mount(size := generator.randint(16, 700))
    outcome, said = attempt(lambda: make(small / "checkpoints", number + 2))
    left = [p.name for p in (small / "checkpoints").iterdir()]
    results.append({"what": "checkpoint", "size": size, "outcome": outcome, "said": str(said), "left": left})
    mount(size)
    (small / "mine").write_text("before")
    outcome, said = attempt(lambda: restore(good, state=small, to=small / "back", now=AT))
    results.append({"what": "restore", "size": size, "outcome": outcome, "said": str(said),
        "left": sorted(p.name for p in (small / "back").rglob("*") if ".before-" in p.name),
        "mine": (small / "mine").read_text()})
mount(4000)
subprocess.run(["mount", "-o", "remount,ro", small], check=True)
for what, work in (("checkpoint", lambda: make(small / "checkpoints", 50)),
                   ("restore", lambda: restore(good, state=small, to=small / "back", now=AT))):
    outcome, said = attempt(work)
    results.append({"what": what, "size": 0, "outcome": outcome, "said": str(said), "left": []})
print(json.dumps(results))
"""


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    if not shutil.which("unshare"):
        pytest.skip("no unshare here")
    root: Path = tmp_path_factory.mktemp("disk")
    namespace = ["unshare", "-Urm"]
    if subprocess.run([*namespace, "mount", "-t", "tmpfs", "none", root], capture_output=True).returncode:  # noqa: PLW1510
        pytest.skip("no mount namespace of one's own here")
    done = subprocess.run(
        [*namespace, sys.executable, "-c", INSIDE, str(root)],
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def test_a_checkpoint_is_whole_or_there_is_none(results: list[dict[str, Any]]) -> None:
    """A full disk is called full, with a place and what to do; the room that was taken is given back."""
    made = [r for r in results if r["what"] == "checkpoint" and r["size"]]
    assert {r["outcome"] for r in made} == {"done", "full"}
    for result in made:
        if result["outcome"] == "full":
            assert result["left"] == []
            assert "disk full" in result["said"]
            assert "free some space" in result["said"]
        else:
            assert len(result["left"]) == 1
            assert not result["left"][0].endswith(".partial")


def test_a_restore_that_finds_no_room_has_changed_nothing(results: list[dict[str, Any]]) -> None:
    """Every file is staged before the first is displaced."""
    restored = [r for r in results if r["what"] == "restore" and r["size"]]
    assert {r["outcome"] for r in restored} == {"done", "full"}
    assert all(r["left"] == [] and r["mine"] == "before" for r in restored)


def test_a_read_only_file_system_is_called_so(results: list[dict[str, Any]]) -> None:
    """Not full, not a traceback."""
    refused = [r for r in results if not r["size"]]
    assert [r["outcome"] for r in refused] == ["failed", "failed"]
    assert all("Read-only file system" in r["said"] for r in refused)
