"""Every link within the repository and every picture of its pages leads somewhere; pictures stay small."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SKIPPED = {".venv", ".git", "demo", "build", "dist", "runs", "node_modules", ".pytest_cache", ".cache"}
PAGES = sorted(p for p in ROOT.rglob("*.md") if not SKIPPED & set(p.relative_to(ROOT).parts))
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)(?:\s+\"[^\"]*\")?\)|<(?:img|source)[^>]+?src(?:set)?=\"([^\"]+)\"")
LARGEST_PICTURE_BYTES = 300_000


def read_links(page: Path) -> list[str]:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    return [first or second for first, second in LINK.findall(text)]


def anchors_of(page: Path) -> set[str]:
    """The anchors that GitHub gives a page's headings."""
    headings = re.findall(r"^#{1,6}\s+(.*?)\s*$", page.read_text(encoding="utf-8"), re.MULTILINE)
    plain = [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]
    return set(plain)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_within_the_repository_leads_somewhere(page: Path) -> None:
    missing = []
    for link in read_links(page):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        place = page if not name else (page.parent / name).resolve()
        if not place.exists() or (anchor and place.suffix == ".md" and anchor not in anchors_of(place)):
            missing.append(link)
    assert not missing


def test_a_broken_link_is_seen(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text('# One Two\n[a](none.md) ![b](none.png "title") <img width="3" src="x.png"> [c](#one-two)\n')
    assert read_links(page) == ["none.md", "none.png", "x.png", "#one-two"]
    assert anchors_of(page) == {"one-two"}


def test_pictures_are_small_and_each_is_shown_on_a_page() -> None:
    pictures = sorted((ROOT / "docs" / "pictures").glob("*.png"))
    assert pictures
    shown = {(page.parent / link).resolve() for page in PAGES for link in read_links(page) if link.endswith(".png")}
    for picture in pictures:
        assert picture.stat().st_size < LARGEST_PICTURE_BYTES, picture.name
        assert picture in shown, f"{picture.name} is on no page"
