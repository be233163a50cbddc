"""Curves of a run as plotly figures (plain data): TM-score, loss and its terms, rate, memory, throughput, time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from rnafold.files.run_folder import RunRecord, look_up, read_curve, read_number, thin_curve
from rnafold.structure import FloatArray

# Okabe and Ito's colours, told apart by every kind of colour vision; "var(--..)" is filled in from the page's style.
BLUE, ORANGE, GREEN, RED, PURPLE = "#2f6fb5", "#e08a00", "#00916a", "#d1495b", "#9457a8"
PREDICTION_COLORS: Final = (BLUE, ORANGE, GREEN, RED, PURPLE)
SOFT = "var(--soft)"
# Keys of a "train" record that are no loss term.
_NOT_TERMS: Final = frozenset(
    {
        "kind", "step", "epoch", "loss", "learning_rate", "grad_norm", "residues_per_second", "peak_memory_gib",
        "step_seconds", "elapsed_seconds", "micro_batch", "skipped_steps", "micro_batch_seconds_by_length",
    }
)  # fmt: skip
_BASELINES: Final = {"start": "start structures", "straight_line": "straight lines", "zeros": "all zeros"}
_TITLES: Final = {"watson_crick": "Watson-Crick pairs", "expected_tm": "expected TM-score"}
_LOG_RATIO: Final = 20.0
_MANY_DECADES: Final = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One plot: a name that is unique on the page, heading, a line below it, and plotly's traces and layout."""

    name: str
    title: str
    note: str
    data: list[dict[str, Any]]
    layout: dict[str, Any]
    height: int = 190


def format_number(value: float) -> str:
    """Three digits, thousands with separators, no exponent between 0.001 and a million."""
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 1e6 or size < 1e-3:
        return f"{value:.2e}"
    if size >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def draw_validation(run: RunRecord) -> Figure | None:
    """Validation TM-score by step beside the baselines; None before the first evaluation."""
    steps, scores = read_curve(run.evaluations, "tm_score")
    if not len(steps):
        return None
    last = max(float(steps[-1]), float(read_curve(run.train, "step")[0][-1]) if run.train else 0.0)
    data = [draw_line(steps, scores, BLUE, "validation", mode="lines+markers", width=2.5)]
    notes = []
    for key, label in _BASELINES.items():
        value = read_number(look_up(run.summary, "baselines_tm_score", key))
        if value is not None:
            data.append(draw_line([0, last], [value, value], SOFT, label, dash="dot", width=1.2))
            notes.append(_label(1.01, value, f"{value:.3f} {label}", xref="paper", xanchor="left", yanchor="middle"))
    best = int(np.argmax(scores))
    peak = _label(float(steps[best]), float(scores[best]), f"best {scores[best]:.3f}", color=BLUE, yshift=5)
    values = [*scores, *(trace["y"][0] for trace in data[1:])]
    top = min(1.0, 1.12 * max(values) + 0.02)
    layout = _layout("TM-score (0 to 1)", yaxis={"range": [0, top]}, annotations=[*_spread_labels(notes, top), peak])
    if notes:
        layout["margin"] = {"l": 8, "r": 142, "t": 10, "b": 8}
    return Figure(
        name="validation",
        title="Validation TM-score",
        note="Mean over the validation targets of one prediction each; baselines dotted.",
        data=data,
        layout=layout,
        height=300,
    )


def draw_loss(run: RunRecord) -> Figure | None:
    """Weighted training loss by step; None without a finite value."""
    steps, values = read_curve(run.train, "loss")
    if not len(steps):
        return None
    return Figure(
        name="loss",
        title="Training loss",
        note="Weighted sum of the terms, mean over residues; it has no unit. Weights that ramp up raise it at first.",
        data=_smoothed(steps, values, BLUE),
        layout=_layout("loss (no unit)", yaxis=_scale(values)),
        height=300,
    )


