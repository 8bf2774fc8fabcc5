"""Keys that open nothing: planted in a cell, and recognised in what comes out of it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import cell_world
import pytest
from cell_doubles import CellWorld
from cell_world import MODES, Mode
from hypothesis import given
from hypothesis import strategies as st

from epad.confinement.decoys import Decoys, load_decoys
from epad.confinement.policy import Access, FileRule, Policy
from epad.confinement.zygote import Zygote

DECOYS = Decoys(b"a secret of this installation...")
NAMES = ("agent", "other")


def test_each_subsystem_has_its_own_and_keeps_it() -> None:
    """It looks like a key of AWS; another installation has other ones."""
    key = DECOYS.key("agent")
    assert len(key) == 40
    assert key.isalnum()
    assert Decoys(b"a secret of this installation...").key("agent") == key
    assert len({key, DECOYS.key("other"), Decoys(b"another").key("agent")}) == 3


@pytest.mark.parametrize("name", NAMES)
def test_it_is_recognised_wherever_it_stands(name: str) -> None:
    """With whose it is; a part of it is none."""
    body = json.dumps({"messages": [{"role": "user", "content": f"key={DECOYS.key(name)}\n"}]}).encode()
    assert DECOYS.seen_in(body, NAMES) == name
    assert DECOYS.seen_in(body, [other for other in NAMES if other != name]) == ""
    assert DECOYS.seen_in(DECOYS.key(name)[:-1].encode(), NAMES) == ""


@given(st.binary(max_size=200))
def test_nothing_else_is_taken_for_one(body: bytes) -> None:
    """Whatever a subsystem sends."""
    assert DECOYS.seen_in(body, NAMES) == ""


def test_the_file_lies_in_a_home_of_the_cells_own() -> None:
    """In /tmp, which every cell has, there is none; without such a home there is no file."""
    files = (FileRule("/home/me", Access.OWN), FileRule("/run", Access.OWN), FileRule("/tmp", Access.OWN))
    policy = Policy("agent", "workspace", "/w", "/w", files)
    [(path, text)] = DECOYS.files(policy)
    assert path == "/home/me/.env"
    assert DECOYS.key("agent") in text
    assert set(text.splitlines()) == {f"{name}={value}" for name, value in DECOYS.variables("agent").items()}
    assert DECOYS.files(replace(policy, files=())) == ()


def test_the_secret_is_made_once_and_is_its_owners_alone(tmp_path: Path) -> None:
    """A file that is cut short is made anew."""
    file = tmp_path / "decoys.secret"
    key = load_decoys(file).key("agent")
    assert load_decoys(file).key("agent") == key
    assert file.stat().st_mode & 0o077 == 0
    file.write_bytes(b"short")
    assert load_decoys(file).key("agent") != key


@pytest.mark.parametrize("decoys", [None, DECOYS])
async def test_a_cell_is_planned_with_its_decoys_if_they_are_wanted(
    tmp_path: Path, decoys: Decoys | None
) -> None:
    """And without them if not."""
    world = CellWorld(tmp_path, decoys=decoys)
    assert await world.cells.plan("agent", ("true",), {}, tmp_path) is not None
    [order] = world.planner.orders
    assert [path for path, _ in order.texts] == (["/home/me/.env"] if decoys else [])


@pytest.fixture(params=MODES, name="mode")
def each_mode(request: pytest.FixtureRequest) -> Mode:
    kind: Mode = request.param
    cell_world.need(kind)
    return kind


@pytest.fixture(name="zygote")
async def made_zygote() -> AsyncIterator[Zygote]:
    async with cell_world.zygote() as kept:
        yield kept


@pytest.fixture(name="place")
def made_place() -> Iterator[Path]:
    with cell_world.workspace(cell_world.UID) as made:
        yield made


async def test_a_program_finds_the_file_in_its_home(zygote: Zygote, place: Path, mode: Mode) -> None:
    """It is the program's own, and nobody else's."""
    command = ["sh", "-c", "cat ~/.env; stat -c %a ~/.env; echo more >> ~/.env"]
    plan = cell_world.plan(place, command, mode)
    tree = replace(plan.tree, texts=(("/home/agent/.env", "A=b\n"),))
    ended = await cell_world.run(zygote, replace(plan, tree=tree))
    assert (ended.output, ended.status) == ("A=b\n600\n", 0)
