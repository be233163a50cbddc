"""Prediction: a valid file whatever happens, within the deadline, in the sample's order."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from rnafold.config.settings import resolve_config
from rnafold.data.competition import read_targets
from rnafold.data.demo import write_demo_data
from rnafold.errors import InputError
from rnafold.model.folding import fold_example, join_chunks
from rnafold.model.network import build_network
from rnafold.prediction.deadline import build_fallback, match_targets, run_targets
from rnafold.structure import Candidate, Target
from rnafold.submission import check_submission, find_records, list_defects, read_sample, read_submission, records_path
from rnafold.submission.rows import Sample
from tests.pieces.duplexes import make_duplex

# Where the submission goes, the sample, its content, and the targets.
Job = tuple[Path, Path, Sample, list[Target]]


@pytest.fixture
def job(tmp_path: Path) -> Job:
    write_demo_data(tmp_path / "data", num_train=3, num_test=6)
    sample_path = tmp_path / "data" / "sample_submission.csv"
    targets = read_targets(tmp_path / "data" / "test_sequences.csv")
    return tmp_path / "submission.csv", sample_path, read_sample(sample_path), targets


def solve_well(target: Target, seconds: float) -> list[Candidate]:
    return candidates(np.cumsum(np.ones((5, target.length, 3)), axis=1))


def candidates(coords: np.ndarray) -> list[Candidate]:
    return [Candidate(coords=c, origin="network", confidence=0.5 - k / 10, note="n") for k, c in enumerate(coords)]


def test_the_file_is_valid_before_the_first_target_is_solved(job: Job) -> None:
    out, sample_path, sample, targets = job
    seen = []

    def solve(target: Target, seconds: float) -> list[Candidate]:
        seen.append(list_defects(check_submission(out, sample_path)))
        return solve_well(target, seconds)

    outcome = run_targets(targets, sample, out, solve, deadline_seconds=None)
    assert seen == [[]] * 6
    assert len(outcome.origins) == 6 and not outcome.failed
    assert read_submission(out).predictions("DX002")[0, :3].tolist() == [[1.0] * 3, [2.0] * 3, [3.0] * 3]


@pytest.mark.parametrize(
    "fault",
    [
        lambda: (_ for _ in ()).throw(RuntimeError("planted")),
        lambda: (_ for _ in ()).throw(MemoryError()),
        lambda: np.full((5, 3, 3), 1.0),
        lambda: np.full((5, 64, 3), np.nan),
    ],
    ids=["exception", "memory", "shape", "nan"],
)
def test_a_fault_in_one_target_costs_that_target_only(
    job: Job, fault: Callable[[], np.ndarray], caplog: pytest.LogCaptureFixture
) -> None:
    out, sample_path, sample, targets = job

    def solve(target: Target, seconds: float) -> list[Candidate]:
        return candidates(fault()) if target.target_id == "DX003" else solve_well(target, seconds)

    outcome = run_targets(targets, sample, out, solve, deadline_seconds=None)
    assert list(outcome.failed) == ["DX003"]
    assert len(outcome.origins) == 5
    assert list_defects(check_submission(out, sample_path)) == []
    fallback = build_fallback(next(t for t in targets if t.target_id == "DX003"))
    assert np.allclose(read_submission(out).predictions("DX003"), fallback, atol=1e-3)
    assert "Traceback" in caplog.text
    records, why = find_records(out)
    assert records is not None and why == ""
    assert [r.confidence for r in records["DX001"]] == pytest.approx([0.5, 0.4, 0.3, 0.2, 0.1])
    assert {(r.origin, r.confidence) for r in records["DX003"]} == {("fallback", None)}


def test_a_record_that_cannot_be_written_costs_a_log_line_and_not_the_submission(
    job: Job, caplog: pytest.LogCaptureFixture
) -> None:
    out, sample_path, sample, targets = job
    records_path(out).mkdir()
    outcome = run_targets(targets, sample, out, solve_well, deadline_seconds=None)
    assert len(outcome.origins) == 6
    assert list_defects(check_submission(out, sample_path)) == []
    assert "no record of expected scores" in caplog.text


def test_a_target_that_hangs_is_interrupted_and_the_rest_still_gets_its_turn(job: Job) -> None:
    out, sample_path, sample, targets = job

    def solve(target: Target, seconds: float) -> list[Candidate]:
        if target.target_id == "DX001":
            time.sleep(600)
        return solve_well(target, seconds)

    outcome = run_targets(targets, sample, out, solve, deadline_seconds=8.0)
    assert list(outcome.failed) == ["DX001"]
    assert len(outcome.origins) == 5
    assert list_defects(check_submission(out, sample_path)) == []


def test_targets_without_time_keep_their_fallback_and_are_counted(job: Job) -> None:
    out, sample_path, sample, targets = job
    now = [0.0]

    def solve(target: Target, seconds: float) -> list[Candidate]:
        now[0] += 20.0
        return solve_well(target, seconds)

    outcome = run_targets(targets, sample, out, solve, deadline_seconds=60.0, clock=lambda: now[0])
    # 3 s are kept back; after three targets 60 s are gone
    assert len(outcome.origins) == 3 and len(outcome.skipped) == 3
    lengths = {t.target_id: t.length for t in targets}
    assert max(lengths[k] for k in outcome.origins) <= min(lengths[k] for k in outcome.skipped)
    assert list_defects(check_submission(out, sample_path)) == []


def test_a_sample_of_other_targets_or_lengths_is_refused(job: Job) -> None:
    _, sample_path, sample, targets = job
    with pytest.raises(InputError, match=r"1 targets are not in .*DX001"):
        match_targets(targets[1:], sample, Path("test.csv"), sample_path)
    shorter = [*targets[:-1], read_targets_with(targets[-1])]
    with pytest.raises(InputError, match=r"DX006 has \d+ rows, but \d+ residues"):
        match_targets(shorter, sample, Path("test.csv"), sample_path)


def read_targets_with(target: Target) -> Target:
    from dataclasses import replace

    return replace(target, sequence=target.sequence[:-1])


def test_chunks_are_joined_by_superposition_without_a_torn_bond() -> None:
    example = make_duplex(60)
    points = example.coords[:, 0].astype(float)
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    turn *= np.sign(np.linalg.det(turn))
    chunks = [points[:50], points[30:80] @ turn.T + 9.0, points[70:] @ turn - 5.0]
    joined = join_chunks(120, [0, 30, 70], chunks)
    assert np.abs(joined - points).max() < 1e-6


def test_a_long_target_folded_in_chunks_is_complete_and_near_its_start() -> None:
    import torch

    torch.manual_seed(0)
    network = build_network(resolve_config("cpu", "minimal").model).eval()
    example = make_duplex(80)
    fold = fold_example(network, example, 0, max_whole=64)
    assert fold.coords.shape == (160, 3) and np.isfinite(fold.coords).all()
    assert fold.lddt.shape == (160,) and 0 <= fold.lddt.min() <= fold.lddt.max() <= 1
    bonds = np.linalg.norm(np.diff(fold.coords[:80], axis=0), axis=1)
    assert bonds.max() < 8.0
