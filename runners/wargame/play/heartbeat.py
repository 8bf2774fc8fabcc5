"""A file beside the store that says whether the run lives, and, apart from that, whether it gets anywhere."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

BEAT_SECONDS: Final = 5.0
LAG_SECONDS: Final = 2.0
"""A loop that wakes so much too late was blocked by something that should not block."""

Report = Callable[[], dict[str, Any]]


def heartbeat_path(store: Path) -> Path:
    """Return the path of a store's heartbeat."""
    return store.with_name(store.name + ".heartbeat.json")


def write(path: Path, values: dict[str, Any]) -> None:
    """Write the file whole or not at all."""
    stamped = {"pid": os.getpid(), "alive_utc": datetime.now(tz=UTC).isoformat(timespec="seconds"), **values}
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    part.write_text(json.dumps(stamped, indent=1) + "\n", encoding="utf-8")
    part.replace(path)


def read(path: Path) -> dict[str, Any]:
    """Return the contents of the file; empty if there is none, or none that can be read."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


async def beat(path: Path, report: Report, late: Callable[[float], None]) -> None:
    """Write the heartbeat for ever, and tell when the loop was blocked; cancel it with the run."""
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.to_thread(write, path, report())
        due = loop.time() + BEAT_SECONDS
        await asyncio.sleep(BEAT_SECONDS)
        if (lag := loop.time() - due) > LAG_SECONDS:
            late(lag)
