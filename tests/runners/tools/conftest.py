from __future__ import annotations

from collections.abc import Iterator

import pytest
from tool_process import World, tool_world

from runners.tools import catalogue


@pytest.fixture(scope="module")
def shared_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with tool_world(tmp_path_factory.mktemp("tools"), ",".join(catalogue.CATEGORIES)) as made:
        yield made


@pytest.fixture
def world(shared_world: World) -> World:
    """A workspace as it was at the beginning, and the worker that serves it."""
    shared_world.fresh()
    return shared_world
