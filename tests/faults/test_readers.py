"""Malformed files of every format: refused in one line, or read as what they say. Long: `make faults`."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from rnafold.data.competition import read_labels
from tests.faults import kinds, readers
from tests.faults.kinds import READERS
from tests.faults.readers import Reader


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Warnings about thousands of files are not looked at."""
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("reader", READERS, ids=[reader.name for reader in READERS])
def test_a_malformed_file_is_refused_in_one_line_or_read_as_what_it_says(reader: Reader, tmp_path: Path) -> None:
    kinds.malform_one(reader, tmp_path / "files", 30).require_all(30)


@pytest.mark.parametrize("reader", READERS, ids=[reader.name for reader in READERS])
def test_the_good_file_is_read_as_what_it_says(reader: Reader, tmp_path: Path) -> None:
    import gzip

    path = tmp_path / "files" / reader.file
    path.parent.mkdir(parents=True)
    good = reader.good(path.parent)
    path.write_bytes(gzip.compress(good) if reader.packed else good)
    assert readers.judge_file(reader, path) == ("", False)


def test_a_reader_that_reads_something_else_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a reader that takes a comma for a point, one that stops with a bug, and one that writes."""
    reader = next(reader for reader in READERS if reader.name == "CSV of labels")
    original = read_labels

    def shift(path: Path) -> Iterator[object]:
        return ((name, sets[:1]) for name, sets in original(path))

    def fail(path: Path) -> object:
        raise IndexError("a bug")

    def write(path: Path) -> object:
        (path.parent / "left").write_text("x")
        return original(path)

    seen_as = {shift: "points differ", fail: "traceback: IndexError", write: "files changed"}
    for number, (wrong, seen) in enumerate(seen_as.items()):
        monkeypatch.setattr(readers, "read_labels", wrong)
        path = tmp_path / str(number) / reader.file
        path.parent.mkdir()
        path.write_bytes(reader.good(path.parent))
        assert seen in readers.judge_file(reader, path)[0]
