"""`pick` and `predict --candidates` from trees of models to a valid submission, its record and what `score` says."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from rnafold.candidates.calibration import Calibration
from rnafold.candidates.jury import NAIVE, CandidatesJury
from rnafold.candidates.source import OutsideModel, Source
from rnafold.cli.main import main
from rnafold.errors import ExitCode
from rnafold.prediction.pick import OutsideModels
from rnafold.prediction.slots import SlotsConfig
from rnafold.structure import Candidate
from rnafold.submission import read_records, read_submission
from rnafold.submission.pool import find_pool, pool_path
from tests.pieces.folds import make_pairing
from tests.pieces.models import LENGTH, SEQUENCE, TEXT, make_outside_target, make_points, write, write_atoms


def write_inputs(folder: Path) -> tuple[Path, Path]:
    """A test and a sample file of one target."""
    test = write(folder / "test.csv", f"target_id,sequence,temporal_cutoff\nT1,{SEQUENCE},2022-06-01\n")
    header = ["ID", "resname", "resid", *(f"{axis}_{k}" for k in range(1, 6) for axis in "xyz")]
    rows = [f"T1_{k + 1},{letter},{k + 1}" + ",0.0" * 15 for k, letter in enumerate(SEQUENCE)]
    return test, write(folder / "sample.csv", "\n".join([",".join(header), *rows]) + "\n")


def write_models(folder: Path, count: int = 3) -> None:
    """Two sources that agree and one that does not."""
    for number in range(count):
        noise = 0.4 * np.random.default_rng(number).normal(size=(2, LENGTH, 3))
        write(folder / "one" / f"m{number}.pdb", write_atoms(make_points(0) + noise[0]))
        write(folder / "two" / f"m{number}.pdb", write_atoms(make_points(0) + noise[1]))
        write(folder / "odd" / f"m{number}.pdb", write_atoms(make_points(10 + number)))


def pick(folder: Path, *sources: str, more: Sequence[str] = ()) -> int:
    """Runs `pick` on the sources of a folder."""
    test, sample = write_inputs(folder)
    named = [part for source in sources for part in ("--candidates", source)]
    files = ["--test", str(test), "--sample", str(sample), "--out", str(folder / "out.csv")]
    return main(["pick", *named, *files, "--cache", str(folder / "cache"), *more])


def test_pick_writes_a_valid_file_and_says_who_won(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_models(tmp_path)
    sources = [f"Boltz@2023-01-01={tmp_path / 'one'}", f"{tmp_path / 'two'}", f"{tmp_path / 'odd'}"]
    assert pick(tmp_path, *sources) == ExitCode.DONE
    told = capsys.readouterr().out
    assert told.startswith("T1: ") and "Boltz (expected 0." in told and "may have been seen" in told
    assert main(["check", str(tmp_path / "out.csv"), "--sample", str(tmp_path / "sample.csv")]) == ExitCode.DONE
    rows = read_records(tmp_path / "out.predictions.json", tmp_path / "out.csv")["T1"]
    assert {row.source for row in rows[:2]} == {"Boltz", "two"}
    assert all(row.likeness is not None and row.confidence is not None for row in rows)
    assert [row.may_have_seen for row in rows] == [row.source == "Boltz" for row in rows]
    pool = find_pool(tmp_path / "out.csv")["T1"]
    assert pool.coords.shape == (9, LENGTH, 3) and set(pool.sources) == {"Boltz", "two", "odd"}


def test_pick_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    write_models(tmp_path)
    pick(tmp_path, str(tmp_path / "one"), str(tmp_path / "odd"))
    first = (tmp_path / "out.csv").read_bytes(), pool_path(tmp_path / "out.csv").read_bytes()
    pick(tmp_path, str(tmp_path / "one"), str(tmp_path / "odd"))
    assert first == ((tmp_path / "out.csv").read_bytes(), pool_path(tmp_path / "out.csv").read_bytes())


def test_limits_of_slots_yaml_hold_in_pick(tmp_path: Path) -> None:
    write_models(tmp_path)
    slots = write(tmp_path / "slots.yaml", "sources: {odd: [3, 5]}\n")
    sources = [str(tmp_path / name) for name in ("one", "two", "odd")]
    assert pick(tmp_path, *sources, more=["--slots", str(slots)]) == ExitCode.DONE
    rows = read_records(tmp_path / "out.predictions.json", tmp_path / "out.csv")["T1"]
    assert sum(row.source == "odd" for row in rows) >= 3


def test_assemblies_stand_in_where_models_are_too_few(tmp_path: Path) -> None:
    write_models(tmp_path, count=1)
    assert pick(tmp_path, str(tmp_path / "one")) == ExitCode.DONE
    rows = read_records(tmp_path / "out.predictions.json", tmp_path / "out.csv")["T1"]
    assert sorted(row.origin for row in rows) == ["assembly"] * 4 + ["other"]
    assert np.isfinite(read_submission(tmp_path / "out.csv").coords).all()


def test_models_of_other_targets_alone_are_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "one" / "m.pdb", write_atoms(make_points()[:10], letters="A" * 10))
    assert pick(tmp_path, str(tmp_path / "one")) == ExitCode.INPUT
    assert "no model of any of the 1 targets" in capsys.readouterr().err
    assert pick(tmp_path, f"Boltz={tmp_path / 'nowhere'}") == ExitCode.INPUT


def test_predict_takes_others_models_and_without_them_nothing_changes(tmp_path: Path) -> None:
    write_models(tmp_path)
    test, sample = write_inputs(tmp_path)
    common = ["--test", str(test), "--sample", str(sample), "--no-network", "--cache", str(tmp_path / "cache")]
    assert main(["predict", *common, "--out", str(tmp_path / "alone.csv")]) == ExitCode.DONE
    named = [part for name in ("one", "two") for part in ("--candidates", str(tmp_path / name))]
    assert main(["predict", *common, *named, "--out", str(tmp_path / "all.csv")]) == ExitCode.DONE
    alone = read_records(tmp_path / "alone.predictions.json", tmp_path / "alone.csv")["T1"]
    assert all(not row.source and row.likeness is None for row in alone)
    plain = json.loads((tmp_path / "alone.predictions.json").read_text(encoding="utf-8"))["predictions"][0]
    assert set(plain) == {"target_id", "prediction", "origin", "confidence", "note"}
    assert not pool_path(tmp_path / "alone.csv").exists()
    together = read_records(tmp_path / "all.predictions.json", tmp_path / "all.csv")["T1"]
    assert {row.source for row in together} & {"one", "two"}
    assert set(find_pool(tmp_path / "all.csv")["T1"].sources) >= {"one", "two", "assembly"}


def test_a_source_that_fails_costs_itself_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_models(tmp_path)
    test, sample = write_inputs(tmp_path)
    common = ["--test", str(test), "--sample", str(sample), "--no-network", "--cache", str(tmp_path / "cache")]
    main(["predict", *common, "--out", str(tmp_path / "alone.csv")])

    def fail(*_: object, **__: object) -> list[Candidate]:
        raise RuntimeError("made up")

    monkeypatch.setattr(OutsideModels, "choose", fail)
    named = ["--candidates", str(tmp_path / "one")]
    assert main(["predict", *common, *named, "--out", str(tmp_path / "all.csv")]) == ExitCode.DONE
    assert (tmp_path / "all.csv").read_bytes() == (tmp_path / "alone.csv").read_bytes()


def test_a_target_without_others_models_keeps_ours() -> None:
    models = OutsideModels(
        sources=(Source(name="A", models={"T2": [OutsideModel(points=make_points(), note="")]}),),
        jury=CandidatesJury(parameters=NAIVE),
        calibration=Calibration(),
    )
    five = [Candidate(coords=make_points(k), origin="assembly", confidence=0.3) for k in range(5)]
    assert models.choose(make_outside_target("T1"), five, make_pairing(TEXT), SlotsConfig()) == five
    assert models.pools == {}


def test_a_pool_of_another_submission_is_left_out(tmp_path: Path) -> None:
    write_models(tmp_path)
    pick(tmp_path, str(tmp_path / "one"), str(tmp_path / "two"))
    assert find_pool(tmp_path / "out.csv")
    (tmp_path / "out.csv").write_text("changed", encoding="utf-8")
    assert find_pool(tmp_path / "out.csv") == {}
