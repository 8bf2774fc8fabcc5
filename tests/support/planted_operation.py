"""Two operations more in the registry, and where they then appear: a program, since the rows of its process change.

It prints the places as JSON. What the daemon would do for them is held in memory, and asked over a real socket.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import runpy
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
REGISTRY = "epad.operations.registry"
ORDER = '    SHAKE = _order("shake", f"{_SUBSYSTEM}/shake", "shake", "Shake a subsystem.")\n'
QUESTION = '    WEATHER_READ = _read("weather_read", "/v1/weather", "sky weather", "Show the weather.", "Document")\n'
LAST_ROW = "    MODEL_CALL ="


def plant(*rows: str) -> None:
    """Have a registry with more rows than the file has. It must not have been imported before."""
    spec = importlib.util.find_spec(REGISTRY)
    assert spec is not None
    assert REGISTRY not in sys.modules
    module = importlib.util.module_from_spec(spec)
    sys.modules[REGISTRY] = module
    source = Path(str(spec.origin)).read_text()
    assert source.count(LAST_ROW) == 1
    exec(source.replace(LAST_ROW, "".join(rows) + LAST_ROW), module.__dict__)  # noqa: S102 - the file's own text


def places() -> Iterator[tuple[str, Any]]:
    """Where they appear."""
    from epad.api import openapi, routes  # noqa: PLC0415 - after the planting
    from epad.epactl.command_line import make_parser  # noqa: PLC0415
    from epad.epactl.commands.shell import man, nodes  # noqa: PLC0415
    from epad.gate.permissions import Tier, allow  # noqa: PLC0415
    from epad.operations.registry import Operation  # noqa: PLC0415

    planted = [Operation("shake"), Operation("weather_read")]
    yield "gate", [[allow(tier, one).allowed for tier in (Tier.OPERATOR, Tier.OBSERVER)] for one in planted]
    yield "routes", [one in routes.ROUTES for one in planted]
    paths = openapi.document(routes.ROUTES, "1")["paths"]
    yield "openapi", [paths[one.path][one.method.lower()]["summary"] for one in planted]
    yield (
        "epactl",
        [node.about for node in nodes(make_parser()) if node.words in {("shake",), ("sky", "weather")}],
    )
    yield "help", [one.words in make_parser().format_help() for one in planted]
    yield "man", [one.words in man(make_parser()) for one in planted]
    docs = runpy.run_path(str(ROOT / "docs/operations.py"))["table"]()
    yield "docs", [f"| {one} | {one.words} |" in docs for one in planted]
    yield "asked", asyncio.run(_asked())


async def _asked() -> list[Any]:
    """What came of asking for both with `epactl`, and what the daemon was told."""
    from fake_operations import FakeOperations  # noqa: PLC0415

    from epad.api.server import ControlApi  # noqa: PLC0415
    from epad.epactl.main import main  # noqa: PLC0415

    class Weather(FakeOperations):
        async def weather(self) -> dict[str, Any]:
            return {"sky": "blue"}

    with tempfile.TemporaryDirectory(dir="/tmp", prefix="epad-") as folder:
        operations, socket = Weather(), Path(folder, "control.sock")
        api = ControlApi(operations, socket)
        await api.start()
        given = ["--socket", str(socket)]
        statuses = [
            await asyncio.to_thread(main, [*given, "shake", "chat", "--reason", "to see"]),
            await asyncio.to_thread(main, [*given, "sky", "weather"]),
        ]
        await api.stop()
    return [*statuses, *(order[:3] for order in operations.orders)]


if __name__ == "__main__":
    plant(ORDER, QUESTION)
    print(json.dumps(dict(places())))
