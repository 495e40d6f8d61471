"""Every page in Chromium: axe finds nothing in light and dark, no policy is violated, nothing overflows."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page

from tests.catalogue import ADMIN, OUTSIDE, PAGES, Catalogue, furnished
from tests.conftest import own_database

# What depends on the theme or on the width: the rest is the same document.
COLOURS = ["color-contrast", "link-in-text-block"]
SPACE = ["target-size", "scrollable-region-focusable", "color-contrast"]


@dataclass
class Visit:
    """What was found on one page."""

    light: list[str]
    dark: list[str]
    narrow: list[str]
    too_wide: list[str]
    violations: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def catalogue(django_db_blocker: Any) -> Iterator[Catalogue]:
    with own_database(django_db_blocker), furnished() as catalogue:
        yield catalogue


@pytest.fixture(scope="module")
def visited(catalogue: Catalogue, browser: Browser) -> Iterator[Callable[[str], Visit]]:
    """Opens a page once, however many tests ask."""
    inside, outside = (
        browser.new_context(viewport={"width": 1440, "height": 900}, reduced_motion="reduce")
        for _ in range(2)
    )
    catalogue.sign_in(inside)
    yield cache(lambda name: visit(outside if name in OUTSIDE else inside, catalogue.address(name)))
    inside.close()
    outside.close()


@pytest.mark.parametrize("name", [*PAGES, *OUTSIDE])
def test_axe_finds_nothing_in_light(visited: Callable[[str], Visit], name: str) -> None:
    assert visited(name).light == []


@pytest.mark.parametrize("name", [*PAGES, *OUTSIDE])
def test_axe_finds_nothing_in_dark(visited: Callable[[str], Visit], name: str) -> None:
    assert visited(name).dark == []


@pytest.mark.parametrize("name", [*PAGES, *OUTSIDE])
def test_axe_finds_nothing_on_a_phone(visited: Callable[[str], Visit], name: str) -> None:
    assert visited(name).narrow == []


@pytest.mark.parametrize("name", [*PAGES, *OUTSIDE])
def test_no_page_is_wider_than_its_window(visited: Callable[[str], Visit], name: str) -> None:
    assert visited(name).too_wide == []


@pytest.mark.parametrize("name", [*PAGES, *OUTSIDE, *ADMIN])
def test_no_policy_is_violated(visited: Callable[[str], Visit], name: str) -> None:
    assert visited(name).violations == []


def test_what_they_look_for_is_found(catalogue: Catalogue, browser: Browser) -> None:
    """Else the tests above would prove nothing."""
    context = browser.new_context()
    page = context.new_page()
    found = listened_to(page)
    page.goto(f"{catalogue.url}/sign-in")
    page.evaluate("document.body.append(Object.assign(new Image(), {src: 'http://127.0.0.1:9/x.png'}))")
    page.evaluate("document.querySelector('input[name=username]').labels[0].remove()")
    page.wait_for_timeout(200)
    assert any("image-alt" in problem for problem in axe(page))
    assert any("label" in problem for problem in axe(page))
    assert any("Content Security Policy" in message for message in found)
    context.close()


def visit(context: BrowserContext, address: str) -> Visit:
    page = context.new_page()
    violations = listened_to(page)
    page.emulate_media(color_scheme="light")
    page.goto(address, wait_until="networkidle")
    if "/admin/" in address:  # Django's own pages: only the policy is ours
        page.close()
        return Visit([], [], [], [], violations)
    light = axe(page)
    page.emulate_media(color_scheme="dark")
    dark = axe(page, COLOURS)
    too_wide, narrow = [], []
    for width in (2560, 700, 390):
        page.set_viewport_size({"width": width, "height": 844})
        reach = page.evaluate("document.documentElement.scrollWidth")
        too_wide += [f"{reach} in {width}"] if reach > width else []
        narrow += axe(page, SPACE) if width < 1000 else []
    page.close()
    return Visit(light, dark, narrow, too_wide, violations)


def listened_to(page: Page) -> list[str]:
    """What the page's console says of its policy, or of errors, from now on."""
    said: list[str] = []

    def note(message: ConsoleMessage) -> None:
        if "Content Security Policy" in message.text:
            said.append(message.text)

    page.on("console", note)
    page.on("pageerror", lambda error: said.append(str(error)))
    return said


def axe(page: Page, rules: list[str] | None = None) -> list[str]:
    """A line for each thing that breaks a rule; all rules by default."""
    options: dict[str, Any] = {"resultTypes": ["violations"]}
    if rules:
        options["runOnly"] = {"type": "rule", "values": rules}
    response = Axe().run(page, options=options).response
    return [
        f"{rule['id']}: {node['html'][:200]} {node['failureSummary'].splitlines()[-1].strip()}"
        for rule in response["violations"]
        for node in rule["nodes"][:3]
    ]
