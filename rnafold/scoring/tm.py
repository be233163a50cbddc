"""Residue-matched TM-score of C1' atoms: US-align's own search (`-TMscore 1`), batched over pairs and starts.

From every contiguous fragment of n, n/2, n/4 .. 4 residues: superpose, keep the residues nearer than a cut that
follows d0, superpose on those, up to 20 times; the score is the best over all superpositions seen. Equal sets have
equal futures, so each set is followed once. Nothing of size starts x residues outlives a block.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from rnafold.scoring.fit import NUM_MOMENTS, build_moments, fit_moments
from rnafold.structure import BoolArray, FloatArray, Structure, structure_from_points

IntArray = npt.NDArray[np.int64]
KeyArray = npt.NDArray[np.uint64]
RealArray = npt.NDArray[np.floating[Any]]
Mode = Literal["exact", "fast"]

# Source: US-align, TMscore.h (L_ini_min, n_init_max, n_it) and param_set.h (d0_search, the d0 of short RNAs).
_SMALLEST_FRAGMENT: Final = 4
_NUM_FRAGMENTS: Final = 6
_NUM_ROUNDS: Final = 20
_SEARCH_CUT_RANGE: Final = (4.5, 8.0)
_CUT_STEP: Final = 0.5
_SMALLEST_SET: Final = 3
_SHORT_D0: Final = ((12, 0.3), (16, 0.4), (20, 0.5), (24, 0.6), (30, 0.7))

# Fast mode: starts every 1/16 of a fragment and at most so many a length, of which the best seeds are followed; both
# grow by a share of the residues.
_FAST_STRIDE: Final = 16
_FAST_STARTS, _FAST_STARTS_SHARE = 300, 0.15
_FAST_SEEDS, _FAST_SEEDS_SHARE = 50, 0.1
# Above this many residues, all within so many Å of the middle, distances and sets are float32. A row whose score comes
# this near to the best is scored again in float64.
_SINGLE_PRECISION_LENGTH: Final = 512
_SINGLE_PRECISION_EXTENT: Final = 1500.0
_SINGLE_PRECISION_SLACK: Final = 1e-4
_DOUBLE_PRECISION_SLACK: Final = 1e-9
_BLOCK_ELEMENTS: Final = 1 << 17
_BATCH_RESIDUES: Final = 1 << 13
_PADDING_DISTANCE: Final = 1e30
# Farther from its middle than this a residue adds under 1e-6 at any d0; clipping keeps squares finite.
_FARTHEST: Final = 1e5
_HASH_SEED: Final = 20260527


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Correspondence:
    """Points (n, 3) of a prediction, those of a reference, and how many residues the whole reference has resolved."""

    mobile: FloatArray
    reference: FloatArray
    num_resolved: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Superposition:
    """The best superposition found: TM-score, rotation (3, 3) and translation (3,) in Å of the prediction."""

    tm: float
    rotation: FloatArray
    translation: FloatArray


def measure_d0(num_resolved: int) -> float:
    """TM-score's length scale d0 in Å of an RNA with `num_resolved` reference residues.

    Source: Gong et al., Bioinformatics 35, 4459 (2019); US-align's table for short RNAs.
    """
    for limit, d0 in _SHORT_D0:
        if num_resolved < limit:
            return d0
    return float(0.6 * np.sqrt(num_resolved - 0.5) - 2.5)


def tm_score(predictions: FloatArray, references: Sequence[Structure], mode: Mode = "exact") -> FloatArray:
    """TM-scores (P, R) of predictions (P, L, 3) in Å against references of the same L residues, matched by number.

    A residue counts where it is resolved in both; the sum is divided by the residues resolved in the reference, so a
    missing residue costs what a wrong one costs. Non-finite coordinates, and any at or below -1e6, are missing. A
    prediction with two or fewer valid residues scores 0.

    Args:
        predictions: (P, L, 3) coordinates in Å.
        references: structures of L residues.
        mode: "exact" is US-align's search; "fast" follows a part of its starts and is never above "exact".

    Raises:
        ValueError: shapes that do not fit, or an unknown mode.
    """
    predictions = np.asarray(predictions, dtype=np.float64)
    if predictions.ndim != 3 or predictions.shape[2] != 3:
        raise ValueError(f"predictions: found shape {predictions.shape}, expected (P, L, 3)")
    for number, reference in enumerate(references, start=1):
        if len(reference.coords) != predictions.shape[1]:
            raise ValueError(
                f"reference {number}: found {len(reference.coords)} residues, expected {predictions.shape[1]}"
            )
    scores = np.zeros((len(predictions), len(references)))
    places, pairs = [], []
    for p, points in enumerate(predictions):
        for r, reference in enumerate(references):
            pair = match_residues(points, reference)
            if pair is not None:
                places.append((p, r))
                pairs.append(pair)
    for place, found in zip(places, superpose_pairs(pairs, mode)):
        scores[place] = found.tm
    return scores


def match_residues(points: FloatArray, reference: Structure) -> Correspondence | None:
    """The residues resolved in both points (L, 3) and reference; None with two or fewer: nothing to superpose."""
    common = structure_from_points(points).residue_mask & reference.residue_mask
    if common.sum() < _SMALLEST_SET:
        return None
    resolved = int(reference.residue_mask.sum())
    return Correspondence(mobile=points[common], reference=reference.coords[common, 0], num_resolved=resolved)


def superpose_pairs(pairs: Sequence[Correspondence], mode: Mode = "exact") -> list[Superposition]:
    """The best superposition of each pair, in the order given; pairs of like size are searched together.

    Raises:
        ValueError: an unknown mode.
    """
    if mode not in ("exact", "fast"):
        raise ValueError(f"mode: found {mode!r}, expected 'exact' or 'fast'")
    found: dict[int, Superposition] = {}
    for batch in _iterate_batches([len(pair.mobile) for pair in pairs]):
        search = _Search([pairs[index] for index in batch])
        search.run(fast=mode == "fast")
        if mode == "exact":
            # Rounding may part a row from its twin in the fast search; counting both keeps fast below exact.
            search.run(fast=True)
        found.update(zip(batch, search.superpositions()))
    return [found[index] for index in range(len(pairs))]


def _iterate_batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Indices in order of length, cut so that a batch padded to its longest pair stays small."""
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda index: lengths[index]):
        if batch and (len(batch) + 1) * lengths[index] > _BATCH_RESIDUES:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


