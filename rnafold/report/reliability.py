"""The section that holds expected TM-scores against achieved ones: every prediction, bins, and a line an origin."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, Final

import numpy as np

from rnafold.report.curves import BLUE, GREEN, ORANGE, PURPLE, SOFT, Figure
from rnafold.report.sections import Section, write_grid, write_section
from rnafold.scoring.reliability import Reliability, ScoredPrediction, measure_reliability, pair_scores
from rnafold.structure import Score
from rnafold.submission import PredictionRecord

# Of each origin: the colour of its dots, and the key of the page's style that has the same one.
_COLORS: Final = {"template": (BLUE, "blue"), "assembly": (ORANGE, "orange"), "network": (GREEN, "correct")}
_OTHER: Final = (PURPLE, "")
_HEIGHT: Final = 400
_LEAST_TOP: Final = 0.2


def write_reliability(
    scores: Sequence[Score], records: Mapping[str, Sequence[PredictionRecord]] | None, why: str
) -> Section:
    """Both figures and the table; without records one line that says why (`why`).

    Raises:
        InputError: records that do not match the scores.
    """
    if records is None:
        body = f"<p>Expected and achieved TM-scores cannot be compared. {escape(why)}</p>"
        return write_section("reliability", "No expected TM-scores", body), []
    pairs = pair_scores(scores, records)
    reliability = measure_reliability(pairs)
    if reliability is None:
        body = "<p>Every prediction is a plain strand or failed quality control: nothing was expected of any.</p>"
        return write_section("reliability", "No expected TM-scores", body), []
    top = _choose_top(pairs, reliability)
    figures = [_draw_pairs(pairs, top), _draw_bins(reliability, top)]
    left_out = sum(len(score.tm) for score in scores) - len(pairs)
    rest = f" {left_out} predictions of which nothing was expected are left out." if left_out else ""
    lead = (
        '<p class="lead">The expected TM-score of each prediction, by which the five are chosen, against what it '
        "reached. On the dotted line they agree; below it predictions were trusted too much, above it too little."
        f"{rest} {_write_keys(pairs)}</p>"
    )
    body = lead + write_grid(figures, "wide") + _write_table(pairs, reliability)
    return write_section("reliability", _describe(reliability), body), figures


def _describe(reliability: Reliability) -> str:
    r = "" if reliability.correlation is None else f" (r {_signed(reliability.correlation, 2, plus='')})"
    number = f"{reliability.count} prediction{'s' if reliability.count > 1 else ''}"
    return f"Expected TM-scores are {reliability.mean_absolute_error:.3f} off on average{r} over {number}"


def _choose_top(pairs: Sequence[ScoredPrediction], reliability: Reliability) -> float:
    """End of both axes: the next tenth above all values, so that low scores are not drawn into a corner."""
    highest = max(max(pair.expected, pair.achieved) for pair in pairs)
    highest = max(highest, *(entry.achieved + (entry.standard_error or 0.0) for entry in reliability.bins))
    return float(min(1.02, max(_LEAST_TOP, np.ceil(10 * highest + 0.3) / 10)))


def _layout(top: float, expected: str, achieved: str) -> dict[str, Any]:
    # both the same, so that the diagonal means agreement
    axis = {"range": [0, top], "dtick": 0.1 if top <= 0.5 else 0.2, "tickformat": ".1f"}
    return {
        "xaxis": {**axis, "title": {"text": expected}},
        "yaxis": {**axis, "title": {"text": achieved}},
        "hovermode": "closest",
        "showlegend": False,
    }


def _draw_diagonal(top: float) -> dict[str, Any]:
    return {
        "type": "scatter", "mode": "lines", "x": [0, top], "y": [0, top], "hoverinfo": "skip",
        "line": {"color": SOFT, "dash": "dot", "width": 1.2},
    }  # fmt: skip


def _draw_pairs(pairs: Sequence[ScoredPrediction], top: float) -> Figure:
    """Every prediction as a dot, coloured by origin."""
    data = [_draw_diagonal(top)]
    for origin in _order_origins(pairs):
        own = [pair for pair in pairs if pair.origin == origin]
        data.append(
            {
                "type": "scatter", "mode": "markers", "name": origin,
                "x": [round(pair.expected, 4) for pair in own], "y": [round(pair.achieved, 4) for pair in own],
                "text": [f"{pair.target_id}, prediction {pair.prediction}" for pair in own],
                "hovertemplate": "%{text}<br>expected %{x:.3f}, achieved %{y:.3f}<extra></extra>",
                "marker": {"color": _COLORS.get(origin, _OTHER)[0], "size": 8, "opacity": 0.7},
            }
        )  # fmt: skip
    note = "A dot a prediction, coloured by where it comes from."
    layout = _layout(top, "expected TM-score", "achieved TM-score")
    return Figure(
        name="reliability-predictions", title="Predictions", note=note, data=data, layout=layout, height=_HEIGHT
    )


def _draw_bins(reliability: Reliability, top: float) -> Figure:
    """Mean expected against mean achieved of each tenth, with counts."""
    bins = reliability.bins
    most = max(entry.count for entry in bins)
    data = [_draw_diagonal(top)]
    data.append(
        {
            "type": "scatter", "mode": "lines+markers+text", "name": "mean and standard error", "cliponaxis": False,
            "x": [round(entry.expected, 4) for entry in bins], "y": [round(entry.achieved, 4) for entry in bins],
            "text": [str(entry.count) for entry in bins], "textposition": "bottom right",
            "textfont": {"color": SOFT, "size": 12},
            "error_y": {
                "type": "data", "array": [round(entry.standard_error or 0.0, 4) for entry in bins], "color": SOFT,
                "thickness": 1.2, "width": 4,
            },
            "customdata": [[round(entry.low, 1), round(entry.high, 1)] for entry in bins],
            "hovertemplate": "%{text} predictions expected at %{customdata[0]} to %{customdata[1]}<br>"
            "mean expected %{x:.3f}, mean achieved %{y:.3f}<extra></extra>",
            "line": {"color": BLUE, "width": 1.5},
            "marker": {"color": BLUE, "size": [round(7 + 9 * (entry.count / most) ** 0.5, 1) for entry in bins]},
        }
    )  # fmt: skip
    note = "Means of each tenth of the expected TM-score, with the number of predictions and the standard error."
    layout = _layout(top, "mean expected TM-score", "mean achieved TM-score")
    return Figure(name="reliability-bins", title="Reliability", note=note, data=data, layout=layout, height=_HEIGHT)


def _order_origins(pairs: Sequence[ScoredPrediction]) -> list[str]:
    """The origins that occur, the most frequent first."""
    origins = [pair.origin for pair in pairs]
    return sorted(set(origins), key=lambda origin: (-origins.count(origin), origin))


def _write_keys(pairs: Sequence[ScoredPrediction]) -> str:
    return " ".join(
        f'<span class="key {_COLORS.get(origin, _OTHER)[1]}">{escape(origin)}</span>'
        for origin in _order_origins(pairs)
    )


def _write_table(pairs: Sequence[ScoredPrediction], total: Reliability) -> str:
    """A row an origin and, where there are several, one for all."""
    rows = []
    for origin in _order_origins(pairs):
        own = [pair for pair in pairs if pair.origin == origin]
        found = measure_reliability(own)
        rows += [] if found is None else [_write_row(origin, own, found)]
    if len(rows) > 1:
        rows.append(_write_row("all", pairs, total))
    names = ("origin", "predictions", "mean expected", "mean achieved", "difference", "mean absolute error", "r")
    head = "".join(f"<th class='{'num' if k else ''}'>{name}</th>" for k, name in enumerate(names))
    return (
        f"<div class='scroll'><table id='reliability-table'><thead><tr>{head}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _write_row(name: str, pairs: Sequence[ScoredPrediction], found: Reliability) -> str:
    expected = float(np.mean([pair.expected for pair in pairs]))
    achieved = float(np.mean([pair.achieved for pair in pairs]))
    r = "–" if found.correlation is None else _signed(found.correlation, 2, plus="")
    cells = [f"{found.count}", f"{expected:.3f}", f"{achieved:.3f}", _signed(found.bias, 3)]
    cells += [f"{found.mean_absolute_error:.3f}", r]
    return f"<tr><td>{escape(name)}</td>" + "".join(f"<td class='num'>{cell}</td>" for cell in cells) + "</tr>"


def _signed(value: float, digits: int, plus: str = "+") -> str:
    return f"{value:{plus}.{digits}f}".replace("-", "−")
