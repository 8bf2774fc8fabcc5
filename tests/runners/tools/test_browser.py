"""The category `browser`: a real Chromium behind the door of the real way out."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from typing import Any

import pytest
from patience import until
from tool_process import ToolWorker, tool_worker
from web_world import WebWorld, answer, redirect

from runners.tools.accessibility import tree_of

FORM = """<html><head><title>Form</title></head><body><h1>Hello</h1><form action="/done">
<label>Name <input name="n" value="before"></label><button>Send</button></form><a href="/page">further</a>
<p aria-hidden="true">hidden orders</p><p hidden>more of them</p><p>seen\u202eturned</p>
<script>window.ticks = 0; setInterval(() => window.ticks++, 10)</script></body></html>"""

FETCHED = """(async () => {
    const out = [];
    for (const url of ['http://www.example/data.json', 'http://private.example/', 'http://127.0.0.1:PORT/',
                       'http://[::1]/', 'http://unlisted.example/'])
        out.push(await fetch(url).then(r => r.ok, () => false));
    for (const url of ['wss://unlisted.example/', 'ws://127.0.0.1:PORT/devtools/browser/x'])
        out.push(await new Promise(done => {
            const s = new WebSocket(url); s.onopen = () => done(true); s.onerror = () => done(false); }));
    return out; })()"""
CANDIDATES = """(async () => {
    const c = new RTCPeerConnection({iceServers: [{urls: 'stun:127.0.0.1:9'}]});
    c.createDataChannel('x'); await c.setLocalDescription();
    await new Promise(done => {
        c.onicegatheringstatechange = () => c.iceGatheringState === 'complete' && done(); setTimeout(done, 2000); });
    return c.localDescription.sdp.split('\\r\\n').filter(line => /^a=candidate.* udp /i.test(line)); })()"""


@pytest.fixture(scope="module")
def shared_browser(shared_web: WebWorld) -> Iterator[ToolWorker]:
    with tool_worker("browser", None, *shared_web.options) as worker:
        yield worker


@pytest.fixture
def browser(shared_browser: ToolWorker, web: WebWorld) -> ToolWorker:
    """A worker with a browser that has no page."""
    web.routes["www.example", "/form"] = answer(FORM, "text/html; charset=utf-8")
    web.routes["www.example", "/done"] = lambda asked: answer(f"<p>got {asked.target}", "text/html")(asked)
    return shared_browser


@pytest.fixture
def page(browser: ToolWorker) -> Iterator[str]:
    """A page with the form."""
    name = browser("browser_navigate", url="http://www.example/form")["page"]
    yield name
    browser("browser_close", page=name)


def ref(tree: str, role: str) -> int:
    found = re.search(rf"{role} .*\[ref=(\d+)\]", tree)
    assert found, tree
    return int(found[1])


def test_a_page_is_read_filled_and_sent(browser: ToolWorker, web: WebWorld, page: str) -> None:
    """By its accessibility tree, in which nothing is that a person does not see."""
    tree = browser("browser_snapshot", page=page)["tree"]
    assert "hidden orders" not in tree
    assert "more of them" not in tree
    assert "seen<U+202E>turned" in tree
    assert browser("browser_fill", page=page, ref=ref(tree, "textbox"), value="Ann ü")["ok"]
    assert '= "Ann ü"' in browser("browser_snapshot", page=page)["tree"]
    sent = browser("browser_click", page=page, ref=ref(tree, "button"))
    assert sent["url"].startswith("http://www.example/done?n=Ann")
    assert "got /done?n=Ann" in browser("browser_snapshot", page=page)["tree"]
    assert "there is no element" in browser.refusal("browser_click", page=page, ref=ref(tree, "button"))


async def test_no_page_runs_between_calls(browser: ToolWorker, page: str) -> None:
    """The browser stands still: a page that polls does so while somebody has called, and then no more."""
    number = "window.ticks"
    before = browser("browser_evaluate", page=page, script=number)["value"]
    await until(lambda: all(state == "T" for _, state in _chromium(browser)))  # a signal takes a moment
    assert browser("browser_evaluate", page=page, script=number)["value"] > before


def _chromium(browser: ToolWorker) -> list[tuple[int, str]]:
    """Return the browser's processes and their states."""
    import psutil  # noqa: PLC0415

    group = [
        each
        for each in psutil.Process(browser.process.pid).children(recursive=True)
        if each.name() == "chromium"
    ]
    assert group
    return [(each.pid, "T" if each.status() == psutil.STATUS_STOPPED else each.status()) for each in group]


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://unlisted.example/", "is not among the hosts"),
        ("https://unlisted.example/", "the way out lets nothing out"),
        ("http://private.example/", "leads to a private address"),
        ("http://127.0.0.1/", "no rule names the address"),
        ("http://169.254.169.254/", "no rule names the address"),
        ("file:///etc/passwd", "is no address that can be asked"),
        ("chrome://version/", "is no address that can be asked"),
        ("javascript:alert(1)", "is no address that can be asked"),
        ("data:text/html,x", "is no address that can be asked"),
    ],
)
def test_a_page_goes_where_the_list_lets_it(browser: ToolWorker, web: WebWorld, url: str, why: str) -> None:
    """And a refused one leaves no page behind."""
    assert why in browser.refusal("browser_navigate", url=url)
    assert web.asked == []


