"""Which bundles are kept."""

from __future__ import annotations

import shutil
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epad.checkpoint.bundle import Bundle, bundle_id, verify
from epad.checkpoint.retention import Candidate, Retention, doomed, expendable, list_bundles, prune
from epad.checkpoint.source import BytesSource
from epad.copying.disk import Disk

START = datetime(2026, 1, 1, tzinfo=UTC)


def name(number: int, hour: int | None = None) -> str:
    return bundle_id(START + timedelta(hours=number if hour is None else hour), number)


candidates = st.lists(
    st.builds(
        Candidate,
        st.builds(name, st.integers(1, 30), st.integers(-30, 30)),
        st.booleans(),
        st.booleans(),
        st.booleans(),
    ),
    unique_by=lambda c: c.name,
    max_size=25,
)


@given(candidates, st.integers(1, 6))
def test_the_last_good_one_is_never_removed(bundles: list[Candidate], keep: int) -> None:
    """Whatever the clock did: the newest verified, the newest complete and every lifeboat stay."""
    removed = doomed(bundles, Retention(keep))
    checkpoints = [c for c in bundles if not c.lifeboat]
    assert removed <= {c.name for c in checkpoints}
    verified = [c for c in checkpoints if c.verified]
    left = [c for c in verified if c.name not in removed]
    assert len(left) >= min(keep, len(verified))
    for order in (lambda c: c.name, lambda c: (int(c.name[-6:]), c.name)):
        for good in (verified, [c for c in verified if not c.partial]):
            if good:
                assert max(good, key=order).name not in removed


@given(candidates, st.integers(1, 6))
def test_an_unverified_one_dooms_nothing(bundles: list[Candidate], keep: int) -> None:
    """Taking every unverified bundle away changes nothing for the verified ones."""
    verified = [c for c in bundles if c.verified]
    assert doomed(bundles, Retention(keep)) & {c.name for c in verified} == doomed(verified, Retention(keep))


@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=40), st.integers(1, 6))
def test_with_an_honest_clock_what_is_kept_is_bounded(marks: list[tuple[bool, bool]], keep: int) -> None:
    """Neither good nor failing checkpoints can fill the disk."""
    bundles = [Candidate(name(n), verified, partial) for n, (verified, partial) in enumerate(marks, 1)]
    removed = doomed(bundles, Retention(keep))
    assert len(bundles) - len(removed) <= 2 * keep + 1
    assert doomed([c for c in bundles if c.name not in removed], Retention(keep)) == set()


async def test_prune_removes_old_ones_and_strays_from_the_disk(
    make_bundle: Callable[..., Awaitable[Bundle]], tmp_path: Path
) -> None:
    """Old verified bundles, unfinished ones behind the newest and half-removed ones go; the rest stays."""
    directory = tmp_path / "checkpoints"
    made = [await make_bundle(BytesSource("a", b"a"), number=number) for number in range(1, 6)]
    for bundle in made[:4]:
        assert (await verify(bundle.path, 60.0)).ok
    for leftover in (name(2) + ".partial", name(9) + ".partial", name(1) + ".removing", "lost+found"):
        (directory / leftover).mkdir()
    removed = await prune(directory, Retention(2))
    assert [path.name for path in removed] == [made[0].id, made[1].id, name(2) + ".partial"]
    assert sorted(path.name for path in directory.iterdir()) == sorted(
        [made[2].id, made[3].id, made[4].id, name(9) + ".partial", "lost+found"]
    )
    inventory = list_bundles(directory)
    assert [bundle.id for bundle in inventory.bundles] == [made[4].id, made[3].id, made[2].id]
    assert inventory.newest_verified is not None
    assert inventory.newest_verified.id == made[3].id
    assert inventory.next_number == 10


async def test_a_removal_that_was_cut_short_never_looks_like_a_bundle(
    make_bundle: Callable[..., Awaitable[Bundle]], tmp_path: Path
) -> None:
    """Death between the rename and the emptying leaves something that the next prune finishes."""

    class Died(Exception):  # noqa: N818
        pass

    class MortalDisk(Disk):
        def remove_tree(self, path: Path) -> None:
            (path / "MANIFEST.json").unlink()
            raise Died

    directory = tmp_path / "checkpoints"
    for number in (1, 2):
        await verify((await make_bundle(BytesSource("a", b"a"), number=number)).path, 60.0)
    with pytest.raises(Died):
        await prune(directory, Retention(1), MortalDisk())
    inventory = list_bundles(directory)
    assert (len(inventory.bundles), inventory.damaged) == (1, ())
    await prune(directory, Retention(1))
    assert len(list(directory.iterdir())) == 1


async def test_a_damaged_bundle_is_listed_and_counts_for_nothing(
    make_bundle: Callable[..., Awaitable[Bundle]], tmp_path: Path
) -> None:
    """One rotten manifest does not hide the others."""
    bundles = [await make_bundle(BytesSource("a", b"a"), number=number) for number in (1, 2)]
    await verify(bundles[0].path, 60.0)
    (bundles[1].path / "MANIFEST.json").unlink()
    inventory = list_bundles(tmp_path / "checkpoints")
    assert [bundle.id for bundle in inventory.bundles] == [bundles[0].id]
    assert "MANIFEST.json" in inventory.damaged[0].reason
    assert await prune(tmp_path / "checkpoints", Retention(1)) == []


def test_a_directory_that_is_not_there_holds_nothing(tmp_path: Path) -> None:
    """Before the first checkpoint there is nothing to list."""
    shutil.rmtree(tmp_path)
    assert list_bundles(tmp_path).next_number == 1


@given(candidates, st.integers(1, 3), st.integers(0, 4), st.integers(0, 3))
def test_days_and_weeks_only_keep_more(bundles: list[Candidate], keep: int, daily: int, weekly: int) -> None:
    """And where room is short, what goes is never the last of its kind."""
    kept_longer = doomed(bundles, Retention(keep, daily, weekly))
    assert kept_longer <= doomed(bundles, Retention(keep))
    last_resort = {c.name for c in bundles} - doomed(bundles, Retention(1))
    assert not set(expendable(bundles)) & last_resort


def test_the_newest_of_each_day_and_week_stays() -> None:
    """Four a day for thirty days: the newest three, seven days, and Sundays before."""
    bundles = [Candidate(name(n, hour=6 * n), verified=True) for n in range(120)]
    kept = {c.name for c in bundles} - doomed(bundles, Retention(3, daily=7, weekly=4))
    assert sorted(one[6:8] for one in kept) == ["11", "18", *map(str, range(24, 30)), "30", "30", "30"]


async def test_where_room_is_short_the_oldest_go_first(
    make_bundle: Callable[..., Awaitable[Bundle]], tmp_path: Path
) -> None:
    """As many as it takes, and never the newest verified one."""
    directory = tmp_path / "checkpoints"
    made = [await make_bundle(BytesSource("a", b"a"), number=number) for number in range(1, 5)]
    for bundle in made[:3]:
        assert (await verify(bundle.path, 60.0)).ok

    def free_bytes(_: Path) -> tuple[int, int]:
        return 10 if len(list(directory.iterdir())) <= 3 else 1, 100

    removed = await prune(directory, Retention(9, free_ratio=0.1), free_bytes=free_bytes)
    assert [path.name for path in removed] == [made[0].id]
    removed = await prune(directory, Retention(9, free_ratio=1.0), free_bytes=free_bytes)
    assert [path.name for path in removed] == [made[1].id]
    assert sorted(path.name for path in directory.iterdir()) == [made[2].id, made[3].id]
