"""submission.csv: written in the exact order of the sample, read back, checked cell by cell, and repaired."""

from rnafold.submission.check import check_submission, format_findings, list_defects
from rnafold.submission.filling import fill_conformations
from rnafold.submission.provenance import PredictionRecord, find_records, read_records, records_path, write_records
from rnafold.submission.repair import repair_submission
from rnafold.submission.rows import (
    COLUMNS,
    Sample,
    Submission,
    read_sample,
    read_submission,
    write_submission,
)

__all__ = [
    "COLUMNS",
    "PredictionRecord",
    "Sample",
    "Submission",
    "check_submission",
    "fill_conformations",
    "find_records",
    "format_findings",
    "list_defects",
    "read_records",
    "read_sample",
    "read_submission",
    "records_path",
    "repair_submission",
    "write_records",
    "write_submission",
]
