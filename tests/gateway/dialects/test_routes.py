"""Which route is which: metered, looked up, greeted or refused, by every name that clients have for it."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from asking import LIMITS

from epad.gateway.dialects.routes import Routes

ROUTES = Routes(LIMITS)
METERED = {
    "/v1/chat/completions": "openai", "/v1/completions": "openai", "/v1/embeddings": "openai",
    "/v1/responses": "openai", "/v1/messages": "anthropic", "/v1/messages/count_tokens": "anthropic",
    "/api/chat": "ollama", "/api/generate": "ollama", "/api/embed": "ollama", "/api/embeddings": "ollama",
}  # fmt: skip
CLAUDE = {"anthropic-version": "2023-06-01"}


@pytest.mark.parametrize(("path", "dialect"), METERED.items())
def test_a_metered_route_is_posted_to_and_speaks_one_dialect(path: str, dialect: str) -> None:
    """Whatever else the client says of itself."""
    endpoint = ROUTES.endpoint("POST", path)
    assert endpoint is not None
    assert (endpoint.path, endpoint.dialect.name) == (path, dialect)
    for headers in ({}, CLAUDE):
        assert ROUTES.dialect(path, headers) is endpoint.dialect
    for method in ("GET", "PUT", "DELETE", "HEAD", "post"):
        assert ROUTES.endpoint(method, path) is None
    assert ROUTES.endpoint("POST", path + "x") is None


@pytest.mark.parametrize("path", ["/chat/completions", "/completions", "/embeddings", "/responses"])
def test_routes_of_openai_are_known_without_their_version(path: str) -> None:
    endpoint = ROUTES.endpoint("POST", path)
    assert endpoint is not None
    assert endpoint is ROUTES.endpoint("POST", "/v1" + path)
    assert ROUTES.dialect(path, CLAUDE).name == "openai"


@pytest.mark.parametrize(
    "path", ["/messages", "/chat", "/generate", "/api/models", "/xcompletions", "/v1/v1/completions"]
)
def test_no_other_route_is(path: str) -> None:
    assert ROUTES.endpoint("POST", path) is None
    assert ROUTES.lookup("GET", path, {}) is None


@pytest.mark.parametrize(
    ("path", "headers", "dialect"),
    [
        ("/v1/models", {}, "openai"), ("/models", {}, "openai"), ("/", {}, "openai"), ("/nothing", {}, "openai"),
        ("/api/nothing", {}, "ollama"), ("/api/tags", CLAUDE, "ollama"), ("/v1/api/", {}, "openai"),
        ("/v1/models", CLAUDE, "anthropic"), ("/models/m", CLAUDE, "anthropic"), ("/nothing", CLAUDE, "anthropic"),
        ("/v1/messages/batches", {}, "anthropic"), ("/x/v1/messages", {}, "openai"),
    ],
)  # fmt: skip
def test_who_is_asking_shows_in_the_route_else_in_the_header(
    path: str, headers: Mapping[str, str], dialect: str
) -> None:
    assert ROUTES.dialect(path, headers).name == dialect


@pytest.mark.parametrize(
    ("method", "path", "headers", "found"),
    [
        ("GET", "/v1/models", {}, ("openai", "/v1/models")),
        ("HEAD", "/v1/models", {}, ("openai", "/v1/models")),
        ("GET", "/models", {}, ("openai", "/v1/models")),
        ("GET", "/v1/models", CLAUDE, ("anthropic", "/v1/models")),
        ("GET", "/models", CLAUDE, ("anthropic", "/v1/models")),
        ("GET", "/v1/models/m", {}, ("openai", "/v1/models/m")),
        ("HEAD", "/models/org/m", {}, ("openai", "/v1/models/org/m")),
        ("GET", "/v1/models/org/m", CLAUDE, ("anthropic", "/v1/models/org/m")),
        ("GET", "/v1/models/", {}, None),
        ("GET", "/v1/modelsx", CLAUDE, None),
        ("GET", "/v1/modelsx", {}, None),
        ("POST", "/v1/models", {}, None),
        ("POST", "/v1/models/m", {}, None),
        ("DELETE", "/v1/models/m", {}, None),
        ("GET", "/api/tags", {}, ("ollama", "/api/tags")),
        ("GET", "/api/tags", CLAUDE, ("ollama", "/api/tags")),
        ("GET", "/api/ps", {}, ("ollama", "/api/ps")),
        ("HEAD", "/api/version", {}, ("ollama", "/api/version")),
        ("POST", "/api/show", {}, ("ollama", "/api/show")),
        ("GET", "/api/show", {}, None),
        ("POST", "/api/tags", {}, None),
        ("GET", "/api/chat", {}, None),
    ],
)
def test_what_is_looked_up_is_found_in_the_dialect_of_who_asks(
    method: str, path: str, headers: Mapping[str, str], found: tuple[str, str] | None
) -> None:
    lookup = ROUTES.lookup(method, path, headers)
    assert (None if lookup is None else (lookup.dialect.name, lookup.path)) == found


def test_the_models_in_memory_are_listed_as_those_on_the_disk_are() -> None:
    shapes = []
    for path in ("/api/tags", "/api/ps"):
        catalogue = getattr(ROUTES.lookup("GET", path, {}), "catalogue", None)
        assert catalogue is not None
        shapes.append((catalogue.entries, catalogue.name, dict(catalogue.envelope)))
    assert shapes == [("models", "name", {})] * 2


@pytest.mark.parametrize(
    ("method", "path", "greeted"),
    [("GET", "/", True), ("HEAD", "/", True), ("POST", "/", False), ("GET", "/x", False), ("GET", "", False)],
)
def test_who_asks_if_somebody_is_there_is_greeted(method: str, path: str, greeted: bool) -> None:
    assert ROUTES.greets(method, path) is greeted


def test_a_route_that_is_not_metered_is_told_all_that_are() -> None:
    refusal = ROUTES.refusal("GET", "/chat/completions")
    metered = ", ".join(f"POST {path}" for path in METERED)
    assert (refusal.status, refusal.code) == (403, "route_not_metered")
    assert refusal.message == (
        f"GET /v1/chat/completions is not metered, so it is not forwarded; metered: {metered}"
    )


MANAGING = [
    *(f"/api/{name}" for name in ("pull", "push", "create", "copy", "delete", "blobs/sha256:x")),
    "/v1/load_lora_adapter", "/v1/unload_lora_adapter", "/sleep", "/wake_up", "/reset_prefix_cache",
    "/v1/models/load", "/v1/models/unload", "/models/load", "/models/unload",
]  # fmt: skip


@pytest.mark.parametrize("path", MANAGING)
def test_a_route_that_manages_models_is_denied_whatever_the_method(path: str) -> None:
    for method in ("POST", "DELETE", "PUT"):
        refusal = ROUTES.refusal(method, path)
        assert (refusal.status, refusal.code) == (403, "route_denied")
        assert refusal.message.startswith(
            f"{method} {'/v1' if path.startswith('/models') else ''}{path} changes"
        )


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("DELETE", "/v1/models/m", "route_denied"), ("DELETE", "/models/m", "route_denied"),
        ("PUT", "/v1/models/m", "route_not_metered"), ("DELETE", "/v1/files/m", "route_not_metered"),
        ("POST", "/api/blobs", "route_not_metered"), ("POST", "/v1/sleep", "route_not_metered"),
    ],
)  # fmt: skip
def test_a_model_is_not_deleted_and_other_routes_are_only_not_metered(
    method: str, path: str, code: str
) -> None:
    assert ROUTES.refusal(method, path).code == code
