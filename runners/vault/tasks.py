"""Keep the tasks of a session: each change is a new version.

A task comes after others that were there before it, and this does not change, so tasks make no circle.

| state | entered by | left by |
|---|---|---|
| open, active | task_create, task_update | each other; done, dropped |
| done | task_complete with evidence, once each task before it is done or dropped | nothing |
| dropped | task_update | nothing |
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from runners.vault.errors import VaultError
from runners.vault.memory import ANSWER_BYTES
from runners.vault.store import By, Store

ENDED: Final = frozenset({"done", "dropped"})
_NEWEST: Final = (
    "SELECT task, version, title, detail, state, after, evidence FROM tasks t WHERE session = ?"
    " AND version = (SELECT max(version) FROM tasks n WHERE n.session = t.session AND n.task = t.task)"
)


class Tasks:
    """The requests about tasks; each is called within a batch's transaction."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def create(self, by: By, *, title: str, detail: str = "", after: tuple[int, ...] = ()) -> dict[str, Any]:
        """Make a task. Raises VaultError for an unknown one in `after`."""
        before = sorted(set(after))
        for number in before:
            self._task(by, number)
        # The one writer of this file appends in a transaction, so this is the id that the row gets.
        number = (self._store.one("SELECT max(id) FROM tasks") or 0) + 1
        task = {
            "id": number,
            "title": title,
            "detail": detail,
            "state": "open",
            "after": before,
            "evidence": "",
        }
        self._append(by, task, 1)
        return {"id": number}

    def newest(self, by: By, *, state: str | None = None, limit: int = 50) -> dict[str, Any]:
        """Return the newest tasks, as far as they fit."""
        is_hidden = by.session in self._store.hidden
        rows = [] if is_hidden else self._store.rows(f"{_NEWEST} ORDER BY task DESC", by.session)
        tasks, left = list[dict[str, Any]](), ANSWER_BYTES
        for task in map(_task, rows):
            if state not in {None, task["state"]}:
                continue
            left -= len(msgspec.json.encode(task))
            if len(tasks) == limit or left < 0:
                break
            tasks.append(task)
        return {"tasks": tasks}

    def update(
        self,
        by: By,
        *,
        number: int,
        title: str | None = None,
        detail: str | None = None,
        state: str | None = None,
    ) -> dict[str, Any]:
        """Change a task that has not ended. Raises VaultError."""
        task = self._unended(by, number)
        changes = {"title": title, "detail": detail, "state": state}
        return self._changed(by, task, {name: value for name, value in changes.items() if value is not None})

    def complete(self, by: By, *, number: int, evidence: str) -> dict[str, Any]:
        """End a task with its evidence. Raises VaultError while a task before it has not ended."""
        task = self._unended(by, number)
        waiting = [one for one in task["after"] if self._task(by, one)["state"] not in ENDED]
        if waiting:
            raise VaultError(
                f"task {number} comes after {', '.join(map(str, waiting))}, not done yet",
                "complete these first, or drop them by task_update",
            )
        if not evidence.strip():
            raise VaultError(
                "the evidence is empty", "say what shows that it is done: a file, a result, a turn"
            )
        return self._changed(by, task, {"state": "done", "evidence": evidence})

    def _changed(self, by: By, task: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
        if any(task[name] != value for name, value in changes.items()):
            task |= changes
            version = self._store.one(
                "SELECT max(version) FROM tasks WHERE session = ? AND task = ?", by.session, task["id"]
            )
            self._append(by, task, version + 1)
        return {"task": task}

    def _append(self, by: By, task: dict[str, Any], version: int) -> None:
        after = ",".join(map(str, task["after"]))
        texts = {name: task[name] for name in ("title", "detail", "state", "evidence")}
        self._store.append("tasks", by, task=task["id"], version=version, after=after, **texts)

    def _unended(self, by: By, number: int) -> dict[str, Any]:
        task = self._task(by, number)
        if task["state"] in ENDED:
            raise VaultError(f"task {number} is {task['state']}, and stays so", "task_create makes another")
        return task

    def _task(self, by: By, number: int) -> dict[str, Any]:
        rows = self._store.rows(f"{_NEWEST} AND task = ?", by.session, number)
        if not rows or by.session in self._store.hidden:
            raise VaultError(f"this session has no task {number}", "task_list names those there are")
        return _task(rows[0])


def _task(row: tuple[Any, ...]) -> dict[str, Any]:
    number, _, title, detail, state, after, evidence = row
    before = [int(one) for one in after.split(",") if one]
    head = {"id": number, "title": title, "detail": detail, "state": state}
    return {**head, "after": before, "evidence": evidence}
