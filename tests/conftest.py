from __future__ import annotations

from collections.abc import Iterator

import pytest
from installed import Installation, installation


@pytest.fixture
def house() -> Iterator[Installation]:
    """An installation of its own: state, configuration, and the means to drive it."""
    with installation() as one:
        yield one
