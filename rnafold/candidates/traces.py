"""C1' traces of other programs' models: PDB and mmCIF as programs really write them, and submission CSVs.

A line scan, not a parser of the format: text before and after the atoms, lines that end after z, blank chains, `C1*`
and several models without MODEL records are all read. Only C1' is kept, so that a thousand models take seconds.
"""

import csv
import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

import gemmi
import numpy as np

from rnafold.data.structures.residues import is_nucleotide, read_letter
from rnafold.data.tables import iter_csv, parse_number, parse_whole
from rnafold.structure import FloatArray, IntArray

_ATOM_NAMES: Final = frozenset({"C1'", "C1*"})
_CIF_COLUMNS: Final = ("Cartn_x", "Cartn_y", "Cartn_z")
# From this share of its residues on, a chain that changes back and forth between two copies is two chains mixed up.
_INTERLEAVED_SHARE: Final = 0.5
# What a submission writes where it has nothing, and anything farther than a real residue can be, is missing.
_FARTHEST: Final = 1e5


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trace:
    """The C1' atoms of one chain of one model, in the order of the file.

    Attributes:
        chain_id: the author's, may be blank.
        letters: n letters, N for a residue name that is no nucleotide's.
        numbers: (n,) residue numbers.
        points: (n, 3) in Å, NaN where unreadable.
        bfactors: (n,) B-factors of the C1' atoms, NaN where there is none.
    """

    chain_id: str
    letters: str
    numbers: IntArray
    points: FloatArray
    bfactors: FloatArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Model:
    """One model of a file: its number in the file (from 1) and its traces; `interleaved` where two chains are mixed.

    `name` is what the file itself calls the target (a submission's target_id), "" where it says nothing.
    """

    number: int
    traces: tuple[Trace, ...]
    interleaved: bool = False
    name: str = ""


@dataclass(frozen=True, slots=True)
class _Atom:
    """A C1' atom as it stands in a file."""

    chain_id: str
    number: int
    insertion: str
    name: str
    alternate: bool
    x: float
    y: float
    z: float
    bfactor: float


@dataclass(slots=True)
class _Collector:
    """Puts atoms into chains: a residue number met again under the same chain id begins, or goes on with, a copy."""

    rows: dict[tuple[str, int], list[_Atom]] = field(default_factory=dict)
    met: dict[tuple[str, int, str], int] = field(default_factory=dict)
    copy_of: dict[str, int] = field(default_factory=dict)
    changes: int = 0

    def add(self, atom: _Atom) -> None:
        """Adds an atom; an alternate location of the residue before is left out."""
        residue = (atom.chain_id, atom.number, atom.insertion)
        copy = self.met.get(residue, 0)
        if copy and atom.alternate:
            last = self.rows[atom.chain_id, copy - 1][-1]
            if (last.number, last.insertion) == residue[1:]:
                return
        self.met[residue] = copy + 1
        self.changes += self.copy_of.get(atom.chain_id, copy) != copy
        self.copy_of[atom.chain_id] = copy
        self.rows.setdefault((atom.chain_id, copy), []).append(atom)

    def finish(self, number: int) -> Model:
        """The model collected so far."""
        traces = tuple(_build_trace(rows) for rows in self.rows.values())
        residues = sum(len(trace.letters) for trace in traces)
        return Model(number=number, traces=traces, interleaved=self.changes > _INTERLEAVED_SHARE * residues)


def _build_trace(rows: list[_Atom]) -> Trace:
    return Trace(
        chain_id=rows[0].chain_id,
        letters="".join(read_name(row.name) for row in rows),
        numbers=np.array([row.number for row in rows], dtype=np.int64),
        points=np.array([(row.x, row.y, row.z) for row in rows], dtype=np.float64),
        bfactors=np.array([row.bfactor for row in rows], dtype=np.float64),
    )


@functools.lru_cache(maxsize=1024)
def read_name(name: str) -> str:
    """A, C, G, U or N of a residue name in any program's spelling (G5, RG3, GUA, URI)."""
    return read_letter(name.strip())


@functools.lru_cache(maxsize=1024)
def _belongs_to_a_chain(name: str) -> bool:
    return is_nucleotide(name.strip())


def read_models(text: str) -> list[Model]:
    """The models of a PDB or mmCIF text that have a C1' atom, in the order of the file.

    Raises:
        ValueError: an mmCIF text that is cut off or malformed.
    """
    return list(_read_cif(text) if _is_cif(text) else _read_pdb(text))


def has_atoms(text: str) -> bool:
    """Whether a structure's text has any atom at all."""
    return "_atom_site." in text if _is_cif(text) else "\nATOM  " in f"\n{text}" or "\nHETATM" in f"\n{text}"


def _is_cif(text: str) -> bool:
    return "_atom_site." in text and "\ndata_" in f"\n{text}"


def _read_pdb(text: str) -> Iterator[Model]:
    collector, number, stated = _Collector(), 0, 0
    for line in text.split("\n"):
        kind = line[:6]
        if kind in ("ATOM  ", "HETATM"):
            atom = _parse_line(line) if "C1" in line[12:16] else None
            if atom is not None:
                collector.add(atom)
        elif kind in ("MODEL ", "ENDMDL") or kind.rstrip() == "END":
            if collector.rows:
                number = stated or number + 1
                yield collector.finish(number)
                collector, stated = _Collector(), 0
            if kind == "MODEL ":
                stated = max(_parse_int(line[6:]), 0)
    if collector.rows:
        yield collector.finish(stated or number + 1)


