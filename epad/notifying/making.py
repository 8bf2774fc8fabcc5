"""Makes the notifier out of the configuration, the files it names, and the daemon's decider."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import tzinfo
from pathlib import Path
from zoneinfo import ZoneInfo

import structlog

from epad.configuration.notify_schema import NotifyConfig
from epad.confinement.approvals import OpenQuestion
from epad.control_loop.decider import Decider
from epad.notifying.channels import Address, Channel, Desktop, Ntfy, Webhook, this_host
from epad.notifying.incident import Asked, Gravity, View
from epad.notifying.notifier import Notifier
from epad.notifying.quiet import QuietHours
from statemachine.clock import Clock
from statemachine.finding import Severity
from statemachine.phase import Phase

FILE = "notified.json"
OPERATOR = "operator"
"""The probe that a person's own orders come as: nobody is told of what they have just done."""
_GRAVE = frozenset({Phase.PRESERVATION, Phase.RECOVERY, Phase.LIFEBOAT})


def make_notifier(
    config: NotifyConfig, environment: Mapping[str, str], look: Callable[[], View], clock: Clock, state: Path
) -> Notifier | None:
    """None where nobody is to be told, or no way to them can be used: that is logged, and stops nothing."""
    channels, faults = make_channels(config, environment)
    for fault in faults:
        structlog.get_logger("epad.notify").error("notify.unusable", reason=fault)
    if not channels:
        return None
    return Notifier(
        channels,
        look,
        clock,
        state / FILE,
        quiet=QuietHours.parse(config.quiet, zone_of(config)),
        calm_seconds=config.calm_seconds,
        timeout_seconds=config.timeout_seconds,
    )


def make_channels(config: NotifyConfig, environment: Mapping[str, str]) -> tuple[list[Channel], list[str]]:
    """Make every named channel that can be used, and return the reasons for which the others cannot."""
    channels: list[Channel] = []
    faults: list[str] = []
    host = this_host()
    for key, make in (("ntfy", Ntfy), ("webhook", Webhook)):
        try:
            address = _address(config, key, environment)
        except (OSError, ValueError) as error:
            faults.append(f"[notify] {key}: {error}")
            continue
        if address is not None:
            channels.append(make(address, host))
    if config.desktop:
        channels.append(Desktop(host, environment))
    return channels, faults


def zone_of(config: NotifyConfig) -> tzinfo | None:
    """Return the zone whose hours count; None for the machine's. Raises ValueError, ZoneInfoNotFoundError."""
    return ZoneInfo(config.zone) if config.zone else None


def view_of(
    decider: Decider, headline: Callable[[], str], questions: Callable[[], Iterable[OpenQuestion]] = tuple
) -> View:
    """Return the present state. The line is only worded if there is news."""
    anomalies = [a for a in decider.assessor.active if a.key.probe != OPERATOR]
    phase, parked = decider.phase, decider.incident.parked
    asked = tuple(map(_asked, questions()))
    if not anomalies and not parked and phase not in _GRAVE:
        return View(Gravity.CALM, str(phase), "", questions=asked)
    is_critical = phase in _GRAVE or any(a.severity is Severity.CRITICAL for a in anomalies)
    names = dict.fromkeys([*(a.key.subsystem for a in anomalies), *parked])
    gravity = Gravity.CRITICAL if is_critical else Gravity.TROUBLE
    return View(gravity, str(phase), f"{phase}: {headline()}", tuple(names), asked)


def _asked(question: OpenQuestion) -> Asked:
    return Asked(
        question.number,
        question.subsystem,
        question.asked_at,
        question.line,
        question.program,
        question.about_tool,
    )


def _address(config: NotifyConfig, key: str, environment: Mapping[str, str]) -> Address | None:
    file, credential = getattr(config, f"{key}_file"), getattr(config, f"{key}_credential")
    if credential:
        directory = environment.get("CREDENTIALS_DIRECTORY")
        if not directory:
            raise ValueError(
                f"there is no $CREDENTIALS_DIRECTORY; use LoadCredential={credential}:FILE, or {key}_file"
            )
        file = str(Path(directory) / credential)
    if not file:
        return None
    try:
        return Address.parse(Path(file).read_text())
    except UnicodeDecodeError:
        raise ValueError(f"{file} is no text") from None
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None
