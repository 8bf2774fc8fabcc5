"""Look at what this machine lacks for tools."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from epad.configuration.schema import Config
from epad.doctor.finding import Check, Verdict
from epad.tools.lacking import Lack, lacking


def check_tools(config: Config, lacks: Callable[[], Iterable[Lack]] = lacking) -> Iterator[Check]:
    """Say which categories of tools lack a program or a library; some of their tools fail without."""
    if not config.tools.enabled:
        yield Check("tools", Verdict.ABSENT, "[tools] enabled is false: no subsystem has any")
        return
    found = list(lacks())
    if not found:
        yield Check("tools", Verdict.OK, "nothing is lacking for any category")
    for one in found:
        yield Check("tools", Verdict.LACKING, f"{one.category}: {one.what}", one.fix)