def draw_terms(run: RunRecord) -> list[Figure]:
    """One small figure for each loss term that was ever above 0, unweighted, with the validation's physics terms."""
    names = [key for record in run.train for key in record if key not in _NOT_TERMS]
    figures = []
    for name in dict.fromkeys(names):
        steps, values = read_curve(run.train, name)
        if not len(values) or not values.any():
            continue
        data = _smoothed(steps, values, BLUE)
        other_steps, others = read_curve(run.evaluations, f"validation_{name}")
        if len(others):
            data.append(draw_line(other_steps, others, ORANGE, "validation", mode="lines+markers", width=1.5))
        figures.append(
            Figure(
                name=f"term-{name}",
                title=_TITLES.get(name, name.replace("_", " ")),
                note=describe_change(values),
                data=data,
                layout=_layout("no unit", yaxis={"rangemode": "tozero"}),
            )
        )
    return figures


def draw_machine(run: RunRecord) -> list[Figure]:
    """Small figures of learning rate, gradient norm, memory, throughput, skipped steps and time by length."""
    figures = [
        _draw_small(run, "learning_rate", "Learning rate", "rate (no unit)", lambda v: f"peak {format_number(max(v))}"),
        _draw_small(
            run, "grad_norm", "Gradient norm", "norm before clipping", lambda v: f"median {format_number(np.median(v))}"
        ),
        _draw_small(run, "peak_memory_gib", "Peak memory", "GiB", lambda v: f"{format_number(max(v))} GiB at most"),
        _draw_small(
            run, "residues_per_second", "Throughput", "residues/s", lambda v: f"median {format_number(np.median(v))}/s"
        ),
        _draw_skipped(run),
        _draw_times(run),
    ]
    return [figure for figure in figures if figure is not None]


def _draw_small(run: RunRecord, key: str, title: str, unit: str, note: Any) -> Figure | None:
    steps, values = read_curve(run.train, key)
    if not len(steps):
        return None
    axis = _scale(values) if key == "grad_norm" else {"rangemode": "tozero"}
    return Figure(
        name=key, title=title, note=note(values), data=_smoothed(steps, values, BLUE), layout=_layout(unit, yaxis=axis)
    )


def _draw_skipped(run: RunRecord) -> Figure | None:
    """Steps left out because of a gradient that was not finite, counted up; no figure where there was none."""
    steps, values = read_curve(run.train, "skipped_steps")
    if not values.any():
        return None
    total = np.cumsum(values)
    return Figure(
        name="skipped",
        title="Skipped steps",
        note=f"{int(total[-1])} in all: gradient not finite",
        data=[draw_line(*thin_curve(steps, total), RED, "skipped", shape="hv")],
        layout=_layout("steps skipped so far", yaxis={"rangemode": "tozero"}),
    )


def _draw_times(run: RunRecord) -> Figure | None:
    """Time of one example, forward and backward, against its padded length."""
    sums: dict[int, list[float]] = {}
    for record in run.train:
        by_length = record.get("micro_batch_seconds_by_length")
        for length, entry in by_length.items() if isinstance(by_length, Mapping) else ():
            if isinstance(entry, Sequence) and len(entry) == 3 and str(length).isdigit():
                total = sums.setdefault(int(length), [0.0, 0.0])
                total[0] += float(entry[1])
                total[1] += float(entry[2])
    lengths = sorted(length for length, (_, examples) in sums.items() if examples)
    if len(lengths) < 2:
        return None
    milliseconds = [1e3 * sums[length][0] / sums[length][1] for length in lengths]
    layout = _layout("ms an example", yaxis={"rangemode": "tozero"})
    layout["xaxis"] = {"title": {"text": "padded length (nt)"}, "rangemode": "tozero"}
    return Figure(
        name="times",
        title="Time by length",
        note=f"{format_number(milliseconds[-1])} ms at {lengths[-1]} nt",
        data=[draw_line(lengths, milliseconds, BLUE, "time", mode="lines+markers")],
        layout=layout,
    )


