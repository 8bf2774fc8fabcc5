"""Show the container engine's socket to the worker of the tools of docker: that socket, and nothing else of the host.

Who may write to it is root on the machine. So the worker alone has it, sends an allow-list of fields
(`runners/tools/engine_fields.py`), and can write nothing itself. A mount that is read-only does not keep a socket from
being connected to.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Final

from runners.cell.plan import CellPlan

SOCKET_VARIABLE: Final = "EPAD_ENGINE_SOCKET"
SUBSYSTEM_VARIABLE: Final = "EPAD_ENGINE_SUBSYSTEM"


def showing_engine(plan: CellPlan, socket: str, subsystem: str) -> CellPlan:
    """Return the plan with the socket, if one is configured. `subsystem` is whose containers are marked."""
    told = {SUBSYSTEM_VARIABLE: subsystem}
    if not socket:
        return replace(plan, environment={**plan.environment, **told})
    real = os.path.realpath(socket)
    tree = replace(plan.tree, read=(*plan.tree.read, real))
    return replace(plan, environment={**plan.environment, **told, SOCKET_VARIABLE: real}, tree=tree)
