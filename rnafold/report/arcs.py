"""Secondary structures as arcs over a sequence, drawn as SVG: pairs that cross others (pseudoknots) stand out."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

import numpy as np

from rnafold.assembly.loops import split_knots
from rnafold.structure import Chain, IntArray

# Width of the drawing in its own units, most of a residue's width, and the most residues whose letters are written.
_WIDTH: Final = 1200.0
_MOST_STEP: Final = 14.0
_LETTERS_FROM: Final = 7.5
_STRIP: Final = 13.0
_TALLEST: Final = 170.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Arc:
    """One pair (i, j), i < j, 0-based: how sure (0 to 1), whether it crosses others, and a class for its colour."""

    i: int
    j: int
    weight: float
    kind: str = "pair"


@dataclass(frozen=True, slots=True, kw_only=True)
class Strip:
    """A row of cells below the letters: its label and a colour or CSS class and a word for each residue."""

    label: str
    colors: Sequence[str]
    words: Sequence[str]


def list_arcs(partner: IntArray, weights: Sequence[float] | None = None, kind: str = "pair") -> list[Arc]:
    """The arcs of a partner array; what crosses the nested part gets the class `knot`."""
    nested, _ = split_knots(partner)
    return [
        Arc(i=i, j=int(j), weight=1.0 if weights is None else weights[i], kind=kind if nested[i] == j else "knot")
        for i, j in enumerate(partner)
        if j > i
    ]


def draw_arcs(
    sequence: str,
    chains: Sequence[Chain],
    above: Sequence[Arc],
    below: Sequence[Arc],
    strips: Sequence[Strip],
    *,
    title: str,
) -> str:
    """An SVG element: arcs above and below the sequence, with strips between; `title` is its alternative text."""
    step = min(_WIDTH / max(len(sequence) + 1, 1), _MOST_STEP)
    width = step * (len(sequence) + 1)
    # one scale for both sides, so that arcs of one span are of one height
    rise = min(step / 2, _TALLEST / max((arc.j - arc.i for arc in (*above, *below)), default=1))
    top = _height(above, rise)
    middle = _STRIP * (1 + len(strips)) + 6
    height = top + middle + _height(below, rise) + 4
    x = [step * (k + 1) for k in range(len(sequence))]
    parts = [
        f'<svg class="arcs" viewBox="-4 0 {width + 8:.0f} {height:.0f}" role="img" '
        f'style="max-width:{1.25 * width:.0f}px" aria-label="{escape(title)}">'
    ]
    parts.append(f"<title>{escape(title)}</title>")
    parts += [_draw_arc(arc, x, top, rise, -1.0, sequence) for arc in above]
    parts += [_draw_arc(arc, x, top + middle, rise, 1.0, sequence) for arc in below]
    if step >= _LETTERS_FROM:
        size = min(step * 1.05, 12)
        for k, letter in enumerate(sequence):
            parts.append(f'<text x="{x[k]:.1f}" y="{top + 11:.1f}" font-size="{size:.1f}">{letter}</text>')
    else:
        parts.append(f'<line class="axis" x1="{x[0]:.1f}" x2="{x[-1]:.1f}" y1="{top + 7:.1f}" y2="{top + 7:.1f}"/>')
    for row, strip in enumerate(strips, start=1):
        y = top + _STRIP * row + 3
        for start, stop in _runs(strip.colors):
            words = f"{strip.label}, {sequence[start]}{start + 1}" + (f"-{stop}" if stop > start + 1 else "")
            parts.append(
                f'<rect x="{x[start] - step / 2:.1f}" y="{y:.1f}" width="{step * (stop - start):.1f}" '
                f'height="{_STRIP - 3}" fill="{strip.colors[start]}"><title>{escape(words)}: '
                f"{escape(strip.words[start])}</title></rect>"
            )
    for chain in chains[1:]:
        at = x[chain.start] - step / 2
        parts.append(f'<line class="break" x1="{at:.1f}" x2="{at:.1f}" y1="{top:.1f}" y2="{top + middle:.1f}"/>')
    return "".join([*parts, "</svg>"])


def _height(arcs: Sequence[Arc], rise: float) -> float:
    return rise * max((arc.j - arc.i for arc in arcs), default=0) + 4


def _draw_arc(arc: Arc, x: Sequence[float], base: float, rise: float, side: float, sequence: str) -> str:
    tall = rise * (arc.j - arc.i)
    sweep = 1 if side < 0 else 0
    words = f"{sequence[arc.i]}{arc.i + 1} and {sequence[arc.j]}{arc.j + 1}"
    return (
        f'<path class="{arc.kind}" d="M{x[arc.i]:.1f},{base:.1f} A{(x[arc.j] - x[arc.i]) / 2:.1f},{tall:.1f} 0 0 '
        f'{sweep} {x[arc.j]:.1f},{base:.1f}" opacity="{max(arc.weight, 0.08):.2f}"><title>{words}</title></path>'
    )


def _runs(values: Sequence[str]) -> list[tuple[int, int]]:
    """(start, stop) of stretches of equal values."""
    edges = [0, *(k for k in range(1, len(values)) if values[k] != values[k - 1]), len(values)]
    return [(int(a), int(b)) for a, b in zip(edges, np.array(edges[1:]).tolist()) if b > a]
