"""What the page says of targets: scores by length, the table, structures in 3D with their pairs."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from rnafold.files.run_folder import RunRecord, read_number
from rnafold.report.curves import PREDICTION_COLORS, Figure
from rnafold.report.sections import Section, write_grid, write_section
from rnafold.report.structures import StructureQuality, TargetResult
from rnafold.scoring.scorecard import average_scores


def write_targets(
    results: Sequence[TargetResult], qualities: Sequence[StructureQuality], drawn: Sequence[str]
) -> Section:
    """Chart and table of the scored targets; those in `drawn` get a button that shows them in 3D."""
    scores = [result.score for result in results]
    best, worst = max(scores, key=lambda s: s.best), min(scores, key=lambda s: s.best)
    mean = average_scores(scores)
    heading = f"Mean TM-score {mean:.3f} over {len(scores)} target{'s' if len(scores) > 1 else ''}"
    if len(scores) > 1:
        heading += f", from {worst.best:.3f} ({worst.target_id}) to {best.best:.3f} ({best.target_id})"
    figure = _draw_scores(results, mean)
    num = max(len(score.tm) for score in scores)
    columns = [
        ("target", ""), ("length (nt)", "num"), ("chains", "num"), *((f"TM {k}", "num") for k in range(1, num + 1)),
        ("best TM", "num"), ("ref.", "num"), ("lDDT", "num"), ("RMSD (Å)", "num"), ("bonds", "num"),
        ("clashes", "num"),
    ]  # fmt: skip
    head = "".join(
        f'<th class="{kind}"><button type="button" data-column="{k}">{escape(name)}</button></th>'
        for k, (name, kind) in enumerate(columns)
    )
    rows = "".join(
        _write_target_row(result, quality, num, result.score.target_id in drawn)
        for result, quality in zip(results, qualities)
    )
    table = (
        f'<div class="scroll"><table class="sortable" id="targets-table"><thead><tr>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
        '<p class="foot">TM-score by part 2\'s metric, each against its nearest reference (ref.: which of how '
        "many); the winner is in bold. lDDT, RMSD, C1'–C1' bonds outside 4.7 to 9.5 Å and clashes below 3.5 Å are the "
        "best prediction's. Click a heading to sort, a name to see it in 3D.</p>"
    )
    return write_section("targets", heading, write_grid([figure], "full") + table), [figure]


def _write_target_row(result: TargetResult, quality: StructureQuality, num: int, drawn: bool) -> str:
    score, name = result.score, escape(result.score.target_id)
    cells = [f'<button type="button" class="show" data-target="{name}">{name}</button>' if drawn else name]
    values: list[tuple[float, str]] = [
        (score.length, f"{score.length:,}"),
        (len(result.chains), f"{len(result.chains)}"),
    ]
    values += [
        (value, f"<b>{value:.3f}</b>" if index == result.best_index else f"{value:.3f}")
        for index, value in enumerate(score.tm)
    ]
    values += [(-1.0, "–")] * (num - len(score.tm))
    meter = f'<span class="meter"><i style="width:{100 * score.best:.1f}%"></i></span>'
    values.append((score.best, f"{meter}{score.best:.3f}"))
    values.append((score.reference, f"{score.reference}/{result.num_references}"))
    values += [_optional(quality.lddt, 3), _optional(quality.rmsd, 1)]
    values += [(quality.bonds, str(quality.bonds)), (quality.clashes, str(quality.clashes))]
    body = "".join(f'<td class="num" data-value="{value:.6g}">{text}</td>' for value, text in values)
    return f'<tr><td data-value="{name}">{cells[0]}</td>{body}</tr>'


def _optional(value: float, digits: int) -> tuple[float, str]:
    return (-1.0, "–") if np.isnan(value) else (value, f"{value:.{digits}f}")


def _draw_scores(results: Sequence[TargetResult], mean: float) -> Figure:
    """TM-score against length: the five faint, the best filled."""
    lengths = [result.score.length for result in results]
    names = [result.score.target_id for result in results]
    every = [(length, value) for result, length in zip(results, lengths) for value in result.score.tm]
    wide = max(lengths) > 8 * min(lengths)
    margin = 1.15 if wide else 1.05
    low, high = min(lengths) / margin, max(lengths) * margin
    dots = {"type": "scatter", "mode": "markers"}
    data = [
        {**dots, "x": [x for x, _ in every], "y": [round(y, 4) for _, y in every], "hoverinfo": "skip",
         "marker": {"color": "var(--faint)", "size": 6}},
        {**dots, "x": lengths, "y": [round(result.score.best, 4) for result in results], "text": names,
         "hovertemplate": "%{text}<br>%{x} nt, TM-score %{y:.3f}<extra></extra>",
         "marker": {"color": PREDICTION_COLORS[0], "size": 10}},
        {"type": "scatter", "mode": "lines", "x": [low, high], "y": [mean, mean], "hoverinfo": "skip",
         "line": {"color": "var(--soft)", "dash": "dot", "width": 1.2}},
    ]  # fmt: skip
    xaxis: dict[str, Any] = {"title": {"text": "length (nt)"}}
    if wide:
        ticks = [t for t in (10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000) if low <= t <= high]
        xaxis |= {"type": "log", "range": [float(np.log10(low)), float(np.log10(high))], "tickvals": ticks}
        xaxis["ticktext"] = [f"{tick:,}" for tick in ticks]
    else:
        xaxis["range"] = [low, high]
    mark = {
        "x": 1.005, "xref": "paper", "y": mean, "text": f"{mean:.3f} mean", "showarrow": False, "xanchor": "left",
        "font": {"color": "var(--soft)", "size": 12},
    }  # fmt: skip
    top = max(result.score.best for result in results)
    layout = {
        "xaxis": xaxis,
        "yaxis": {"title": {"text": "TM-score (0 to 1)"}, "range": [0, min(1.02, 1.15 * top + 0.02)]},
        "showlegend": False, "hovermode": "closest", "annotations": [mark],
        "margin": {"l": 8, "r": 84, "t": 10, "b": 8},
    }  # fmt: skip
    note = "Filled: the best of the predictions; faint: all of them."
    return Figure(name="scores", title="TM-score by length", note=note, data=data, layout=layout, height=280)


def write_validation_targets(run: RunRecord) -> str:
    """Without a submission: the validation targets of the best and the last evaluation."""
    records = [record for record in run.evaluations if isinstance(record.get("tm_by_target"), Mapping)]
    if not records:
        return ""
    best = max(records, key=lambda record: read_number(record.get("tm_score")) or 0.0)["tm_by_target"]
    first, last = records[0]["tm_by_target"], records[-1]["tm_by_target"]
    rows, values = [], {str(name): read_number(value) for name, value in best.items()}
    known = {name: value for name, value in values.items() if value is not None}
    if not known:
        return ""
    for name, value in sorted(known.items()):
        cells = [(read_number(first.get(name)), ""), (read_number(last.get(name)), ""), (value, "meter")]
        body = "".join(
            f'<td class="num" data-value="{-1.0 if cell is None else cell:.6g}">'
            + ("–" if cell is None else _meter(cell) * bool(kind) + f"{cell:.3f}")
            + "</td>"
            for cell, kind in cells
        )
        rows.append(f'<tr><td data-value="{escape(name)}">{escape(name)}</td>{body}</tr>')
    columns = ("target", "first evaluation", "last evaluation", "best evaluation")
    head = "".join(
        f'<th class="{"num" if k else ""}"><button type="button" data-column="{k}">{name}</button></th>'
        for k, name in enumerate(columns)
    )
    low, high = min(known, key=lambda name: known[name]), max(known, key=lambda name: known[name])
    heading = f"Validation targets score from {known[low]:.3f} ({low}) to {known[high]:.3f} ({high})"
    return write_section(
        "targets",
        heading,
        '<p class="lead">TM-score of one prediction a target by the moving average of the weights. Give the report a '
        "submission and its labels for the five predictions in 3D.</p>"
        f'<div class="scroll"><table class="sortable"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody>'
        "</table></div>",
    )


def _meter(value: float) -> str:
    return f'<span class="meter"><i style="width:{100 * value:.1f}%"></i></span>'


def write_viewer(views: Sequence[Mapping[str, Any]]) -> str:
    """The frame of the 3D view and the contact map; the page's script fills it."""
    tabs = "".join(
        f'<button type="button" class="tab" role="tab" data-target="{escape(view["id"])}">{escape(view["id"])}'
        f"<span>{view['tm'][view['best']]:.3f}</span></button>"
        for view in views
    )
    return write_section(
        "structures",
        _describe_views(views),
        f'<div class="tabs" role="tablist" aria-label="targets">{tabs}</div>'
        '<p class="lead" id="view-summary"></p><div class="switches" id="view-switches"></div>'
        '<div class="viewer"><figure><figcaption><b>Superposed structures</b><span id="view-note"></span></figcaption>'
        '<div class="plot" id="view-3d" tabindex="0" role="img" style="height:520px" '
        'aria-label="Superposed structures in three dimensions; arrow keys turn them, plus and minus zoom"></div>'
        "</figure>"
        "<figure><figcaption><b>Contacts</b><span id='map-note'></span></figcaption>"
        '<div class="plot" id="view-map" role="img" aria-label="Contact map; its shares stand in the text above" '
        'style="height:490px"></div><p class="legend">'
        'Above the diagonal, contacts of the reference: <span class="key kept">kept</span> '
        '<span class="key missed">missed</span>; below, of the best prediction: <span class="key correct">true</span> '
        '<span class="key wrong">false</span></p>'
        "</figure></div><figure><figcaption><b>Error along the chain</b><span>distance to the reference after "
        "superposition, in Å; gaps where the reference is not resolved</span></figcaption>"
        '<div class="plot" id="view-errors" role="img" aria-label="Error of each residue in Å" style="height:240px">'
        "</div></figure>" + "".join(_write_pairs(view) for view in views),
    )


def _write_pairs(view: Mapping[str, Any]) -> str:
    """Pairs of the reference above the sequence, those of the best prediction below; shown with their target."""
    pairs = view["pairs"]
    words = (
        f"The reference of {view['id']} has {pairs['num_true']} pairs, the best prediction {pairs['num_found']}; "
        f"{pairs['num_both']} are in both."
    )
    return (
        f'<figure data-pairs="{escape(view["id"])}" hidden><figcaption><b>Secondary structure</b><span>{escape(words)} '
        'Above the sequence, pairs of the reference: <span class="key kept">kept</span> <span class="key missed">missed'
        '</span>; below, of the best prediction: <span class="key correct">true</span> <span class="key wrong">false'
        f"</span></span></figcaption>{pairs['drawing']}</figure>"
    )


def _describe_views(views: Sequence[Mapping[str, Any]]) -> str:
    true, both = (sum(view["map"][key] for view in views) for key in ("num_true", "num_both"))
    shown = "the target" if len(views) == 1 else f"these {len(views)} targets"
    if not true:
        return f"Structures of {shown}"
    return f"The best predictions keep {100 * both / true:.0f} % of the contacts of {shown}"
