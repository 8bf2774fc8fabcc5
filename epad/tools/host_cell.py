"""Show the host to a worker that reads it: the smallest cell in which the tools of `system` tell the truth.

It has a pid namespace and a network of its own, as every worker's, so that it can signal nobody and connect to nobody.
The host's /proc stands in it, read-only: there are the host's processes, and the host's network as its first process
has it. Landlock keeps it from the environment and the memory of processes outside. Of /sys it has GPUs and interfaces.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from runners.cell.plan import CellPlan, Wall
from runners.tools.environment_shown import VARIABLE, to_json

READ: Final = ("/sys/class/net",)
"""Read in the cell beside what a program with GPUs reads."""


def showing_host(plan: CellPlan, environ: Mapping[str, str]) -> CellPlan:
    """Return the plan with the host's /proc, and the variables that may be seen. `environ` is the daemon's."""
    told = {VARIABLE: to_json(environ)}
    return replace(
        plan,
        environment={**plan.environment, **told},
        walls=tuple(wall for wall in plan.walls if wall is not Wall.PROC),
        tree=replace(plan.tree, host_proc=True),
        gpu=False,  # the devices are there; /proc is not written, as CUDA would
    )