def test_a_page_is_held_to_the_list_in_all_that_it_asks_for(
    browser: ToolWorker, web: WebWorld, page: str
) -> None:
    """Redirects, scripts, frames, fetches and sockets; the twin to a listed host arrives."""
    web.routes["www.example", "/away"] = redirect("http://unlisted.example/")
    assert "is not among the hosts" in browser.refusal(
        "browser_navigate", url="http://www.example/away", page=page
    )
    browser("browser_navigate", url="http://www.example/form", page=page)
    fetched = FETCHED.replace("PORT", str(web.door.port))
    assert browser("browser_evaluate", page=page, script=fetched)["value"] == [True, *[False] * 6]
    assert browser("browser_evaluate", page=page, script=CANDIDATES)["value"] == []


def test_pages_are_few_and_each_has_a_profile_of_its_own(browser: ToolWorker, page: str) -> None:
    """A cookie of one is not the other's, and a third is refused until one is closed."""
    browser("browser_evaluate", page=page, script="document.cookie = 'a=b; max-age=1000'")
    other = browser("browser_navigate", url="http://www.example/form")["page"]
    assert browser("browser_evaluate", page=other, script="document.cookie")["value"] == ""
    assert "browser_close" in browser.refusal("browser_navigate", url="http://www.example/form")
    assert browser("browser_close", page=other)["closed"]
    assert not browser("browser_close", page=other)["closed"]
    assert "there is no page" in browser.refusal("browser_snapshot", page=other)


def test_a_script_gives_a_value_or_a_reason(browser: ToolWorker, page: str) -> None:
    """Questions to a person are answered with no, and a script without end is ended."""

    def value(script: str) -> Any:
        return browser("browser_evaluate", page=page, script=script)["value"]

    assert value("({a: [1, '\u202e']})") == {"a": [1, "<U+202E>"]}
    assert value("confirm('really?')") is False
    assert value("new Promise(done => setTimeout(() => done(7), 20))") == 7
    for script, why in {
        "nothing.at.all": "ReferenceError",
        "'x'.repeat(1e6)": "there is room for",
        "while (true) {}": "was ended after 5 s",
    }.items():
        assert why in browser.refusal("browser_evaluate", page=page, script=script)


def test_nothing_is_downloaded(browser: ToolWorker, web: WebWorld, page: str) -> None:
    """The page stays where it is."""
    web.routes["www.example", "/file"] = answer(
        "x", "application/octet-stream", content_disposition="attachment"
    )
    assert "ERR_ABORTED" in browser.refusal("browser_navigate", url="http://www.example/file", page=page)


def test_a_picture_fits(browser: ToolWorker, page: str) -> None:
    """Of a page without end too."""
    picture = browser("browser_screenshot", page=page)
    assert base64.b64decode(picture["image"])[8:12] == b"WEBP"
    browser("browser_evaluate", page=page, script="document.body.style.height = '1000000px'; 1")
    assert browser("browser_screenshot", page=page, full=True)["scale"] <= 1


def button(number: int) -> dict[str, Any]:
    """Return a button that has the next one in it."""
    return {
        "nodeId": str(number), "role": {"value": "button"}, "name": {"value": f"B{number}"},
        "childIds": [str(number + 1)], "backendDOMNodeId": number,
    }  # fmt: skip


def test_a_large_page_is_told_within_the_budget() -> None:
    """By whole elements; what was left out is counted, and depth costs no recursion."""
    root: dict[str, Any] = {"nodeId": "0", "role": {"value": "RootWebArea"}, "childIds": ["1"]}
    nodes = [root, *map(button, range(1, 5_000))]
    tree, left_out = tree_of(nodes)
    assert len(tree.encode()) <= 16 << 10
    assert len(tree.split("\n")) + left_out == 4_999
    assert tree.startswith('button "B1" [ref=1]\n  button "B2" [ref=2]')


def test_without_a_way_out_there_is_no_browser() -> None:
    """It is not even started."""
    with tool_worker("browser", None) as alone:
        assert "no way out from here" in alone.refusal("browser_navigate", url="http://www.example/")
