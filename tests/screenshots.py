"""`make screenshots`: every page of the catalogue, light and dark, wide and narrow, into docs/screenshots.

A furnished instance on a PostgreSQL of its own; what is there already is replaced, what is no page any more
goes.
"""

import os
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import django
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from bench.server import scratch_server

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "screenshots"
SIZES = {1440: 900, 390: 844}
THEMES = ("light", "dark")
_FADING = 250  # milliseconds, in which the admin's colours turn into those of the other theme
COLOURS = 256  # of a palette: text stays sharp, and a file has a third of the bytes


def main() -> None:
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"  # Playwright has a loop in this thread
    with scratch_server():
        django.setup()
        from tests.catalogue import furnished
        from tests.run import candidates, runs

        chromium = next(filter(runs, candidates()), None)
        with furnished() as catalogue, sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            taken = set(_all(browser, catalogue))
            browser.close()
    for path in FOLDER.glob("*.png"):
        if path.name not in taken:
            path.unlink()
    print(f"{len(taken)} screenshots are in docs/screenshots.")


def _all(browser: Browser, catalogue) -> Iterator[str]:
    from tests.catalogue import ADMIN, OUTSIDE, PAGES, SCENES

    FOLDER.mkdir(parents=True, exist_ok=True)
    for width, height in SIZES.items():
        context = browser.new_context(
            viewport={"width": width, "height": height}, reduced_motion="reduce", has_touch=width < 1000
        )
        page = context.new_page()
        for name in (*OUTSIDE, *PAGES, *ADMIN, *SCENES):
            if name == next(iter(PAGES)):
                catalogue.sign_in(context)
            scene = SCENES.get(name)
            page.goto(catalogue.address(scene.page if scene else name), wait_until="networkidle")
            if scene:
                scene.act(page)
                page.wait_for_timeout(300)
            for theme in THEMES:
                page.emulate_media(color_scheme=theme)
                page.wait_for_timeout(_FADING)
                yield _take(page, f"{name}-{width}-{theme}.png")
        context.close()


def _take(page: Page, name: str) -> str:
    drawn = Image.open(BytesIO(page.screenshot())).convert("RGB")
    drawn.quantize(COLOURS, dither=Image.Dither.NONE).save(FOLDER / name, optimize=True)
    return name


if __name__ == "__main__":
    main()
