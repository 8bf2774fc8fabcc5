"""End an answer although its server would go on: in the form of each dialect's reached cap.

Clients know that end: they keep the text, and see that it is incomplete. The reason is in a field of epad's own beside
the dialect's; libraries keep unknown fields. It is no fault of the request or the server, so it is no error.
"""

from __future__ import annotations

from epad.gateway.dialects import loose
from epad.gateway.dialects.events import sse_payloads

OPENAI = "length"
ANTHROPIC = "max_tokens"
OLLAMA = "length"
RESPONSES = "max_output_tokens"
CODE = "looping_output"

_ENVELOPE = ("id", "object", "created", "model", "system_fingerprint", "service_tier")
_LINE = ("model", "created_at")


def told(event: loose.JsonDict, why: str) -> loose.JsonDict:
    """Return the event with the reason in it."""
    return {**event, "epad": {"code": CODE, "message": f"epad ended this answer: {why}"}}


def openai_chunk(last: bytes) -> loose.JsonDict:
    """Return the common beginning of a stream's chunks, from its last bytes."""
    for event in reversed(last.split(b"\n\n")):
        for payload in sse_payloads(event + b"\n\n"):
            chunk = loose.read(payload)
            if isinstance(chunk, dict) and "choices" in chunk:
                return {name: chunk[name] for name in _ENVELOPE if name in chunk}
    return {"id": "", "object": "chat.completion.chunk", "created": 0, "model": ""}


def ollama_line(last: bytes) -> loose.JsonDict:
    """Return a line without anything said, like the last one that came."""
    line = loose.as_dict(loose.read(last))
    said: loose.JsonDict = (
        {"response": ""} if "response" in line else {"message": {"role": "assistant", "content": ""}}
    )
    return {**{name: line[name] for name in _LINE if name in line}, **said}
