"""Scores of whole targets: best over references, and the mapping of copies where a target has several of a chain.

Copies of a chain are interchangeable: before scoring, each predicted copy takes the place of the reference copy that
it lies on, as the competition does by `US-align -mm 1` and renumbering. Chains of different entities keep their place.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from rnafold.errors import InputError
from rnafold.scoring.tm import Mode, Superposition, match_residues, measure_d0, superpose_pairs, tm_score
from rnafold.scoring.usalign import score_with_usalign
from rnafold.structure import Chain, FloatArray, Score, Structure, structure_from_points

IntArray = npt.NDArray[np.int64]

logger = logging.getLogger(__name__)

# Chain-to-chain superpositions tried as the start of a mapping, and mappings then superposed as a whole.
_MAX_SEEDS: Final = 256
_NUM_MAPPINGS: Final = 6
_NUM_REFINEMENTS: Final = 5
# Mappings whose fast score lies this near to the best are all searched exactly, at most so many.
_CLOSE_TM: Final = 2e-3
_NUM_EXACT: Final = 3


def score_target(
    target_id: str,
    chains: Sequence[Chain],
    predictions: FloatArray,
    references: Sequence[Structure],
    mode: Mode = "exact",
) -> Score:
    """Score of a target: each prediction's best TM-score over the references, copies mapped onto each.

    Args:
        target_id: the target's name, for the score and for messages.
        chains: its chains and copies; an empty sequence means one chain.
        predictions: (P, L, 3) coordinates in Å; non-finite or at or below -1e6 is missing.
        references: one or more structures of L residues.
        mode: see `tm_score`.

    Raises:
        InputError: row counts that differ, no reference, or chains that do not cover the residues.
    """
    predictions = np.asarray(predictions, dtype=np.float64)
    length = _check_shapes(target_id, chains, predictions, references)
    if max((chain.copy for chain in chains), default=1) > 1:
        rows = [[_score_mapped(points, reference, chains, mode) for reference in references] for points in predictions]
        tm = np.array(rows).reshape(len(predictions), len(references))
    else:
        tm = tm_score(predictions, references, mode)
    best = tm.max(axis=0, initial=0.0)
    return Score(
        target_id=target_id,
        length=length,
        tm=tuple(float(value) for value in tm.max(axis=1)),
        reference=int(np.argmax(best)) + 1,
    )


class Labelled(Protocol):
    """What is scored against: one target's labels, as `data.competition.read_labelled_rows` yields them."""

    @property
    def target_id(self) -> str:
        """The target's name."""

    @property
    def resnames(self) -> Sequence[str]:
        """(L,) residue letters."""

    @property
    def chains(self) -> Sequence[Chain] | None:
        """Chains and copies, None for one chain."""

    @property
    def references(self) -> Sequence[Structure]:
        """Known conformations; a target without any is not scored."""


def score_all(
    predictions: Mapping[str, FloatArray],
    labels: Iterable[Labelled],
    mode: Mode = "exact",
    usalign: Path | None = None,
) -> Iterator[Score]:
    """Scores of every labelled target in the order of the labels, one at a time, with a progress bar.

    Args:
        predictions: (P, L, 3) coordinates by target.
        labels: the targets to score; one without references is left out with a warning.
        mode: see `tm_score`.
        usalign: a US-align binary scores part 1's metric instead of part 2's.

    Raises:
        InputError: a labelled target without predictions; see also `score_target` and `score_with_usalign`.
    """
    for rows in tqdm(labels, total=len(predictions), unit="target", desc="scoring", disable=None):
        if not rows.references:
            logger.warning("target %s: no reference with three resolved residues, not scored", rows.target_id)
            continue
        points = predictions.get(rows.target_id)
        if points is None:
            raise InputError(f"target {rows.target_id}: found in the labels, not in the submission")
        if usalign is not None:
            yield score_with_usalign(usalign, rows.target_id, "".join(rows.resnames), points, rows.references)
        else:
            yield score_target(rows.target_id, rows.chains or (), points, rows.references, mode)


