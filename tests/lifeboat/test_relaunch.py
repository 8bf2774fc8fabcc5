"""A state directory made anew from what was saved."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
from epad_house import BOOT, turn
from patience import PATIENCE_SECONDS

from epad.checkpoint.bundle import Label, bundle_id, create, verify
from epad.checkpoint.manifest import MANIFEST_FILE, VERIFIED_FILE, verified_mark
from epad.checkpoint.source import BytesSource, FileSource, Source, SqliteSource
from epad.configuration.load import load
from epad.control_loop.journal import JOURNAL_SCHEMA, Journal
from epad.ledger.head import load_or_make_key
from epad.ledger.paths import Places
from epad.ledger.store import Ledger
from epad.ledger.verify import verify as verify_ledger
from epad.lifeboat.contents import LEDGER_TAIL, Cargo
from epad.lifeboat.first_tier import FirstTier
from epad.lifeboat.relaunch import FIRST_TIER_FILE, RelaunchError, relaunch
from epad.storage.database import Database, connect, fetch
from statemachine.clock import ManualClock

NOW = datetime(2026, 1, 2, tzinfo=UTC)


async def saved(
    state: Path, before: int = 3, after: int = 4, more: Sequence[Source] = ()
) -> tuple[Path, Path]:
    """A state with a checkpoint, `after` turns more, and a first tier: the bundle and the tier."""
    clock = ManualClock()
    (state / "checkpoints").mkdir(parents=True)
    database = Database(state / "state.db", JOURNAL_SCHEMA)
    await database.open()
    await Journal(database, clock, BOOT).note("gateway_port", 4711)
    ledger = await Ledger.open(state / "ledger.db", load().ledger, clock, BOOT, Places.under(state, {}))
    for number in range(before):
        await turn(ledger, number)
    records = ledger.records
    sources = [
        SqliteSource("state.db", state / "state.db"),
        SqliteSource("ledger.db", state / "ledger.db", role="ledger"),
        FileSource("subsystems/chat/notes", state / "notes"),
        BytesSource("config.json", b"{}"),
        *more,
    ]
    (state / "notes").write_text("kept")
    label = Label(bundle_id(clock.utc(), 1), "checkpoint", "a test", clock.utc(), {"ledger_records": records})
    signer = load_or_make_key(Places.under(state, {}).key)
    bundle = await create(
        state / "checkpoints", sources, label, deadline_seconds=PATIENCE_SECONDS, signer=signer
    )
    assert (await verify(bundle.path, 60.0)).ok is not bundle.partial
    for number in range(before, before + after):
        await turn(ledger, number)
    cargo = Cargo(
        state / "state.db", state / "ledger.db", state / "anchor", lambda: b"{}", dict, lambda: records
    )
    tier = FirstTier(state / "lifeboat" / FIRST_TIER_FILE, 1 << 18, cargo.items)
    assert await tier.prepare() == ""
    written = await tier.write("the disk is full")
    assert not written.failure
    assert LEDGER_TAIL in written.frames
    await ledger.close()
    await database.close()
    return bundle.path, tier.path


def order_in(state: Path) -> tuple[str, str]:
    """The phase that the next start takes up, and the order it finds."""
    with contextlib.closing(connect(state / "state.db")) as connection:
        phase = fetch(connection, "SELECT destination FROM transition ORDER BY id DESC LIMIT 1")[0][0]
        incident = json.loads(fetch(connection, "SELECT value FROM note WHERE key = 'incident'")[0][0])
    return phase, f"{incident['order']}: {incident['order_reason']}"


def records_in(state: Path) -> int:
    with contextlib.closing(connect(state / "ledger.db")) as connection:
        return int(fetch(connection, "SELECT count(*) FROM record")[0][0])


async def test_a_bundle_makes_a_state_directory_and_leaves_the_order(tmp_path: Path) -> None:
    """On an empty directory or none; the configuration is laid beside, for a person."""
    bundle, _ = await saved(tmp_path / "old")
    done = relaunch(bundle, tmp_path / "new", "it is mended", "uid 0", NOW)
    assert (tmp_path / "new/subsystems/chat/notes").read_text() == "kept"
    assert (tmp_path / "new/lifeboat/config.json").read_text() == "{}"
    assert order_in(tmp_path / "new") == ("LIFEBOAT", "relaunch: it is mended (uid 0)")
    assert (done.put_aside, done.lost, done.records_added) == ("", (), 0)


async def test_a_first_tier_adds_what_the_checkpoint_did_not_have(tmp_path: Path) -> None:
    """Records that the chain bears out, and the newer heads: nothing that was acknowledged is missing."""
    bundle, tier = await saved(tmp_path / "old")
    done = relaunch(tier, tmp_path / "new", "it is mended", "uid 0", NOW)
    assert done.records_added == 8
    assert records_in(tmp_path / "new") == 1 + 2 * 7
    report = verify_ledger(tmp_path / "new/ledger.db", anchor=tmp_path / "new/anchor")
    assert report.verdict.is_sound, report
    assert bundle.is_dir()


async def test_a_first_tier_takes_a_bundle_that_lacks_a_source_where_there_is_no_other(
    tmp_path: Path,
) -> None:
    """What nobody needs for the start does not stand in its way; it is named."""
    _, tier = await saved(tmp_path / "old", more=[FileSource("graph.db", tmp_path / "gone")])
    done = relaunch(tier, tmp_path / "new", "it is mended", "uid 0", NOW)
    assert done.records_added == 8
    assert [line.partition(":")[0] for line in done.lost] == ["graph.db"]


async def test_what_stands_there_is_put_aside_and_its_bundles_stay(tmp_path: Path) -> None:
    """Twice is as good as once, by a clock that has stopped, too."""
    state = tmp_path / "old"
    bundle, _ = await saved(state)
    done = relaunch(bundle, state, "it is mended", "uid 0", NOW)
    assert Path(done.put_aside, "ledger.db").exists()
    assert bundle.is_dir()
    again = relaunch(bundle, state, "again", "uid 0", NOW)
    assert again.put_aside == f"{done.put_aside}.2"
    assert order_in(state)[1] == "relaunch: again (uid 0)"


async def test_a_damaged_bundle_changes_nothing(tmp_path: Path) -> None:
    """One flipped bit in any part of it, and nothing is left half-made."""
    bundle, _ = await saved(tmp_path / "old")
    ledger = bytearray((bundle / "subsystems/chat/notes").read_bytes())
    ledger[0] ^= 1
    (bundle / "subsystems/chat/notes").write_bytes(ledger)
    with pytest.raises(RelaunchError, match="is damaged"):
        relaunch(bundle, tmp_path / "new", "it is mended", "uid 0", NOW)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".old.witness", "old"]


async def test_records_that_do_not_follow_are_not_added(tmp_path: Path) -> None:
    """A tail that belongs to another ledger: the checkpoint stands as it is."""
    _, tier = await saved(tmp_path / "old")
    _, other = await saved(tmp_path / "other")
    tier.write_bytes(other.read_bytes())
    done = relaunch(tier, tmp_path / "new", "it is mended", "uid 0", NOW)
    assert done.records_added == 0
    assert records_in(tmp_path / "new") == 1 + 2 * 3
    assert [line.partition(":")[0] for line in done.lost] == ["ledger records 8 to 15"]


async def test_a_relaunch_says_who_vouches_for_the_bundle(tmp_path: Path) -> None:
    """The ledger beside it; carried elsewhere, nobody but itself; one from before there were signatures, nobody."""
    bundle, tier = await saved(tmp_path / "old")
    for number, source in enumerate((bundle, tier)):
        done = relaunch(source, tmp_path / f"new{number}", "it is mended", "uid 0", NOW)
        assert done.signature == "signed by the key of the ledger beside it"
    carried = tmp_path / "stick" / bundle.name
    shutil.copytree(bundle, carried)
    done = relaunch(carried, tmp_path / "new2", "it is mended", "uid 0", NOW)
    assert done.signature.endswith("which no ledger here vouches for")


async def test_a_bundle_that_somebody_else_signed_or_changed_is_refused(tmp_path: Path) -> None:
    """Its manifest rewritten with every hash in order; or whole, and by another's key."""
    old, foreign = tmp_path / "old", tmp_path / "foreign"
    bundle, tier = await saved(old)
    stranger, _ = await saved(foreign)
    manifest = bundle / MANIFEST_FILE
    genuine = manifest.read_bytes()
    manifest.write_bytes(genuine.replace(b"a test", b"a trap"))
    for source, why in ((bundle, "another manifest"), (tier, "no verified one lies beside it")):
        (bundle / VERIFIED_FILE).write_bytes(verified_mark(manifest.read_bytes()))
        with pytest.raises(RelaunchError, match=why):
            relaunch(source, tmp_path / "new", "it is mended", "uid 0", NOW)
    shutil.rmtree(bundle)
    shutil.copytree(stranger, bundle)
    with pytest.raises(RelaunchError, match="no signature by a key of this ledger"):
        relaunch(bundle, tmp_path / "new", "it is mended", "uid 0", NOW)
    assert not (tmp_path / "new").exists()


async def test_nothing_that_is_no_bundle_is_taken_for_one(tmp_path: Path) -> None:
    """An empty file, a directory without a manifest, nothing at all."""
    (tmp_path / "empty").write_bytes(bytes(4096))
    (tmp_path / "directory").mkdir()
    for name, why in (
        ("empty", "holds no frame"),
        ("directory", "MANIFEST.json"),
        ("nothing", "MANIFEST.json"),
    ):
        with pytest.raises(RelaunchError, match=why):
            relaunch(tmp_path / name, tmp_path / "new", "it is mended", "uid 0", NOW)
    assert not (tmp_path / "new").exists()
