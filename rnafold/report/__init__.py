"""One self-contained HTML page about a run: curves, targets, 3D views, plan against actual. The door of plotly."""

import logging
from pathlib import Path

from rnafold.config.launch import is_first_rank
from rnafold.errors import InputError
from rnafold.report.page import write_report

__all__ = ["report_finished_run", "write_report"]

log = logging.getLogger(__name__)


def report_finished_run(folder: Path) -> None:
    """Writes the page of a run that has just ended, on the first rank alone; a failure is a warning: the weights stand,
    and a full disk must not make a run look failed."""
    if not is_first_rank():
        return
    try:
        log.info("report: %s", write_report(folder))
    except (InputError, OSError) as error:
        log.warning("no report: %s", error)
