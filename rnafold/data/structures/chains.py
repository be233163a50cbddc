"""From the residues under one chain id to RNA chains: what belongs to them, in what order, with gaps."""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np

from rnafold.data.structures.residues import (
    LIGANDS,
    THYMINES,
    is_deoxy,
    is_nucleotide,
    is_plain,
    read_letter,
)
from rnafold.data.structures.sites import Site, is_bonded
from rnafold.errors import InputError
from rnafold.rna import ATOM_NAME, BOND_SOFT_MAXIMUM, UNKNOWN
from rnafold.structure import FloatArray

# A run of HETATM nucleotides of this length is a chain of its own, a shorter one a ligand.
SHORTEST_RUN: Final = 3
# More residues than any RNA has: the numbers are no numbers of residues.
_MOST_MISSING: Final = 20_000


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RnaChain:
    """One RNA chain: `sequence` of ACGU and N (L,), and C1' points (L, 3) in Å of each model, NaN where unresolved.

    `block` names the data block it is of, blank for a file's first.
    """

    chain_id: str
    sequence: str
    models: tuple[FloatArray, ...]
    block: str = ""


def build_chains(
    chain_id: str, sites: Sequence[Site], stated: Sequence[str], parents: Mapping[str, str], named: bool = True
) -> list[RnaChain]:
    """The RNA chains under one chain id: none for DNA, protein and ligands, several where the numbering starts anew.

    Args:
        chain_id: the author's.
        sites: in the file's order.
        stated: residue names of the whole sequence (SEQRES), empty if the file has none.
        parents: parents of modified residues that the file states.
        named: the file has ids of chains; without them a TER ends a chain.

    Raises:
        InputError: a gap in the numbering longer than any RNA.
    """
    residues = _sort_by_number([site for site in sites if _is_residue(site, parents)])
    kept = _leave_ligands_out(residues, {*stated, *parents})
    if not kept:
        return []
    if stated:
        places = place_residues(
            [read_letter(name, parents) for name in stated],
            [read_letter(site.name, parents) for site in kept],
            [site.number if site.number is not None else index for index, site in enumerate(kept)],
        )
        if places is not None:
            return [place_sites(chain_id, stated, kept, places, parents)] if is_rna(stated, kept) else []
    parts = [part for part in _split_at_restarts(kept, named) if is_rna([site.name for site in part], part)]
    chains = []
    for index, part in enumerate(parts):
        names, places = _close_up(part)
        name = chain_id if index == 0 else f"{chain_id}.{index + 1}"
        chains.append(place_sites(name, names, part, places, parents))
    return chains


def is_rna(names: Iterable[str], sites: Iterable[Site] = ()) -> bool:
    """True where most residues are nucleotides of RNA.

    Names that RNA and old DNA share (A, C, G, and T where a program writes RNA with T) are DNA's where the sugars are
    there and none has O2'.
    """
    names, atoms = list(names), set().union(*(site.atoms for site in sites))
    if 2 * sum(is_nucleotide(name) for name in names) <= len(names):
        return False
    shared = not any(read_letter(name) == "U" and name.upper() not in THYMINES for name in names)
    return not (shared and "C2'" in atoms and "O2'" not in atoms)


def _is_residue(site: Site, parents: Mapping[str, str]) -> bool:
    """True for what could be a residue of a nucleic acid: it has C1', or is a nucleotide by name and atoms."""
    if ATOM_NAME in site.atoms or site.points:
        return True
    return bool(site.atoms) and (is_nucleotide(site.name) or is_deoxy(site.name) or site.name in parents)


def _sort_by_number(sites: list[Site]) -> list[Site]:
    """By residue number where no number is there twice: some programs list modified residues after the chain."""
    keys = [(site.number, site.insertion) for site in sites]
    numbers = [site.number for site in sites if site.number is not None]
    if len(numbers) < len(sites) or len(set(keys)) < len(keys) or numbers == sorted(numbers):
        return sites
    in_order = sorted(sites, key=lambda site: (site.number, site.insertion))
    return in_order if _count_neighbours(in_order) >= _count_neighbours(sites) else sites


def _count_neighbours(sites: Sequence[Site]) -> int:
    return sum(_are_neighbours(first, second) for first, second in pairwise(sites))


def _are_neighbours(first: Site, second: Site) -> bool:
    """True where two residues follow each other in a chain: bonded, or, without these atoms, by number and distance."""
    bonded = is_bonded(first, second)
    if bonded is not None:
        return bonded
    start, stop = first.point(ATOM_NAME), second.point(ATOM_NAME)
    if start is None or stop is None or math.dist(start, stop) > BOND_SOFT_MAXIMUM:
        return False
    return first.number is None or second.number is None or 0 <= second.number - first.number <= 1


