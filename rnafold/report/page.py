"""The page put together: sections, style, script and data in one HTML file that needs nothing from the network."""

import json
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from rnafold.errors import InputError
from rnafold.files.atomic import write_text
from rnafold.files.run_folder import RunFolder, RunRecord, read_run
from rnafold.report.choice import write_choices
from rnafold.report.curves import PREDICTION_COLORS, Figure
from rnafold.report.reliability import write_reliability
from rnafold.report.run_sections import write_facts, write_header, write_learning, write_machine, write_plan
from rnafold.report.script import SCRIPT
from rnafold.report.sections import Section
from rnafold.report.structures import TargetResult, build_view, choose_targets, collect_results, measure_quality
from rnafold.report.style import STYLE
from rnafold.report.target_sections import write_targets, write_validation_targets, write_viewer
from rnafold.report.versus import write_versus_run, write_versus_submission, write_winners
from rnafold.scoring.choice import measure_choices
from rnafold.scoring.tm import Mode
from rnafold.submission import find_records


def write_report(
    run: Path,
    out: Path | None = None,
    submission: Path | None = None,
    labels: Path | None = None,
    *,
    predictions: Path | None = None,
    targets: Sequence[str] = (),
    mode: Mode = "exact",
    versus: Path | None = None,
) -> Path:
    """Writes the report of a run folder and returns its path.

    Args:
        run: run folder; whatever it does not hold yet is left out of the page.
        out: the HTML file (default: report.html in the run folder).
        submission: predictions to score and draw; with `labels`, or neither.
        labels: labels of the submission's targets.
        predictions: expected scores as `predict` wrote them (default: the file beside the submission, if it fits).
        targets: which of them to draw in 3D (default: all of up to 12, else best, quartiles and worst).
        mode: the scorer's search.
        versus: a second run folder, or (with `labels`) a second submission, to set beside the first.

    Raises:
        InputError: no run there, malformed files, an unknown target, or a place that cannot be written to.
        ValueError: one of submission and labels without the other, or predictions without them.
    """
    if (submission is None) != (labels is None) or (predictions is not None and submission is None):
        raise ValueError("submission and labels go together, predictions go with both")
    record = read_run(run)
    expected, why = (None, "") if submission is None else find_records(submission, predictions)
    results = [] if submission is None or labels is None else collect_results(submission, labels, mode)
    chosen = choose_targets(results, targets) if results else []
    qualities = [measure_quality(result) for result in results]
    by_id = {result.score.target_id: quality for result, quality in zip(results, qualities)}
    views = [build_view(result, by_id[result.score.target_id], mode) for result in chosen]
    figures: list[Figure] = []
    body = [write_header(record, results)]
    if results:
        part, drawn = write_targets(results, qualities, [view["id"] for view in views])
        trust, compared = write_reliability([result.score for result in results], expected, why)
        choices = [] if submission is None or labels is None else measure_choices(submission, labels, expected)
        winners = write_winners([result.score for result in results], expected)
        body += [part, write_viewer(views), trust, winners, write_choices(choices, expected)]
        figures += [*drawn, *compared]
    if versus is not None:
        beside, drawn = _set_beside(record, results, versus, submission, labels, mode)
        body.insert(2 if results else 1, beside)
        figures += drawn
    for part, drawn in (write_learning(record), write_machine(record)):
        body.append(part)
        figures += drawn
    if not results:
        body.append(write_validation_targets(record))
    body += [write_plan(record), write_facts(record)]
    path = RunFolder(run).report_file if out is None else out
    write_text(path, build_page(record.name, "".join(body), figures, views))
    return path


def _set_beside(
    record: RunRecord,
    results: Sequence[TargetResult],
    versus: Path,
    submission: Path | None,
    labels: Path | None,
    mode: Mode,
) -> Section:
    """The section about the second run or submission."""
    if versus.is_dir():
        return write_versus_run(record, read_run(versus))
    if submission is None or labels is None:
        raise InputError(f"--versus {versus}: a second submission needs --submission and --labels as well")
    others = [result.score for result in collect_results(versus, labels, mode)]
    names = (submission.stem, versus.stem) if submission.stem != versus.stem else (str(submission), str(versus))
    return write_versus_submission([result.score for result in results], others, names)


def build_page(title: str, body: str, figures: Sequence[Figure], views: Sequence[dict[str, Any]]) -> str:
    """The whole document; plotly.js stands in it once."""
    from plotly.offline import get_plotlyjs

    data = {
        "figures": [{"id": f"plot-{f.name}", "data": f.data, "layout": f.layout} for f in figures],
        # the drawings of pairs stand in the page itself
        "views": [{key: value for key, value in view.items() if key != "pairs"} for view in views],
        "colors": list(PREDICTION_COLORS),
    }
    # "<" is escaped so that no name in the data can end the script element.
    text = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<link rel="icon" href="data:,">\n'
        f"<title>{escape(title)} · rnafold report</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n{body}\n"
        '</main>\n<p id="page-error" role="alert" hidden></p>\n'
        f'<script type="application/json" id="report-data">{text}</script>\n'
        f"<script>{get_plotlyjs()}</script>\n<script>{SCRIPT}</script>\n</body>\n</html>\n"
    )
