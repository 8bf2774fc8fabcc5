"""Declare the tools of the category `tasks`: a session's tasks, in order and with evidence. The daemon answers them."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import Meta, Struct, field

from runners.tools.signature import Args, Result, meta

Title = Annotated[str, Meta(min_length=1, max_length=200)]
Detail = Annotated[str, Meta(max_length=4000)]
_SECONDS: Final = 10


class CreateArgs(Args, frozen=True):
    """Holds a task; `after` names those that have to end before it is completed."""

    title: Title
    detail: Detail = ""
    after: Annotated[tuple[int, ...], Meta(max_length=32)] = ()


class CreateResult(Result, frozen=True):
    """Holds the task's number."""

    id: int


class ListArgs(Args, frozen=True):
    """Asks for tasks, of one state if it is given."""

    state: Literal["open", "active", "done", "dropped"] | None = None
    limit: Annotated[int, Meta(ge=1, le=200)] = 50


class Task(Struct, frozen=True):
    """A task as of its newest version."""

    id: int
    title: str
    detail: str
    state: str
    after: list[int]
    evidence: str


class ListResult(Result, frozen=True):
    """Holds tasks, the newest first."""

    tasks: list[Task]


class UpdateArgs(Args, frozen=True):
    """Names a task, and what changes."""

    number: int = field(name="id")
    title: Title | None = None
    detail: Detail | None = None
    state: Literal["open", "active", "dropped"] | None = None


class CompleteArgs(Args, frozen=True):
    """Names a task, and what shows that it is done."""

    number: int = field(name="id")
    evidence: Annotated[str, Meta(min_length=1, max_length=4000)]


class TaskResult(Result, frozen=True):
    """Holds a task after a change."""

    task: Task


TASK_CREATE: Final = meta(
    "task_create",
    CreateArgs,
    CreateResult,
    risk="W0",
    timeout=_SECONDS,
    description="Make a task, if need be after others.",
    examples=({"title": "fix the build"},),
)
TASK_LIST: Final = meta(
    "task_list",
    ListArgs,
    ListResult,
    risk="R1",
    timeout=_SECONDS,
    description="List this session's tasks, the newest first.",
    examples=({"state": "open"},),
)
TASK_UPDATE: Final = meta(
    "task_update",
    UpdateArgs,
    TaskResult,
    risk="W0",
    timeout=_SECONDS,
    description="Change a task that has not ended.",
    examples=({"id": 1, "state": "active"},),
)
TASK_COMPLETE: Final = meta(
    "task_complete",
    CompleteArgs,
    TaskResult,
    risk="W0",
    timeout=_SECONDS,
    description="Complete a task, with the evidence that it is done.",
    examples=({"id": 1, "evidence": "make test passes, 420 tests"},),
)
TOOLS: Final = (TASK_CREATE, TASK_LIST, TASK_UPDATE, TASK_COMPLETE)

task_create = TASK_CREATE.answered_by_daemon()
task_list = TASK_LIST.answered_by_daemon()
task_update = TASK_UPDATE.answered_by_daemon()
task_complete = TASK_COMPLETE.answered_by_daemon()