def _leave_ligands_out(sites: Sequence[Site], known: Collection[str]) -> list[Site]:
    """The residues that hang together with ATOM records of plain nucleotides, or with each other in a run.

    A modified residue alone between two gaps stays. GTP and its like stay where a chain begins with them, or where the
    file itself names them as residues (`known`).
    """
    runs: list[list[int]] = []
    for index, site in enumerate(sites):
        is_ligand = site.name in LIGANDS and site.name not in known
        if index and not is_ligand and _are_neighbours(sites[index - 1], site):
            runs[-1].append(index)
        else:
            runs.append([index])
    sure = [not site.is_het and _is_plain_or_deoxy(site.name) for site in sites]
    sure = [one or (s.name in known and s.name not in LIGANDS and not is_plain(s.name)) for one, s in zip(sure, sites)]
    kept = []
    for run in runs:
        by_itself = _is_chain([sites[index].name for index in run])
        if by_itself or any(sure[index] for index in run) or all(_lies_between(sites, sure, index) for index in run):
            kept += run
    return [sites[index] for index in kept]


def _is_plain_or_deoxy(name: str) -> bool:
    return is_plain(name) or is_deoxy(name)


def _is_chain(names: Sequence[str]) -> bool:
    """True for a run long enough to be a chain by itself, as where a program writes all residues as HETATM."""
    return len(names) >= SHORTEST_RUN and 2 * sum(is_nucleotide(name) or is_deoxy(name) for name in names) > len(names)


def _lies_between(sites: Sequence[Site], sure: Sequence[bool], index: int) -> bool:
    """True for a nucleotide, no ligand, with residues before and after it both in the file and by number."""
    site = sites[index]
    before = [other.number for other, one in zip(sites[:index], sure[:index]) if one]
    after = [other.number for other, one in zip(sites[index + 1 :], sure[index + 1 :]) if one]
    if site.name in LIGANDS or not is_nucleotide(site.name) or not before or not after or site.number is None:
        return False
    last, following = before[-1], after[0]
    return last is not None and following is not None and last < site.number < following


def _split_at_restarts(sites: Sequence[Site], named: bool) -> list[list[Site]]:
    """Parts within which the residue numbers grow; a step back without a bond, or a TER without chain ids, ends one."""
    parts: list[list[Site]] = []
    for index, site in enumerate(sites):
        before = sites[index - 1] if index else None
        if before is None or (_is_restart(before, site, named) and is_bonded(before, site) is not True):
            parts.append([])
        parts[-1].append(site)
    return parts


def _is_restart(before: Site, site: Site, named: bool) -> bool:
    if not named and site.after_break:
        return True
    if before.number is None or site.number is None:
        return site.after_break
    return site.number < before.number or (site.number, site.insertion) == (before.number, before.insertion)


def _close_up(sites: Sequence[Site]) -> tuple[list[str], list[int]]:
    """Names with one unknown residue for each number left out, and each site's index among them.

    Numbers jump without a gap as well (tRNA, inserted domains): where the two are bonded nothing is missing.
    """
    names: list[str] = []
    places: list[int] = []
    for index, site in enumerate(sites):
        before = sites[index - 1] if index else site
        missing = (site.number or 0) - (before.number or 0) - 1 if None not in (site.number, before.number) else 0
        if missing > 0 and is_bonded(before, site) is not True:
            if missing > _MOST_MISSING:
                raise InputError(f"residue {site.number} follows {before.number}, expected numbers of one RNA")
            names += [UNKNOWN] * missing
        places.append(len(names))
        names.append(site.name)
    return names, places


def place_sites(
    chain_id: str, names: Sequence[str], sites: Sequence[Site], places: Sequence[int], parents: Mapping[str, str]
) -> RnaChain:
    """The chain of `names` with each site's C1' at its index among them."""
    models: dict[str, FloatArray] = {}
    for site, place in zip(sites, places, strict=True):
        for model, (point, _) in site.points.items():
            if model not in models:
                models[model] = np.full((len(names), 3), np.nan)
            models[model][place] = point
    sequence = "".join(read_letter(name, parents) for name in names)
    return RnaChain(chain_id=chain_id, sequence=sequence, models=tuple(models.values()))


def place_residues(stated: Sequence[str], names: Sequence[str], numbers: Sequence[int]) -> list[int] | None:
    """Index in the stated sequence of each resolved residue; None where they do not fit.

    Runs of consecutive residue numbers stay together; each is put where its numbering says after the run before, else
    at the first place where its names fit.
    """
    if not stated or not names:
        return None
    starts = [i for i in range(len(names)) if i == 0 or numbers[i] != numbers[i - 1] + 1]
    places: list[int] = []
    for start, stop in zip(starts, [*starts[1:], len(names)], strict=True):
        run = list(names[start:stop])
        after = places[-1] + 1 if places else 0
        expected = places[-1] + numbers[start] - numbers[start - 1] if places else numbers[0] - 1
        for place in [expected, *range(after, len(stated) - len(run) + 1)]:
            if place >= after and list(stated[place : place + len(run)]) == run:
                places.extend(range(place, place + len(run)))
                break
        else:
            return None
    return places
