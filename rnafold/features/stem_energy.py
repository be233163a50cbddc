"""Partition function of nested secondary structures with nearest-neighbour energies, in numpy: the fallback for
machines without ViennaRNA.

Stacks, loop initiation and AU/GU closure are Turner 2004's; mismatches, dangles and small special loops are replaced by
averages, and multiloops use Turner 1999's linear rule (3.4 + 0.4 a branch). Energies in kcal/mol at 37 °C.
Source: Mathews et al., PNAS 101, 7287 (2004); algorithm: McCaskill, Biopolymers 29, 1105 (1990).
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from rnafold.rna import canonical_pair_matrix, encode_sequence

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

RT_KCAL: Final = 0.0019872 * 310.15
MIN_HAIRPIN: Final = 3
MAX_INTERIOR: Final = 10
# Each residue's factor is divided by exp(this / RT), so that Z neither over- nor underflows; it cancels in
# probabilities. The first that works is taken: kcal/mol and residue of ordinary RNA, then of ever richer stems.
SCALES_KCAL: Final = (0.35, 0.7, 1.1, 1.5)

# Stacking energy of pair (5' a, b 3') on the inner pair (c, d), by "ab" and "dc". Source: Turner 2004.
_PAIR_ORDER: Final = ("CG", "GC", "GU", "UG", "AU", "UA")
_STACKS: Final = (
    (-2.4, -3.3, -2.1, -1.4, -2.1, -2.1),
    (-3.3, -3.4, -2.5, -1.5, -2.2, -2.4),
    (-2.1, -2.5, 1.3, -0.5, -1.4, -1.3),
    (-1.4, -1.5, -0.5, 0.3, -0.6, -1.0),
    (-2.1, -2.2, -1.4, -0.6, -1.1, -0.9),
    (-2.1, -2.4, -1.3, -1.0, -0.9, -1.3),
)
_HAIRPIN: Final = (5.4, 5.6, 5.7, 5.4, 6.0, 5.5, 6.4)  # 3 .. 9 unpaired residues
_BULGE: Final = (3.8, 2.8, 3.2, 3.6, 4.0, 4.4, 4.59, 4.7, 4.8, 4.9)  # 1 .. 10
_INTERIOR: Final = (0.5, 1.6, 1.1, 2.0, 2.0, 2.2, 2.3, 2.4, 2.5)  # 2 .. 10
_TERMINAL_MISMATCH: Final = -0.8
_CLOSURE_AU: Final = 0.7
_TERMINAL_AU: Final = 0.45
_ASYMMETRY: Final = 0.6
_STABLE_TETRALOOP: Final = -1.5
_MULTI_CLOSE: Final = 3.4
_MULTI_BRANCH: Final = 0.4


def _boltzmann(energy_kcal: float | npt.NDArray[np.generic]) -> FloatArray:
    return np.asarray(np.exp(-np.asarray(energy_kcal, dtype=np.float64) / RT_KCAL))


def _build_stack_table() -> FloatArray:
    """(5, 5, 5, 5) Boltzmann factors of stacking pair (a, b) on (c, d); zero where either is no canonical pair."""
    table = np.zeros((5, 5, 5, 5))
    for outer, row in zip(_PAIR_ORDER, _STACKS, strict=True):
        for inner, energy in zip(_PAIR_ORDER, row, strict=True):
            a, b = encode_sequence(outer)
            d, c = encode_sequence(inner)
            table[a, b, c, d] = np.exp(-energy / RT_KCAL)
    return table


_STACK_TABLE = _build_stack_table()


def hairpin_energy(num_unpaired: int) -> float:
    """Loop initiation in kcal/mol of a hairpin with that many unpaired residues (>= 3), without its closing pair."""
    if num_unpaired <= 9:
        return _HAIRPIN[num_unpaired - MIN_HAIRPIN]
    return _HAIRPIN[-1] + 1.75 * RT_KCAL * float(np.log(num_unpaired / 9))


def interior_energy(left: int, right: int) -> float:
    """Loop energy in kcal/mol of a bulge or interior loop, without its pairs; (0, 0) is a stack and has none."""
    if left + right == 0:
        return 0.0
    if left == 0 or right == 0:
        return _BULGE[left + right - 1]
    return _INTERIOR[left + right - 2] + min(3.0, _ASYMMETRY * abs(left - right))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Factors:
    """Boltzmann factors of one sequence: what pairs, AU/GU ends, and hairpins by closing pair (L, L)."""

    tokens: npt.NDArray[np.int64]
    pairs: BoolArray
    weak: BoolArray
    hairpin: FloatArray
    scale: float


def _prepare(sequence: str, scale: float) -> _Factors:
    tokens = encode_sequence(sequence)
    length = len(tokens)
    index = np.arange(length)
    gap = index[None, :] - index[:, None] - 1
    pairs = canonical_pair_matrix()[tokens[:, None], tokens[None, :]] & (gap >= MIN_HAIRPIN)
    strong = (tokens[:, None] + tokens[None, :] == 3) & ((tokens[:, None] == 1) | (tokens[:, None] == 2))
    weak = pairs & ~strong
    by_size = np.array([0.0] * MIN_HAIRPIN + [hairpin_energy(size) for size in range(MIN_HAIRPIN, max(length, 4))])
    energy = by_size[np.clip(gap, 0, len(by_size) - 1)] + np.where(
        gap == MIN_HAIRPIN, _TERMINAL_AU * weak, _TERMINAL_MISMATCH
    )
    for start in range(length - 5):
        a, _, c, d = tokens[start + 1 : start + 5]
        gnra = a == 2 and d == 0 and c in (0, 2)
        uncg = a == 3 and c == 1 and d == 2
        if gnra or uncg:
            energy[start, start + 5] += _STABLE_TETRALOOP
    scaled = _boltzmann(energy) * scale ** -(gap.clip(0) + 2.0)
    return _Factors(tokens=tokens, pairs=pairs, weak=weak, hairpin=np.where(pairs, scaled, 0.0), scale=scale)


def _interior_factors(factors: _Factors, j: int, left: int, right: int, count: int) -> FloatArray:
    """Factors (count,) of the loop between pairs (i, j) and (i + 1 + left, j - 1 - right), i < count."""
    tokens = factors.tokens
    i = np.arange(count)
    p, q = i + 1 + left, j - 1 - right
    scale = factors.scale ** -(left + right + 2.0)
    if left + right <= 1:
        # A bulge of one residue keeps the stack of its neighbours.
        stack = _STACK_TABLE[tokens[i], tokens[j], tokens[p], tokens[q]]
        return np.asarray(stack * _boltzmann(interior_energy(left, right)) * scale)
    penalty = _TERMINAL_AU if left == 0 or right == 0 else _CLOSURE_AU
    ends = factors.weak[i, j].astype(np.float64) + factors.weak[p, q]
    loop = _boltzmann(interior_energy(left, right) + penalty * ends)
    return np.where(factors.pairs[i, j] & factors.pairs[p, q], loop * scale, 0.0)


_LOOPS: Final = [(left, total - left) for total in range(MAX_INTERIOR + 1) for left in range(total + 1)]


@dataclass(slots=True, kw_only=True)
class _Tables:
    """Scaled partition functions of intervals i..j: closed by a pair, one branch from i, one or more branches."""

    closed: FloatArray
    branch: FloatArray
    several: FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class _Closures:
    """Factors (L, L) of a pair as the end of an exterior or inner branch, and as the closing pair of a multiloop."""

    exterior: FloatArray
    branch: FloatArray
    multi: FloatArray
    lead: FloatArray


def _build_closures(factors: _Factors) -> _Closures:
    exterior = _boltzmann(_TERMINAL_AU * factors.weak)
    index = np.arange(len(factors.tokens))
    steps = index[None, :] - index[:, None]
    return _Closures(
        exterior=exterior,
        branch=exterior * _boltzmann(_MULTI_BRANCH),
        multi=np.where(factors.pairs, exterior * _boltzmann(_MULTI_CLOSE + _MULTI_BRANCH) * factors.scale**-2.0, 0.0),
        lead=np.where(steps >= 0, factors.scale ** -steps.clip(0).astype(np.float64), 0.0),
    )


def _fill_inside(factors: _Factors, ends: _Closures) -> _Tables:
    """The tables, column by column: everything of a column is a vector operation or a matrix product."""
    length = len(factors.tokens)
    closed, branch, several = (np.zeros((length, length)) for _ in range(3))
    for j in range(length):
        column = factors.hairpin[:, j].copy()
        for left, right in _LOOPS:
            count = j - 2 - left - right - MIN_HAIRPIN
            if count > 0:
                inner = closed[1 + left : 1 + left + count, j - 1 - right]
                column[:count] += _interior_factors(factors, j, left, right, count) * inner
        if j >= 2:
            # One or more branches in i+1 .. k-1 and the last one from k on; the sum runs over k - 1.
            column[: j - 1] += ends.multi[: j - 1, j] * (several[1:j, : j - 1] @ branch[1:j, j - 1])
        closed[:, j] = column
        branch[:, j] = column * ends.branch[:, j] + (branch[:, j - 1] / factors.scale if j else 0.0)
        several[:, j] = ends.lead @ branch[:, j]
        if j:
            several[:, j] += several[:, :j] @ branch[1 : j + 1, j]
    return _Tables(closed=closed, branch=branch, several=several)


def _differentiate_exterior(factors: _Factors, ends: _Closures, tables: _Tables) -> tuple[float, FloatArray]:
    """ln Z (scaled) and its derivative (L, L) by each closed interval through the exterior loop alone."""
    length = len(tables.closed)
    stems = tables.closed * ends.exterior
    prefix, suffix = np.ones(length + 1), np.ones(length + 1)
    for j in range(length):
        prefix[j + 1] = prefix[j] / factors.scale + prefix[: j + 1] @ stems[: j + 1, j]
    for i in range(length - 1, -1, -1):
        suffix[i] = suffix[i + 1] / factors.scale + stems[i, i:] @ suffix[i + 1 :]
    return float(np.log(prefix[-1])), np.outer(prefix[:-1], suffix[1:]) * ends.exterior / prefix[-1]


def _fill_outside(factors: _Factors, ends: _Closures, tables: _Tables, closed_bar: FloatArray) -> FloatArray:
    """Derivative (L, L) of ln Z by each closed interval: `_fill_inside` run backwards, line by line."""
    length = len(factors.tokens)
    branch_bar, several_bar = np.zeros((length, length)), np.zeros((length, length))
    for j in range(length - 1, -1, -1):
        outer = several_bar[:, j]
        inner = branch_bar[:, j] + ends.lead.T @ outer
        if j:
            inner[1 : j + 1] += tables.several[:, :j].T @ outer
            several_bar[:, :j] += np.outer(outer, tables.branch[1 : j + 1, j])
            branch_bar[:, j - 1] += inner / factors.scale
        closed_bar[:, j] += inner * ends.branch[:, j]
        column = closed_bar[:, j]
        if j >= 2:
            weight = column[: j - 1] * ends.multi[: j - 1, j]
            several_bar[1:j, : j - 1] += np.outer(weight, tables.branch[1:j, j - 1])
            branch_bar[1:j, j - 1] += tables.several[1:j, : j - 1].T @ weight
        for left, right in _LOOPS:
            count = j - 2 - left - right - MIN_HAIRPIN
            if count > 0:
                factor = _interior_factors(factors, j, left, right, count)
                closed_bar[1 + left : 1 + left + count, j - 1 - right] += column[:count] * factor
    return closed_bar


def fold_partition(sequence: str) -> tuple[float, FloatArray]:
    """Ensemble free energy in kcal/mol and pair probabilities (L, L, symmetric) of all nested structures.

    Time grows as L^3 and memory as six (L, L) arrays: 0.6 s at 370 residues. Meant for windows up to 400 residues.

    Raises:
        OverflowError: the sequence is so long that no scale keeps Z in range.
    """
    if len(sequence) < MIN_HAIRPIN + 2:
        return 0.0, np.zeros((len(sequence), len(sequence)))
    for scale_kcal in SCALES_KCAL:
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            energy, probabilities = _fold_scaled(sequence, scale_kcal)
        if np.isfinite(energy) and np.isfinite(probabilities).all():
            return energy, np.clip(probabilities + probabilities.T, 0.0, 1.0)
    raise OverflowError(f"partition function of {len(sequence)} residues out of range: fold it in shorter windows")


def _fold_scaled(sequence: str, scale_kcal: float) -> tuple[float, FloatArray]:
    """Energy and one-sided probabilities (i < j) at one scale; not finite where that scale overflows."""
    factors = _prepare(sequence, float(np.exp(scale_kcal / RT_KCAL)))
    ends = _build_closures(factors)
    tables = _fill_inside(factors, ends)
    log_total, closed_bar = _differentiate_exterior(factors, ends, tables)
    energy = -RT_KCAL * log_total - len(sequence) * scale_kcal
    return energy, _fill_outside(factors, ends, tables, closed_bar) * tables.closed
