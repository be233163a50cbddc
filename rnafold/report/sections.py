"""The sections of the page as HTML: each heading says what its section shows."""

from collections.abc import Mapping, Sequence
from html import escape
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

import numpy as np

from rnafold import __version__
from rnafold.files.run_folder import RunRecord, look_up, read_curve, read_number
from rnafold.report.curves import (
    PREDICTION_COLORS,
    Figure,
    count_fallen,
    draw_loss,
    draw_machine,
    draw_terms,
    draw_validation,
    format_number,
)
from rnafold.report.structures import StructureQuality, TargetResult
from rnafold.scoring.scorecard import average_scores, bootstrap_interval

Section = tuple[str, list[Figure]]
_STRUCTURE_PACKAGES: Final = ("biopython", "gemmi", "viennarna")
_PACKAGES: Final = ("torch", "accelerate", "numpy", "pandas", "scikit-learn", "plotly", *_STRUCTURE_PACKAGES)
_BASELINES: Final = (("zeros", "all zeros"), ("straight_line", "straight lines"), ("start", "start structures"))


def format_duration(seconds: float) -> str:
    """`48 s`, `34 min` or `3.4 h`."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def read_hours(run: RunRecord) -> float | None:
    """Hours that the run took until its last record, resumed parts included; None without a record."""
    seconds = read_curve(run.train, "elapsed_seconds")[1]
    return float(seconds.max()) / 3600 if len(seconds) else None


def write_header(run: RunRecord, results: Sequence[TargetResult]) -> str:
    """Name of the run and its figures in large type."""
    cards: list[tuple[str, str, str]] = []
    if results:
        scores = [result.score for result in results]
        low, high = bootstrap_interval([score.best for score in scores])
        interval = "one target" if np.isnan(low) else f"95 % interval {low:.3f} to {high:.3f}, {len(scores)} targets"
        cards.append(("TM-score, best of five", f"{average_scores(scores):.3f}", interval))
    steps, validation = read_curve(run.evaluations, "tm_score")
    if len(steps):
        best = int(np.argmax(validation))
        cards.append(("validation TM-score", f"{validation[best]:.3f}", f"best, at step {int(steps[best]):,}"))
    hours = read_hours(run)
    if run.train and hours is not None:
        epoch = read_number(run.train[-1].get("epoch"))
        note = f"{int(run.train[-1]['step']):,} steps" + ("" if epoch is None else f", {epoch:.4g} epochs")
        cards.append(("training time", format_duration(3600 * hours), note))
    memory, speed = read_curve(run.train, "peak_memory_gib")[1], read_curve(run.train, "residues_per_second")[1]
    if len(memory):
        total = read_number(run.setting("hardware", "memory", "total_gib"))
        cards.append(
            ("peak memory", f"{format_number(float(memory.max()))} GiB", f"of {total:g} GiB" if total else "at most")
        )
    if len(speed):
        cards.append(("throughput", f"{format_number(float(np.median(speed)))}/s", "residues, median"))
    if run.train:
        skipped = int(read_curve(run.train, "skipped_steps")[1].sum())
        cards.append(("skipped steps", str(skipped), "gradient not finite" if skipped else "every gradient was finite"))
    model, gpu = run.setting("model", "name"), run.summary.get("gpu") or run.setting("hardware", "name")
    words = [f"model {model}" if model else "", f"on {gpu}" if gpu else ""]
    boxes = "".join(
        f'<div class="card"><p class="label">{escape(label)}</p><p class="value">{escape(value)}</p>'
        f'<p class="detail">{escape(detail)}</p></div>'
        for label, value, detail in cards
    )
    subtitle = " ".join(word for word in words if word)
    return (
        f'<header><p class="eyebrow">rnafold · report of a run</p><h1>{escape(run.name)}</h1>'
        f'<p class="subtitle">{escape(subtitle)}</p><div class="cards">{boxes}</div></header>'
    )


def write_learning(run: RunRecord) -> Section:
    """Loss and validation TM-score, then each term."""
    main = [figure for figure in (draw_validation(run), draw_loss(run)) if figure is not None]
    if not main:
        return write_section("learning", "No step has been recorded yet", "<p>metrics.jsonl has no line.</p>"), []
    parts = write_section("learning", _describe_validation(run), write_grid(main, "wide"))
    terms = draw_terms(run)
    if terms:
        heading = f"{count_fallen(run, terms)} of {len(terms)} loss terms fell"
        note = (
            '<p class="lead">Each term unweighted, mean over residues; from the first to the last tenth of the run. '
            '<span class="key blue">training</span>'
            + (' <span class="key orange">validation</span>' if any(len(f.data) > 2 for f in terms) else "")
            + "</p>"
        )
        parts += write_section("terms", heading, note + write_grid(terms, "small"))
    return parts, [*main, *terms]


def _describe_validation(run: RunRecord) -> str:
    scores = read_curve(run.evaluations, "tm_score")[1]
    if not len(scores):
        return "Not evaluated yet: training loss only"
    best = float(scores.max())
    known = {label: read_number(look_up(run.summary, "baselines_tm_score", key)) for key, label in _BASELINES}
    baselines = [(value, label) for label, value in known.items() if value is not None]
    if not baselines:
        return f"Validation TM-score reached {best:.3f}"
    strongest, label = max(baselines)
    if best > strongest:
        return f"Validation TM-score reached {best:.3f}, above every baseline ({label} {strongest:.3f})"
    return f"Validation TM-score reached {best:.3f}, still below the {label} at {strongest:.3f}"


def write_machine(run: RunRecord) -> Section:
    """Learning rate, gradient norm, memory, throughput, skipped steps, time by length."""
    figures = draw_machine(run)
    if not figures:
        return "", []
    skipped = int(read_curve(run.train, "skipped_steps")[1].sum())
    speed, memory = read_curve(run.train, "residues_per_second")[1], read_curve(run.train, "peak_memory_gib")[1]
    words = []
    if len(speed):
        words.append(f"{format_number(float(np.median(speed)))} residues a second")
    if len(memory):
        words.append(f"{format_number(float(memory.max()))} GiB at most")
    words.append(f"{skipped} steps skipped" if skipped != 1 else "1 step skipped")
    heading = ", ".join(words if skipped else [*words[:-1], "no step skipped"])
    return write_section("machine", heading[:1].upper() + heading[1:], write_grid(figures, "small")), figures


def write_plan(run: RunRecord) -> str:
    """Plan against actual hours and memory."""
    actual = read_hours(run)
    memory = read_curve(run.train, "peak_memory_gib")[1]
    planned_gib = read_number(look_up(run.plan, "memory", "peak_gib"))
    expected = read_number(look_up(run.plan, "hours", "expected"))
    if expected is None and planned_gib is None:
        took = "" if actual is None else f" The run took {format_duration(3600 * actual)}."
        return write_section("plan", "No plan recorded", f"<p>The run folder has no plan.json.{took}</p>")
    low, high = (read_number(look_up(run.plan, "hours", key)) for key in ("low", "high"))
    rows, heading = [], "Planned, not yet run"
    if expected is not None:
        rows.append(("time", "h", expected, low, high, actual))
        if actual is not None:
            inside = low is not None and high is not None and low <= actual <= high
            where = "inside the planned range" if inside else _describe_deviation(actual, expected)
            heading = f"Took {_hours(actual)} h against {_hours(expected)} h planned: {where}"
    if planned_gib is not None:
        rows.append(("peak memory", "GiB", planned_gib, None, None, float(memory.max()) if len(memory) else None))
    body = "".join(_write_plan_row(*row) for row in rows)
    parts = look_up(run.plan, "hours", "parts")
    details = ""
    if isinstance(parts, Mapping):
        cells = [(str(name), read_number(value)) for name, value in parts.items()]
        listed = "".join(
            f"<tr><td>{escape(name.replace('_', ' '))}</td><td class='num'>{_hours(value)}</td></tr>"
            for name, value in cells
            if value is not None
        )
        details = (
            f"<table class='plain'><thead><tr><th>part of the plan</th><th class='num'>h</th></tr></thead>"
            f"<tbody>{listed}</tbody></table>"
        )
    table = (
        "<table class='plain plan'><thead><tr><th></th><th class='num'>planned</th><th class='num'>range</th>"
        "<th class='num'>actual</th><th class='num'>difference</th><th class='bars'></th></tr></thead>"
        f"<tbody>{body}</tbody></table>"
    )
    return write_section("plan", heading, table + details)


def _write_plan_row(
    name: str, unit: str, planned: float, low: float | None, high: float | None, actual: float | None
) -> str:
    top = max(value for value in (planned, high, actual) if value is not None) or 1.0
    spread = f"{_hours(low)} to {_hours(high)}" if low is not None and high is not None else "–"
    difference = "–" if actual is None or not planned else _percent(actual / planned - 1)
    band = ""
    if low is not None and high is not None:
        band = f'<i class="band" style="left:{100 * low / top:.1f}%;width:{100 * (high - low) / top:.1f}%"></i>'
    bars = f'<div class="bar planned"><i style="width:{100 * planned / top:.1f}%"></i>{band}</div>'
    if actual is not None:
        bars += f'<div class="bar actual"><i style="width:{100 * actual / top:.1f}%"></i></div>'
    shown = "–" if actual is None else f"{_hours(actual)} {unit}"
    return (
        f"<tr><td>{name}</td><td class='num'>{_hours(planned)} {unit}</td><td class='num'>{spread}</td>"
        f"<td class='num'>{shown}</td><td class='num'>{difference}</td><td class='bars'>{bars}</td></tr>"
    )


def _describe_deviation(actual: float, expected: float) -> str:
    if not expected:
        return "no comparison"
    return f"{abs(100 * (actual / expected - 1)):.0f} % {'more' if actual > expected else 'less'}"


def _hours(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"


def _percent(share: float) -> str:
    return f"{100 * share:+.0f} %".replace("-", "−")


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


def write_facts(run: RunRecord) -> str:
    """Data, baselines, seeds, versions, and the whole configuration folded away."""
    groups = [("Run", _list_run(run)), ("Data", _list_data(run)), ("Baselines, mean validation TM-score", [])]
    baselines = [(label, read_number(look_up(run.summary, "baselines_tm_score", key))) for key, label in _BASELINES]
    groups[2][1].extend((label, f"{value:.3f}") for label, value in baselines if value is not None)
    recorded = run.summary.get("versions")
    if isinstance(recorded, Mapping):
        groups.append(("Versions of the run", [(str(name), str(value)) for name, value in recorded.items()]))
    else:
        groups.append(("Versions beside this report", _list_versions()))
    blocks = "".join(
        f"<div><h3>{escape(title)}</h3><dl>"
        + "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in pairs)
        + "</dl></div>"
        for title, pairs in groups
        if pairs
    )
    config = f"<details><summary>config.yaml</summary><pre>{escape(run.config_text)}</pre></details>"
    return write_section(
        "facts", "How it was made", f'<div class="facts">{blocks}</div>' + (config if run.config_text else "")
    )


def _list_run(run: RunRecord) -> list[tuple[str, str]]:
    wanted = (
        ("model", ("model", "name")), ("seed", ("train", "seed")), ("precision", ("train", "precision")),
        ("effective batch", ("train", "effective_batch")), ("micro batch", ("train", "micro_batch")),
        ("epochs at most", ("train", "epochs")), ("learning-rate rule", ("train", "lr_rule")),
        ("hardware", ("hardware", "name")),
    )  # fmt: skip
    found = [(label, run.setting(*keys)) for label, keys in wanted]
    preparation = read_number(run.summary.get("preparation_seconds"))
    pairs = [(label, str(value)) for label, value in found if value is not None]
    return pairs + ([("preparation", format_duration(preparation))] if preparation is not None else [])


def _list_data(run: RunRecord) -> list[tuple[str, str]]:
    pairs = [("temporal cutoff", run.setting("data", "cutoff")), ("crop (nt)", run.setting("data", "crop_length"))]
    found = [(label, str(value)) for label, value in pairs if value is not None]
    for part in ("train", "validation"):
        entries, residues = (read_number(look_up(run.summary, part, key)) for key in ("entries", "residues"))
        clusters, longest = (read_number(look_up(run.summary, part, key)) for key in ("clusters", "longest"))
        if entries is not None:
            words = [f"{entries:,.0f} entries"]
            words += [f"{clusters:,.0f} clusters"] if clusters is not None else []
            words += [f"{residues:,.0f} residues"] if residues is not None else []
            words += [f"longest {longest:,.0f} nt"] if longest is not None else []
            found.append((part, ", ".join(words)))
    return found


def _list_versions() -> list[tuple[str, str]]:
    found = [("rnafold", __version__)]
    for name in _PACKAGES:
        try:
            found.append((name, version(name)))
        except PackageNotFoundError:
            continue
    return found


def write_grid(figures: Sequence[Figure], kind: str) -> str:
    """Figures beside each other; `kind` is wide (two in a row), small (four) or full (one)."""
    return (
        f'<div class="grid {kind}">'
        + "".join(
            f"<figure><figcaption><b>{escape(figure.title)}</b><span>{escape(figure.note)}</span></figcaption>"
            f'<div class="plot" id="plot-{escape(figure.name)}" role="img" aria-label="{escape(figure.title)}: '
            f'{escape(figure.note)}" style="height:{figure.height}px"></div></figure>'
            for figure in figures
        )
        + "</div>"
    )


def write_section(name: str, heading: str, body: str) -> str:
    """A section of the page; `name` is its id, `heading` plain text, `body` HTML."""
    return f'<section id="{name}"><h2>{escape(heading)}</h2>{body}</section>'
