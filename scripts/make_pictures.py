"""Makes docs/pictures from the demo and headless Chromium: `make pictures`, or python scripts/make_pictures.py [DEMO].

DEMO is a folder that `python -m rnafold demo` has filled; without it the demo is run first (minutes). Pictures that
grow beyond their limit are refused, so that a clone stays small.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from rnafold.cli.main import main
from rnafold.errors import InputError

PICTURES: Final = Path(__file__).resolve().parents[1] / "docs" / "pictures"
LARGEST_BYTES: Final = 300_000
# Yeast's tRNA for phenylalanine, unmodified; the file that the README's command folds.
TRNA: Final = "GCGGAUUUAGCUCAGUUGGGAGAGCGCCAGACUGAAGAUCUGGAGGUCCUGUGUUCGAUCCACAGAAUUCGCACCA"
# As all tRNAs fold; what of them the sequence alone does not tell.
CLOVERLEAF: Final = "(((((((..((((........)))).((((.........)))).....(((((.......))))))))))))...."
_OPTIONS: Final = (
    "--headless --no-sandbox --disable-gpu --hide-scrollbars --force-device-scale-factor=1 --use-gl=angle "
    "--use-angle=swiftshader --enable-unsafe-swiftshader --virtual-time-budget=20000"
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
            take_picture(folder / "models" / "tRNA-Phe" / "index.html", PICTURES / "fold.png", "1100,1180"),
            take_picture(folder / "report.html", PICTURES / "report.png", "1240,1760"),
        ]


def take_picture(page: Path, out: Path, size: str) -> Path:
    """A picture of the top of a page.

    Raises:
        InputError: no page, no Chromium, or a picture beyond the limit.
    """
    names = ("chromium", "chromium-browser", "google-chrome")
    chromium = next((path for name in names if (path := shutil.which(name))), None)
    if chromium is None:
        raise InputError("pictures are taken by Chromium, found none (Debian: apt-get install chromium)")
    if not page.is_file():
        raise InputError(f"{page}: no such page to photograph")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as profile:
        shot = Path(profile) / "shot.png"
        command = [chromium, *_OPTIONS.split(), f"--window-size={size}", f"--user-data-dir={profile}"]
        subprocess.run([*command, f"--screenshot={shot}", page.resolve().as_uri()], check=True, capture_output=True)
        if shot.stat().st_size > LARGEST_BYTES:
            raise InputError(f"{out}: {shot.stat().st_size:,} bytes, expected at most {LARGEST_BYTES:,}")
        shutil.copyfile(shot, out)
    return out


def _run(arguments: list[str]) -> None:
    if main(arguments):
        raise InputError(f"rnafold {' '.join(arguments)} failed")


if __name__ == "__main__":
    for picture in make_pictures(Path(sys.argv[1]) if len(sys.argv) > 1 else None):
        print(f"{picture}: {picture.stat().st_size:,} bytes")
