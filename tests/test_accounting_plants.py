"""Each bug that `bench/accounting.py` plants still fits the code: a plant that does not fit proves nothing."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "bench"))
from _accounting_plants import PLANTS, Plant, planted


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.name)
def test_a_plant_fits(plant: Plant) -> None:
    """The piece of source that it breaks stands where it says, once."""
    with planted(plant):
        pass
