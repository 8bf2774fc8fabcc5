"""An agent that another has spawned: it asks a model, spawns one of its own where it is told to, and leaves an answer.

`python spawned_agent.py DEEPER SECONDS`: it spawns an agent of the template `helper` so many times below itself, and
stays for so long when it is done. Imports the standard library alone, as an agent does.
"""

from __future__ import annotations

import json
import os
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any


def ask(method: str, path: str, body: object = None) -> tuple[int, Any]:
    """Ask the gateway, with the agent's own key."""
    data = None if body is None else json.dumps(body).encode()
    headers = {
        "Authorization": f"Bearer {os.environ['EPAD_GATEWAY_KEY']}",
        "Content-Type": "application/json",
    }
    request = urllib.request.Request(os.environ["EPAD_GATEWAY_URL"] + path, data, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def main() -> int:
    deeper, stays = int(sys.argv[1]), float(sys.argv[2])
    words = Path(os.environ["EPAD_AGENT_INPUT"]).read_text()
    body = {
        "model": "embedded-markov-chat",
        "max_tokens": 16,
        "messages": [{"role": "user", "content": words}],
    }
    turns = [ask("POST", "/v1/chat/completions", body) for _ in range(2)]
    note = {"name": "note", "content": f"{os.environ['EPAD_AGENT']} has found the harbour"}
    told: dict[str, Any] = {
        "input": words,
        "stored": ask("POST", "/tools/call", {"name": "memory_store", "arguments": note})[1]["is_error"],
        "turns": [status for status, _ in turns],
        "tokens": sum(turn.get("usage", {}).get("total_tokens", 0) for _, turn in turns),
    }
    if deeper:
        wish = {
            "template": "helper",
            "tier": "reader",
            "reason": "one more below",
            "budget": {"tokens": 400},
            "parameters": {"deeper": deeper - 1, "stays": 0},
            "input": "below",
        }
        told["spawned"] = ask("POST", "/v1/agents", wish)
        name = told["spawned"][1].get("name")
        while name and ask("GET", f"/v1/agents/{name}")[1]["state"] != "ended":
            time.sleep(0.05)
        if name:
            told["below"] = json.loads(ask("GET", f"/v1/agents/{name}")[1]["answer"]["text"])
    Path(os.environ["EPAD_AGENT_ANSWER"]).write_text(json.dumps(told))
    time.sleep(stays)
    return 0


if __name__ == "__main__":
    sys.exit(main())
