"""A `kind = "unit"` where its unit is not: no systemd at all, as in most boxes, or none of that name."""

from __future__ import annotations

from installed import QUICK, installation

CONFIG = """
[subsystems.elsewhere]
kind = "unit"
unit = "epad-has-no-such.service"
ready_seconds = 1.0
gateway = false
[subsystems.worker]
command = ["sleep", "100000"]
depends_on = ["elsewhere"]
ready_seconds = 1.0
gateway = false
"""


def test_what_cannot_be_held_is_said_and_all_else_runs() -> None:
    """In a line that names the subsystem, the place and the fix; no traceback, and no house that does not start."""
    with installation(QUICK + CONFIG) as house:
        house.start()
        house.wait(lambda: house.subsystem("worker")["state"] == "running", "the worker to run")
        said = house.subsystem("elsewhere")["status"]
        assert "systemd does not answer at" in said or "systemd has no epad-has-no-such.service" in said
        assert "Traceback" not in house.log.read_text()
