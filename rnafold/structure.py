"""Value types that travel between the parts: targets, structures, alignments, pairings, templates, candidates.

Shape letters: L residues, A atoms (one a residue today: C1'), N alignment rows. Coordinates in Å. mask True = real.
"""

import datetime
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, get_args

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """One copy of one chain inside a target's concatenated sequence.

    `chain_id` is the author's (may have several letters), `copy` counts from 1, residues are `start <= i < stop`.
    Copies of the same chain have the same sequence.
    """

    chain_id: str
    copy: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One row of a sequences CSV: what is to be predicted, or the sequence of a training entry.

    `sequence` is upper case ACGU and N of length L, all chains concatenated in the order of `chains`.
    `cutoff` is the temporal cutoff (for a training entry its release date), None if unknown.
    """

    target_id: str
    sequence: str
    chains: tuple[Chain, ...]
    cutoff: datetime.date | None = None
    description: str = ""

    @property
    def length(self) -> int:
        """Number of residues L."""
        return len(self.sequence)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Structure:
    """Coordinates (L, A, 3) in Å, float64, and mask (L, A); masked-out atoms hold zeros, never -1e18 or NaN."""

    coords: FloatArray
    mask: BoolArray

    @property
    def residue_mask(self) -> BoolArray:
        """(L,) True where the residue's representative atom is resolved."""
        return np.asarray(self.mask[:, 0], dtype=np.bool_)

    @property
    def c1(self) -> FloatArray:
        """(L, 3) C1' coordinates, NaN where unresolved."""
        return np.where(self.mask[:, 0, None], self.coords[:, 0], np.nan)


def structure_from_points(points: FloatArray) -> Structure:
    """Structure of one atom a residue from points (L, 3); a row that is not finite or beyond -1e6 is unresolved."""
    with np.errstate(invalid="ignore"):
        real = np.asarray(np.isfinite(points).all(-1) & (points > -1e6).all(-1), dtype=np.bool_)
    return Structure(coords=np.where(real[:, None], points, 0.0)[:, None, :], mask=real[:, None])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Entry:
    """A target with its known conformations (1 to 40): a training, validation or library entry.

    `group` is its sequence group. `source` names the structure that it is a chain of, where that is not told by the id:
    chains of one source share a coordinate frame; `code` is the source's PDB code, blank where nobody states one.
    """

    target: Target
    references: tuple[Structure, ...]
    group: str = ""
    source: str = ""
    code: str = ""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Msa:
    """Alignment tokens (N, L), int8: ACGU 0-3, unknown 4, gap 5; row 0 is the query."""

    tokens: npt.NDArray[np.int8]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Alternative:
    """A further structure, `partner` (L,), -1 = none, and what made it (`source`: "SQUARNA 1", "Langdon 2018", ..)."""

    partner: npt.NDArray[np.int64]
    source: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pairing:
    """Base-pair probabilities (L, L), float32, symmetric, zero diagonal; `partner` (L,) of the best one, -1 = none.

    `samples` (S, L) are partner arrays of further structures (suboptimal or Boltzmann-sampled), possibly S = 0.
    `source` names the method ("viennarna", "stem-energy fallback", ...). `alternatives` are structures by other
    energies and another program, in the order in which to try them, pseudoknots among them.
    """

    probabilities: npt.NDArray[np.float32]
    partner: npt.NDArray[np.int64]
    samples: npt.NDArray[np.int64]
    source: str
    alternatives: tuple[Alternative, ...] = ()


# What a residue of a built model rests on: nothing known (an arc or a tail), a template, an ideal stem, a loop of a
# known structure (with the pairs next to it), or ideal geometry and linkers where no known loop is at hand.
FILLED, CARRIED, STEM, LOOP, LINKER = range(5)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Grounds:
    """What each residue of a built model rests on: `kinds` (L,) of FILLED, CARRIED, STEM, LOOP and LINKER.

    `deviation` (L,) is what the known loop that a LOOP residue was taken from is expected to be off by, in Å; NaN
    elsewhere, and where no loop judge was asked.
    """

    kinds: npt.NDArray[np.int64]
    deviation: FloatArray


