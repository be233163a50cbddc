"""Makes docs/pictures from the demo and headless Chromium: `make pictures`, or python scripts/make_pictures.py [DEMO].

DEMO is a folder that `python -m rnafold demo` has filled; without it the demo is run first (minutes). Pictures that
grow beyond their limit are refused, so that a clone stays small.
"""

import sys
import tempfile
from pathlib import Path
from typing import Final

from playwright.sync_api import sync_playwright

from rnafold.cli.main import main
from rnafold.errors import InputError
from rnafold.files.atomic import write_bytes
from rnafold.kaggle.doctor import find_chromium

PICTURES: Final = Path(__file__).resolve().parents[1] / "docs" / "pictures"
LARGEST_BYTES: Final = 300_000
# Yeast's tRNA for phenylalanine, unmodified; the file that the README's command folds.
TRNA: Final = "GCGGAUUUAGCUCAGUUGGGAGAGCGCCAGACUGAAGAUCUGGAGGUCCUGUGUUCGAUCCACAGAAUUCGCACCA"
# As all tRNAs fold; what of them the sequence alone does not tell.
CLOVERLEAF: Final = "(((((((..((((........)))).((((.........)))).....(((((.......))))))))))))...."
# A card is not at hand: WebGL is drawn by the processor.
_OPTIONS: Final = (
    "--no-sandbox --disable-gpu --hide-scrollbars --use-gl=angle --use-angle=swiftshader --enable-unsafe-swiftshader"
)


def make_pictures(demo: Path | None) -> list[Path]:
    """Folds, reports and photographs; returns the pictures."""
    with tempfile.TemporaryDirectory(prefix="rnafold-pictures-") as name:
        folder = Path(name)
        if demo is None:
            demo = folder / "demo"
            _run(["demo", "--out", str(demo)])
        (folder / "trna.fasta").write_text(f">tRNA-Phe\n{TRNA}\n", encoding="utf-8")
        (folder / "trna.dbn").write_text(f">tRNA-Phe\n{CLOVERLEAF}\n", encoding="utf-8")
        fold = ["fold", str(folder / "trna.fasta"), "--pairs", str(folder / "trna.dbn")]
        _run([*fold, "--out", str(folder / "models"), "--cache", str(folder / "cache")])
        scored = ["--submission", str(demo / "submission.csv"), "--labels", str(demo / "data" / "test_labels.csv")]
        _run(["report", str(demo / "run"), *scored, "--out", str(folder / "report.html")])
        return [
            take_picture(folder / "models" / "tRNA-Phe" / "index.html", PICTURES / "fold.png", (1100, 1180)),
            take_picture(folder / "report.html", PICTURES / "report.png", (1240, 1760)),
        ]


def take_picture(page: Path, out: Path, size: tuple[int, int]) -> Path:
    """A picture of the top of a page, once it has drawn; `size` is its width and height in pixels.

    Raises:
        InputError: no page, no Chromium, or a picture beyond the limit.
    """
    chromium = find_chromium()
    if chromium is None:
        raise InputError("pictures are taken by Chromium, found none (Debian: apt-get install chromium)")
    if not page.is_file():
        raise InputError(f"{page}: no such page to photograph")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=_OPTIONS.split())
        window = browser.new_page(viewport={"width": size[0], "height": size[1]})
        window.goto(page.resolve().as_uri())
        window.wait_for_function("document.documentElement.dataset.drawn")
        picture = window.screenshot()
        browser.close()
    if len(picture) > LARGEST_BYTES:
        raise InputError(f"{out}: {len(picture):,} bytes, expected at most {LARGEST_BYTES:,}")
    write_bytes(out, picture)
    return out


def _run(arguments: list[str]) -> None:
    if main(arguments):
        raise InputError(f"rnafold {' '.join(arguments)} failed")


if __name__ == "__main__":
    for picture in make_pictures(Path(sys.argv[1]) if len(sys.argv) > 1 else None):
        print(f"{picture}: {picture.stat().st_size:,} bytes")
