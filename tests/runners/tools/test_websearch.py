"""The category `websearch`: results are read, and a search that was not made is no search without results.

The pages are written after those of the engines: a machine that tests has no way to them.
"""

from __future__ import annotations

import pytest
from tool_process import World, tool_worker
from web_world import DUCKDUCKGO, DUCKDUCKGO_PAGE, WebWorld, answer

from runners.tools.search_results import BlockedError, of_duckduckgo, of_searxng
from runners.tools.signature import ToolError

CHALLENGE = (
    '<form id="challenge-form" action="//duckduckgo.com/anomaly.js?sv=html&amp;cc=botnet" method="POST"><div '
    'class="anomaly-modal__mask"><div class="anomaly-modal__title">Unfortunately, bots use DuckDuckGo too.</div>'
    '<div class="anomaly-modal__description">Please complete the following challenge.</div></div></form>'
)
NOTHING = '<div class="results"><div class="no-results">No results.</div></div>'


def test_results_are_read_from_both_engines(world: World, web: WebWorld) -> None:
    """Without advertisements and the engine's own redirects; the words are sent as they are."""
    own = world.worker("web_search", query="a & b")["results"]
    assert own == [
        {"title": "One", "url": "https://one.example/", "text": "The first"},
        {"title": "Two", "url": "https://two.example/", "text": ""},
    ]
    assert web.asked[0].target == "/search?q=a+%26+b&format=json"
    duck = world.worker("web_search", query="epad", backend="duckduckgo")["results"]
    assert duck == [{"title": "One & first", "url": "https://one.example/a?b=1", "text": "The words of it"}]
    assert len(world.worker("web_search", query="epad", limit=1)["results"]) == 1


@pytest.mark.parametrize(
    ("status", "page"),
    [(200, CHALLENGE), (202, CHALLENGE), (202, ""), (403, "x"), (429, NOTHING), (503, "x")],
)
def test_a_blocked_search_is_told_as_one(world: World, web: WebWorld, status: int, page: str) -> None:
    """A challenge for people, and too many questions."""
    with pytest.raises(BlockedError, match="has blocked the search"):
        of_duckduckgo(status, page)
    web.routes[DUCKDUCKGO, "/html/"] = answer(page, "text/html", f"{status} X")
    said = world.worker.refusal("web_search", query="epad", backend="duckduckgo")
    assert "nothing is known about results" in said
    assert "[tools.web] searxng" in said


def test_a_search_without_results_is_a_result(world: World, web: WebWorld) -> None:
    """And a page that nobody knows is neither."""
    web.routes[DUCKDUCKGO, "/html/"] = answer(NOTHING, "text/html")
    assert world.worker("web_search", query="epad", backend="duckduckgo")["results"] == []
    assert of_duckduckgo(200, DUCKDUCKGO_PAGE + "g-recaptcha")
    with pytest.raises(ToolError, match="a page that is not known"):
        of_duckduckgo(200, "<p>Welcome</p>")


def test_searxng_says_why_it_has_nothing() -> None:
    """Engines that did not answer are no empty result; with JSON switched off, the setting is named."""
    assert of_searxng(200, b'{"results": [], "unresponsive_engines": []}') == []
    with pytest.raises(BlockedError, match="google CAPTCHA"):
        of_searxng(200, b'{"results": [], "unresponsive_engines": [["google", "CAPTCHA"]]}')
    with pytest.raises(BlockedError, match="its limiter"):
        of_searxng(429, b"Too Many Requests")
    with pytest.raises(ToolError, match="gives no JSON") as caught:
        of_searxng(403, b"<html>")
    assert "search.formats" in caught.value.hint
    for body in (b"<html>", b"[]", b'{"results": 1}', b'{"results": [1]}'):
        with pytest.raises(ToolError, match="something else than results"):
            of_searxng(200, body)


def test_hidden_words_in_results_are_shown() -> None:
    """A title is somebody's text."""
    (found,) = of_searxng(200, '{"results": [{"title": "a\u202eb", "url": "https://a.example"}]}'.encode())
    assert found.title == "a<U+202E>b"


def test_without_an_engine_of_ones_own_the_fix_is_named(web: WebWorld) -> None:
    """And DuckDuckGo has to be on the list."""
    with tool_worker("websearch", None, *web.options, environment={"EPAD_SEARXNG": ""}) as worker:
        assert "[tools.web] searxng" in worker.refusal("web_search", query="x", backend="searxng")
