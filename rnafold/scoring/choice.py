"""How well five were chosen of all candidates: rank correlation of expected and reached, and what the choice lost."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from rnafold.data.competition import read_labelled_rows
from rnafold.scoring.complexes import score_target
from rnafold.structure import FloatArray
from rnafold.submission import PredictionRecord, Submission, read_submission
from rnafold.submission.pool import JudgedPool, find_pool

# Scores nearer than this are the same.
_LEAST_SPREAD = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class ChoiceScore:
    """The choice of one target's five.

    Attributes:
        target_id: the target.
        num_candidates: how many there were.
        correlation: Spearman's, of expected and reached over all candidates; None without spread.
        best: TM-score of the best candidate, and its source.
        best_source: what made it.
        first_loss: by how much the first prediction stays below it.
        five_loss: the same of the best of the five.
        sources: of the five, in order.
        may_have_seen: a program among the five may have been trained on the target.
    """

    target_id: str
    num_candidates: int
    correlation: float | None
    best: float
    best_source: str
    first_loss: float
    five_loss: float
    sources: tuple[str, ...]
    may_have_seen: bool


Records = Mapping[str, Sequence[PredictionRecord]]


def measure_choices(submission_path: Path, labels_path: Path, records: Records | None) -> list[ChoiceScore]:
    """One row for every labelled target of which all candidates lie beside the submission; else none.

    Candidates and predictions alike are scored by the fast search, so that a loss compares like with like.

    Raises:
        InputError: a malformed file.
    """
    pools = find_pool(submission_path)
    if not pools:
        return []
    submission = read_submission(submission_path)
    rows = [labels for labels in read_labelled_rows(labels_path) if labels.target_id in pools and labels.references]
    found = []
    for labels in tqdm(rows, desc="scoring candidates", unit="target", disable=None):
        pool, name = pools[labels.target_id], labels.target_id
        points = np.concatenate([submission.predictions(name), pool.coords])
        tm = np.array(score_target(name, labels.chains or (), points, labels.references, "fast").tm)
        count = _count(submission, name)
        found.append(_measure(name, pool, tm[count:], tm[:count], (records or {}).get(name, ())))
    return found


def _count(submission: Submission, target_id: str) -> int:
    return len(submission.predictions(target_id))


def _measure(
    target_id: str, pool: JudgedPool, reached: FloatArray, five: FloatArray, records: Sequence[PredictionRecord]
) -> ChoiceScore:
    best = int(np.argmax(reached))
    return ChoiceScore(
        target_id=target_id,
        num_candidates=len(reached),
        correlation=rank_correlation(pool.expected, reached),
        best=float(reached[best]),
        best_source=pool.sources[best],
        first_loss=max(0.0, float(reached[best] - five[0])),
        five_loss=max(0.0, float(reached[best] - five.max())),
        sources=tuple(record.source or record.origin for record in records),
        may_have_seen=any(record.may_have_seen for record in records),
    )


def rank_correlation(first: FloatArray, second: FloatArray) -> float | None:
    """Spearman's rank correlation of two series, ties with their mean rank; None where one does not vary."""
    one, two = _rank(first), _rank(second)
    if min(one.std(), two.std()) < _LEAST_SPREAD:
        return None
    return float(np.corrcoef(one, two)[0, 1])


def _rank(values: FloatArray) -> FloatArray:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2.0)[inverse.reshape(-1)], dtype=np.float64)


def format_choices(choices: Sequence[ChoiceScore]) -> str:
    """The table below the scores: a row a target, then the means."""
    width = max(len("target"), *(len(choice.target_id) for choice in choices))
    header = (
        f"{'target':<{width}}  {'candidates':>10}  {'rank r':>6}  {'best':>7}  {'first -':>7}  {'five -':>7}  sources"
    )
    lines = ["", header, "-" * len(header)]
    for choice in choices:
        r = "  none" if choice.correlation is None else f"{choice.correlation:6.2f}"
        seen = " (may have been seen)" if choice.may_have_seen else ""
        lines.append(
            f"{choice.target_id:<{width}}  {choice.num_candidates:>10}  {r}  {choice.best:7.3f}  "
            f"{choice.first_loss:7.3f}  {choice.five_loss:7.3f}  {', '.join(choice.sources)}; best: "
            f"{choice.best_source}{seen}"
        )
    known = [choice.correlation for choice in choices if choice.correlation is not None]
    mean = f"{np.mean(known):.2f}" if known else "none"
    lines += [
        "-" * len(header),
        f"choice of {len(choices)} targets: mean rank correlation of expected and reached {mean}; below the best "
        f"candidate the first stays by {np.mean([c.first_loss for c in choices]):.3f}, the five by "
        f"{np.mean([c.five_loss for c in choices]):.3f}",
    ]
    return "\n".join(lines)


def build_choices_json(choices: Sequence[ChoiceScore]) -> dict[str, Any]:
    """By target, as JSON."""
    return {choice.target_id: asdict(choice) for choice in choices}
