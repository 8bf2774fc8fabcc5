from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings
from installed import Installation, installation

# Nothing is asserted of how long anything takes: two cores are shared with whatever else runs.
settings.register_profile("epad", deadline=None)
settings.load_profile("epad")


@pytest.fixture
def house() -> Iterator[Installation]:
    """An installation of its own: state, configuration, and the means to drive it."""
    with installation() as one:
        yield one
