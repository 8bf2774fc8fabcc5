"""Runs in the package's own environment: its mock, with caps obeyed and a tokenizer, and its runners, as they are told.

`python _utilisation_agent.py SDIST` prints {"port": of the mock}; then, a line of JSON in, a line of JSON out:
{"scenario", "framework", "kind", "url", "key"} -> {"finished", "calls", "made", "stopped_by", "error"}.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import io
import json
import os
import sys
import threading
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import _utilisation_script as script
import openai
import yaml

_TURNS = {"langgraph": 60}
_KEY = {"key": ""}


def _module(path: Path) -> Any:
    """The package's mock server; its folder has a name that cannot be imported."""
    spec = importlib.util.spec_from_file_location("abs_mock", path)
    assert spec is not None and spec.loader is not None  # noqa: PT018 - two halves of one thing
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _with_key(made_by: Any) -> None:
    """Have a client of the openai package bring epad's key, and ask once only, so that a refusal is seen at once."""
    original = made_by.__init__

    def with_key(self: Any, *arguments: Any, **fields: Any) -> None:
        original(self, *arguments, **{**fields, "api_key": _KEY["key"], "max_retries": 0})

    made_by.__init__ = with_key


class Mock:
    """The package's mock, listening."""

    def __init__(self, sdist: Path) -> None:
        self.module = _module(sdist / "mock-llm/server.py")
        self.kind = ""
        self.cut = 0
        self.tokenizer = script.Tokenizer(script.S6)
        self._cap: int | None = None
        self._next = self.module.get_next_response
        self.module.get_next_response = self._capped
        self.port = self._listen()

    def begin(self, scenario: script.Scenario, turns: list[dict[str, Any]], kind: str) -> None:
        """Begin a run."""
        self.module.reset()
        self.module.load_script(turns)
        self.kind, self.cut, self.tokenizer = kind, 0, script.Tokenizer(scenario)

    def look(self, path: str, body: dict[str, Any]) -> dict[str, Any] | None:
        """What costs nothing: the tokenizer's routes, where there is one."""
        return script.tokenizer_route(self.tokenizer, self.kind, path, body) if self.kind else None

    def _capped(self) -> dict[str, Any]:
        """What the script says next; cut where the cap is smaller."""
        entry: dict[str, Any] = self._next()
        if self._cap is None or self._cap >= entry["completion_tokens"]:
            return entry
        self.cut += 1
        return {
            **entry,
            "completion_tokens": self._cap,
            "content": "cut",
            "tool_calls": None,
            "finish_reason": "length",
        }

    def _listen(self) -> int:
        mock, handler = self, self.module.Handler

        class Obedient(handler):  # type: ignore[misc, valid-type]
            def do_GET(self) -> None:  # noqa: N802 - http.server's name
                answer = mock.look(self.path, {})
                self._respond(200, answer) if answer is not None else super().do_GET()

            def do_POST(self) -> None:  # noqa: N802 - http.server's name
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                self.rfile, connection = io.BytesIO(body), self.rfile
                try:
                    asked = json.loads(body) if body else {}
                    answer = mock.look(self.path, asked)
                    mock._cap = script.cap_of(asked)
                    self._respond(200, answer) if answer is not None else super().do_POST()
                finally:
                    self.rfile = connection

        server = ThreadingHTTPServer(("127.0.0.1", 0), Obedient)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return int(server.server_address[1])


def play(mock: Mock, sdist: Path, order: dict[str, str]) -> dict[str, Any]:
    """One run of one framework."""
    scenario = next(each for each in script.SCENARIOS if each.name == order["scenario"])
    loaded = yaml.safe_load((sdist / "scenarios" / scenario.file).read_text())
    # S6 calls its tools `tools`; the runners look for `tool_definitions`, and end after one call without them.
    loaded.setdefault("tool_definitions", loaded.get("tools", []))
    mock.begin(scenario, loaded["script"], order["kind"])
    _KEY["key"] = order["key"]
    runner = importlib.import_module(f"runners.runner_{order['framework']}")
    result = asyncio.run(runner.run(loaded, order["url"], _TURNS.get(order["framework"], 30)))
    ledger = mock.module.LEDGER
    return {
        "finished": len(ledger) == len(scenario.turns) and not mock.cut and result.error is None,
        "calls": len(ledger),
        "made": sum(entry["total_tokens"] for entry in ledger),
        "stopped_by": result.stopped_by,
        "error": (result.error or "")[:300],
    }


def main(sdist: Path) -> None:
    """Play what is ordered until the input ends."""
    os.environ["OPENAI_AGENTS_DISABLE_TRACING"] = "1"
    sys.path.insert(0, str(sdist))
    for made_by in (openai.OpenAI, openai.AsyncOpenAI):
        _with_key(made_by)
    # What a library prints must not stand among the answers.
    answers, sys.stdout = sys.stdout, sys.stderr
    mock = Mock(sdist)
    print(json.dumps({"port": mock.port}), file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(play(mock, sdist, json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
