"""One request of a client, of either era, as the methods take it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from epad.tools.protocol import NO_REPLIES, Caller, Replies
from epad.tools.wire.messages import Params

Result = dict[str, object]


class Asked(Struct, frozen=True):
    """Holds one request of a client."""

    method: str
    params: Params
    meta: Mapping[str, Any]
    caller: Caller
    key: str | None = None
    """The idempotency key of the request's header."""
    replies: Replies = NO_REPLIES
