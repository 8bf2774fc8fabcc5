from __future__ import annotations

import asyncio
import gc
import os
import tempfile
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Mapping

import allowed_skips
import pytest
import scratch
from hypothesis import settings
from installed import Installation, installation
from virtual_time import VirtualTime, VirtualTimeLoop

# Before anything imports numpy: on two cores that others use, its threads wait for each other (78 s, not 3).
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# Nothing is asserted of how long anything takes: two cores are shared with whatever else runs.
settings.register_profile("epad", deadline=None, max_examples=50)
settings.register_profile("thorough", deadline=None, max_examples=200)  # `make test-all`
settings.load_profile("epad")
scratch.use()

# With `--dist loadfile` the suite ends with the file that is last to end: these take longest.
FIRST = (
    *("test_virtual_day.py", "test_virtual_memory.py", "systemd/", "faults/", "docs/", "e2e/", "daemon/"),
    *("web/test_page.py", "runners/quantize/", "checkpoint/", "lifeboat/", "runners/wargame/", "ledger/"),
)


# Some commands set it for the rest of their process, which here is that of other tests too.
_MASK = os.umask(0o022)
os.umask(_MASK)


def pytest_configure(config: pytest.Config) -> None:
    allowed_skips.watch(config)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collect without looking for garbage: there is none, and the looking took a quarter of the time (6 of 21 s)."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files that take long before those that do not."""

    def place(item: pytest.Item) -> int:
        name = item.nodeid.removeprefix("tests/")
        return next((number for number, first in enumerate(FIRST) if name.startswith(first)), len(FIRST))

    items.sort(key=place)


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
def on_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the files of an installation on the disk, for what depends on the kind of file system."""
    monkeypatch.setattr(tempfile, "tempdir", str(scratch.DISK))


@pytest.fixture
async def virtual_time() -> AsyncIterator[VirtualTime]:
    """Hours in milliseconds: the test's loop jumps to the next timer, and `SystemClock` goes by it."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)
    with VirtualTime(loop).as_system_clock() as clock:
        yield clock


def pytest_runtest_teardown() -> None:
    """Put the mask of new files back."""
    os.umask(_MASK)
