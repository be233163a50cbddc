"""A page in headless Chromium: what became of its document, and what it said on the console."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Final

CHROMIUM: Final = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
_OPTIONS: Final = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --use-gl=angle --use-angle=swiftshader --enable-unsafe-swiftshader "
    "--virtual-time-budget=30000 --enable-logging=stderr --v=0"
)
# What a driver without a card says of itself, and Chromium of a test that reads pixels; no fault of the page.
DRIVER_NOTES: Final = (
    "GL Driver Message",
    "willReadFrequently",
    "will-read-frequently",
    "global variable initializers",
    "GPU stall",
)


def open_page(page: Path, profile: Path, script: str = "", size: str = "1280,2000") -> tuple[dict[str, str], list[str]]:
    """The `data-` attributes of the document's root after the page has loaded, and all that the console said.

    Args:
        page: an HTML file.
        profile: an empty folder for the browser.
        script: runs after the page's own; it may press buttons and leave `document.documentElement.dataset` entries.
        size: of the window.
    """
    profile.mkdir(parents=True, exist_ok=True)
    copy = profile / page.name
    text = page.read_text(encoding="utf-8")
    copy.write_text(text.replace("</body>", f"<script>{script}</script></body>") if script else text, encoding="utf-8")
    command = [str(CHROMIUM), *_OPTIONS.split(), f"--window-size={size}", f"--user-data-dir={profile / 'profile'}"]
    done = subprocess.run(
        [*command, "--dump-dom", copy.as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    root = re.search(r"<html[^>]*>", done.stdout)
    assert root
    said = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    said = [line for line in said if not any(note in line for note in DRIVER_NOTES)]
    return dict(re.findall(r'data-([\w-]+)="(.*?)"', root.group())), said
