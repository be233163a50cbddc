"""The record beside a submission: written whole, read back equal, refused where it is another file's."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rnafold.cli.main import main
from rnafold.errors import InputError
from rnafold.structure import Candidate
from rnafold.submission import COLUMNS, find_records, read_records, records_path, write_records
from rnafold.submission.provenance import describe_candidates, describe_fallback


def make_candidates(*confidences: float) -> list[Candidate]:
    return [
        Candidate(coords=np.zeros((2, 3)), origin="template", confidence=value, note=f"chain {k}")
        for k, value in enumerate(confidences)
    ]


def write_files(folder: Path) -> tuple[Path, Path]:
    """Three targets of four residues: predictions are the reference, stretched a little more each time."""
    points = np.array([[0.0, 0.0, 0.0], [5.0, 0.0, 0.0], [8.0, 4.0, 0.0], [9.0, 9.0, 3.0]])
    rows, labels = [",".join(COLUMNS)], ["ID,resname,resid,x_1,y_1,z_1"]
    for target_id in ("A", "B", "C"):
        for i, point in enumerate(points):
            cells = [f"{value * (1 + k / 5):.3f}" for k in range(5) for value in point]
            rows.append(f"{target_id}_{i + 1},G,{i + 1}," + ",".join(cells))
            labels.append(f"{target_id}_{i + 1},G,{i + 1}," + ",".join(f"{value:.3f}" for value in point))
    (folder / "labels.csv").write_text("\n".join(labels) + "\n")
    (folder / "submission.csv").write_text("\n".join(rows) + "\n")
    return folder / "submission.csv", folder / "labels.csv"


def write_all(folder: Path) -> tuple[Path, Path, Path]:
    submission, labels = write_files(folder)
    records = {
        "A": describe_candidates("A", make_candidates(0.9, 0.5, 0.4, 0.3, 0.0)),
        "B": describe_candidates("B", make_candidates(0.8, 0.7, 0.6, 0.5, 0.4)),
        "C": describe_fallback("C"),
    }
    return submission, labels, write_records(submission, records)


def test_what_is_written_beside_the_submission_is_read_back(tmp_path: Path) -> None:
    submission, _, path = write_all(tmp_path)
    assert path == tmp_path / "submission.predictions.json" == records_path(submission)
    found = read_records(path, submission)
    assert [r.confidence for r in found["A"]] == [0.9, 0.5, 0.4, 0.3, None], "0 of a place filled is no expectation"
    assert [(r.prediction, r.origin, r.note) for r in found["B"]][:2] == [
        (1, "template", "chain 0"),
        (2, "template", "chain 1"),
    ]
    assert {(r.origin, r.confidence, r.note) for r in found["C"]} == {("fallback", None, "A-form strand")}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["labels.csv", "submission.csv", "submission.predictions.json"]


def test_an_expectation_that_is_no_number_is_none() -> None:
    assert describe_candidates("A", make_candidates(float("nan")))[0].confidence is None


def drop_target(content: dict[str, Any]) -> None:
    content["predictions"] = content["predictions"][5:]


def drop_prediction(content: dict[str, Any]) -> None:
    del content["predictions"][7]


def rename_target(content: dict[str, Any]) -> None:
    for item in content["predictions"][:5]:
        item["target_id"] = "Z"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(drop_target, r"1 targets are in it or in .*submission.csv only, first A", id="target missing"),
        pytest.param(rename_target, r"2 targets are in it or in .* only, first A, Z", id="target of another file"),
        pytest.param(drop_prediction, r"B has the predictions 1, 2, 4, 5, expected 1 to 5", id="count"),
        pytest.param(lambda c: c.pop("sha256"), "lacks its sha256", id="no hash"),
        pytest.param(lambda c: c.update(format="other"), "not a record of predictions", id="format"),
        pytest.param(lambda c: c["predictions"][3].pop("note"), "prediction 4: expected the keys", id="key"),
        pytest.param(lambda c: c["predictions"][0].update(confidence=1.5), "confidence: found 1.5", id="above 1"),
        pytest.param(lambda c: c["predictions"][0].update(confidence="high"), "confidence: found 'high'", id="text"),
        pytest.param(lambda c: c["predictions"][0].update(prediction=True), "prediction: found True", id="no number"),
    ],
)
def test_a_record_that_does_not_fit_is_refused_in_one_line(
    tmp_path: Path, change: Callable[[Any], object], message: str
) -> None:
    submission, _, path = write_all(tmp_path)
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=message) as caught:
        read_records(path, submission)
    assert "\n" not in str(caught.value)


def test_a_submission_changed_since_is_not_mixed_up_with_its_old_record(tmp_path: Path) -> None:
    submission, _, path = write_all(tmp_path)
    text = submission.read_text()
    submission.write_text(text.replace("5.000", "5.001", 1))
    records, why = find_records(submission)
    assert records is None and "was changed or written again since" in why
    with pytest.raises(InputError, match="changed or written again"):
        find_records(submission, path)
    submission.write_text(text)
    assert find_records(submission)[1] == "", "the very bytes that were recorded are accepted again"


def test_a_missing_record_is_told_and_one_asked_for_must_exist(tmp_path: Path) -> None:
    submission, _, path = write_all(tmp_path)
    path.unlink()
    records, why = find_records(submission)
    assert records is None and "no such file; `predict` writes it" in why
    with pytest.raises(InputError, match="cannot be read"):
        find_records(submission, path)


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = main([str(a) for a in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_score_shows_expected_beside_achieved(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    submission, labels, path = write_all(tmp_path)
    code, out, _ = run(capsys, "score", submission, labels, "--json")
    found = json.loads(out)
    assert code == 0
    assert found["targets"]["A"]["expected"] == [0.9, 0.5, 0.4, 0.3, None]
    assert found["targets"]["C"]["origin"] == ["fallback"] * 5
    assert found["reliability"]["count"] == 9, "five of A without the last, five of B, none of C"
    moved = path.replace(tmp_path / "elsewhere.json")
    assert "reliability" not in json.loads(run(capsys, "score", submission, labels, "--json")[1])
    asked = run(capsys, "score", submission, labels, "--json", "--predictions", moved)[1]
    assert json.loads(asked) == found
    assert "over 9 predictions" in run(capsys, "score", submission, labels, "--predictions", moved)[1]


def test_score_leaves_a_stale_record_out_and_refuses_one_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    submission, labels, path = write_all(tmp_path)
    other = tmp_path / "other.csv"
    other.write_text(submission.read_text().replace("5.000", "6.000"))
    shutil.copyfile(path, records_path(other))
    code, out, _ = run(capsys, "score", other, labels, "--json")
    assert code == 0 and "reliability" not in json.loads(out)
    assert "left out" in caplog.text and "sha256" in caplog.text
    code, _, err = run(capsys, "score", other, labels, "--predictions", path)
    assert code == 2 and "changed or written again" in err and len(err.strip().splitlines()) == 1
    code, _, err = run(capsys, "score", submission, labels, "--versus", other, "--predictions", path)
    assert code == 2 and "--versus" in err
