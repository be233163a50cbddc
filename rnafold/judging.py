"""Scores of a submission file against a labels file, by either official metric."""

from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from rnafold.data.competition import read_labelled_rows
from rnafold.errors import InputError
from rnafold.scoring import score_target
from rnafold.scoring.tm import Mode
from rnafold.scoring.usalign import find_usalign, score_with_usalign
from rnafold.structure import Score, whole_chain
from rnafold.submission import Submission, read_submission


def score_submission(
    submission_path: Path, labels_path: Path, metric: str = "part2", mode: Mode = "exact", usalign: Path | None = None
) -> list[Score]:
    """One score for every labelled target, in the order of the labels.

    Args:
        submission_path: 18 columns; targets without labels are left out.
        labels_path: labels with up to 40 references; `chain` and `copy` columns switch on the mapping of copies.
        metric: part2 (residue-number matched) or part1 (sequence-independent, needs US-align).
        mode: exact or fast, part2's search.
        usalign: the US-align binary, for part1.

    Raises:
        InputError: malformed files, a labelled target that the submission lacks, no US-align.
    """
    submission = read_submission(submission_path)
    binary = find_usalign(usalign) if metric == "part1" else None
    return list(tqdm(_iterate(submission, submission_path, labels_path, mode, binary), unit="target", disable=None))


def _iterate(
    submission: Submission, submission_path: Path, labels_path: Path, mode: Mode, binary: Path | None
) -> Iterator[Score]:
    for rows in read_labelled_rows(labels_path):
        if rows.target_id not in submission.groups:
            raise InputError(f"{submission_path}: has no rows of target {rows.target_id} of {labels_path}")
        predictions = submission.predictions(rows.target_id)
        length = len(rows.resnames)
        if predictions.shape[1] != length:
            raise InputError(
                f"{submission_path}: {rows.target_id} has {predictions.shape[1]} rows, the labels have {length}"
            )
        if binary is not None:
            yield score_with_usalign(binary, rows.target_id, "".join(rows.resnames), predictions, rows.references)
        else:
            chains = rows.chains or whole_chain(length)
            yield score_target(rows.target_id, chains, predictions, rows.references, mode)
