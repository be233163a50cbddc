"""Scores of a submission file against a labels file, by either official metric."""

from collections.abc import Iterator
from pathlib import Path

from rnafold.data.competition import LabelledRows, read_labelled_rows
from rnafold.errors import InputError
from rnafold.scoring import find_usalign, score_all
from rnafold.scoring.tm import Mode
from rnafold.structure import Score
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
    labels = _match(submission, submission_path, labels_path)
    predictions = {target_id: submission.predictions(target_id) for target_id in submission.groups}
    return list(score_all(predictions, labels, mode, binary))


def _match(submission: Submission, submission_path: Path, labels_path: Path) -> Iterator[LabelledRows]:
    """The labelled rows, each checked to be in the submission with as many rows."""
    for rows in read_labelled_rows(labels_path):
        found = len(submission.groups.get(rows.target_id, ()))
        if not found:
            raise InputError(f"{submission_path}: has no rows of target {rows.target_id} of {labels_path}")
        if found != len(rows.resnames):
            raise InputError(f"{submission_path}: {rows.target_id} has {found} rows, the labels {len(rows.resnames)}")
        yield rows
