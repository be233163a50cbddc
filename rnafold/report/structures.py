"""Scored targets and what the page draws of them: predictions superposed as the scorer does, errors, contacts."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from rnafold import rna
from rnafold.assembly.pairs import pairs_from_coords
from rnafold.data.competition import read_labelled_rows
from rnafold.errors import InputError
from rnafold.geometry import transform
from rnafold.report.arcs import Arc, draw_arcs
from rnafold.scoring import count_violations, map_copies, measure_lddt, measure_superposed_rmsd, score_target
from rnafold.scoring.tm import Mode, match_residues, measure_d0, superpose_pairs
from rnafold.structure import BoolArray, Chain, FloatArray, Score, Structure, structure_from_points, whole_chain
from rnafold.submission import read_submission

IntArray = np.ndarray[tuple[int, ...], np.dtype[np.int64]]

CONTACT_DISTANCE: Final = 12.0
CONTACT_SEPARATION: Final = 3
_NUM_MAPPINGS: Final = 3
# What a page carries of one target: residues drawn, and cells along a side of the contact map.
_MAX_DRAWN: Final = 1200
_MAX_CELLS: Final = 360
_BLOCK_ELEMENTS: Final = 1 << 21
_COLOR_LIMITS: Final = (1, 2, 4, 8, 16, 32, 64, 128)
_DEFAULT_ALL: Final = 12


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TargetResult:
    """A scored target: predictions (P, L, 3) in Å as submitted, and the reference the best of them was reached on."""

    score: Score
    sequence: str
    chains: tuple[Chain, ...]
    predictions: FloatArray
    reference: Structure
    num_references: int

    @property
    def best_index(self) -> int:
        """0-based index of the best prediction."""
        return int(np.argmax(self.score.tm))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Overlay:
    """Predictions (P, L, 3) in Å moved onto the reference, copies in their places; `errors` (P, L), NaN if unresolved.

    `order` (P, L): row i of the overlay is row `order[p, i]` of prediction p.
    """

    predictions: FloatArray
    errors: FloatArray
    order: IntArray


@dataclass(frozen=True, slots=True, kw_only=True)
class StructureQuality:
    """The best prediction of a target by further measures; Å, fractions and counts."""

    lddt: float
    rmsd: float
    bonds: int
    clashes: int


def collect_results(submission_path: Path, labels_path: Path, mode: Mode = "exact") -> list[TargetResult]:
    """Every labelled target of a submission, scored by part 2's metric, in the order of the labels.

    Raises:
        InputError: malformed files, a labelled target that the submission lacks or has with another length.
    """
    submission = read_submission(submission_path)
    results = []
    for rows in read_labelled_rows(labels_path):
        if not rows.references:
            continue
        length = len(rows.resnames)
        if rows.target_id not in submission.groups:
            raise InputError(f"{submission_path}: has no rows of target {rows.target_id} of {labels_path}")
        predictions = submission.predictions(rows.target_id)
        if predictions.shape[1] != length:
            raise InputError(
                f"{submission_path}: {rows.target_id} has {predictions.shape[1]} rows, the labels have {length}"
            )
        chains = rows.chains or whole_chain(length)
        score = score_target(rows.target_id, chains, predictions, rows.references, mode)
        results.append(
            TargetResult(
                score=score,
                sequence="".join(name[:1] for name in rows.resnames),
                chains=chains,
                predictions=predictions,
                reference=rows.references[score.reference - 1],
                num_references=len(rows.references),
            )
        )
    if not results:
        raise InputError(f"{labels_path}: no target with a resolved reference, nothing to report")
    return results


def choose_targets(results: Sequence[TargetResult], wanted: Sequence[str] = ()) -> list[TargetResult]:
    """The targets to draw: those asked for, else all of up to 12, else the best, the quartiles and the worst.

    Raises:
        InputError: a target asked for is not among the scored ones.
    """
    by_id = {result.score.target_id: result for result in results}
    missing = [target_id for target_id in wanted if target_id not in by_id]
    if missing:
        raise InputError(
            f"--targets: {len(missing)} not among the {len(by_id)} scored targets: {', '.join(missing[:3])}; "
            f"known are {', '.join(list(by_id)[:3])} ..."
        )
    if wanted:
        return [by_id[target_id] for target_id in dict.fromkeys(wanted)]
    ordered = sorted(results, key=lambda result: -result.score.best)
    if len(ordered) <= _DEFAULT_ALL:
        return ordered
    return [ordered[int(rank)] for rank in np.linspace(0, len(ordered) - 1, 5).round()]


def superpose_result(result: TargetResult, mode: Mode = "exact") -> Overlay:
    """Each prediction by the superposition, and the mapping of copies, that maximise its TM-score on the reference.

    A prediction with fewer than three residues in common with the reference stays where it is.
    """
    resolved = result.reference.residue_mask
    moved, orders = [], []
    for points in result.predictions:
        order: IntArray = np.arange(len(points))
        best = None
        for candidate in _list_orders(points, result):
            pair = match_residues(points[candidate], result.reference)
            found = None if pair is None else superpose_pairs([pair], mode)[0]
            if found is not None and (best is None or found.tm > best.tm):
                order, best = candidate, found
        points = points[order]
        points = np.where(structure_from_points(points).residue_mask[:, None], points, np.nan)
        moved.append(points if best is None else transform(points, best.rotation, best.translation))
        orders.append(order)
    predictions = np.stack(moved)
    errors = np.linalg.norm(predictions - result.reference.coords[:, 0], axis=-1)
    return Overlay(predictions=predictions, errors=np.where(resolved, errors, np.nan), order=np.stack(orders))


def _list_orders(points: FloatArray, result: TargetResult) -> list[IntArray]:
    if max(chain.copy for chain in result.chains) == 1:
        return [np.arange(len(points))]
    return [order for _, order in map_copies(points, result.reference, result.chains)[:_NUM_MAPPINGS]]


def measure_quality(result: TargetResult) -> StructureQuality:
    """Further measures of the target's best prediction."""
    points = result.predictions[result.best_index]
    order = _list_orders(points, result)[0]
    violations = count_violations(points, result.chains)
    return StructureQuality(
        lddt=measure_lddt(points[order], result.reference),
        rmsd=measure_superposed_rmsd(points[order], result.reference),
        bonds=violations.bonds,
        clashes=violations.clashes_hard,
    )


