"""`user` of a subsystem: known, and one whom this daemon can run a process as."""

from __future__ import annotations

import os
import pwd

import pytest
from epad_house import configured

from epad.configuration.schema import SubsystemConfig
from epad.configuration.user_checks import check_users

ROOT, OWN = 0, 4711
TRUE = ("true",)


def told(monkeypatch: pytest.MonkeyPatch, own: int, spec: SubsystemConfig) -> list[str]:
    """Return the complaints about one subsystem, under a daemon of this user."""
    monkeypatch.setattr(os, "geteuid", lambda: own)
    complaints = check_users(configured(a=spec))
    return [f"{'.'.join(each.key)}: {each.text}" for each in complaints]


def test_a_user_whom_nobody_knows_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """By its name; a number is anybody's."""
    spec = SubsystemConfig(command=TRUE, user="no-such-user", working_directory="/")
    assert told(monkeypatch, ROOT, spec) == [
        "subsystems.a.user: names no-such-user, whom this machine does not know; make the user, or give a uid"
    ]
    assert told(monkeypatch, ROOT, SubsystemConfig(command=TRUE, user="4712", working_directory="/")) == []


def test_who_is_not_root_runs_nothing_as_somebody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """Confined or not; its own user is no other, and of what epad does not start the user is who may knock."""
    [said] = told(monkeypatch, OWN, SubsystemConfig(command=TRUE, user="root", working_directory="/"))
    assert said.startswith(
        "subsystems.a.user: names root, whom only root's daemon can run it as, and this one is uid 4711"
    )
    assert said.endswith("run epad as root, or take this out")
    assert told(monkeypatch, OWN, SubsystemConfig(command=TRUE, user=str(OWN))) == []
    assert told(monkeypatch, OWN, SubsystemConfig(kind="client", user="root")) == []
    own = pwd.getpwuid(os.getuid()).pw_name
    assert told(monkeypatch, os.getuid(), SubsystemConfig(command=TRUE, user=own)) == []


def test_epads_own_directory_is_closed_to_another_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """So an unconfined process of root's daemon needs one of its user's; a cell shows it its own."""
    [said] = told(monkeypatch, ROOT, SubsystemConfig(command=TRUE, user="4712"))
    assert "closed; name one of 4712's as working_directory, or confine it" in said
    assert told(monkeypatch, ROOT, SubsystemConfig(command=TRUE, user="4712", working_directory="/srv")) == []
    assert told(monkeypatch, ROOT, SubsystemConfig(command=TRUE, user="0")) == []
