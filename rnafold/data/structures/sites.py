"""Residues of one chain as a file lists them, atom by atom, over all its models."""

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from rnafold.rna import ATOM_NAME

Point = tuple[float, float, float]

# The atoms that a reader keeps: the representative one, those of the bond between residues, and those that tell RNA,
# DNA and neither apart. Names with a star (before 2007) stand for those with a prime.
_KEPT: Final = (ATOM_NAME, "C2'", "C4'", "O2'", "O3'", "P", "N9", "N1")
KEPT_ATOMS: Final[dict[str, str]] = {name: name for name in _KEPT} | {name.replace("'", "*"): name for name in _KEPT}
# Both formats are ASCII: any other byte (an author's name) reads as a question mark, so that columns stay in place.
PLAIN_BYTES: Final = bytes(byte if byte < 128 else ord("?") for byte in range(256))
# O3'-P of neighbours is 1.6 Å.
_MOST_BOND: Final = 2.5


class AtomRecord(NamedTuple):
    """What a file says of one atom: `number` and `insertion` its residue's, `alternate` blank for none."""

    model: str
    number: int | None
    insertion: str
    name: str
    is_het: bool
    atom: str
    alternate: str
    occupancy: float


@dataclass(slots=True, kw_only=True, eq=False)
class Site:
    """One residue as read: `name` as the file has it, `model` the first model with the residue.

    `number` and `insertion` are the author's, None where the file has no number; `is_het` for a HETATM record;
    `after_break` where a TER or its like stands before it; `atoms` point (Å) and occupancy of the atoms kept, of that
    model; `points` its C1' by model.
    """

    name: str
    model: str
    number: int | None
    insertion: str
    is_het: bool
    after_break: bool
    atoms: dict[str, tuple[Point, float]] = field(default_factory=dict)
    points: dict[str, tuple[Point, float]] = field(default_factory=dict)

    def point(self, atom: str) -> Point | None:
        """Where an atom lies, None if the file does not say."""
        return self.atoms[atom][0] if atom in self.atoms else None


def is_bonded(first: Site, second: Site) -> bool | None:
    """True where O3' of the first reaches P of the second, False where not, None where one of them is absent."""
    oxygen, phosphorus = first.point("O3'"), second.point("P")
    if oxygen is None or phosphorus is None:
        return None
    return math.dist(oxygen, phosphorus) <= _MOST_BOND


class ChainSites:
    """The residues of one chain in the file's order; a residue that several models have is one site."""

    def __init__(self) -> None:
        self.sites: list[Site] = []
        self._by_key: dict[tuple[int | None, str, int], Site] = {}
        self._seen: Counter[tuple[int | None, str]] = Counter()
        self._model: str | None = None
        self._current: Site | None = None
        self._open: tuple[int | None, str] | None = None  # number and insertion code as the file has them
        self._place = 0
        self._broken = False

    def add_atom(self, record: AtomRecord, point: Point) -> None:
        """Adds an atom of KEPT_ATOMS; of alternate locations the first of the highest occupancy stays."""
        if record.model != self._model:
            self._model, self._place, self._current, self._broken = record.model, 0, None, False
            self._seen.clear()
        site = self._find(record, point)
        self._open = (record.number, record.insertion)
        known = site.atoms.get(record.atom)
        if record.model == site.model and (known is None or record.occupancy > known[1]):
            site.atoms[record.atom] = (point, record.occupancy)
            if record.atom == ATOM_NAME:
                site.name = record.name  # of two kinds of residue in one place the likelier one
        if record.atom == ATOM_NAME:
            placed = site.points.get(record.model)
            if placed is None or record.occupancy > placed[1]:
                site.points[record.model] = (point, record.occupancy)

    def end_run(self) -> None:
        """Notes a break (TER) before the next residue."""
        self._broken, self._current = True, None

    def _find(self, record: AtomRecord, point: Point) -> Site:
        """The site of an atom: the open one, that of another model or alternate location, or a new one.

        Where one number stands for several residues (the same atom again, elsewhere) it is none.
        """
        current, key = self._current, (record.number, record.insertion)
        if current is not None and self._open == key:
            if record.alternate or not _is_another(current, record, point):
                return current
            record, key = record._replace(number=None), (None, record.insertion)
        if record.alternate and self._seen[key]:  # some programs list the second conformation after the chain
            self._current = self._by_key[(*key, self._seen[key])]
            return self._current
        self._seen[key] += 1
        site = self._by_key.get((*key, self._seen[key]))
        if site is None:
            site = self._by_key[(*key, self._seen[key])] = Site(
                name=record.name, model=record.model, number=record.number, insertion=record.insertion,
                is_het=record.is_het, after_break=self._broken,
            )  # fmt: skip
            self.sites.insert(self._place, site)
            self._place += 1
        else:
            self._place = self.sites.index(site) + 1
        self._current, self._broken = site, False
        return site


def _is_another(site: Site, record: AtomRecord, point: Point) -> bool:
    """True where an atom of the same number cannot be of the same residue."""
    if record.atom in site.atoms and record.model == site.model:
        return record.number is None or math.dist(site.atoms[record.atom][0], point) > _MOST_BOND
    return record.number is None and record.name != site.name
