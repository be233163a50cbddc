"""The sections that set a second run, or a second submission, beside the first; and which source won each place."""

from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, Final

import numpy as np

from rnafold.files.run_folder import RunRecord, read_curve
from rnafold.report.curves import BLUE, ORANGE, Figure, draw_line
from rnafold.report.sections import Section, write_grid, write_section
from rnafold.scoring.scorecard import Comparison, compare
from rnafold.structure import Score
from rnafold.submission import PredictionRecord

# More targets are not drawn as bars, only listed.
_MOST_BARS: Final = 80
_CURVES: Final = (("evaluations", "tm_score", "Validation TM-score"), ("train", "loss", "Loss"))


def write_versus_submission(first: Sequence[Score], second: Sequence[Score], names: tuple[str, str]) -> Section:
    """Second minus first, target by target: bars, a table, and the mean with its interval.

    Raises:
        InputError: they score different targets.
    """
    found = compare(first, second)
    figures = [_draw_differences(found)] if len(found.rows) <= _MOST_BARS else []
    rows = "".join(
        f'<tr><td data-value="{escape(name)}">{escape(name)}</td>'
        + "".join(
            f'<td class="num" data-value="{value:.6g}">{text}</td>'
            for value, text in (
                (length, f"{length:,}"), (one, f"{one:.3f}"), (two, f"{two:.3f}"), (two - one, _signed(two - one)),
            )
        )
        + "</tr>"
        for name, length, one, two in found.rows
    )  # fmt: skip
    columns = (("target", ""), ("length (nt)", "num"), (names[0], "num"), (names[1], "num"), ("difference", "num"))
    head = "".join(
        f'<th class="{kind}"><button type="button" data-column="{k}">{escape(name)}</button></th>'
        for k, (name, kind) in enumerate(columns)
    )
    table = (
        f'<div class="scroll"><table class="sortable" id="versus-table"><thead><tr>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )
    lead = (
        f'<p class="lead">Best of five of each target. {escape(names[1])} is better on {found.wins}, worse on '
        f"{found.losses}, equal on {found.ties}.</p>"
    )
    return write_section("versus", _describe(found, names), lead + write_grid(figures, "full") + table), figures


def _describe(found: Comparison, names: tuple[str, str]) -> str:
    text = f"{names[1]} {_signed(found.mean_difference)} against {names[0]}"
    low, high = found.interval
    if np.isnan(low):
        return f"{text}, on one target"
    return f"{text}, 95 % interval {_signed(low)} to {_signed(high)} over {len(found.rows)} targets"


def _draw_differences(found: Comparison) -> Figure:
    rows = sorted(found.rows, key=lambda row: row[3] - row[2])
    values = [round(row[3] - row[2], 4) for row in rows]
    data = [
        {
            "type": "bar", "x": [row[0] for row in rows], "y": values,
            "marker": {"color": [BLUE if value >= 0 else ORANGE for value in values]},
            "customdata": [[round(row[2], 3), round(row[3], 3)] for row in rows],
            "hovertemplate": "%{x}<br>%{customdata[0]} and %{customdata[1]}: %{y:+.3f}<extra></extra>",
        }
    ]  # fmt: skip
    layout = {
        "showlegend": False,
        "xaxis": {"type": "category", "tickangle": -60},
        "yaxis": {"title": {"text": "difference in TM-score"}},
    }
    note = "Second minus first, the largest loss first."
    return Figure(name="versus", title="Differences", note=note, data=data, layout=layout, height=260)


def write_versus_run(first: RunRecord, second: RunRecord) -> Section:
    """Both runs' curves in one plot each, and the settings in which they differ."""
    figures = []
    for part, key, title in _CURVES:
        data = []
        for run, color in ((first, BLUE), (second, ORANGE)):
            steps, values = read_curve(getattr(run, part), key)
            if len(steps):
                data.append(
                    draw_line(steps, values, color, run.name, mode="lines+markers" if len(steps) < 40 else "lines")
                )
        if data:
            layout: dict[str, Any] = {
                "xaxis": {"title": {"text": "optimizer step"}, "rangemode": "tozero"},
                "yaxis": {"title": {"text": title}},
                "showlegend": False,
                "hovermode": "x unified",
            }
            note = f"Blue: {first.name}; orange: {second.name}."
            figures.append(Figure(name=f"versus-{key}", title=title, note=note, data=data, layout=layout, height=280))
    one, two = flatten(first.config), flatten(second.config)
    changed = [key for key in sorted({*one, *two}) if one.get(key) != two.get(key)]
    rows = "".join(
        f"<tr><td>{escape(key)}</td><td>{escape(one.get(key, '–'))}</td><td>{escape(two.get(key, '–'))}</td></tr>"
        for key in changed
    )
    table = (
        f"<table class='plain' id='versus-settings'><thead><tr><th>setting</th><th>{escape(first.name)}</th>"
        f"<th>{escape(second.name)}</th></tr></thead><tbody>{rows}</tbody></table>"
        if changed
        else "<p>Both runs have the same settings.</p>"
    )
    heading = f"{first.name} beside {second.name}: {len(changed)} settings differ"
    return write_section("versus", heading, write_grid(figures, "wide") + table), figures


def flatten(mapping: Mapping[str, Any], above: str = "") -> dict[str, str]:
    """The leaves of nested mappings as texts, by keys joined with dots."""
    found: dict[str, str] = {}
    for key, value in mapping.items():
        name = f"{above}{key}"
        found |= flatten(value, f"{name}.") if isinstance(value, Mapping) else {name: str(value)}
    return found


def write_winners(scores: Sequence[Score], records: Mapping[str, Sequence[PredictionRecord]] | None) -> str:
    """How often each source filled a place, and how often its prediction was the target's best; "" without records."""
    filled: Counter[tuple[str, int]] = Counter()
    won: Counter[str] = Counter()
    for score in scores:
        rows = (records or {}).get(score.target_id, ())
        for record in rows:
            filled[_name(record), record.prediction] += 1
        if rows and score.tm:
            won[_name(rows[int(np.argmax(score.tm))])] += 1
    if not filled:
        return ""
    names = sorted({name for name, _ in filled}, key=lambda name: -won[name])
    places = sorted({place for _, place in filled})
    head = "".join(f'<th class="num">place {place}</th>' for place in places)
    body = "".join(
        f"<tr><td>{escape(name)}</td>"
        + "".join(f'<td class="num">{filled[name, place] or "–"}</td>' for place in places)
        + f'<td class="num">{sum(filled[name, place] for place in places)}</td><td class="num">{won[name]}</td></tr>'
        for name in names
    )
    table = (
        f"<div class='scroll'><table id='winners-table'><thead><tr><th>source</th>{head}<th class='num'>places</th>"
        f"<th class='num'>best of a target</th></tr></thead><tbody>{body}</tbody></table></div>"
    )
    total = sum(won.values())
    heading = f"{names[0]} gives the best prediction of {won[names[0]]} of {total} targets"
    lead = '<p class="lead">Which source filled which of the five places, and how often the best was its.</p>'
    return write_section("winners", heading, lead + table)


def _name(record: PredictionRecord) -> str:
    return record.source or record.origin


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", "−")
