"""Run a container from its creation to its removal, and remove those that calls before have left.

| the call | the container |
|---|---|
| ends, or its time is over | is killed and removed by the call |
| is killed (a cancellation, a hold), or the daemon dies | is an orphan |
| leaves it running (`detach`) | is an orphan once its time is over |

Each container has labels: its turn, its subsystem, and when its time is over. Every call of a tool here begins with the
removal of the subsystem's orphans. The engine itself ends none.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

import msgspec

from runners.tools import beneath, protected, walk
from runners.tools.engine import SUBSYSTEM_VARIABLE, Engine, Output, container_path, image_name
from runners.tools.engine_fields import (
    LABEL_ENDS,
    LABEL_SUBSYSTEM,
    LABEL_TURN,
    Create,
    HostConfig,
)
from runners.tools.signature import CONTEXT, ToolError

MOST_OUTPUT: Final = 4 << 20
"""The bytes of a container's output that are read."""
_GRACE_SECONDS: Final = 60
_WATCH_SECONDS: Final = 0.2
_MOST_LOOKED: Final = 20_000


def subsystem() -> str:
    """Return the subsystem that this worker serves."""
    return os.environ.get(SUBSYSTEM_VARIABLE, "")


def labels(seconds: float) -> dict[str, str]:
    """Return the labels of a container that runs at most so long."""
    return {
        LABEL_TURN: CONTEXT.get().call.rpartition(".")[2],
        LABEL_SUBSYSTEM: subsystem(),
        LABEL_ENDS: str(int(time.time() + seconds + _GRACE_SECONDS)),
    }


def connected() -> Engine:
    """Return the engine, after what calls before have left there was removed."""
    engine = Engine()
    remove_orphans(engine)
    return engine


def remove_orphans(engine: Engine) -> None:
    """Remove the containers of this subsystem whose time is over."""
    wanted = msgspec.json.encode({"label": [f"{LABEL_SUBSYSTEM}={subsystem()}"]}).decode()
    for each in engine.get("/containers/json", all="1", filters=wanted) or []:
        told = each.get("Labels") or {}
        ends = str(told.get(LABEL_ENDS, ""))
        # The engine's filter is not trusted alone: a container of somebody else must not be removed.
        if told.get(LABEL_SUBSYSTEM) == subsystem() and ends.isdecimal() and int(ends) < time.time():
            remove(engine, str(each["Id"]))


def remove(engine: Engine, container: str) -> None:
    """Kill a container and remove it with its volumes."""
    engine.delete(container_path(container), force="1", v="1")


def own(engine: Engine, container: str) -> dict[str, Any]:
    """Return what the engine tells of a container that a tool of this subsystem has made. Raises ToolError."""
    told: dict[str, Any] = engine.get(f"{container_path(container)}/json")
    if ((told.get("Config") or {}).get("Labels") or {}).get(
        LABEL_SUBSYSTEM
    ) != subsystem() or not subsystem():
        raise ToolError(
            f"{container!r} was not started by a tool of this agent",
            "a person does that with other containers",
        )
    return told


def create(engine: Engine, image: str, argv: list[str], confined: HostConfig, seconds: float) -> str:
    """Create a container, and return its id."""
    order = Create(
        image=image_name(image),
        cmd=argv,
        labels=labels(seconds),
        host_config=confined,
        working_dir="/workspace" if confined.mounts else "",
    )
    container = str(engine.post("/containers/create", order)["Id"])
    CONTEXT.get().note_effect(f"container {container[:12]}", None, None)
    return container


def start(engine: Engine, container: str) -> None:
    """Start a container that goes on behind its call; it is removed where it does not start."""
    try:
        engine.post(f"{container_path(container)}/start")
    except ToolError:
        remove(engine, container)
        raise


@contextmanager
def removed_at_end(engine: Engine, container: str) -> Iterator[None]:
    """Kill and remove a container in the end."""
    try:
        yield
    finally:
        with suppress(ToolError):
            remove(engine, container)


def wait(engine: Engine, container: str, seconds: float) -> int | None:
    """Wait for the end of a container; return its exit status, or None where it runs still after so long."""
    ends = time.monotonic() + seconds
    while True:
        state = engine.get(f"{container_path(container)}/json")["State"]
        if state.get("Status") in {"exited", "stopped", "dead"}:
            return int(state.get("ExitCode", -1))
        if time.monotonic() > ends:
            return None
        time.sleep(_WATCH_SECONDS)


def output(engine: Engine, container: str) -> Output:
    """Return what a container has written."""
    path = f"{container_path(container)}/logs"
    return engine.output(path, MOST_OUTPUT, stdout="1", stderr="1", tail="5000")


def readable_workspace() -> str:
    """Return the path of the workspace for a container that reads it whole. Raises ToolError where it holds keys.

    The engine opens it by its name, so no directory below is offered: an agent could swap one for a link meanwhile.
    """
    for number, found in enumerate(walk.entries(".", unreadable=True)):
        if protected.never_read(found.path) or number > _MOST_LOOKED:
            raise ToolError(
                f"the workspace holds {found.path!r}"
                if number <= _MOST_LOOKED
                else "the workspace is too large",
                "it is not shown to a container: keys could be read in it",
            )
    return os.readlink(f"/proc/self/fd/{beneath.root()}")
