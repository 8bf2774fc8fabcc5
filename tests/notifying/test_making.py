"""Where a person is, as the configuration and its files say."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from zoneinfo import ZoneInfo

import pytest

from epad.configuration.notify_schema import NotifyConfig, check_notify
from epad.control_loop.decider import Decider
from epad.notifying import trial
from epad.notifying.incident import Gravity
from epad.notifying.making import make_channels, make_notifier, view_of, zone_of
from statemachine.clock import ManualClock
from statemachine.finding import Severity
from statemachine.phase import Phase


def secret(path: Path, text: str = "https://ntfy.sh/topic\n") -> str:
    path.write_text(text)
    return str(path)


def test_each_way_that_is_named_is_made(tmp_path: Path) -> None:
    """From files, and from what systemd hands over."""
    secret(tmp_path / "hook", "http://127.0.0.1:1/x\ntoken\n")
    config = NotifyConfig(ntfy_file=secret(tmp_path / "topic"), webhook_credential="hook", desktop=True)
    channels, faults = make_channels(config, {"CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert [channel.name for channel in channels] == ["ntfy", "webhook", "desktop"]
    assert faults == []
    assert make_channels(NotifyConfig(), {}) == ([], [])


@pytest.mark.parametrize(
    ("keys", "content", "expected"),
    [
        ({"ntfy_file": "{home}/absent"}, b"", "No such file"),
        ({"webhook_file": "{home}/x"}, b"hush-hush\n", "its first line is no http:// or https:// address"),
        ({"webhook_file": "{home}/x"}, b"\xff\xfe", "is no text"),
        ({"ntfy_credential": "topic"}, b"", "there is no $CREDENTIALS_DIRECTORY"),
    ],
)
def test_what_cannot_be_used_is_said_and_stops_nothing(
    tmp_path: Path, keys: Mapping[str, str], content: bytes, expected: str
) -> None:
    """Without a word of what the file holds."""
    (tmp_path / "x").write_bytes(content)
    config = NotifyConfig(**cast("Any", {key: value.format(home=tmp_path) for key, value in keys.items()}))
    channels, (fault,) = make_channels(config, {})
    assert (channels, expected in fault, "hush" in fault) == ([], True, False)
    look = cast("Any", None)
    assert make_notifier(config, {}, look, ManualClock(), tmp_path) is None


@pytest.mark.parametrize(
    ("config", "keys"),
    [
        (NotifyConfig(), []),
        (NotifyConfig(ntfy_file="/a", webhook_credential="b", quiet="23:00-07:00", zone="Europe/Berlin"), []),
        (NotifyConfig(ntfy_file="/a", ntfy_credential="b"), ["ntfy_credential"]),
        (NotifyConfig(webhook_file="a"), ["webhook_file"]),
        (NotifyConfig(quiet="07:00-07:00"), ["quiet"]),
        (NotifyConfig(zone="Europe/Bielefeld"), ["zone"]),
        (NotifyConfig(zone="../../etc/passwd"), ["zone"]),
    ],
)
def test_what_no_single_key_shows_is_checked(config: NotifyConfig, keys: list[str]) -> None:
    """By `epad check`, with the key."""
    assert [complaint.key[-1] for complaint in check_notify(config)] == keys


def test_the_zone_is_the_machines_unless_another_is_named() -> None:
    """Hours are a person's."""
    assert zone_of(NotifyConfig()) is None
    assert zone_of(NotifyConfig(zone="Asia/Tokyo")) == ZoneInfo("Asia/Tokyo")


def decider(
    phase: Phase = Phase.NORMAL, parked: tuple[str, ...] = (), *anomalies: tuple[str, str, Severity]
) -> Decider:
    active = [
        SimpleNamespace(key=SimpleNamespace(probe=probe, subsystem=name), severity=severity)
        for probe, name, severity in anomalies
    ]
    incident = SimpleNamespace(parked=dict.fromkeys(parked, ""))
    return cast(
        "Decider", SimpleNamespace(assessor=SimpleNamespace(active=active), phase=phase, incident=incident)
    )


@pytest.mark.parametrize(
    ("state", "gravity", "subsystems"),
    [
        (decider(), Gravity.CALM, ()),
        (decider(Phase.QUARANTINE), Gravity.CALM, ()),  # it waits out the dwell time
        (decider(Phase.QUARANTINE, (), ("operator", "chat", Severity.ANOMALY)), Gravity.CALM, ()),
        (decider(Phase.QUARANTINE, (), ("token_burn", "chat", Severity.ANOMALY)), Gravity.TROUBLE, ("chat",)),
        (decider(Phase.QUARANTINE, (), ("vram", "host", Severity.CRITICAL)), Gravity.CRITICAL, ("host",)),
        (decider(Phase.PRESERVATION), Gravity.CRITICAL, ()),
        (decider(Phase.LIFEBOAT), Gravity.CRITICAL, ()),
        (decider(Phase.NORMAL, ("old",)), Gravity.TROUBLE, ("old",)),
    ],
)
def test_how_it_stands(state: Decider, gravity: Gravity, subsystems: tuple[str, ...]) -> None:
    """A person's own order is no news to them; a line is worded only where there is something to say."""
    worded: list[str] = []

    def headline() -> str:
        worded.append("x")
        return "chat is frozen"

    view = view_of(state, headline)
    assert (view.gravity, view.subsystems) == (gravity, subsystems)
    assert view.line == ("" if gravity is Gravity.CALM else f"{state.phase}: chat is frozen")
    assert len(worded) == (gravity is not Gravity.CALM)


def test_a_test_goes_through_every_way(tmp_path: Path) -> None:
    """And says which of them works."""
    said: list[str] = []
    assert trial.run(NotifyConfig(), {}, said.append) == 1
    assert "names nobody" in said[-1]
    config = NotifyConfig(
        webhook_file=secret(tmp_path / "hook", "http://127.0.0.1:1/hush"), ntfy_file=str(tmp_path / "absent")
    )
    assert trial.run(config, {}, said.append) == 1
    assert any("absent" in line for line in said)
    assert said[-1].startswith("webhook: could not be reached")
    assert "hush" not in said[-1]
