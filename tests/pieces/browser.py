"""A page in headless Chromium: what became of its document, and what it said on the console."""

from pathlib import Path
from typing import Final

from playwright.sync_api import ConsoleMessage, Page, sync_playwright

from rnafold.kaggle.doctor import find_chromium

CHROMIUM: Final = find_chromium()
# A card is not at hand: WebGL is drawn by the processor.
_OPTIONS: Final = (
    "--no-sandbox --disable-gpu --disable-quic --use-gl=angle --use-angle=swiftshader --enable-unsafe-swiftshader"
)
# What a driver without a card says of itself, and Chromium of a test that reads pixels; no fault of the page.
_DRIVER_NOTES: Final = (
    "GL Driver Message",
    "willReadFrequently",
    "will-read-frequently",
    "global variable initializers",
    "GPU stall",
)
# Nothing takes so long: a page that never gets there fails instead of hanging.
_PATIENCE_MS: Final = 120_000


class OpenedPage:
    """What a browser found.

    Attributes:
        data: the `data-` entries of the document's root, by their names in JavaScript.
        said: warnings, errors and uncaught exceptions of the page.
        html: the document after all scripts.
    """

    def __init__(self, page: Page, said: list[str]) -> None:
        self.data: dict[str, str] = page.evaluate("({...document.documentElement.dataset})")
        self.html = page.content()
        self.said = said


def open_page(path: Path, script: str, size: tuple[int, int] = (1280, 2000)) -> OpenedPage:
    """Opens a page from its file, waits until it has drawn (`data-drawn`), and runs a script in it to its end.

    Time is the clock's, not the browser's virtual one: a script may await pictures that another thread decodes.

    Args:
        path: an HTML file.
        script: the body of an async function; it may press buttons and leave entries in the
            dataset of the root.
        size: width and height of the window in pixels.
    """
    said: list[str] = []

    def listen(message: ConsoleMessage) -> None:
        if message.type in {"warning", "error", "assert"} and not any(note in message.text for note in _DRIVER_NOTES):
            said.append(f"{message.type}: {message.text}")

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=_OPTIONS.split())
        page = browser.new_page(viewport={"width": size[0], "height": size[1]})
        page.set_default_timeout(_PATIENCE_MS)
        page.on("console", listen)
        page.on("pageerror", lambda error: said.append(f"uncaught: {error}"))
        page.goto(path.resolve().as_uri())
        page.wait_for_function("document.documentElement.dataset.drawn")
        page.evaluate(f"async () => {{ {script} }}")
        opened = OpenedPage(page, said)
        browser.close()
    return opened