class _Search:
    """Pairs searched together, padded to one length, and the best superposition of each so far."""

    def __init__(self, pairs: list[Correspondence]) -> None:
        self.lengths = np.array([len(pair.mobile) for pair in pairs])
        count, size = len(pairs), int(self.lengths.max())
        self.num_resolved = np.array([pair.num_resolved for pair in pairs], dtype=np.float64)
        self.d0 = np.array([measure_d0(pair.num_resolved) for pair in pairs])
        # Any centre serves; the median keeps digits where a share of the prediction lies far out.
        self.centre = np.array([(np.median(pair.mobile, 0), np.median(pair.reference, 0)) for pair in pairs])
        self.points = [
            (np.clip(pair.mobile - mobile, -_FARTHEST, _FARTHEST), pair.reference - reference)
            for pair, (mobile, reference) in zip(pairs, self.centre)
        ]
        extent = max(float(np.abs(side).max()) for sides in self.points for side in sides)
        single = size > _SINGLE_PRECISION_LENGTH and extent < _SINGLE_PRECISION_EXTENT
        self.dtype = np.float32 if single else np.float64
        self.columns = np.zeros((count, size, NUM_MOMENTS), dtype=self.dtype)
        # What squared distances are made of: the moments' columns and |x|^2 + |y|^2, one row a feature.
        self.features = np.zeros((count, NUM_MOMENTS + 1, size), dtype=self.dtype)
        self.features[:, -1] = _PADDING_DISTANCE
        self.sums = []
        for index, (mobile, reference) in enumerate(self.points):
            n = len(mobile)
            moments = build_moments(mobile, reference)
            self.sums.append(np.concatenate([np.zeros((1, NUM_MOMENTS)), np.cumsum(moments, axis=0)]))
            self.columns[index, :n] = moments
            self.features[index, :-1, :n] = moments.T
            self.features[index, -1, :n] = (mobile**2).sum(1) + (reference**2).sum(1)
        words = -(-size // 32)
        self.hash_factors = np.random.default_rng(_HASH_SEED).integers(1, 1 << 63, words, dtype=np.uint64)
        self.best = np.full(count, -1.0)
        self.rotation, self.translation = np.tile(np.eye(3), (count, 1, 1)), np.zeros((count, 3))

    def run(self, *, fast: bool) -> None:
        """Follow the starts of every pair and keep what improves on the best."""
        pair, moments = self._starts(fast)
        seen: set[int] = set()
        search_cut = np.clip(self.d0, *_SEARCH_CUT_RANGE)
        for round_index in range(_NUM_ROUNDS + 1):
            rotation, translation = fit_moments(moments)
            cut = (search_cut - 1.0 if round_index == 0 else search_cut + 1.0)[pair]
            score, moments, key = self._evaluate(pair, rotation, translation, cut)
            self._keep_best(pair, score, rotation, translation)
            if round_index == _NUM_ROUNDS:
                break
            rows = np.flatnonzero(moments[:, NUM_MOMENTS - 1] >= _SMALLEST_SET)
            if fast and round_index == 0:
                rows = rows[_select_top(pair[rows], score[rows], self.lengths)]
            rows = rows[[index for index, name in enumerate(key[rows].tolist()) if _is_new(name, seen)]]
            if not len(rows):
                break
            pair, moments = pair[rows], moments[rows]

    def superpositions(self) -> list[Superposition]:
        """The best of each pair, as moves of the coordinates that were given."""
        shift = self.translation + self.centre[:, 1] - (self.rotation @ self.centre[:, 0, :, None])[:, :, 0]
        return [
            Superposition(tm=float(min(tm, 1.0)), rotation=rotation, translation=translation)
            for tm, rotation, translation in zip(self.best, self.rotation, shift)
        ]

    def _starts(self, fast: bool) -> tuple[IntArray, FloatArray]:
        """Pair index (K,) and moments (K, 16) of every starting fragment, in order of pairs."""
        pair, moments = [], []
        for index, sums in enumerate(self.sums):
            n = len(sums) - 1
            for length in _fragment_lengths(n):
                first = np.arange(n - length + 1)
                if fast:
                    most = _FAST_STARTS + int(_FAST_STARTS_SHARE * n)
                    step = max(length // _FAST_STRIDE, -(-len(first) // most), 1)
                    first = np.union1d(first[::step], first[-1:])
                moments.append(sums[first + length] - sums[first])
                pair.append(np.full(len(first), index))
        return np.concatenate(pair), np.concatenate(moments)

    def _evaluate(
        self, pair: IntArray, rotation: FloatArray, translation: FloatArray, cut: FloatArray
    ) -> tuple[FloatArray, FloatArray, KeyArray]:
        """TM-score (K,) of each superposition; moments (K, 16) and name (K,) of the set of residues within the cut."""
        coefficients = self._distance_coefficients(pair, rotation, translation)
        limit = 1.0 + (cut / self.d0[pair]) ** 2
        size = self.features.shape[2]
        score, moments = np.zeros(len(pair)), np.zeros((len(pair), NUM_MOMENTS))
        key = np.zeros(len(pair), dtype=np.uint64)
        ones = np.ones(size, dtype=self.dtype)
        step = max(_BLOCK_ELEMENTS // size, 1)
        buffer = np.empty((min(step, len(pair)), size), dtype=self.dtype)
        weights = np.empty_like(buffer)
        for start in range(0, len(pair), step):
            block = slice(start, min(start + step, len(pair)))
            count = block.stop - block.start
            distance, weight = buffer[:count], weights[:count]
            slices = _pair_slices(pair[block])
            for index, rows in slices:
                np.matmul(coefficients[block][rows], self.features[index], out=distance[rows])
            near = distance < limit[block, None].astype(self.dtype)
            weight[...] = near
            few = np.flatnonzero(weight @ ones < _SMALLEST_SET)
            few = few[self.lengths[pair[block][few]] > _SMALLEST_SET]
            if len(few):
                weight[few] = near[few] = self._widen(distance[few], pair[block][few], cut[block][few])
            for index, rows in slices:
                moments[block][rows] = weight[rows] @ self.columns[index]
            key[block] = self._name_sets(near, pair[block])
            np.reciprocal(distance, out=distance)
            score[block] = distance @ ones
        return score / self.num_resolved[pair], moments, key

    def _distance_coefficients(self, pair: IntArray, rotation: FloatArray, translation: FloatArray) -> RealArray:
        """(K, 17) factors that turn the features of a residue into 1 + |R x + t - y|^2 / d0^2."""
        scale = self.d0[pair, None] ** -2
        factors = np.empty((len(pair), NUM_MOMENTS + 1))
        factors[:, 0:3] = 2.0 * (translation[:, None, :] @ rotation)[:, 0]
        factors[:, 3:6] = -2.0 * translation
        factors[:, 6:15] = -2.0 * np.swapaxes(rotation, 1, 2).reshape(-1, 9)
        factors[:, 15] = (translation**2).sum(1)
        factors[:, 16] = 1.0
        factors *= scale
        factors[:, 15] += 1.0
        return factors.astype(self.dtype)

    def _widen(self, distance: RealArray, pair: IntArray, cut: FloatArray) -> BoolArray:
        """The sets (K, n) that hold 3 residues once the cut is raised far enough in steps of 0.5 Å."""
        third = np.partition(distance, _SMALLEST_SET - 1, axis=1)[:, _SMALLEST_SET - 1].astype(np.float64)
        d0 = self.d0[pair]
        needed = np.sqrt(np.maximum(third - 1.0, 0.0)) * d0
        steps = np.floor((needed - cut) / _CUT_STEP) + 1.0
        limit = 1.0 + ((cut + _CUT_STEP * steps) / d0) ** 2
        return np.asarray(distance < limit[:, None], dtype=np.bool_)

    def _name_sets(self, near: BoolArray, pair: IntArray) -> KeyArray:
        """A 64-bit name a row, equal for equal sets of the same pair and for no others but by a chance of 2^-33."""
        packed = np.zeros((len(near), 4 * len(self.hash_factors)), dtype=np.uint8)
        bits = np.packbits(near, axis=1)
        packed[:, : bits.shape[1]] = bits
        words = packed.view(np.uint32).astype(np.uint64)
        name = (words * self.hash_factors).sum(axis=1, dtype=np.uint64)
        return np.asarray(name ^ (pair.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)), dtype=np.uint64)

    def _keep_best(self, pair: IntArray, score: FloatArray, rotation: FloatArray, translation: FloatArray) -> None:
        slack = _SINGLE_PRECISION_SLACK if self.dtype == np.float32 else _DOUBLE_PRECISION_SLACK
        for index, rows in _pair_slices(pair):
            row = rows.start + int(np.argmax(score[rows]))
            if score[row] + slack <= self.best[index]:
                continue
            tm = self._score_directly(index, rotation[row], translation[row])
            if tm > self.best[index]:
                self.best[index], self.rotation[index], self.translation[index] = tm, rotation[row], translation[row]

    def _score_directly(self, index: int, rotation: FloatArray, translation: FloatArray) -> float:
        """TM-score of one superposition of the centred points, from plain distances in float64."""
        mobile, reference = self.points[index]
        squared = ((mobile @ rotation.T + translation - reference) ** 2).sum(1)
        return float((1.0 / (1.0 + squared / self.d0[index] ** 2)).sum() / self.num_resolved[index])


def _is_new(name: int, seen: set[int]) -> bool:
    """Whether a name is met for the first time; it is remembered."""
    if name in seen:
        return False
    seen.add(name)
    return True


def _fragment_lengths(num_points: int) -> list[int]:
    """Lengths of the starting fragments: n, n/2, n/4 .. at most five of them, then 4 (or n where it is shorter)."""
    smallest = min(_SMALLEST_FRAGMENT, num_points)
    lengths = [num_points // 2**power for power in range(_NUM_FRAGMENTS - 1)]
    return [length for length in lengths if length > smallest] + [smallest]


def _pair_slices(pair: IntArray) -> list[tuple[int, slice]]:
    """(pair, rows) for each run of equal pair indices."""
    if not len(pair):
        return []
    edges = np.concatenate([[0], np.flatnonzero(np.diff(pair)) + 1, [len(pair)]])
    return [(int(pair[first]), slice(int(first), int(last))) for first, last in pairwise(edges)]


def _select_top(pair: IntArray, score: FloatArray, lengths: IntArray) -> IntArray:
    """Rows of the best scores of each pair, in their order; a longer pair (lengths, by pair) keeps more."""
    chosen = [np.zeros(0, dtype=np.int64)]
    for index, rows in _pair_slices(pair):
        count = _FAST_SEEDS + int(_FAST_SEEDS_SHARE * lengths[index])
        best = np.argsort(-score[rows], kind="stable")[:count]
        chosen.append(np.sort(best) + rows.start)
    return np.concatenate(chosen)
