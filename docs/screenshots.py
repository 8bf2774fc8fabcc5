"""Takes the pictures of docs/images: `.venv/bin/python docs/screenshots.py`, about five minutes.

A real daemon with real processes: a model server that is killed until epad has had enough of it, two clients that die
with it, then the lifeboat. Only the GPU is not there: its memory is what files say that this script writes.
"""

from __future__ import annotations

import shutil
import sys
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


def main() -> None:
    """Take all nine."""
    chromium = shutil.which("chromium")
    with installation() as house, sync_playwright() as playwright:
        card = FakeAmd(house.directory / "machine")
        card.card(total=16 * GIB, used=int(VRAM_GIB[0] * GIB))
        write_configuration(house, configuration(card.root))
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        photograph(house, browser.new_page(viewport=DESK), card)
        browser.close()


if __name__ == "__main__":
    main()
