"""Read the answers of search engines, and tell "blocked" and "changed" from "no results"."""

from __future__ import annotations

import re
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import msgspec

from runners.tools.html_tokens import Tag, tokens
from runners.tools.signature import ToolError
from runners.tools.visible import visible

_BLANKS = re.compile(r"\s+")
_BLOCKED: Final = (
    "anomaly-modal",
    "anomaly.js",
    "g-recaptcha",
    "h-captcha",
    "cf-challenge",
    "challenge-form",
)
"""Words of pages that ask if a person searches."""
_BLOCKED_STATUS: Final = frozenset({202, 403, 418, 429, 503})
_NO_RESULTS: Final = ("no-results", "No results.", "No more results")


class Found(msgspec.Struct, frozen=True):
    """Holds one result."""

    title: str
    url: str
    text: str


class BlockedError(ToolError):
    """The engine has not searched: it takes us for a machine, or has had too many questions."""

    def __init__(self, engine: str, why: str) -> None:
        super().__init__(
            f"{engine} has blocked the search ({why}): nothing is known about results",
            "try again much later, or set up your own SearXNG: [tools.web] searxng",
        )


def of_searxng(status: int, body: bytes) -> list[Found]:
    """Return the results of SearXNG's JSON. Raises ToolError, and BlockedError where no engine behind it answered."""
    if status == 403:
        raise ToolError("SearXNG gives no JSON", "add json to search.formats in its settings.yml")
    if status == 429:
        raise BlockedError("SearXNG", "its limiter")
    try:
        told: Any = msgspec.json.decode(body)
        given: list[dict[str, Any]] = told["results"]
        found = [_found(each.get("title"), each.get("url"), each.get("content")) for each in given]
    except (msgspec.DecodeError, RecursionError, KeyError, TypeError, AttributeError):
        raise ToolError(
            f"SearXNG answers {status} with something else than results", "look at its address"
        ) from None
    silent = told.get("unresponsive_engines") or []
    if not found and silent:
        engines = ", ".join(
            " ".join(map(str, each)) if isinstance(each, list) else str(each) for each in silent[:5]
        )
        raise BlockedError("SearXNG", visible(engines)[:300])
    return [each for each in found if each.url]


def of_duckduckgo(status: int, page: str) -> list[Found]:
    """Return the results of DuckDuckGo's page without scripts. Raises BlockedError, and ToolError for another page."""
    found = _results(page)
    if found:
        return found
    if status in _BLOCKED_STATUS:
        raise BlockedError("DuckDuckGo", f"status {status}")
    if word := next((word for word in _BLOCKED if word in page), ""):
        raise BlockedError("DuckDuckGo", f"a page with {word}")
    if status == 200 and any(words in page for words in _NO_RESULTS):
        return []
    raise ToolError(f"DuckDuckGo answers {status} with a page that is not known", "use SearXNG")


def _results(page: str) -> list[Found]:
    found: list[Found] = []
    url, part, words = "", "", dict[str, str]()
    for token in tokens(page):
        if isinstance(token, str):
            if part:
                words[part] = words.get(part, "") + token
        elif token.name == "a" and not token.closes:
            kinds = token.attributes.get("class", "").split()
            if "result__a" in kinds:
                _keep(found, url, words)
                url, part, words = _target(token), "title", {}
            elif "result__snippet" in kinds:
                part = "text"
        elif token.name == "a":
            part = ""
    _keep(found, url, words)
    return found


def _keep(found: list[Found], url: str, words: dict[str, str]) -> None:
    if url and words.get("title"):
        found.append(_found(words["title"], url, words.get("text", "")))


def _target(tag: Tag) -> str:
    """Return the address of a result: it stands in that of the engine's own redirect. An advertisement has none."""
    href = tag.attributes.get("href", "")
    try:
        parts = urlsplit(href)
    except ValueError:
        return ""
    if parts.path == "/l/":
        return parse_qs(parts.query).get("uddg", [""])[0]
    return href if parts.scheme in {"http", "https"} and parts.path != "/y.js" else ""


def _found(title: Any, url: Any, text: Any) -> Found:
    title, url, text = (each if isinstance(each, str) else "" for each in (title, url, text))
    return Found(_line(title, 300), visible(url)[:2_000], _line(text, 1_000))


def _line(text: str, most: int) -> str:
    return visible(_BLANKS.sub(" ", text).strip())[:most]
