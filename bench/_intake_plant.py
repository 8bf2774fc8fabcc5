"""Starts `epad` with one of its bounds taken away, so that bench/intake.py can be seen to find it: PLANT ARGUMENTS."""

from __future__ import annotations

import sys
from typing import Any

from epad.daemon import cli, process
from epad.gateway import bodies, intake
from epad.gateway.dialects import body
from epad.listeners import connection_limits


def _nothing(*_: Any, **__: Any) -> None:
    return None


async def _at_once(_: Any, endpoint: Any, request: Any) -> intake.Reading:
    return intake.read_now(endpoint, request)


def plant(name: str) -> None:
    """Take a bound away. Raises KeyError for one that there is not."""
    {
        "shape": lambda: (setattr(body, "refuse_shape", _nothing), setattr(body, "refuse_entries", _nothing)),
        "thread": lambda: setattr(intake.Intake, "read", _at_once),
        "bodies": lambda: setattr(bodies.Bodies, "refuses", _nothing),
        "crowd": lambda: (
            setattr(connection_limits.Crowd, "admits", lambda *_: True),
            setattr(connection_limits.Crowd, "thin", lambda *_: 0),
            setattr(connection_limits.Crowd, "expired", lambda *_: []),
            setattr(process, "raise_limit", _nothing),
        ),
    }[name]()


if __name__ == "__main__":
    plant(sys.argv.pop(1))
    sys.exit(cli.main())