# What made a candidate: a template carried over, an assembly from secondary structure, the network's refinement of a
# start, a plain strand where nothing better is there, or another program.
Origin = Literal["template", "assembly", "network", "fallback", "other"]
ORIGINS: Final[tuple[Origin, ...]] = get_args(Origin)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What speaks for a candidate where several programs' were judged on one scale.

    Attributes:
        likeness: mean over the other sources of the mean TM-score to their models; None without another source.
        own_likeness: the same to the other models of its own source; None for a lone one.
        own_confidence: what the program itself says of it, in the program's unit (see `own_name`), high is good.
        own_relative: by how much that is more than usual of the source, on a scale of 0 to 1.
        own_name: which figure that is.
        spread: standard deviation of the TM-score around the expected one.
        may_have_seen: the target was released before the source's stated training cutoff.
        num_added: residues that the model lacks and the assembler added.
    """

    likeness: float | None = None
    own_likeness: float | None = None
    own_confidence: float | None = None
    own_relative: float = 0.0
    own_name: str = ""
    spread: float = 0.0
    may_have_seen: bool = False
    num_added: int = 0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Candidate:
    """One possible prediction of a target: coords (L, 3) in Å, all finite; `confidence` is the expected TM-score.

    `origin` is what made it; `note` says from what (a template's id, a sample); `grounds`, where the candidate was
    built residue by residue, what each rests on. `source` names the program that made it, "" for this one; `evidence`
    is there where several programs' candidates were judged on one scale.
    """

    coords: FloatArray
    origin: Origin
    confidence: float
    note: str = ""
    grounds: Grounds | None = None
    source: str = ""
    evidence: Evidence | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """A target's TM-scores: one for each prediction, the best, and the 1-based reference the best was reached on."""

    target_id: str
    length: int
    tm: tuple[float, ...]
    reference: int

    @property
    def best(self) -> float:
        """The best of the predictions, 0 without any."""
        return max(self.tm, default=0.0)


def parse_stoichiometry(text: str) -> list[tuple[str, int]]:
    """("A", 2), ("B", 1) of "A:2;B:1" or "A:2,B:1"; a chain id may have several letters ("AAA:2").

    Raises:
        ValueError: a part that is not `id:count` with a positive count.
    """
    parts = []
    for part in re.split("[;,]", "".join(text.split()).strip(";,")):
        chain_id, colon, count = part.rpartition(":")
        if not colon or not chain_id or not re.fullmatch("[0-9]{1,6}", count) or int(count) < 1:
            raise ValueError(f"stoichiometry {text!r}: {part!r} is not of the form chain:count")
        parts.append((chain_id, int(count)))
    return parts


def whole_chain(length: int, chain_id: str = "A") -> tuple[Chain, ...]:
    """The chains of a single-chain target of `length` residues."""
    return (Chain(chain_id=chain_id, copy=1, start=0, stop=length),)


def cut_target(target: Target, first: int, stop: int) -> Target:
    """Residues first <= i < stop of a target, with what they hold of each chain; id and cutoff stay."""
    chains = tuple(
        replace(chain, start=max(chain.start, first) - first, stop=min(chain.stop, stop) - first)
        for chain in target.chains
        if chain.start < stop and first < chain.stop
    )
    return replace(target, sequence=target.sequence[first:stop], chains=chains)


def cut_structure(structure: Structure, first: int, stop: int) -> Structure:
    """Residues first <= i < stop of a structure."""
    return Structure(coords=structure.coords[first:stop], mask=structure.mask[first:stop])


def crossing_chains(chains: Sequence[Chain], length: int) -> BoolArray:
    """(L-1,) True where residue i and i+1 lie in different chains or copies (no bond there)."""
    breaks = np.zeros(max(length - 1, 0), dtype=np.bool_)
    for chain in chains:
        if 0 < chain.start < length:
            breaks[chain.start - 1] = True
    return breaks