def _check_shapes(
    target_id: str, chains: Sequence[Chain], predictions: FloatArray, references: Sequence[Structure]
) -> int:
    if not len(references):
        raise InputError(f"target {target_id}: found no reference structure, expected at least one")
    length = len(references[0].coords)
    if predictions.ndim != 3 or predictions.shape[2] != 3:
        raise InputError(f"target {target_id}: found predictions of shape {predictions.shape}, expected (P, L, 3)")
    if predictions.shape[1] != length:
        raise InputError(f"target {target_id}: found {predictions.shape[1]} predicted residues, expected {length}")
    for number, reference in enumerate(references, start=1):
        if len(reference.coords) != length:
            raise InputError(
                f"target {target_id}: reference {number} has {len(reference.coords)} residues, expected {length}"
            )
    spans = [(0, 0), *sorted((chain.start, chain.stop) for chain in chains), (length, length)]
    if chains and any(before[1] != after[0] for before, after in pairwise(spans)):
        raise InputError(f"target {target_id}: its {len(chains)} chains do not cover its {length} residues once each")
    return length


def map_copies(points: FloatArray, reference: Structure, chains: Sequence[Chain]) -> list[tuple[float, IntArray]]:
    """Ways to put each predicted copy in the place of a reference copy: (TM-score in fast mode, row order (L,)).

    Seeds are superpositions of one predicted copy on one reference copy; each moves the whole prediction, copies are
    then assigned to maximise the summed TM terms, and the best mappings are superposed as a whole and assigned again
    until nothing changes. Best first; without a usable copy the given order, scored 0.

    Args:
        points: (L, 3) coordinates of a prediction in Å.
        reference: a structure of L residues.
        chains: the target's chains; copies of a chain carry its `chain_id`.
    """
    mapper = _Mapper(points, reference, _group_copies(chains))
    candidates = {mapper.identity: 0.0}
    for seed in mapper.build_seeds():
        mapping, total = mapper.assign(seed)
        candidates[mapping] = max(total, candidates.get(mapping, 0.0))
    tried: dict[tuple[int, ...], float] = {}
    for mapping in sorted(candidates, key=lambda mapping: -candidates[mapping])[:_NUM_MAPPINGS]:
        for _ in range(_NUM_REFINEMENTS):
            found = None if mapping in tried else mapper.superpose_mapping(mapping)
            if found is None:
                break
            tried[mapping] = found.tm
            mapping, _ = mapper.assign(found)
    if not tried:
        return [(0.0, np.arange(len(points)))]
    return [(tried[mapping], mapper.row_order(mapping)) for mapping in sorted(tried, key=lambda key: -tried[key])]


def _score_mapped(points: FloatArray, reference: Structure, chains: Sequence[Chain], mode: Mode) -> float:
    """TM-score of one prediction under its best mapping of copies."""
    mappings = map_copies(points, reference, chains)
    best = mappings[0][0]
    if mode == "fast":
        return best
    close = [order for tm, order in mappings[:_NUM_EXACT] if tm > best - _CLOSE_TM]
    return float(tm_score(points[np.stack(close)], [reference], mode).max())


def _group_copies(chains: Sequence[Chain]) -> list[list[Chain]]:
    """Copies of each chain that has more than one."""
    groups: dict[tuple[str, int], list[Chain]] = {}
    for chain in chains:
        groups.setdefault((chain.chain_id, chain.stop - chain.start), []).append(chain)
    return [sorted(group, key=lambda chain: chain.start) for group in groups.values() if len(group) > 1]


