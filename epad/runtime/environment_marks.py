"""Variables of a process's environment by which it is known: whose daemon's it is, which subsystem, which start."""

from __future__ import annotations

from typing import Final

STATE_MARK: Final = "EPAD_STATE"
SUBSYSTEM_MARK: Final = "EPAD_SUBSYSTEM"
INSTANCE_MARK: Final = "EPAD_INSTANCE"
