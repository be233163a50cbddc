"""The section on the choice among several programs' models: which source won which place, and what that lost."""

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

from rnafold.report.sections import write_section
from rnafold.scoring.choice import ChoiceScore
from rnafold.submission import PredictionRecord

_NAMES = (
    "target",
    "candidates",
    "rank r",
    "best candidate",
    "first below it",
    "five below it",
    "the five, surest first",
)


def write_choices(choices: Sequence[ChoiceScore], records: Mapping[str, Sequence[PredictionRecord]] | None) -> str:
    """The table; "" without any choice on record."""
    if not choices:
        return ""
    rows = "".join(_write_row(choice, (records or {}).get(choice.target_id, ())) for choice in choices)
    head = "".join(f"<th class='{'num' if 0 < k < 6 else ''}'>{name}</th>" for k, name in enumerate(_NAMES))
    lead = (
        '<p class="lead">All candidates, ours and other programs\', were judged on one scale. Rank r: how the expected '
        "TM-scores order them against those reached. A star: the target was released before the program's stated "
        "training cutoff and may have been seen.</p>"
    )
    body = f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody>"
    table = f"<div class='scroll'><table id='choice-table'>{body}</table></div>"
    lost = float(np.mean([choice.five_loss for choice in choices]))
    return write_section("choice", f"The five stay {lost:.3f} below the best candidate on average", lead + table)


def _write_row(choice: ChoiceScore, records: Sequence[PredictionRecord]) -> str:
    r = "–" if choice.correlation is None else f"{choice.correlation:.2f}".replace("-", "−")
    cells = [f"{choice.num_candidates}", r, f"{choice.best:.3f} ({escape(choice.best_source)})"]
    cells += [f"{choice.first_loss:.3f}", f"{choice.five_loss:.3f}"]
    numbers = "".join(f"<td class='num'>{cell}</td>" for cell in cells)
    five = "; ".join(_write_place(record) for record in records)
    return f"<tr><td>{escape(choice.target_id)}</td>{numbers}<td>{five}</td></tr>"


def _write_place(record: PredictionRecord) -> str:
    figures = [f"expected {record.confidence:.2f}"] if record.confidence is not None else []
    figures += [f"like others {record.likeness:.2f}"] if record.likeness is not None else []
    star = "*" if record.may_have_seen else ""
    told = f" ({', '.join(figures)})" if figures else ""
    return f"{escape(record.source or record.origin)}{star}{told}"
