"""Tasks: states, an order without circles, and an end with evidence."""

from __future__ import annotations

from typing import Any

import pytest
from vault_desk import B, Desk, RefusedError


def test_a_task_goes_from_open_to_done(desk: Desk) -> None:
    """Each change is a version; the list shows the newest."""
    number = desk.ask("task_create", title="fix the build", detail="it fails")["id"]
    desk.ask("task_update", number=number, state="active")
    done = desk.ask("task_complete", number=number, evidence="make test: 420 passed")["task"]

    assert (done["state"], done["evidence"], done["title"]) == (
        "done",
        "make test: 420 passed",
        "fix the build",
    )
    assert desk.ask("task_list")["tasks"] == [done]
    assert desk.ask("task_list", state="open")["tasks"] == []
    assert desk.store.rows("SELECT version, state FROM tasks") == [(1, "open"), (2, "active"), (3, "done")]


def test_a_change_of_nothing_is_no_version(desk: Desk) -> None:
    """Duplicates are folded here too."""
    number = desk.ask("task_create", title="x")["id"]
    desk.ask("task_update", number=number, title="x")
    assert desk.store.one("SELECT count(*) FROM tasks") == 1


def test_a_task_waits_for_those_before_it(desk: Desk) -> None:
    """Done or dropped ends the waiting."""
    first, second = (desk.ask("task_create", title=title)["id"] for title in "ab")
    last = desk.ask("task_create", title="c", after=[first, second])["id"]
    desk.ask("task_complete", number=first, evidence="done")
    with pytest.raises(RefusedError, match=f"task {last} comes after {second}, not done yet"):
        desk.ask("task_complete", number=last, evidence="x")
    desk.ask("task_update", number=second, state="dropped")
    assert desk.ask("task_complete", number=last, evidence="x")["task"]["after"] == [first, second]


def test_no_circle_can_be_made(desk: Desk) -> None:
    """A task comes after those that are there, not after itself or one to come; and `after` never changes."""
    first = desk.ask("task_create", title="a")["id"]
    for after in ([first + 1], [first, 99], [-1]):
        with pytest.raises(RefusedError, match="no task"):
            desk.ask("task_create", title="b", after=after)
    with pytest.raises(RefusedError, match="after"):
        desk.ask("task_update", number=first, after=[first])


@pytest.mark.parametrize("state", ["done", "dropped"])
def test_what_has_ended_stays_so(desk: Desk, state: str) -> None:
    """It is not opened again by any tool."""
    number = desk.ask("task_create", title="a")["id"]
    if state == "done":
        desk.ask("task_complete", number=number, evidence="e")
    else:
        desk.ask("task_update", number=number, state="dropped")
    changes: list[tuple[str, dict[str, Any]]] = [
        ("task_update", {"state": "open"}),
        ("task_complete", {"evidence": "e"}),
    ]
    for tool, arguments in changes:
        with pytest.raises(RefusedError, match=f"is {state}, and stays so"):
            desk.ask(tool, number=number, **arguments)


def test_an_end_without_evidence_is_refused(desk: Desk) -> None:
    """Blank is none."""
    number = desk.ask("task_create", title="a")["id"]
    with pytest.raises(RefusedError, match="evidence is empty"):
        desk.ask("task_complete", number=number, evidence=" \n")


def test_sessions_have_their_own_numbers_to_work_with(desk: Desk) -> None:
    """One session's task cannot come after another's."""
    number = desk.ask("task_create", title="a")["id"]
    with pytest.raises(RefusedError, match=f"no task {number}"):
        desk.ask("task_create", B, title="b", after=[number])
