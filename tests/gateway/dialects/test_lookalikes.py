"""Names in another case: Go's JSON takes `Max_Tokens` for `max_tokens`, so a cap or an image could be smuggled in."""

from __future__ import annotations

import json
from typing import Any

import pytest
from asking import LIMITS

from epad.gateway.dialects.routes import Routes
from epad.gateway.errors import RequestError

ROUTES = Routes(LIMITS)
CHAT, TEXT, VECTORS = "/v1/chat/completions", "/v1/completions", "/v1/embeddings"
RESPONSES, MESSAGES, COUNT = "/v1/responses", "/v1/messages", "/v1/messages/count_tokens"
O_CHAT, O_GENERATE, O_EMBED, O_OLD = "/api/chat", "/api/generate", "/api/embed", "/api/embeddings"


def parse(path: str, **fields: Any) -> None:
    endpoint = ROUTES.endpoint("POST", path)
    assert endpoint is not None
    least = {"model": "m", "messages": [], "input": "x"} | ({} if path == RESPONSES else {"prompt": "x"})
    endpoint.parse(json.dumps({**least, **fields}).encode())


OURS = {
    CHAT: "model messages stream stream_options tools audio web_search_options plugins chat_template n best_of",
    TEXT: "model prompt prompt_embeds stream stream_options echo n best_of",
    VECTORS: "model input messages stream",
    RESPONSES: "model input instructions stream tools background previous_response_id conversation prompt "
               "context_management",
    MESSAGES: "model messages system tools stream mcp_servers container context_management",
    COUNT: "model messages system tools stream mcp_servers container context_management",
    O_CHAT: "model messages tools stream options",
    O_GENERATE: "model prompt suffix system template context images stream options",
    O_EMBED: "model input options stream",
    O_OLD: "model prompt options stream",
}  # fmt: skip


WITHIN = [
    *(
        (path, "options", name)
        for path in (O_CHAT, O_GENERATE)
        for name in ("num_predict", "num_ctx", "max_tokens")
    ),
    *((path, "options", "num_ctx") for path in (O_EMBED, O_OLD)),
    *((path, "options", "num_predict") for path in (CHAT, TEXT)),
    *(
        (path, "stream_options", name)
        for path in (CHAT, TEXT)
        for name in ("include_usage", "continuous_usage_stats")
    ),
    (MESSAGES, "context_management", "edits"),
]


@pytest.mark.parametrize(("path", "outer", "name"), WITHIN)
def test_nor_does_one_within_another(path: str, outer: str, name: str) -> None:
    for other in (name.upper(), name.title()):
        with pytest.raises(
            RequestError, match=f"^{other}: some servers take it for '{name}'; write '{name}'$"
        ):
            parse(path, stream=True, **{outer: {other: 1}})


# Each list of objects that is looked at: where it is, and the keys by which it is judged.
LISTS: list[tuple[str, Any, str, tuple[str, ...]]] = [
    (CHAT, lambda entry: {"messages": [entry]}, "messages", ("content", "audio")),
    (CHAT, lambda entry: {"messages": [{"content": [entry]}]}, "messages", ("type",)),
    (CHAT, lambda entry: {"tools": [entry]}, "tools", ("type", "function", "name")),
    (RESPONSES, lambda entry: {"input": [entry]}, "input", ("type", "content", "output")),
    (RESPONSES, lambda entry: {"input": [{"content": [entry]}]}, "input", ("type",)),
    (RESPONSES, lambda entry: {"tools": [entry]}, "tools", ("type",)),
    (MESSAGES, lambda entry: {"messages": [entry]}, "messages", ("content",)),
    (MESSAGES, lambda entry: {"messages": [{"content": [entry]}]}, "messages", ("type", "content")),
    (MESSAGES, lambda entry: {"tools": [entry]}, "tools", ("type",)),
    (MESSAGES, lambda entry: {"context_management": {"edits": [entry]}}, "edits", ("type",)),
    (O_CHAT, lambda entry: {"messages": [entry]}, "messages", ("images",)),
]


@pytest.mark.parametrize(
    ("path", "fields", "place", "name"),
    [(path, fields, place, name) for path, fields, place, names in LISTS for name in names],
)
def test_nor_does_one_of_an_entry_that_is_judged_by_it(path: str, fields: Any, place: str, name: str) -> None:
    """Alone in its entry, and beside keys that nobody knows."""
    for more in ({}, {"new": 1}):
        with pytest.raises(
            RequestError,
            match=f"^{place}: {name.upper()}: some servers take it for '{name}'; write '{name}'$",
        ):
            parse(path, **fields({name.upper(): None, **more}))


@pytest.mark.parametrize(
    ("path", "name"), [(path, name) for path, names in OURS.items() for name in names.split()]
)
def test_no_field_that_metering_rests_on_passes_in_another_case(path: str, name: str) -> None:
    """Go's JSON takes it for the same."""
    for other in (name.upper(), name.title()):
        with pytest.raises(
            RequestError, match=f"^{other}: some servers take it for '{name}'; write '{name}'$"
        ):
            parse(path, **{other: 1})