class _Mapper:
    """A prediction and a reference cut into copies; a mapping names the predicted copy for each reference copy."""

    def __init__(self, points: FloatArray, reference: Structure, groups: list[list[Chain]]) -> None:
        self.points, self.reference, self.groups = points, reference, groups
        self.valid = structure_from_points(points).residue_mask
        self.resolved = reference.residue_mask
        self.d0 = measure_d0(int(self.resolved.sum()))
        self.rows = [np.stack([np.arange(chain.start, chain.stop) for chain in group]) for group in groups]
        self.identity = tuple(copy for group in groups for copy in range(len(group)))

    def build_seeds(self) -> list[Superposition]:
        """Superpositions of predicted copies on reference copies of the same chain, at most 256 a chain."""
        pairs = []
        for rows in self.rows:
            num_copies = len(rows)
            movers = np.argsort(-self.valid[rows].sum(1), kind="stable")[: max(_MAX_SEEDS // num_copies, 1)]
            for mover in movers:
                for fixed in range(num_copies):
                    part = Structure(coords=self.reference.coords[rows[fixed]], mask=self.reference.mask[rows[fixed]])
                    pair = match_residues(self.points[rows[mover]], part)
                    if pair is not None:
                        pairs.append(pair)
        return superpose_pairs(pairs, "fast")

    def assign(self, seed: Superposition) -> tuple[tuple[int, ...], float]:
        """The mapping with the greatest summed TM terms after a superposition, and that sum."""
        moved = np.where(self.valid[:, None], self.points, 0.0) @ seed.rotation.T + seed.translation
        mapping: list[int] = []
        total = 0.0
        for rows in self.rows:
            gain = np.zeros((len(rows), len(rows)))
            for fixed, target in enumerate(rows):
                squared = ((moved[rows] - self.reference.coords[target, 0]) ** 2).sum(-1)
                real = self.valid[rows] & self.resolved[target]
                gain[fixed] = (real / (1.0 + squared / self.d0**2)).sum(1)
            chosen = assign_greatest(gain)
            mapping.extend(int(copy) for copy in chosen)
            total += float(gain[np.arange(len(rows)), chosen].sum())
        return tuple(mapping), total

    def superpose_mapping(self, mapping: tuple[int, ...]) -> Superposition | None:
        """The whole prediction superposed under a mapping; None with two or fewer common residues."""
        pair = match_residues(self.points[self.row_order(mapping)], self.reference)
        return None if pair is None else superpose_pairs([pair], "fast")[0]

    def row_order(self, mapping: tuple[int, ...]) -> IntArray:
        """Row order (L,) of a mapping."""
        order = np.arange(len(self.points))
        first = 0
        for rows in self.rows:
            order[rows] = rows[list(mapping[first : first + len(rows)])]
            first += len(rows)
        return order


def assign_greatest(gain: FloatArray) -> IntArray:
    """Column (n,) of each row of a square matrix (n, n), each column once, with the greatest sum.

    Source: Hungarian method by shortest augmenting paths, O(n^3); Jonker and Volgenant, Computing 38, 325 (1987).
    """
    n = len(gain)
    row_price, column_price = np.zeros(n + 1), np.zeros(n + 1)
    owner = np.zeros(n + 1, dtype=np.int64)
    for row in range(1, n + 1):
        owner[0] = row
        column = 0
        shortest = np.full(n + 1, np.inf)
        previous = np.zeros(n + 1, dtype=np.int64)
        done = np.zeros(n + 1, dtype=np.bool_)
        while owner[column]:
            done[column] = True
            reduced = -gain[owner[column] - 1] - row_price[owner[column]] - column_price[1:]
            better = ~done[1:] & (reduced < shortest[1:])
            shortest[1:][better], previous[1:][better] = reduced[better], column
            following = int(np.argmin(np.where(done, np.inf, shortest)))
            step = shortest[following]
            row_price[owner[done]] += step
            column_price[done] -= step
            shortest[~done] -= step
            column = following
        while column:
            owner[column] = owner[previous[column]]
            column = int(previous[column])
    result = np.zeros(n, dtype=np.int64)
    result[owner[1:] - 1] = np.arange(n)
    return result
