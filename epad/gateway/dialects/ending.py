"""How an answer is ended by epad although its server would go on: as each dialect ends one that reached its cap.

Clients know that end: they keep what was said, and see that it is not the whole. Why it was is said in a field of
epad's own beside the dialect's; libraries keep fields that they do not know. A fault of the request or the server it
is not, so it is no error.
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
    """The event with the reason in it."""
    return {**event, "epad": {"code": CODE, "message": f"epad ended this answer: {why}"}}


def openai_chunk(last: bytes) -> loose.JsonDict:
    """What every chunk of a stream begins with, out of the last bytes that came of it."""
    for event in reversed(last.split(b"\n\n")):
        for payload in sse_payloads(event + b"\n\n"):
            chunk = loose.read(payload)
            if isinstance(chunk, dict) and "choices" in chunk:
                return {name: chunk[name] for name in _ENVELOPE if name in chunk}
    return {"id": "", "object": "chat.completion.chunk", "created": 0, "model": ""}


def ollama_line(last: bytes) -> loose.JsonDict:
    """A line without anything said, like the last one that came."""
    line = loose.as_dict(loose.read(last))
    said: loose.JsonDict = (
        {"response": ""} if "response" in line else {"message": {"role": "assistant", "content": ""}}
    )
    return {**{name: line[name] for name in _LINE if name in line}, **said}
