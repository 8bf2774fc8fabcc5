from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from quantize_world import World

if importlib.util.find_spec("torch") is None:
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A tiny model, trained in seconds, that the whole pipeline can run on."""
    from quantize_world import World, train_tiny  # noqa: PLC0415 - torch may be missing

    return World(train_tiny(tmp_path_factory.mktemp("models")))


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text("def f(x):\n    return x + 1\n" * 200)
    return path
