"""How long a test waits for what must come."""

from __future__ import annotations

PATIENCE_SECONDS = 300.0
"""Nothing is asserted of how long anything takes: a program may have a twentieth of a core, and then takes a minute
to start. What has not come by then never will. A test as a whole may take three times as long (pyproject.toml)."""
