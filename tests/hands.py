"""How a person uses a page: with a mouse, without script, or with nothing but a keyboard."""

from playwright.sync_api import Locator, Page

_FURTHEST = 250  # times Tab; a page that needs more is no page for a keyboard


class Hands:
    """With a mouse. `scripted` tells whether the page's script runs."""

    def __init__(self, page: Page, scripted: bool = True) -> None:
        self.page, self.scripted = page, scripted

    def press(self, thing: Locator) -> None:
        """A link or a button."""
        thing.click()

    def write(self, field: Locator, words: str) -> None:
        field.fill(words)

    def star(self, stars: Locator, number: int) -> None:
        """The `number`-th of five radios, which may be drawn as stars."""
        stars.get_by_role("radio").nth(number - 1).check(force=True)

    def tick(self, box: Locator) -> None:
        box.check()

    def find(self, box: Locator, words: str) -> None:
        """Types into a search box and sends it."""
        box.fill(words)
        box.press("Enter")


class Keys(Hands):
    """Presses keys and nothing else: what Tab does not reach cannot be used."""

    def press(self, thing: Locator) -> None:
        self.reach(thing)
        self.page.keyboard.press("Enter")

    def write(self, field: Locator, words: str) -> None:
        self.reach(field)
        self.page.keyboard.press("Control+a")
        self.page.keyboard.type(words)

    def star(self, stars: Locator, number: int) -> None:
        radios = stars.get_by_role("radio")
        self.reach(*radios.all())
        for _ in range(6):  # arrows go round among the five
            self.page.keyboard.press("ArrowRight")
            if radios.nth(number - 1).is_checked():
                return
        raise AssertionError(f"no arrow leads to star {number}")

    def tick(self, box: Locator) -> None:
        self.reach(box)
        self.page.keyboard.press("Space")

    def find(self, box: Locator, words: str) -> None:
        self.write(box, words)
        if box.get_attribute("aria-expanded") == "true":
            self.page.keyboard.press("Escape")  # the list of completions
        self.page.keyboard.press("Enter")

    def reach(self, *things: Locator) -> None:
        """Tab by Tab, until one of them has the focus, and shows it."""
        for thing in things:
            thing.wait_for(state="attached")
        for _ in range(_FURTHEST):
            if any(thing.evaluate("it => it === document.activeElement") for thing in things):
                return
            self.page.keyboard.press("Tab")
        raise AssertionError(f"Tab does not reach {things[0]}")
