"""Answers of real servers, as their bytes came, with the servers' own counts of what they made.

bench/recordings/<server>/<name>.json: server, route, request, made_prompt, made_output (the server's own metrics),
chunks (pairs of milliseconds since the one before, and the bytes in base64), content_type, status, headers.
"""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

from _accounting_behaviour import Behaviour
from _byte_server import Piece, Script

RECORDINGS = Path(__file__).parent / "recordings"
# Kept by the server that is replayed here: how the body is framed is the byte server's own affair.
_FRAMING = frozenset({"content-length", "transfer-encoding", "connection", "content-type", "date", "server"})
_OUTPUT = r'"(?:completion_tokens|output_tokens|eval_count)":\s*{}\b'
_PROMPT = r'"(?:prompt_tokens|input_tokens|prompt_eval_count)":\s*{}\b'
_KINDS = {
    "llama-server": "llama.cpp",
    "llama.cpp": "llama.cpp",
    "vllm": "vllm",
    "transformers": "transformers",
}


def behaviours() -> list[Behaviour]:
    """Each recording replayed whole, and each stream broken off in its middle."""
    found: list[Behaviour] = []
    for path in sorted(RECORDINGS.glob("*/*.json")):
        found += _replayed(path, json.loads(path.read_text()))
    return found


def _replayed(path: Path, record: dict[str, Any]) -> list[Behaviour]:
    data = [base64.b64decode(chunk) for _, chunk in record["chunks"]]
    made_prompt, made_output = int(record["made_prompt"]), int(record["made_output"])
    headers = tuple(
        f"{name}: {value}" for name, value in _pairs(record.get("headers")) if name.lower() not in _FRAMING
    )
    pieces = tuple(
        Piece(part, tokens) for part, tokens in zip(data, _spread(made_output, len(data)), strict=True)
    )
    kind, text = record["content_type"] or "", b"".join(data).decode("utf-8", "replace")
    counted = bool(
        re.search(_OUTPUT.format(made_output), text) and re.search(_PROMPT.format(made_prompt), text)
    )

    def behaviour(name: str, script: Script, *, counted: bool) -> Behaviour:
        server = path.parent.name
        return Behaviour(
            server, name, f"recorded: {path.parent.name}/{path.name}", record["route"], script,
            ask=record["request"], counted=counted, prompt=made_prompt, kind=_KINDS.get(server.lower(), ""),
        )  # fmt: skip

    how: dict[str, Any] = {"content_type": kind, "status": int(record["status"]), "headers": headers}
    name = path.stem.replace("_", " ").replace("-", " ")
    # One that its client left has no end to be replayed.
    then = "close" if record.get("cut_by_client_after_bytes") else "end"
    rows = [behaviour(name, Script(pieces, then=then, **how), counted=counted and then == "end")]
    if len(pieces) > 3 and record["request"].get("stream"):
        half = Script(pieces[: len(pieces) // 2], then="close", **how)
        rows.append(behaviour(f"{name}, broken off in its middle", half, counted=False))
    return rows


def _pairs(headers: Any) -> list[tuple[str, str]]:
    """Header fields, be they recorded as an object or as pairs."""
    return list(headers.items()) if isinstance(headers, dict) else [tuple(each) for each in headers or []]


def _spread(tokens: int, pieces: int) -> list[int]:
    """So many tokens over so many pieces, as evenly as can be."""
    return [tokens * (at + 1) // pieces - tokens * at // pieces for at in range(pieces)]
