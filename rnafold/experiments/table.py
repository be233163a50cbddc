"""Findings as Markdown, and their place in experiments/README.md: a block between two marker comments each."""

import math
from collections.abc import Sequence
from pathlib import Path

from rnafold.errors import InputError
from rnafold.experiments.spec import Experiment, Measure
from rnafold.experiments.summary import Row, Summary

UNITS: dict[Measure, str] = {
    "tm_score": "TM-score",
    "gain_over_start": "TM-score minus the start's",
    "expected_tm_r": "r of expected and reached TM-score",
    "residues_per_second": "residues a second",
}


def format_summary(summary: Summary) -> str:
    """An experiment's heading, question, expectation, how it was measured, and the table."""
    experiment = summary.experiment
    lines = [
        f"### {experiment.name}",
        "",
        f"{experiment.question.strip()}",
        "",
        f"Expected: {experiment.expected.strip()}",
        "",
        describe_method(summary),
        "",
        f"| variant | {UNITS[experiment.measure]} | gain over {experiment.baseline} (95 %) | hours | verdict |",
        "|---|---|---|---|---|",
        *(_format_row(experiment.measure, row) for row in summary.rows),
    ]
    return "\n".join(lines)


def describe_method(summary: Summary) -> str:
    """One line: targets, seeds, machine, the smallest gain that counts and the common settings."""
    experiment = summary.experiment
    seeds = ", ".join(map(str, experiment.seeds))
    targets = f"{summary.num_targets} development targets" if summary.num_targets else "development targets"
    common = " ".join(f"{key}={_write(value)}" for key, value in experiment.common.items())
    needed = _format_gain(experiment.measure, experiment.minimum_gain)
    return (
        f"{targets}, seed{'s' if len(experiment.seeds) > 1 else ''} {seeds}, {summary.gpu}, model {experiment.model}; "
        f"yes from {needed}{f'; `{common}`' if common else ''}"
    )


def _write(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _format_row(measure: Measure, row: Row) -> str:
    gain = ""
    if row.comparison is not None:
        found = row.comparison
        gain = _format_gain(measure, found.gain)
        if not math.isnan(found.low):
            gain += f" ({_format_gain(measure, found.low)} to {_format_gain(measure, found.high)})"
    value = "" if row.value is None else _format_value(measure, row.value)
    hours = f"{row.hours:.2f}" if row.hours else ""
    cells = (row.variant, value, gain, hours, row.verdict.replace("|", "\\|").replace("\n", " "))
    return "| " + " | ".join(cells) + " |"


def _format_value(measure: Measure, value: float) -> str:
    if math.isnan(value):
        return "not defined"
    return f"{value:.0f}" if measure == "residues_per_second" else f"{value:.4f}"


def _format_gain(measure: Measure, gain: float) -> str:
    return f"{100 * gain:+.1f} %" if measure == "residues_per_second" else f"{gain:+.4f}"


def find_markers(name: str) -> tuple[str, str]:
    """The comments around an experiment's block."""
    return f"<!-- begin {name} -->", f"<!-- end {name} -->"


def check_record(path: Path, experiments: Sequence[Experiment]) -> None:
    """Refuses, before hours are spent, a file that results cannot be put into.

    Raises:
        InputError: no such file, or one with a broken pair of markers.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file, expected one to record results in")
    text = path.read_text(encoding="utf-8")
    for experiment in experiments:
        put_block(text, experiment.name, "", str(path))


def put_block(text: str, name: str, block: str, place: str) -> str:
    """`text` with the block of an experiment replaced, or added at the end where it has none.

    Raises:
        InputError: one marker without the other, twice, or in the wrong order; the message begins with `place`.
    """
    begin, end = find_markers(name)
    counts = text.count(begin), text.count(end)
    if counts == (0, 0):
        return f"{text.rstrip()}\n\n{begin}\n{block}\n{end}\n"
    if counts != (1, 1) or text.index(begin) > text.index(end):
        raise InputError(
            f"{place}: found {counts[0]} x {begin!r} and {counts[1]} x {end!r}, expected one of each, in this order"
        )
    head, tail = text[: text.index(begin)], text[text.index(end) + len(end) :]
    return f"{head}{begin}\n{block}\n{end}{tail}"
