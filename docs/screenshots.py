"""Takes the pictures of docs/images: `.venv/bin/python docs/screenshots.py`, about five minutes.

With `wargame` as its argument only that of a wargame's report, after a run of 1,000 rounds on the embedded engine.
Else a real daemon with real processes: a model server that is killed until epad has had enough of it, two clients that
die with it, then the lifeboat. Only the GPU is not there: its memory is what files say that this script writes.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests/support"))

from failing_model import kill_model_until_reported, working, write_configuration  # noqa: E402
from fake_gpus import FakeAmd  # noqa: E402
from installed import QUICK, Installation, installation  # noqa: E402

IMAGES = ROOT / "docs/images"
REPORT = {"width": 1060, "height": 1000}
DESK, PHONE = {"width": 1280, "height": 1000}, {"width": 390, "height": 844}
COLOURS = 64
GIB = 1 << 30
# What the card's memory does while the first picture waits: a model is loaded, and its cache fills.
VRAM_GIB = (1.2, 1.3, 9.8, 11.0, 12.4, 13.1, 13.3, 13.3)
STEP_SECONDS = 30.0


def configuration(root: Path) -> str:
    """Long times, so that a phase stays until its pictures are taken."""
    quick = QUICK.replace("dwell_seconds = 1.0", "dwell_seconds = 600.0")
    return f'{quick}[probes.vram]\nroot = "{root}"\ninterval_seconds = 1.0\n'


def take(page: Any, name: str) -> None:
    """A desk by day and by night, and a phone."""
    for scheme, size, suffix in (("light", DESK, "light"), ("dark", DESK, "dark"), ("light", PHONE, "phone")):
        page.set_viewport_size(size)
        page.emulate_media(color_scheme=scheme)
        page.wait_for_timeout(300)
        path = IMAGES / f"{name}-{suffix}.png"
        page.screenshot(path=path)
        shrink(path)


def shrink(path: Path) -> None:
    """A page has few colours."""
    with Image.open(path) as image:
        image.convert("RGB").quantize(COLOURS).save(path, optimize=True)
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size >> 10} KiB")


def pass_time(card: FakeAmd) -> None:
    """Let the card fill."""
    for used in VRAM_GIB:
        card.uses(int(used * GIB))
        time.sleep(STEP_SECONDS)


def photograph(house: Installation, page: Any, card: FakeAmd) -> None:
    """One evening, from NORMAL to LIFEBOAT."""
    house.start()
    house.wait(lambda: working(house), "both clients at work")
    pass_time(card)
    page.goto(house.status()["web"]["url"])
    page.wait_for_selector(".rung.here.phase-normal")
    take(page, "normal")
    kill_model_until_reported(house)
    page.wait_for_selector(".incidents .victims a", timeout=60_000)
    page.wait_for_selector(".state-paused", timeout=60_000)
    take(page, "quarantine")
    house.ctl("lifeboat", "enter", "--yes", "--reason", "a thunderstorm")
    page.wait_for_selector(".rung.here.phase-lifeboat", timeout=120_000)
    page.wait_for_timeout(6_000)
    take(page, "lifeboat")
    house.stop()


def photograph_wargame(page: Any) -> None:
    """The report's page down to the end of its plots."""
    wargame = Path(sys.executable).parent / "wargame"
    with tempfile.TemporaryDirectory() as folder:
        store, html = Path(folder) / "night.db", Path(folder) / "night.html"
        subprocess.run([wargame, "run", "--rounds", "1000", "--store", store, "--quiet"], check=True)
        with (Path(folder) / "night.md").open("w") as text:
            subprocess.run([wargame, "report", "--store", store, "--html", html], check=True, stdout=text)
        page.goto(html.as_uri())
        last = page.locator("figure").last.bounding_box()
        page.set_viewport_size(REPORT | {"height": int(last["y"] + last["height"]) + 24})
        page.screenshot(path=IMAGES / "wargame-report.png")
    shrink(IMAGES / "wargame-report.png")


def photograph_daemon(browser: Any) -> None:
    """Take all nine."""
    with installation() as house:
        card = FakeAmd(house.directory / "machine")
        card.card(total=16 * GIB, used=int(VRAM_GIB[0] * GIB))
        write_configuration(house, configuration(card.root))
        photograph(house, browser.new_page(viewport=DESK), card)


def main() -> None:
    """Take those that were asked for."""
    chromium = shutil.which("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        if sys.argv[1:] == ["wargame"]:
            photograph_wargame(browser.new_page(viewport=REPORT))
        else:
            photograph_daemon(browser)
        browser.close()


if __name__ == "__main__":
    main()
