"""Part 1's metric: what is written for US-align, how its answer is read, and what is said where it is missing."""

import sys
from pathlib import Path

import numpy as np
import pytest

from rnafold.errors import InputError
from rnafold.scoring import find_usalign, score_all, score_with_usalign
from rnafold.scoring.usalign import format_pdb, parse_tm_score
from rnafold.structure import structure_from_points

# Prints the arguments' check, and as TM-score the x distance between the last atoms of the two files, over 100.
FAKE = """#!{python}
import sys
model, native, flag, atom = sys.argv[1:]
assert (flag, atom) == ("-atom", " C1'"), sys.argv
def last(path):
    return [float(line[30:38]) for line in open(path) if line.startswith("ATOM")][-1]
print("TM-score= 0.99999 (normalized by length of Structure_1: L=4, d0=0.30)")
print(f"TM-score= {{abs(last(model) - last(native)) / 100:.5f}} (normalized by length of Structure_2: L=4, d0=0.30)")
"""
NATIVE = np.array([[0.0, 0.0, 0.0], [6.0, 0.0, 0.0], [6.0, 6.0, 0.0], [9.0, 9.0, 3.0]])


@pytest.fixture
def fake(tmp_path: Path) -> Path:
    return write_script(tmp_path, FAKE.format(python=sys.executable))


def write_script(folder: Path, text: str) -> Path:
    path = folder / "USalign"
    path.write_text(text)
    path.chmod(0o755)
    return path


def test_atoms_stand_in_the_columns_of_the_pdb_format() -> None:
    text = format_pdb("ACGN", NATIVE, np.array([True, False, True, True]))
    first, second, third, *rest = text.splitlines()
    # The median of (0, 6, 9), (0, 6, 9), (0, 0, 3) is (6, 6, 0): the first atom moves to (-6, -6, 0).
    assert first == "ATOM      1  C1'   A A   1      -6.000  -6.000   0.000  1.00  0.00           C"
    assert second[12:16] == " C1'" and second[17:20] == "  G" and second[22:26] == "   3"
    assert third[17:20] == "  N" and float(third[46:54]) == 3.0
    assert rest == ["TER", "END"]


def test_long_rnas_and_far_atoms_keep_to_the_columns() -> None:
    points = np.zeros((12_000, 3))
    points[0], points[1] = 5e4, -5e4
    lines = format_pdb("A" * 12_000, points, np.ones(12_000, dtype=bool)).splitlines()[:-2]
    assert {len(line) for line in lines} == {78}
    assert lines[0][30:38] == "9999.999" and lines[1][30:38] == "-999.999"
    assert lines[9_999][22:26] == "   0" and lines[10_000][22:26] == "   1"


def test_the_score_by_the_native_is_read() -> None:
    text = "Name\nTM-score= 0.50000 (normalized by length of Structure_1)\nTM-score= 0.25000 (of Structure_2)\n"
    assert parse_tm_score(text) == 0.25
    with pytest.raises(ValueError, match="found 1 lines"):
        parse_tm_score("TM-score= 0.5\n")


def test_every_prediction_is_called_against_every_reference(fake: Path) -> None:
    predictions = np.stack([NATIVE, NATIVE, np.full((4, 3), np.nan)])
    predictions[1, 3, 0] += 20.0
    other = NATIVE.copy()
    other[3, 0] += 50.0
    references = [structure_from_points(NATIVE), structure_from_points(other)]
    score = score_with_usalign(fake, "x", "ACGU", predictions, references)
    # Medians in x stay at 6: |9 - 9| and |9 - 59| give 0 and 0.5, |29 - 9| and |29 - 59| give 0.2 and 0.3.
    assert score.tm == pytest.approx((0.5, 0.3, 0.0))
    assert (score.best, score.reference, score.length) == (0.5, 2, 4)


def test_score_all_uses_the_binary_for_part_1(fake: Path) -> None:
    class Rows:
        target_id, resnames, chains = "x", ("A", "C", "G", "U"), None
        references = (structure_from_points(NATIVE),)

    far = NATIVE.copy()
    far[3, 0] += 10.0
    (score,) = score_all({"x": far[None]}, [Rows()], usalign=fake)
    assert score.tm == pytest.approx((0.1,))


def test_no_binary_gives_a_line_that_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("USALIGN", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="give --usalign PATH or set"):
        find_usalign()
    with pytest.raises(InputError, match="--usalign: /no/where is not an executable file"):
        find_usalign("/no/where")
    monkeypatch.setenv("USALIGN", str(tmp_path / "absent"))
    with pytest.raises(InputError, match=r"\$USALIGN: .*absent is not an executable file"):
        find_usalign()


def test_the_binary_is_found_by_option_then_variable_then_path(
    monkeypatch: pytest.MonkeyPatch, fake: Path, tmp_path: Path
) -> None:
    monkeypatch.delenv("USALIGN", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_usalign() == fake
    other = tmp_path / "mine"
    other.write_text(fake.read_text())
    other.chmod(0o755)
    monkeypatch.setenv("USALIGN", str(other))
    assert find_usalign() == other
    assert find_usalign(fake) == fake


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("#!/bin/sh\necho broken >&2; exit 3\n", "exit code 3: broken"),
        ("#!/bin/sh\necho hello\n", "found 0 lines 'TM-score=', expected 2: hello"),
        ("#!/no/such/interpreter\n", "cannot be run"),
        ("#!/bin/sh\nexec sleep 20\n", "no answer within 0.2 seconds"),
    ],
    ids=["fails", "silent", "unrunnable", "hangs"],
)
def test_a_binary_that_fails_is_reported_in_one_line(tmp_path: Path, script: str, message: str) -> None:
    binary = write_script(tmp_path, script)
    with pytest.raises(InputError, match=message) as caught:
        score_with_usalign(binary, "x", "ACGU", NATIVE[None], [structure_from_points(NATIVE)], timeout_seconds=0.2)
    assert "target x" in str(caught.value) and "\n" not in str(caught.value)


def test_shapes_that_do_not_fit_are_named(fake: Path) -> None:
    with pytest.raises(InputError, match="target x: found shapes"):
        score_with_usalign(fake, "x", "ACG", NATIVE[None], [structure_from_points(NATIVE)])
    with pytest.raises(InputError, match="and a reference"):
        score_with_usalign(fake, "x", "ACGU", NATIVE[None], [])


def test_a_binary_in_the_current_folder_is_found_by_its_name_with_or_without_a_dot(
    monkeypatch: pytest.MonkeyPatch, fake: Path, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.chdir(fake.parent)
    # argparse makes a Path of the option, which drops the ./
    for named in (f"./{fake.name}", Path(f"./{fake.name}"), fake.name):
        assert find_usalign(named) == fake
        monkeypatch.setenv("USALIGN", str(named))
        assert find_usalign() == fake
    fake.chmod(0o644)
    with pytest.raises(InputError, match="not an executable file"):
        find_usalign(f"./{fake.name}")
