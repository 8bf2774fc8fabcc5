from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping

import allowed_skips
import pytest
import scratch
from hypothesis import settings
from installed import Installation, installation
from virtual_time import VirtualTime, VirtualTimeLoop

# Nothing is asserted of how long anything takes: two cores are shared with whatever else runs.
settings.register_profile("epad", deadline=None)
settings.load_profile("epad")
scratch.use()


def pytest_configure(config: pytest.Config) -> None:
    allowed_skips.watch(config)


def pytest_asyncio_loop_factories(
    item: pytest.Function,
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Give a test that asks for `virtual_time` a loop that goes by it."""
    virtual = "virtual_time" in item.fixturenames
    return {"virtual": VirtualTimeLoop} if virtual else {"real": asyncio.new_event_loop}


@pytest.fixture
def house() -> Iterator[Installation]:
    """An installation of its own: state, configuration, and the means to drive it."""
    with installation() as one:
        yield one


@pytest.fixture
async def virtual_time() -> AsyncIterator[VirtualTime]:
    """Hours in milliseconds: the test's loop jumps to the next timer, and `SystemClock` goes by it."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)
    with VirtualTime(loop).as_system_clock() as clock:
        yield clock
