"""Keep pages in the worker's browser: each is a target with a profile of its own, which ends with it.

Calls are processes of their own, so nothing is kept here: the browser itself knows its pages. Refs are its numbers of
elements; they hold for as long as the element is on the page.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

from runners.tools import devtools, way_out
from runners.tools.devtools import DevTools, Event
from runners.tools.signature import CONTEXT, ToolError
from runners.tools.visible import visible

MOST_PAGES: Final = 2
_CALL_SECONDS: Final = 55.0
_LOAD_SECONDS: Final = 30.0
_SETTLE_SECONDS: Final = 0.2
_A_WHILE: Final = "new Promise(done => setTimeout(done, 100))"
_BEGUN: Final = frozenset(
    {"Page.frameRequestedNavigation", "Page.frameStartedNavigating", "Page.frameStartedLoading"}
)
_NOT_LET_OUT: Final = frozenset({"net::ERR_TUNNEL_CONNECTION_FAILED", "net::ERR_PROXY_CONNECTION_FAILED"})


@dataclass(frozen=True, slots=True)
class Page:
    """Holds one page, and the session that speaks to it."""

    tools: DevTools
    name: str
    session: str
    context: str

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """Have a command of the page done. Raises ToolError."""
        return self.tools.ask(method, self.session, **params)

    def evaluate(self, script: str) -> Any:
        """Return the value of a script of ours. Raises ToolError."""
        return self.ask("Runtime.evaluate", expression=script, returnByValue=True)["result"].get("value")

    def place(self) -> tuple[str, str]:
        """Return the address and the title."""
        info = self.tools.ask("Target.getTargetInfo", targetId=self.name)["targetInfo"]
        return visible(info["url"])[:2_000], visible(info["title"])[:300]

    def settle(self) -> None:
        """Wait until what the call has begun has loaded, if anything was begun: the page's own clock tells when."""
        with suppress(ToolError):  # a page that is left has no clock any more
            self.ask("Runtime.evaluate", expression=_A_WHILE, awaitPromise=True, timeout=2_000)
        self.tools.pause(_SETTLE_SECONDS)
        if any(each.get("method") in _BEGUN for each in self.tools.events):
            self.tools.wait(_has_loaded, _LOAD_SECONDS)


@contextmanager
def browser() -> Iterator[DevTools]:
    """Connect to the worker's browser. Raises ToolError."""
    place = CONTEXT.get().browser
    if not place.startswith("ws://"):
        raise ToolError(
            place or "this worker has no browser", "install chromium; epactl doctor names a missing wall"
        )
    with devtools.connected(place, _CALL_SECONDS) as tools:
        yield tools


@contextmanager
def opened_page(name: str) -> Iterator[Page]:
    """Give a page that is open. Raises ToolError."""
    with browser() as tools:
        yield attached(tools, name)


def open_pages(tools: DevTools) -> list[dict[str, Any]]:
    """Return the pages with a profile of their own: the browser's first one has none, and is nobody's."""
    contexts = set(tools.ask("Target.getBrowserContexts")["browserContextIds"])
    targets = tools.ask("Target.getTargets")["targetInfos"]
    return [each for each in targets if each["type"] == "page" and each.get("browserContextId") in contexts]


def attached(tools: DevTools, name: str) -> Page:
    """Give a page that is open. Raises ToolError."""
    found = next((each for each in open_pages(tools) if each["targetId"] == name), None)
    if found is None:
        raise ToolError(f"there is no page {name}", "open one by browser_navigate without a page")
    session = tools.ask("Target.attachToTarget", targetId=name, flatten=True)["sessionId"]
    tools.ask("Browser.setDownloadBehavior", behavior="deny", browserContextId=found["browserContextId"])
    tools.ask("Page.enable", session)
    return Page(tools, name, session, found["browserContextId"])


def new_page(tools: DevTools) -> Page:
    """Open an empty page with a fresh profile. Raises ToolError where there are enough."""
    names = [each["targetId"] for each in open_pages(tools)]
    if len(names) >= MOST_PAGES:
        raise ToolError(
            f"{len(names)} pages are open, and {MOST_PAGES} may be", f"browser_close {' or '.join(names)}"
        )
    context = tools.ask("Target.createBrowserContext")["browserContextId"]
    name = tools.ask("Target.createTarget", url="about:blank", browserContextId=context)["targetId"]
    return attached(tools, name)


def go_to(page: Page, url: str) -> int:
    """Go to an address; return the status of the answer. Raises ToolError."""
    page.ask("Network.enable")
    page.tools.events.clear()
    gone = page.ask("Page.navigate", url=url)
    if error := gone.get("errorText"):
        if error in _NOT_LET_OUT:
            raise ToolError(f"the way out lets nothing out to {url[:200]}", way_out.LIST)
        raise ToolError(f"{url[:200]}: {visible(error)[:100]}", "look at the address with http_fetch")
    page.tools.wait(_has_loaded, _LOAD_SECONDS)
    answers = [
        each["params"] for each in page.tools.events if each.get("method") == "Network.responseReceived"
    ]
    status = next(
        (int(each["response"]["status"]) for each in reversed(answers) if each.get("type") == "Document"), 0
    )
    if status >= 400:
        words = page.evaluate("document.body ? document.body.innerText.slice(0, 16384) : ''")
        if isinstance(words, str) and (refused := way_out.refusal(words.encode(errors="replace"))):
            raise refused
    return status


def element(page: Page, ref: int) -> str:
    """Return the browser's handle of an element. Raises ToolError where it is not on the page."""
    try:
        handle: str = page.ask("DOM.resolveNode", backendNodeId=ref)["object"]["objectId"]
    except (ToolError, KeyError):
        raise ToolError(f"there is no element {ref} on the page", "take a new snapshot") from None
    return handle


def _has_loaded(event: Event) -> bool:
    return event.get("method") == "Page.loadEventFired"