def describe_change(values: FloatArray) -> str:
    """`2.39 to 1.02 (−57 %)`: the mean of the first and the last tenth of a curve."""
    width = max(len(values) // 10, 1)
    first, last = float(values[:width].mean()), float(values[-width:].mean())
    change = f" ({100 * (last - first) / first:+.0f} %)".replace("-", "−") if first > 0 else ""
    return f"{format_number(first)} to {format_number(last)}{change}"


def count_fallen(run: RunRecord, figures: Sequence[Figure]) -> int:
    """How many loss terms ended lower than they began (means of the first and the last tenth)."""
    fallen = 0
    for figure in figures:
        values = read_curve(run.train, figure.name.removeprefix("term-"))[1]
        width = max(len(values) // 10, 1)
        fallen += bool(values[-width:].mean() < values[:width].mean())
    return fallen


def _smoothed(steps: FloatArray, values: FloatArray, color: str) -> list[dict[str, Any]]:
    """The curve itself, and over a long one its running mean."""
    steps, values = thin_curve(steps, values)
    if len(values) < 40:
        return [draw_line(steps, values, color, "training", mode="lines" if len(values) > 1 else "markers")]
    width = max(len(values) // 20, 3)
    padded = np.pad(values, (width // 2, width - 1 - width // 2), mode="edge")
    mean = np.convolve(padded, np.full(width, 1.0 / width), mode="valid")
    return [
        draw_line(steps, values, color, "training", width=1.0) | {"opacity": 0.35},
        draw_line(steps, mean, color, "running mean", width=2.2) | {"hoverinfo": "skip"},
    ]


def draw_line(
    x: Sequence[float] | FloatArray,
    y: Sequence[float] | FloatArray,
    color: str,
    name: str,
    *,
    mode: str = "lines",
    **line: Any,
) -> dict[str, Any]:
    """One curve of a plot."""
    return {
        "type": "scatter",
        "mode": mode,
        "x": _round(x),
        "y": _round(y),
        "name": name,
        "line": {"color": color, **line},
        "marker": {"color": color, "size": 6},
    }


def _round(values: Sequence[float] | FloatArray) -> list[float]:
    """Five significant digits: enough for any screen, and half the bytes."""
    return [float(f"{value:.5g}") for value in values]


def _scale(values: FloatArray) -> dict[str, Any]:
    """A logarithmic axis where the values span a wide range, else one that starts at 0."""
    wide = len(values) and values.min() > 0 and values.max() > _LOG_RATIO * values.min()
    if not wide:
        return {"rangemode": "tozero"}
    digits = (1, 2, 5) if values.max() < _MANY_DECADES * values.min() else (1,)
    powers = range(int(np.floor(np.log10(values.min()))), int(np.ceil(np.log10(values.max()))) + 1)
    ticks = [digit * 10.0**power for power in powers for digit in digits]
    return {"type": "log", "tickvals": ticks, "ticktext": [format_number(tick) for tick in ticks]}


def _layout(unit: str, yaxis: Mapping[str, Any], annotations: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    return {
        "xaxis": {"title": {"text": "optimizer step"}, "rangemode": "tozero"},
        "yaxis": {"title": {"text": unit}, **yaxis},
        "showlegend": False,
        "hovermode": "x unified",
        "annotations": annotations or [],
    }


def _label(x: float, y: float, text: str, color: str = SOFT, **where: Any) -> dict[str, Any]:
    plain = {"x": x, "y": y, "text": text, "showarrow": False, "xanchor": "right", "yanchor": "bottom"}
    return {**plain, "font": {"color": color, "size": 12}, **where}


def _spread_labels(labels: list[dict[str, Any]], top: float) -> list[dict[str, Any]]:
    """Labels moved up where two would lie on each other."""
    gap, lowest = 0.075 * top, -1.0
    for label in sorted(labels, key=lambda label: label["y"]):
        label["y"] = max(float(label["y"]), lowest + gap)
        lowest = label["y"]
    return labels
