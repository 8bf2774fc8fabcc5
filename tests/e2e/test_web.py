"""The status page of the installed daemon, in a real browser: it reads well, and axe finds no serious fault."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from failing_model import kill_model_until_reported, working, write_configuration
from installed import QUICK, Installation, installation
from patience import PATIENCE_SECONDS

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
PHONE = {"width": 390, "height": 844}
DESK = {"width": 1280, "height": 900}

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium here: apt-get install chromium")


@pytest.fixture(scope="module")
def running() -> Iterator[Installation]:
    with installation(QUICK.replace("dwell_seconds = 1.0", "dwell_seconds = 60.0")) as one:
        one.start()
        yield one
        one.stop()


@pytest.fixture
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as api:
        one = api.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield one
        one.close()


def serious_faults(page: Any) -> list[str]:
    """What axe-core calls serious or critical."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    violations = axe.run(page).response["violations"]
    return [
        f"{v['id']}: {v['nodes'][0]['html']}" for v in violations if v["impact"] in {"serious", "critical"}
    ]


def test_the_page_follows_a_runaway(running: Installation, browser: Any, tmp_path: Path) -> None:
    """NORMAL, then without a reload QUARANTINE; light, dark and on a phone, no serious fault in any."""
    url = running.status()["web"]["url"]
    page = browser.new_page(viewport=DESK)
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(url)
    page.wait_for_selector(".rung.here.phase-normal")
    assert serious_faults(page) == []
    running.loop_switch().touch()
    page.wait_for_selector(".rung.here.phase-quarantine", timeout=PATIENCE_SECONDS * 1_000)
    page.wait_for_selector("tr:has-text('chat') .state-quarantined", timeout=PATIENCE_SECONDS * 1_000)
    assert serious_faults(page) == []
    page.emulate_media(color_scheme="dark")
    assert serious_faults(page) == []
    page.set_viewport_size(PHONE)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    assert serious_faults(page) == []
    page.goto(f"{url}subsystems/chat")
    assert "process" in page.inner_text(".chain")
    assert serious_faults(page) == []
    assert errors == []


def test_a_cascade_and_a_lifeboat_have_no_serious_fault(browser: Any) -> None:
    """The two pages of a bad night: a root with its victims, and everything stopped; on a phone, in the dark, too."""
    with installation() as house:
        quick = QUICK.replace("dwell_seconds = 1.0", "dwell_seconds = 600.0")
        write_configuration(house, quick)
        house.start()
        house.wait(lambda: working(house), "both clients at work")
        kill_model_until_reported(house)
        page = browser.new_page(viewport=DESK)
        page.goto(house.status()["web"]["url"])
        page.wait_for_selector(".incidents .victims a", timeout=PATIENCE_SECONDS * 1_000)
        everywhere_sound(page)
        house.ctl("lifeboat", "enter", "--yes", "--reason", "a test")
        page.wait_for_selector(".rung.here.phase-lifeboat", timeout=PATIENCE_SECONDS * 1_000)
        everywhere_sound(page)
        house.stop()


def everywhere_sound(page: Any) -> None:
    """No serious fault at a desk and on a phone, by day and by night."""
    for size in (DESK, PHONE):
        page.set_viewport_size(size)
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            assert serious_faults(page) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]


def test_it_reads_without_javascript_and_from_the_keyboard(running: Installation, browser: Any) -> None:
    """The same page, once; the first stop of the Tab key leads past the head."""
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(running.status()["web"]["url"])
    assert "wargame" in page.inner_text("main")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.url.endswith("#main")
