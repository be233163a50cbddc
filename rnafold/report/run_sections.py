"""What the page says of a run: figures in large type, learning, machine, plan, settings and versions."""

from collections.abc import Mapping, Sequence
from html import escape
from importlib.metadata import PackageNotFoundError, version
from typing import Final

import numpy as np

from rnafold import __version__
from rnafold.files.run_folder import RunRecord, look_up, read_curve, read_number
from rnafold.report.curves import (
    count_fallen,
    draw_loss,
    draw_machine,
    draw_terms,
    draw_validation,
    format_number,
)
from rnafold.report.sections import Section, write_grid, write_section
from rnafold.report.structures import TargetResult
from rnafold.scoring.scorecard import average_scores, bootstrap_interval

_STRUCTURE_PACKAGES: Final = ("biopython", "gemmi", "viennarna")
_BASELINES: Final = (("zeros", "all zeros"), ("straight_line", "straight lines"), ("start", "start structures"))
_PACKAGES: Final = ("torch", "accelerate", "numpy", "pandas", "scikit-learn", "plotly", *_STRUCTURE_PACKAGES)


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
