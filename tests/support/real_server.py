"""A real model server, asked directly or through epad: what it answered, and what it says that it made."""

from __future__ import annotations

import http.client
import json
import urllib.parse
import urllib.request
from dataclasses import dataclass, field
from typing import Any

VOLATILE = frozenset({"id", "created", "created_at", "completed_at", "item_id", "response_id", "timings"})
READ = ("llamacpp:prompt_tokens_total", "llamacpp:prompt_tokens_cached_total", "vllm:prompt_tokens_total")
WRITTEN = ("llamacpp:tokens_predicted_total", "vllm:generation_tokens_total")
BUSY = (
    "llamacpp:requests_processing",
    "llamacpp:requests_deferred",
    "vllm:num_requests_running",
    "vllm:num_requests_waiting",
)


@dataclass(frozen=True)
class Answer:
    """A status, a turn of the gateway's (none where the server was asked directly), and a body."""

    status: int
    turn: str
    body: bytes

    def values(self) -> list[Any]:
        """The body as JSON: one value, or one for each event of a stream."""
        if not self.body.lstrip().startswith((b"data:", b"event:")):
            return [json.loads(self.body)]
        lines = [line[5:].strip() for line in self.body.splitlines() if line.startswith(b"data:")]
        return [json.loads(line) for line in lines if line != b"[DONE]"]

    def usage(self) -> dict[str, Any]:
        """The last usage that the server told."""
        values = [v.get("response", v) for v in self.values() if isinstance(v, dict)]
        told = [v["usage"] for v in values if v.get("usage")]
        return told[-1] if told else {}


@dataclass
class Sum:
    """What an answer comes to: servers cut the same text into pieces of another size each time."""

    keys: set[str] = field(default_factory=set)
    texts: dict[str, str] = field(default_factory=dict)
    others: dict[str, set[str]] = field(default_factory=dict)


def sum_of(answer: Answer) -> tuple[int, Sum]:
    """The status and the sum of an answer; keys and texts stand by their path, an index is part of it."""
    total = Sum()
    for value in answer.values():
        _add(total, value, "")
    return answer.status, total


def _add(total: Sum, value: Any, path: str) -> None:
    if isinstance(value, dict):
        total.keys.add(path + " " + ",".join(sorted(set(value) & VOLATILE)))
        for key, inner in value.items():
            if key not in VOLATILE:
                _add(total, inner, f"{path}.{key}")
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            index = inner.get("index", place) if isinstance(inner, dict) else place
            _add(total, inner, f"{path}[{index}]")
    elif isinstance(value, str) and path.endswith((".content", ".text", ".arguments", ".delta")):
        total.texts[path] = total.texts.get(path, "") + value
    elif value is not None:
        total.others.setdefault(path, set()).add(json.dumps(value))


def ask(url: str, path: str, body: dict[str, Any], key: str = "none") -> Answer:
    """Ask once and read the whole answer."""
    parts = urllib.parse.urlsplit(url)
    link = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=600)
    try:
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
        link.request("POST", parts.path.rstrip("/") + path, json.dumps(body), headers)
        answer = link.getresponse()
        return Answer(answer.status, answer.getheader("x-epad-turn") or "", answer.read())
    finally:
        link.close()


@dataclass(frozen=True)
class Made:
    """The tokens that a server says it has read and made so far, and how many requests it has in hand.

    `each`: it counts a prompt once for each answer that is made of it, though it reads it once, as vLLM does.
    """

    read: int
    written: int
    busy: int
    each: bool

    def since(self, before: Made, answers: int = 1) -> int:
        """What was read and made since then, by requests for so many answers each."""
        read = self.read - before.read
        return (read // answers if self.each else read) + self.written - before.written


def made_by(url: str) -> Made | None:
    """A server's own counters, each summed over its labels; None where it tells none."""
    parts = urllib.parse.urlsplit(url)
    try:
        with urllib.request.urlopen(f"{parts.scheme}://{parts.netloc}/metrics", timeout=60) as answer:
            lines = answer.read().decode().splitlines()
    except OSError:
        return None
    found: dict[str, float] = {}
    for line in lines:
        if line and not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            name = name.partition("{")[0]
            found[name] = found.get(name, 0.0) + float(value)
    if not any(name in found for name in WRITTEN):
        return None
    read, written, busy = (int(sum(found.get(n, 0.0) for n in names)) for names in (READ, WRITTEN, BUSY))
    return Made(read, written, busy, each=any(name.startswith("vllm:") for name in found))
