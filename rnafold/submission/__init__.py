"""submission.csv: written in the exact order of the sample, read back, checked cell by cell, and repaired."""

from rnafold.submission.check import check_submission, format_findings, list_defects
from rnafold.submission.filling import fill_conformations
from rnafold.submission.repair import repair_submission
from rnafold.submission.rows import (
    COLUMNS,
    Sample,
    Submission,
    read_sample,
    read_submission,
    write_submission,
    write_text_atomically,
)

__all__ = [
    "COLUMNS",
    "Sample",
    "Submission",
    "check_submission",
    "fill_conformations",
    "format_findings",
    "list_defects",
    "read_sample",
    "read_submission",
    "repair_submission",
    "write_submission",
    "write_text_atomically",
]
