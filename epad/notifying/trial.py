"""`epad notify`: one test message through every channel, at once and whatever the hour."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping

from epad.configuration.notify_schema import NotifyConfig
from epad.notifying.channels import Channel, DeliveryError
from epad.notifying.incident import Gravity, Incident, Kind, Message
from epad.notifying.making import make_channels

LINE = "this is a test of [notify]; nothing is wrong"


def run(config: NotifyConfig, environment: Mapping[str, str], say: Callable[[str], None]) -> int:
    """Say a line a channel; give the exit status."""
    channels, faults = make_channels(config, environment)
    for fault in faults:
        say(f"epad: {fault}")
    if not channels and not faults:
        say("epad: [notify] names nobody: give ntfy_file, webhook_file or desktop")
        return 1
    have_arrived = asyncio.run(_send_all(channels, config.timeout_seconds, say))
    return 0 if have_arrived and not faults else 1


async def _send_all(channels: list[Channel], timeout_seconds: float, say: Callable[[str], None]) -> bool:
    now = time.time()
    incident = Incident("test", now, Gravity.TROUBLE, "NORMAL", LINE)
    message = Message(Kind.TEST, incident, LINE, now)
    failures = await asyncio.gather(*(_failure(channel, message, timeout_seconds) for channel in channels))
    for channel, failure in zip(channels, failures, strict=True):
        say(f"{channel.name}: {failure or 'sent'}")
    return not any(failures)


async def _failure(channel: Channel, message: Message, timeout_seconds: float) -> str:
    try:
        async with asyncio.timeout(timeout_seconds):
            await channel.send(message)
    except TimeoutError:
        return f"no answer within {timeout_seconds:g} s"
    except DeliveryError as error:
        return str(error)
    return ""
