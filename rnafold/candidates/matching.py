"""Which target a model is of, by sequence, and its residues in the target's order.

Chains come in the order of the stoichiometry, identical copies in the order of the file; what is no chain of the target
(a protein, a ligand, a second copy) is left out. Part of a target will do from 60 % on.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from rnafold.candidates.traces import Model, Trace
from rnafold.rna import UNKNOWN
from rnafold.structure import FloatArray, IntArray, Target, whole_chain

LEAST_COVERED: Final = 0.6
# A trace has to spell so many letters of a chain to be taken for part of it.
_SHORTEST_PART: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Placed:
    """A model on a target.

    Attributes:
        target: which one.
        points: (L, 3) in Å, NaN where the model has nothing.
        chain_ids: of the chains taken, as the file names them.
        spare_copies: further chains of a target's sequence that found no place.
    """

    target: Target
    points: FloatArray
    chain_ids: tuple[str, ...] = ()
    spare_copies: int = 0

    @property
    def covered(self) -> float:
        """Share of the target's residues that the model has."""
        return float(np.isfinite(self.points).all(1).mean())


class TargetIndex:
    """Targets to be found by the sequences of a model's chains."""

    def __init__(self, targets: Sequence[Target]) -> None:
        self.targets = tuple(targets)
        self._by_sequence: dict[str, list[Target]] = {}
        for target in targets:
            for sequence in {target.sequence, *(text for text, _ in group_chains(target))}:
                self._by_sequence.setdefault(sequence, []).append(target)

    def find(self, model: Model, names: Iterable[str] = ()) -> list[Placed]:
        """The targets that a model covers best, with its residues; more than one only where sequences are the same.

        Args:
            model: one model of a file.
            names: of the file, the job and the folder: among targets of one sequence they decide.
        """
        nearby = {t.target_id: t for trace in model.traces for t in self._by_sequence.get(trace.letters, ())}
        placed = [place_model(model, target) for target in nearby.values()]
        if not any(found.covered >= LEAST_COVERED for found in placed):
            placed = [place_model(model, target) for target in self.targets]
        best = max((found.covered for found in placed), default=0.0)
        if best <= 0.0:
            return []
        tied = [found for found in placed if found.covered >= best - 1e-9]
        text = " ".join([*names, model.name]).lower()
        named = [found for found in tied if found.target.target_id.lower() in text]
        return named if len(tied) > 1 and named else tied


def group_chains(target: Target) -> list[tuple[str, list[int]]]:
    """(sequence, starts) of each different chain of a target, in order."""
    groups: dict[str, list[int]] = {}
    for chain in target.chains or whole_chain(target.length):
        groups.setdefault(target.sequence[chain.start : chain.stop], []).append(chain.start)
    return list(groups.items())


def place_model(model: Model, target: Target) -> Placed:
    """A model's residues on those of a target; nothing where no chain fits."""
    points = np.full((target.length, 3), np.nan)
    traces = [trace for trace in model.traces if set(trace.letters) != {UNKNOWN}]
    for trace in traces:
        if len(trace.letters) == target.length and spells(target.sequence, trace.letters):
            copies = sum(other.letters == trace.letters for other in traces)
            return Placed(
                target=target, points=trace.points.copy(), chain_ids=(trace.chain_id,), spare_copies=copies - 1
            )
    spare, taken, left = 0, [], list(traces)
    for sequence, starts in group_chains(target):
        fitting = [(trace, rows) for trace in left if (rows := place_letters(sequence, trace)) is not None]
        fitting.sort(key=lambda item: -int((item[1] >= 0).sum()))
        whole = [item for item in fitting if (item[1] >= 0).sum() == len(sequence)] or fitting
        for start, (trace, rows) in zip(starts, whole):
            on = rows >= 0
            points[start + rows[on]] = trace.points[on]
            left.remove(trace)
            taken.append(trace.chain_id)
        spare += max(0, len(whole) - len(starts))
    return Placed(target=target, points=points, chain_ids=tuple(taken), spare_copies=spare)


def list_copies(model: Model, target: Target) -> list[Trace]:
    """Every chain of a model that spells a single-chain target: the copies of one job."""
    return [trace for trace in model.traces if spells(target.sequence, trace.letters)]


def spells(sequence: str, letters: str) -> bool:
    """Whether letters are those of a sequence of the same length, unknown ones fitting any."""
    return len(sequence) == len(letters) and (
        sequence == letters or all(a == b or UNKNOWN in (a, b) for a, b in zip(sequence, letters, strict=True))
    )


def place_letters(sequence: str, trace: Trace) -> IntArray | None:
    """(n,) index in a chain's sequence of each residue of a trace, -1 for those beyond it; None where it does not fit.

    Residue numbers count where they fit the letters, first as they are (from 1), then shifted; a trace without useful
    numbers fits as one piece, and one longer than the chain where it holds the chain whole.
    """
    letters, numbers = trace.letters, trace.numbers
    if spells(sequence, letters):
        return np.arange(len(sequence))
    if len(letters) < _SHORTEST_PART:
        return None
    if len(letters) > len(sequence):
        first = letters.find(sequence)
        inside = np.arange(len(letters)) - first
        return np.where((inside >= 0) & (inside < len(sequence)), inside, -1) if first >= 0 else None
    rising = bool((np.diff(numbers) > 0).all())
    span = int(numbers[-1] - numbers[0]) + 1 if rising else len(letters)
    steps = numbers - numbers[0] if rising else np.arange(len(letters))
    shifts = [int(numbers[0]) - 1, *range(len(sequence) - span + 1)] if rising else range(len(sequence) - span + 1)
    for shift in shifts:
        if 0 <= shift <= len(sequence) - span and _fits(sequence, letters, steps + shift):
            return np.asarray(steps + shift, dtype=np.int64)
    first = sequence.find(letters)
    return np.arange(first, first + len(letters)) if first >= 0 else None


def _fits(sequence: str, letters: str, rows: IntArray) -> bool:
    return all(sequence[row] == letter or UNKNOWN in (sequence[row], letter) for row, letter in zip(rows, letters))
