"""`[notify]`: where a person is told of an incident. Addresses are secrets, so files and credentials hold them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated
from zoneinfo import ZoneInfo

from msgspec import Meta, Struct

from epad.configuration.complaint import Complaint
from statemachine.value_types import Seconds

Hours = Annotated[str, Meta(pattern=r"^$|^([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d$")]


class NotifyConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Names the ways to tell a person that an incident begins or is over. Without one, nothing is sent.

    A file has the address in its first line and a token, if one is needed, in its second.
    """

    ntfy_file: str = ""
    ntfy_credential: str = ""
    webhook_file: str = ""
    webhook_credential: str = ""
    desktop: bool = False
    quiet: Hours = ""
    zone: str = ""
    calm_seconds: Seconds = 120.0
    timeout_seconds: Seconds = 10.0


def check_notify(config: NotifyConfig) -> Iterator[Complaint]:
    """Yield the faults no single key shows: two places for one address, hours without a length, an unknown zone."""
    for key in ("ntfy", "webhook"):
        if getattr(config, f"{key}_file") and getattr(config, f"{key}_credential"):
            text = f"is given beside {key}_file: keep one of them"
            yield Complaint(("notify", f"{key}_credential"), text, (("notify", f"{key}_file"),))
        file = getattr(config, f"{key}_file")
        if file and not file.startswith("/"):
            yield Complaint(("notify", f"{key}_file"), f'is "{file}": give the path from the root, of a file')
    begin, _, end = config.quiet.partition("-")
    if config.quiet and begin == end:
        yield Complaint(
            ("notify", "quiet"), f'is "{config.quiet}": a span of no length; leave it out for none'
        )
    if config.zone:
        try:
            ZoneInfo(config.zone)
        except (OSError, ValueError, KeyError):  # ZoneInfoNotFoundError is a KeyError
            text = f'is "{config.zone}": no zone of this machine\'s tzdata; give one such as "Europe/Berlin"'
            yield Complaint(("notify", "zone"), text)
