"""What the choice among several programs' models lost, from files to `score` and the report's table."""

import json
from pathlib import Path

import numpy as np
import pytest

from rnafold.cli.main import main
from rnafold.errors import ExitCode
from rnafold.report.choice import write_choices
from rnafold.scoring.choice import ChoiceScore, format_choices, measure_choices, rank_correlation
from rnafold.structure import Candidate
from rnafold.submission import PredictionRecord, read_sample, write_records, write_submission
from rnafold.submission.pool import write_pool
from tests.pieces.models import LENGTH, SEQUENCE, make_points, write

REFERENCE = make_points(0)


def write_case(folder: Path) -> tuple[Path, Path]:
    """A submission whose first is poor, whose third is good, and the best candidate of all left out."""
    header = ["ID", "resname", "resid", *(f"{axis}_{k}" for k in range(1, 6) for axis in "xyz")]
    rows = [f"T1_{k + 1},{letter},{k + 1}" + ",0.0" * 15 for k, letter in enumerate(SEQUENCE)]
    sample = read_sample(write(folder / "sample.csv", "\n".join([",".join(header), *rows]) + "\n"))
    labels = [
        f"T1_{k + 1},{letter},{k + 1},{x:.3f},{y:.3f},{z:.3f}"
        for k, (letter, (x, y, z)) in enumerate(zip(SEQUENCE, REFERENCE))
    ]
    labels_path = write(folder / "labels.csv", "\n".join(["ID,resname,resid,x_1,y_1,z_1", *labels]) + "\n")
    noise = np.random.default_rng(0).normal(size=(LENGTH, 3))
    points = [make_points(5), make_points(6), REFERENCE + 0.5 * noise, make_points(7), make_points(8), REFERENCE]
    pool = [
        Candidate(coords=p, origin="other", confidence=0.5 - 0.05 * k, source=f"S{k}") for k, p in enumerate(points)
    ]
    out = folder / "out.csv"
    write_submission(out, sample, {"T1": np.stack(points[:5])})
    records = tuple(
        PredictionRecord(
            target_id="T1", prediction=k + 1, origin="other", confidence=0.5, source=f"S{k}", may_have_seen=k == 1
        )
        for k in range(5)
    )
    write_records(out, {"T1": records})
    write_pool(out, {"T1": pool})
    return out, labels_path


def test_losses_are_against_the_best_of_all_candidates(tmp_path: Path) -> None:
    out, labels = write_case(tmp_path)
    choice = measure_choices(out, labels, None)[0]
    assert (choice.num_candidates, choice.best_source) == (6, "S5")
    assert choice.best == pytest.approx(1.0, abs=1e-3)
    assert 0.0 < choice.five_loss < choice.first_loss
    # the best is expected to be worst: the order is nearly the wrong way round
    assert choice.correlation is not None and choice.correlation < 0.0


def test_score_prints_the_choice_and_puts_it_into_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, labels = write_case(tmp_path)
    assert main(["score", str(out), str(labels)]) == ExitCode.DONE
    told = capsys.readouterr().out
    assert "S0, S1, S2, S3, S4; best: S5 (may have been seen)" in told
    assert "below the best candidate" in told
    assert main(["score", str(out), str(labels), "--json"]) == ExitCode.DONE
    assert json.loads(capsys.readouterr().out)["choice"]["T1"]["best_source"] == "S5"
    (tmp_path / "out.candidates.npz").unlink()
    assert main(["score", str(out), str(labels)]) == ExitCode.DONE
    assert "best candidate" not in capsys.readouterr().out


def test_rank_correlation_takes_ties_and_constants() -> None:
    assert rank_correlation(np.array([1.0, 2.0, 3.0]), np.array([10.0, 20.0, 90.0])) == pytest.approx(1.0)
    # ranks 1.5 1.5 3 against 1 2 3: covariance 0.5, deviations 0.7071 and 0.8165
    assert rank_correlation(np.array([1.0, 1.0, 2.0]), np.array([1.0, 2.0, 3.0])) == pytest.approx(0.8660, abs=1e-4)
    assert rank_correlation(np.ones(3), np.array([1.0, 2.0, 3.0])) is None


def make_choice(correlation: float | None) -> ChoiceScore:
    return ChoiceScore(
        target_id="T<1>",
        num_candidates=9,
        correlation=correlation,
        best=0.6,
        best_source="Boltz",
        first_loss=0.2,
        five_loss=0.1,
        sources=("template",),
        may_have_seen=False,
    )


def test_the_reports_table_names_each_place_and_is_safe_to_show() -> None:
    record = PredictionRecord(
        target_id="T<1>", prediction=1, origin="other", confidence=0.4, source="A&B", likeness=0.3, may_have_seen=True
    )
    page = write_choices([make_choice(-0.5), make_choice(None)], {"T<1>": [record]})
    assert "A&amp;B* (expected 0.40, like others 0.30)" in page
    assert "T&lt;1&gt;" in page and "T<1>" not in page
    assert "0.100 below the best candidate" in page
    assert write_choices([], None) == ""
    assert "none" in format_choices([make_choice(None)])