def find_contact_map(points: FloatArray, chains: Sequence[Chain]) -> BoolArray:
    """(L, L) True, i < j, where two C1' atoms lie within 12 Å and are not near neighbours of one chain (< 3 apart)."""
    length = len(points)
    chain_of = np.zeros(length, dtype=np.int64)
    for index, chain in enumerate(chains):
        chain_of[chain.start : chain.stop] = index
    contacts = np.zeros((length, length), dtype=np.bool_)
    columns = np.arange(length)
    step = max(_BLOCK_ELEMENTS // max(length, 1), 1)
    for start in range(0, length, step):
        rows = columns[start : start + step]
        with np.errstate(invalid="ignore"):
            squared = ((points[rows, None] - points[None]) ** 2).sum(-1)
        near = chain_of[rows, None] == chain_of
        far_enough = np.where(near, CONTACT_SEPARATION, 1)
        contacts[rows] = (squared < CONTACT_DISTANCE**2) & (columns - rows[:, None] >= far_enough)
    return contacts


def build_view(result: TargetResult, quality: StructureQuality, mode: Mode = "exact") -> dict[str, Any]:
    """What the page draws of a target, as JSON: coordinates and errors in tenths of an Å, turned to the widest side."""
    overlay = superpose_result(result, mode)
    reference = result.reference.c1
    centre, axes = principal_axes(reference[result.reference.residue_mask])
    step = -(-result.score.length // _MAX_DRAWN)
    kept = _choose_drawn(result.score.length, result.chains, step)

    def encode(values: FloatArray) -> list[int | None]:
        return _encode(_average_near(values, result.chains, step), kept)

    best = result.best_index
    return {
        "id": result.score.target_id,
        "length": result.score.length,
        "sequence": "".join(result.sequence[index] for index in kept),
        "step": step,
        "residues": [int(index) for index in kept],
        "chains": [[_name_chain(chain, result.chains), chain.start, chain.stop] for chain in result.chains],
        "tm": [round(value, 6) for value in result.score.tm],
        "best": best,
        "reference_number": result.score.reference,
        "num_references": result.num_references,
        "num_resolved": int(result.reference.residue_mask.sum()),
        "d0": round(measure_d0(int(result.reference.residue_mask.sum())), 2),
        "lddt": None if np.isnan(quality.lddt) else round(quality.lddt, 3),
        "rmsd": None if np.isnan(quality.rmsd) else round(quality.rmsd, 2),
        "limit": _choose_limit(overlay.errors[best]),
        "reference": encode((reference - centre) @ axes),
        "predictions": [encode((points - centre) @ axes) for points in overlay.predictions],
        "errors": [encode(row[:, None]) for row in overlay.errors],
        "pairs": build_pairs(result, overlay.predictions[best]),
        "map": _build_map(reference, overlay.predictions[best], result.chains),
    }


def principal_axes(points: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Centre (3,) and a proper rotation (3, 3) with columns across (widest), away (thinnest) and up."""
    centre = points.mean(0)
    axes = np.linalg.svd(points - centre, full_matrices=True)[2].T.copy()
    axes = axes[:, [0, 2, 1]]
    axes[:, 1] *= np.sign(np.linalg.det(axes))
    return centre, axes


def _choose_drawn(length: int, chains: Iterable[Chain], step: int) -> list[int]:
    """Residues that the 3D view draws: all of a short target, every n-th of a long one with the ends of its chains."""
    kept = set(range(0, length, step))
    for chain in chains:
        kept |= {chain.start, chain.stop - 1}
    return sorted(kept)


def _average_near(values: FloatArray, chains: Iterable[Chain], step: int) -> FloatArray:
    """(L, D) values averaged over the `step` residues on either side in the chain; as they are where step is 1.

    A helix of which every n-th residue is drawn would look like a saw; its average runs along the axis.
    """
    if step == 1:
        return values
    result = np.full_like(values, np.nan)
    for chain in chains:
        part = values[chain.start : chain.stop]
        real = np.isfinite(part)
        kernel = np.ones(2 * step + 1)
        for column in range(values.shape[1]):
            # "same" is as long as the longer of both, and a chain may be shorter than the kernel
            total = np.convolve(np.where(real[:, column], part[:, column], 0.0), kernel)[step : step + len(part)]
            count = np.convolve(real[:, column].astype(np.float64), kernel)[step : step + len(part)]
            mean = total / np.maximum(count, 1.0)
            result[chain.start : chain.stop, column] = np.where(real[:, column], mean, np.nan)
    return result


def _name_chain(chain: Chain, chains: Sequence[Chain]) -> str:
    copies = sum(other.chain_id == chain.chain_id for other in chains)
    return f"{chain.chain_id}.{chain.copy}" if copies > 1 else chain.chain_id


def _choose_limit(errors: FloatArray) -> int:
    """Upper end of the colours: the first of 1, 2, 4 .. 128 Å above nine tenths of the errors."""
    known = errors[np.isfinite(errors)]
    bound = float(np.quantile(known, 0.9)) if len(known) else 0.0
    return next((limit for limit in _COLOR_LIMITS if limit >= bound), _COLOR_LIMITS[-1])


def _encode(values: FloatArray, kept: Sequence[int]) -> list[int | None]:
    """Tenths of an Å in one flat list, null where not finite."""
    flat = values[list(kept)].reshape(-1)
    return [int(round(10 * float(value))) if np.isfinite(value) else None for value in flat]


def build_pairs(result: TargetResult, prediction: FloatArray) -> dict[str, Any]:
    """Pairs that reference and prediction (L, 3) form in space, drawn as arcs, and how many there are.

    Pairs of residues that the reference does not resolve are left out: nothing can be said about them.
    """
    reference, tokens = result.reference.c1, rna.encode_sequence(result.sequence)
    true = _list_pairs(pairs_from_coords(tokens, reference))
    known = result.reference.residue_mask
    found = {pair for pair in _list_pairs(pairs_from_coords(tokens, prediction)) if known[list(pair)].all()}
    above = [Arc(i=i, j=j, weight=1.0, kind="kept" if (i, j) in found else "missed") for i, j in sorted(true)]
    below = [Arc(i=i, j=j, weight=1.0, kind="correct" if (i, j) in true else "wrong") for i, j in sorted(found)]
    title = f"Pairs of {result.score.target_id}: {len(true)} in the reference, {len(found)} predicted"
    return {
        "drawing": draw_arcs(result.sequence, result.chains, above, below, (), title=title),
        "num_true": len(true),
        "num_found": len(found),
        "num_both": len(true & found),
    }


def _list_pairs(partner: IntArray) -> set[tuple[int, int]]:
    return {(i, int(j)) for i, j in enumerate(partner) if j > i}


def _build_map(reference: FloatArray, prediction: FloatArray, chains: Sequence[Chain]) -> dict[str, Any]:
    """Contacts as flat cell numbers by class, residues grouped into at most 360 cells a side, and two shares.

    Upper triangle: the reference's, kept or missed by the prediction; lower: the prediction's, true or false. Contacts
    of residues that the reference does not resolve are left out: nothing can be said about them.
    """
    known = structure_from_points(reference).residue_mask
    true, found = find_contact_map(reference, chains), find_contact_map(prediction, chains)
    found &= known[:, None] & known
    both = true & found
    size = -(-len(reference) // _MAX_CELLS)
    cells = -(-len(reference) // size)

    def list_cells(contacts: BoolArray, lower: bool) -> set[int]:
        row, column = np.nonzero(contacts)
        row, column = (column // size, row // size) if lower else (row // size, column // size)
        return {int(cell) for cell in row * cells + column}

    kept, correct = list_cells(both, False), list_cells(both, True)
    return {
        "size": size,
        "cells": cells,
        "kept": sorted(kept),
        "missed": sorted(list_cells(true & ~found, False) - kept),
        "correct": sorted(correct),
        "wrong": sorted(list_cells(found & ~true, True) - correct),
        "num_true": int(true.sum()),
        "num_found": int(found.sum()),
        "num_both": int(both.sum()),
    }