def _parse_line(line: str) -> _Atom | None:
    """The C1' atom of a line; None for another atom, or one of a ligand."""
    name = line[17:20]
    if line[12:16].strip() not in _ATOM_NAMES or (line[0] == "H" and not _belongs_to_a_chain(name)):
        return None
    return _Atom(
        line[21:22].strip(),
        _parse_int(line[22:26]),
        line[26:27].strip(),
        name,
        bool(line[16:17].strip()),
        parse_number(line[30:38]),
        parse_number(line[38:46]),
        parse_number(line[46:54]),
        parse_number(line[60:66]),
    )


def _parse_int(text: str) -> int:
    number = parse_whole(text)
    return -1 if number is None else number


def _read_cif(text: str) -> Iterator[Model]:
    try:
        document = gemmi.cif.read_string(text)
    except (ValueError, RuntimeError) as error:
        raise ValueError(" ".join(str(error).split())) from error
    for block in document:
        yield from _read_block(block)


def _read_block(block: gemmi.cif.Block) -> Iterator[Model]:
    """The models of one data block, by pdbx_PDB_model_num."""
    names = list(block.find_loop("_atom_site.label_atom_id"))
    rows = [row for row, name in enumerate(names) if name.strip("\"'") in _ATOM_NAMES or name[1:-1] in _ATOM_NAMES]
    collectors: dict[int, _Collector] = {}

    def column(*choices: str, default: str = "?") -> list[str]:
        for choice in choices:
            found = block.find_loop(f"_atom_site.{choice}")
            if len(found) == len(names):
                return [gemmi.cif.as_string(found[row]) for row in rows]
        return [default] * len(rows)

    columns = (
        column("pdbx_PDB_model_num", default="1"),
        column("label_asym_id", "auth_asym_id"),
        column("label_seq_id"),
        column("auth_seq_id"),
        column("pdbx_PDB_ins_code"),
        column("label_comp_id", "auth_comp_id"),
        column("label_alt_id"),
        column("B_iso_or_equiv"),
        *(column(axis) for axis in _CIF_COLUMNS),
    )
    for model, chain_id, seq, author, insertion, name, alternate, bfactor, x, y, z in zip(*columns, strict=True):
        if not seq.isdigit() and not _belongs_to_a_chain(name):
            continue  # a ligand
        number_in_chain = _parse_int(seq if seq.isdigit() else author)
        point = (parse_number(x), parse_number(y), parse_number(z), parse_number(bfactor))
        atom = _Atom(chain_id, number_in_chain, insertion.strip("?."), name, bool(alternate.strip("?.")), *point)
        collectors.setdefault(_parse_int(model), _Collector()).add(atom)
    for number, collector in collectors.items():
        yield collector.finish(number)


def read_table(text: str) -> list[Model]:
    """The conformations of a submission CSV (ID, resname, resid, x_1, y_1, z_1, ...), one model each.

    Empty cells, NaN and the -1e18 of labels are missing residues; so is a residue at the origin, unless it is the only
    one there: zeros are what submissions are padded with.

    Raises:
        ValueError: a column is missing or a row is cut off.
    """
    try:
        rows = iter(list(iter_csv(text.lstrip("\n"))))
    except csv.Error as error:
        raise ValueError(f"no CSV ({error})") from error
    header = [name.strip() for name in next(rows, [])]
    missing = [name for name in ("ID", "resname", "resid", "x_1", "y_1", "z_1") if name not in header]
    if missing:
        raise ValueError(f"column {missing[0]} missing")
    count = 1
    while all(f"{axis}_{count + 1}" in header for axis in "xyz"):
        count += 1
    places = [header.index(f"{axis}_{number}") for number in range(1, count + 1) for axis in "xyz"]
    at_id, at_name, at_number = (header.index(name) for name in ("ID", "resname", "resid"))
    groups: dict[str, list[list[str]]] = {}
    for line, row in enumerate(rows, start=1):
        if row and len(row) != len(header):
            raise ValueError(f"row {line} has {len(row)} fields, expected {len(header)}")
        if row:
            groups.setdefault(row[at_id].rpartition("_")[0], []).append(row)
    models = []
    for target_id, members in groups.items():
        members.sort(key=lambda row: _parse_int(row[at_number]))
        points = np.array([[parse_number(row[place]) for place in places] for row in members]).reshape(-1, count, 3)
        letters = "".join(read_name(row[at_name]) for row in members)
        numbers = np.array([_parse_int(row[at_number]) for row in members], dtype=np.int64)
        models += list(_split_conformations(target_id, letters, numbers, points))
    return models


def _split_conformations(target_id: str, letters: str, numbers: IntArray, points: FloatArray) -> Iterable[Model]:
    for conformation in range(points.shape[1]):
        trace = Trace(
            chain_id="",
            letters=letters,
            numbers=numbers,
            points=mask_padding(points[:, conformation]),
            bfactors=np.full(len(letters), np.nan),
        )
        yield Model(number=conformation + 1, traces=(trace,), name=target_id)


def mask_padding(points: FloatArray) -> FloatArray:
    """Points (n, 3) with NaN where they are no place: not finite, far out, or two and more residues at the origin."""
    masked = np.where((np.abs(points) < _FARTHEST).all(1, keepdims=True), points, np.nan)
    zeros = (masked == 0.0).all(1)
    return np.where(zeros[:, None], np.nan, masked) if zeros.sum() > 1 else masked
