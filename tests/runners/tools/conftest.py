from __future__ import annotations

from collections.abc import Iterator

import pytest
from tool_process import World, tool_world
from web_world import WebWorld, web_world

from runners.tools import catalogue


@pytest.fixture(scope="module")
def shared_web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebWorld]:
    with web_world(tmp_path_factory.mktemp("web")) as made:
        yield made


@pytest.fixture(scope="module")
def shared_world(tmp_path_factory: pytest.TempPathFactory, shared_web: WebWorld) -> Iterator[World]:
    categories = ",".join(catalogue.CATEGORIES)
    folder, environment = tmp_path_factory.mktemp("tools"), shared_web.environment
    with tool_world(folder, categories, *shared_web.options, environment=environment) as made:
        yield made


@pytest.fixture
def web(shared_web: WebWorld) -> WebWorld:
    """A small internet as it was at the beginning, behind the door of the real way out."""
    shared_web.fresh()
    return shared_web


@pytest.fixture
def world(shared_world: World, web: WebWorld) -> World:
    """A workspace as it was at the beginning, and the worker that serves it."""
    shared_world.fresh()
    return shared_world
