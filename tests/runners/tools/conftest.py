from __future__ import annotations

from collections.abc import Iterator

import pytest
from fake_engine import FakeEngine, fake_engine
from tool_process import World, tool_world
from web_world import WebWorld, web_world

from runners.tools import catalogue


@pytest.fixture(scope="module")
def shared_web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebWorld]:
    with web_world(tmp_path_factory.mktemp("web")) as made:
        yield made


@pytest.fixture(scope="module")
def shared_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeEngine]:
    with fake_engine(tmp_path_factory.mktemp("engine") / "s") as made:
        yield made


@pytest.fixture(scope="module")
def shared_world(
    tmp_path_factory: pytest.TempPathFactory, shared_web: WebWorld, shared_engine: FakeEngine
) -> Iterator[World]:
    categories = ",".join(catalogue.CATEGORIES)
    folder = tmp_path_factory.mktemp("tools")
    environment = {**shared_web.environment, **shared_engine.environment}
    with tool_world(folder, categories, *shared_web.options, environment=environment) as made:
        yield made


@pytest.fixture
def web(shared_web: WebWorld) -> WebWorld:
    """A small internet as it was at the beginning, behind the door of the real way out."""
    shared_web.fresh()
    return shared_web


@pytest.fixture
def engine(shared_engine: FakeEngine) -> FakeEngine:
    """A container engine as it was at the beginning."""
    shared_engine.fresh()
    return shared_engine


@pytest.fixture
def world(shared_world: World, web: WebWorld, engine: FakeEngine) -> World:
    """A workspace as it was at the beginning, and the worker that serves it."""
    shared_world.fresh()
    return shared_world
