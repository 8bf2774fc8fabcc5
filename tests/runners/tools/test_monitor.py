"""The tools of `monitor` that a worker does."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import psutil
import pytest
from tool_process import World
from web_world import CLOSED_PORT, WebWorld


def test_a_host_is_well_or_says_why_not(world: World, web: WebWorld) -> None:
    """By HTTP or by a connection; one that does not answer is a result."""
    well = world.worker("health_probe", url="https://www.example/page")
    assert (well["healthy"], well["status"], well["why"]) == (True, 200, "")
    assert world.worker("health_probe", tcp="127.0.0.1:8888")["healthy"]
    missing = world.worker("health_probe", url="https://www.example/nothing")
    assert (missing["healthy"], missing["status"], missing["why"]) == (False, 404, "it answers 404")
    closed = world.worker("health_probe", tcp=f"www.example:{CLOSED_PORT}")
    assert (closed["healthy"], closed["status"]) == (False, 0)
    assert "was not reached" in closed["why"]
    assert not world.worker("health_probe", url="http://away.example/")["healthy"]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"tcp": "10.0.0.7:22"}, "no rule names the address"),
        ({"tcp": "www.example:22"}, "is not among the hosts"),
        ({"tcp": "www.example"}, "give HOST:PORT"),
        ({"tcp": "a b:80"}, "is no host name"),
        ({"url": "http://169.254.169.254/"}, "no rule names the address"),
        ({"url": "https://private.example/"}, "leads to a private address"),
        ({}, "give one of url and tcp"),
        ({"url": "http://www.example/", "tcp": "www.example:443"}, "give one of url and tcp"),
    ],
)
def test_a_host_that_may_not_be_asked_is_no_sick_one(
    world: World, web: WebWorld, arguments: dict[str, str], why: str
) -> None:
    """Whether a port of the inner network is open is not told: that would be a scan."""
    assert why in world.worker.refusal("health_probe", **arguments)
    assert web.net.connected == []


def test_the_machines_uptime_is_the_kernels(world: World) -> None:
    """And its load."""
    told = world.worker("uptime_check")
    assert abs(told["uptime"] - time.clock_gettime(time.CLOCK_BOOTTIME)) < 300
    assert (
        abs(datetime.fromisoformat(told["boot"]) - datetime.fromtimestamp(psutil.boot_time(), UTC)).seconds
        < 300
    )
    assert len(told["load"]) == 3
