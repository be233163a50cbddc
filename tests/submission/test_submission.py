"""Submissions: written in the sample's order, every defect found, and repaired into valid files."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rnafold import geometry
from rnafold.errors import InputError
from rnafold.submission import (
    COLUMNS,
    check_submission,
    format_findings,
    list_defects,
    read_sample,
    read_submission,
    repair_submission,
    write_submission,
)
from rnafold.submission.filling import fill_conformations, fill_points
from tests.pieces.timing import measure_growth

# Rows of R2 stand between those of R1: order must come from the file, not from sorting.
# The submission, its sample, and what was written into it.
Files = tuple[Path, Path, dict[str, np.ndarray]]
KEYS = [("R1_1", "A", 1), ("R2_x_1", "G", 1), ("R1_2", "C", 2), ("R2_x_2", "U", 2), ("R1_3", "N", 3)]


def make_sample(path: Path, keys: Sequence[tuple[str, str, int]] = KEYS) -> Path:
    rows = [",".join(map(str, (*key, *([0.0] * 15)))) for key in keys]
    path.write_text("\n".join([",".join(COLUMNS), *rows]) + "\n")
    return path


@pytest.fixture
def files(tmp_path: Path) -> Files:
    sample = make_sample(tmp_path / "sample.csv")
    rng = np.random.default_rng(3)
    predictions = {"R1": rng.normal(0, 30, (5, 3, 3)), "R2_x": rng.normal(0, 30, (5, 2, 3))}
    write_submission(tmp_path / "out.csv", read_sample(sample), predictions)
    return tmp_path / "out.csv", sample, predictions


def change(path: Path, row: int, column: str, text: str) -> None:
    lines = path.read_text().splitlines()
    cells = lines[row].split(",")
    cells[COLUMNS.index(column)] = text
    lines[row] = ",".join(cells)
    path.write_text("\n".join(lines) + "\n")


def test_what_is_written_is_read_back_in_the_samples_order(files: Files) -> None:
    out, sample, predictions = files
    read = read_submission(out)
    assert read.ids == tuple(key[0] for key in KEYS)
    assert read.resnames == ("A", "G", "C", "U", "N")
    for target_id, points in predictions.items():
        # written with 3 decimals: at most 0.0005 off
        assert np.abs(read.predictions(target_id) - points).max() <= 0.0005 + 1e-9
    assert check_submission(out, sample) == []
    assert out.read_text().splitlines()[0] == ",".join(COLUMNS)


def test_rows_of_a_target_follow_resid_even_when_the_sample_does_not(tmp_path: Path) -> None:
    sample = make_sample(tmp_path / "s.csv", [("R_2", "C", 2), ("R_1", "A", 1)])
    points = np.stack([np.array([[1.0, 0, 0], [2.0, 0, 0]])] * 5)
    write_submission(tmp_path / "o.csv", read_sample(sample), {"R": points})
    lines = (tmp_path / "o.csv").read_text().splitlines()
    assert lines[1].startswith("R_2,C,2,2.000,") and lines[2].startswith("R_1,A,1,1.000,")


def test_coordinates_are_clipped_and_no_temporary_file_is_left(tmp_path: Path) -> None:
    sample = make_sample(tmp_path / "s.csv", [("R_1", "A", 1)])
    points = np.array([[[1e9, -1e9, 12.3456]]] * 5)
    write_submission(tmp_path / "o.csv", read_sample(sample), {"R": points})
    assert (tmp_path / "o.csv").read_text().splitlines()[1].split(",")[3:6] == ["9999.999", "-999.999", "12.346"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["o.csv", "s.csv"]


def test_gaps_in_a_prediction_are_filled_with_a_log_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    sample = make_sample(tmp_path / "s.csv", [(f"R_{i}", "A", i) for i in (1, 2, 3)])
    points = np.zeros((5, 3, 3))
    points[:, 2, 0] = 8.0
    points[:, 1] = np.nan
    write_submission(tmp_path / "o.csv", read_sample(sample), {"R": points})
    # halfway between x = 0 and x = 8
    assert read_submission(tmp_path / "o.csv").predictions("R")[0, 1].tolist() == [4.0, 0.0, 0.0]
    assert "R: 5 residues" in caplog.text


@pytest.mark.parametrize(
    ("predictions", "words"),
    [({}, "no prediction for 1 targets"), ({"R": np.zeros((5, 2, 3))}, r"shape \(5, 2, 3\)")],
    ids=["missing", "wrong length"],
)
def test_predictions_that_do_not_fit_the_sample_are_refused(
    tmp_path: Path, predictions: dict[str, np.ndarray], words: str
) -> None:
    sample = make_sample(tmp_path / "s.csv", [("R_1", "A", 1)])
    with pytest.raises(InputError, match=words):
        write_submission(tmp_path / "o.csv", read_sample(sample), predictions)
    assert not (tmp_path / "o.csv").exists()


@pytest.mark.parametrize(
    ("column", "text", "kind"),
    [
        ("x_1", "", "empty cell"),
        ("y_3", "nan", "NaN cell"),
        ("z_5", "-inf", "infinite cell"),
        ("x_2", "abc", "text cell"),
        ("x_2", "1_0", "text cell"),
        ("y_2", "-1e18", "out of range"),
        ("z_1", "10000", "out of range"),
        ("resname", "G", "residue name"),
        ("resid", "7", "residue number"),
        ("ID", "R9_1", "unknown ID"),
        ("ID", "R1_1", "duplicate ID"),
    ],
)
def test_each_bad_cell_is_named_with_row_and_column(files: Files, column: str, text: str, kind: str) -> None:
    out, sample, _ = files
    change(out, 3, column, text)
    findings = list_defects(check_submission(out, sample))
    here = [finding for finding in findings if finding.row == 3]
    assert [(finding.column, finding.kind) for finding in here] == [(column, kind)]
    # another ID in row 3 also leaves R1_2 missing; nothing else is reported
    assert [f.kind for f in findings if f.row != 3] == (["missing ID"] if column == "ID" else [])


def test_wrong_order_names_only_the_row_that_moved(files: Files) -> None:
    out, sample, _ = files
    header, first, *rest = out.read_text().splitlines()
    out.write_text("\n".join([header, *rest, first]) + "\n")
    (finding,) = check_submission(out, sample)
    assert (finding.row, finding.column) == (5, "ID")
    assert finding.message == "wrong order: 'R1_1' belongs in row 1"


def test_columns_missing_extra_and_misordered_are_named(files: Files) -> None:
    out, sample, _ = files
    text = out.read_text()
    out.write_text(text.replace("x_1,y_1", "y_1,x_1", 1))
    assert format_findings(check_submission(out, sample)).startswith("column order (1): file y_1")
    out.write_text(text.replace(",z_5", ",w_5", 1))
    found = {(f.column, f.kind) for f in check_submission(out, sample)}
    assert found == {("z_5", "missing column"), ("w_5", "column not expected")}


def test_a_cut_off_file_is_reported_as_such(files: Files) -> None:
    out, sample, _ = files
    text = out.read_text()
    last = text.splitlines()[-1]
    out.write_text(text[: -len(last) - 1] + last[:20])
    findings = check_submission(out, sample)
    assert [f.row for f in findings] == [5]
    assert "cut off?" in findings[0].message


def test_missing_rows_are_counted_and_named(files: Files) -> None:
    out, sample, _ = files
    out.write_text("\n".join(out.read_text().splitlines()[:3]) + "\n")
    text = format_findings(check_submission(out, sample))
    assert "row count (1): file 2 rows, expected 5" in text
    assert "missing ID (3): file ID 'R1_2', row 3 of the sample" in text


def test_all_zero_targets_and_single_points_are_warnings_not_defects(tmp_path: Path) -> None:
    sample = make_sample(tmp_path / "s.csv")
    assert list_defects(check_submission(sample, sample)) == []
    assert format_findings(check_submission(sample, sample)).startswith("warning: all-zero target (2): row 1 R1; row 2")
    points = np.random.default_rng(0).normal(size=(5, 3, 3))
    points[3] = 7.0
    write_submission(tmp_path / "o.csv", read_sample(sample), {"R1": points, "R2_x": points[:, :2]})
    found = check_submission(tmp_path / "o.csv", sample)
    assert {f.severity for f in found} == {"warning"}
    assert [f.message for f in found] == [
        "residues at one point: R1, conformation 4",
        "residues at one point: R2_x, conformation 4",
    ]


def test_the_summary_shows_the_count_and_the_first_three_of_a_kind(files: Files) -> None:
    out, sample, _ = files
    for row in range(1, 6):
        change(out, row, "x_1", "")
    text = format_findings(check_submission(out, sample))
    assert text.splitlines() == [
        "empty cell (5): row 1 x_1 expected a number; row 2 x_1 expected a number; row 3 x_1 expected a number; ..."
    ]


def test_the_work_of_a_check_grows_with_the_rows_and_no_faster(tmp_path: Path) -> None:
    keys = [(f"T{i // 1000}_{i % 1000 + 1}", "A", i % 1000 + 1) for i in range(40_000)]
    small, large = make_sample(tmp_path / "s.csv", keys[:4_000]), make_sample(tmp_path / "l.csv", keys)
    assert len(check_submission(large, large)) == 40
    # 10 times the rows; work that looks at pairs of rows would grow a hundredfold
    assert measure_growth(lambda: check_submission(small, small), lambda: check_submission(large, large)) < 30


def test_gaps_are_interpolated_and_ends_continued_at_5_5() -> None:
    points = np.full((6, 3), np.nan)
    points[1], points[3] = (0, 0, 0), (0, 4, 0)
    filled = fill_points(points)
    # 2 lies halfway; 0 is 5.5 Å before 1, 4 and 5 are 5.5 and 11 Å beyond 3, along y
    assert filled.tolist() == [[0, -5.5, 0], [0, 0, 0], [0, 2, 0], [0, 4, 0], [0, 9.5, 0], [0, 15, 0]]


def test_one_resolved_residue_is_continued_along_x_both_ways() -> None:
    points = np.full((3, 3), np.nan)
    points[1] = (1, 1, 1)
    assert fill_points(points).tolist() == [[-4.5, 1, 1], [1, 1, 1], [6.5, 1, 1]]


def test_an_empty_conformation_is_copied_and_an_empty_target_is_a_helix() -> None:
    points = np.full((5, 4, 3), np.nan)
    filled, notes = fill_conformations(points)
    assert np.allclose(filled, geometry.build_helix(4)[0]) and notes == ["no coordinates at all: ideal A-form helix"]
    points[1] = np.arange(12).reshape(4, 3)
    filled, notes = fill_conformations(points)
    assert (filled == points[1]).all() and notes == ["conformation 1, 3, 4, 5 copied from conformation 2"]


def test_repair_says_what_it_changed(files: Files, tmp_path: Path) -> None:
    out, sample, predictions = files
    change(out, 3, "x_1", "nan")
    change(out, 5, "z_2", "123456")
    lines = out.read_text().splitlines()
    lines = [lines[0], lines[2], lines[1], *lines[3:], lines[1], "Q_1,A,1" + ",0" * 15]
    out.write_text("\n".join(lines) + "\n")
    notes = repair_submission(out, sample, tmp_path / "good.csv")
    assert notes[:3] == [
        "1 rows with an ID that is not in the sample dropped",
        "1 rows with an ID seen before dropped",
        "1 rows moved to their place in the sample's order",
    ]
    assert notes[4] == "R1: 1 residues without coordinates interpolated or continued at 5.5 Å"
    assert notes[5] == "1 coordinates clipped to -999.999 .. 9999.999"
    assert check_submission(tmp_path / "good.csv", sample) == []
    assert np.abs(read_submission(tmp_path / "good.csv").predictions("R2_x") - predictions["R2_x"]).max() < 6e-4


def test_repair_of_a_valid_file_changes_nothing(files: Files, tmp_path: Path) -> None:
    out, sample, _ = files
    assert repair_submission(out, sample, tmp_path / "same.csv") == []
    assert (tmp_path / "same.csv").read_bytes() == out.read_bytes()


@pytest.mark.parametrize("old", ["ID,", "R"], ids=["no ID column", "no common ID"])
def test_what_cannot_be_mended_is_refused(files: Files, tmp_path: Path, old: str) -> None:
    out, sample, _ = files
    out.write_text(out.read_text().replace(old, "Q" + old[1:]))
    with pytest.raises(InputError, match="cannot be repaired"):
        repair_submission(out, sample, tmp_path / "good.csv")
    assert not (tmp_path / "good.csv").exists()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_damaged_submission_that_keeps_an_id_is_repaired_into_a_valid_one(
    files: Files, tmp_path: Path, data: st.DataObject
) -> None:
    out, sample, predictions = files
    write_submission(out, read_sample(sample), predictions)
    lines = [line.split(",") for line in out.read_text().splitlines()]
    order = data.draw(st.permutations(range(1, 6)))
    rows = [lines[i] for i in order[: data.draw(st.integers(1, 5))]]
    for _ in range(data.draw(st.integers(0, 8))):
        row = data.draw(st.sampled_from(rows))
        row[data.draw(st.integers(1, 17))] = data.draw(st.sampled_from(["", "nan", "x", "1e300", "-1e18", "inf", "5"]))
    if data.draw(st.booleans()):
        rows[-1] = rows[-1][: data.draw(st.integers(1, 18))]
    (tmp_path / "bad.csv").write_text("\n".join(",".join(row) for row in [lines[0], *rows]))
    repair_submission(tmp_path / "bad.csv", sample, tmp_path / "good.csv")
    assert list_defects(check_submission(tmp_path / "good.csv", sample)) == []


def test_a_sample_is_read_in_its_own_order_of_targets_and_rows(tmp_path: Path) -> None:
    # neither the alphabet nor the lengths give this order
    lengths = {"R1107": 69, "9ZCC": 1_460, "9G4P": 68, "1SCL_A": 29}
    keys = [(f"{name}_{k + 1}", "ACGU"[k % 4], k + 1) for name, length in lengths.items() for k in range(length)]
    sample = read_sample(make_sample(tmp_path / "s.csv", keys))
    assert sample.ids == tuple(key[0] for key in keys)
    assert {name: len(rows) for name, rows in sample.groups.items()} == lengths
    assert list(sample.groups) == list(lengths)
    assert all((np.diff(group) == 1).all() for group in sample.groups.values())


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "rows", "targets"), [("sample_submission.csv", 2515, 12), ("part2/sample_submission.csv", 9762, 28)]
)
def test_both_real_samples_are_read_in_order(real_data: Path, name: str, rows: int, targets: int) -> None:
    sample = read_sample(real_data / name)
    assert (len(sample.ids), len(sample.groups)) == (rows, targets)
    assert all((np.diff(group) == 1).all() for group in sample.groups.values())
