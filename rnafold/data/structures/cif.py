"""mmCIF files through gemmi.

A file that states its sequences and numbers its residues by them is read by its label ids, and only its C1' rows are
looked at. Any other (label ids absent, `.`, repeated or the author's; only auth columns) is read residue by residue, by
the author's chain ids and numbers.
"""

import contextlib
import datetime
import math
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

import gemmi

from rnafold.data.structures.chains import RnaChain, build_chains, is_rna, place_sites
from rnafold.data.structures.dates import parse_date
from rnafold.data.structures.residues import read_letter
from rnafold.data.structures.sites import KEPT_ATOMS, PLAIN_BYTES, AtomRecord, ChainSites, Point
from rnafold.errors import InputError
from rnafold.rna import ATOM_NAME, UNKNOWN

_BLANK: Final = (".", "?", "")
_QUOTES: Final = ("{}", '"{}"', "'{}'")
_RAW_KEPT: Final[dict[str, str]] = {form.format(raw): name for raw, name in KEPT_ATOMS.items() for form in _QUOTES}
_RAW_C1: Final = frozenset(raw for raw, name in _RAW_KEPT.items() if name == ATOM_NAME)
_CODE: Final = re.compile(r"[0-9][A-Za-z0-9]{3}|pdb_[0-9a-z]{8}", re.IGNORECASE)
_QUOTED: Final = ("'", '"', ";")
_NO_RNA: Final = frozenset({"polypeptide(l)", "polypeptide(d)", "polydeoxyribonucleotide", "cyclic-pseudo-peptide"})
# Of a chain's residues this part must have the letters of the sequence that the file states for its label ids.
_LEAST_AGREEMENT: Final = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class CifBlock:
    """One data block with atoms: its name, RNA chains, first release and PDB code (blank if it states none)."""

    name: str
    chains: list[RnaChain]
    released: datetime.date | None
    code: str


def read_cif(data: bytes) -> list[CifBlock]:
    """The data blocks with atoms of an mmCIF file.

    Raises:
        InputError: not an mmCIF file, cut off, without atoms, or a C1' whose coordinates are no numbers.
    """
    data = data if data.isascii() else data.translate(PLAIN_BYTES)
    thin = keep_representatives(data)
    if thin is not None:
        # whatever is wrong or wanting there is said or read of the whole file
        with contextlib.suppress(InputError, _MoreAtomsNeeded):
            return _read_document(thin, all_atoms=False)
    return _read_document(data, all_atoms=True)


class _MoreAtomsNeeded(Exception):  # noqa: N818 - no error: the file has to be read as a whole
    """A chain has no stated sequence to place its C1' on."""


def keep_representatives(data: bytes) -> bytes | None:
    """The file with no atoms but C1': a sixth of a ribosome, and all that is read where sequences are stated.

    None where that cannot be told line by line: no sequences, several blocks, or another layout than one atom a line.
    """
    begin = data.find(b"\n_atom_site.")
    stated = data.find(b"_pdbx_poly_seq_scheme.") >= 0 or data.find(b"_entity_poly_seq.") >= 0
    if begin < 0 or not stated or data.count(b"\ndata_") > 1 or data.startswith(b"data_") == data.count(b"\ndata_"):
        return None
    first = begin + 1
    while data.startswith(b"_atom_site.", first):
        first = data.find(b"\n", first) + 1
    ends = [at for mark in (b"\n#", b"\nloop_", b"\n_", b"\ndata_") if (at := data.find(mark, first)) >= 0]
    stop = min(ends, default=len(data))
    body = data[first:stop]
    if b"\n;" in body or body[:1] == b";" or not first:
        return None
    kept = [line for line in body.split(b"\n") if b"C1'" in line or b"C1*" in line]
    # a file without any is told so by one row of its atoms
    kept = kept or body.split(b"\n", 1)[:1]
    return b"\n".join((data[: first - 1], *kept)) + data[stop:]


def _read_document(data: bytes, all_atoms: bool) -> list[CifBlock]:
    """The blocks of a file with all its atoms, or with C1' alone.

    Raises:
        InputError: as `read_cif`.
        _MoreAtomsNeeded: C1' alone do not tell the chains.
    """
    try:
        document = gemmi.cif.read_string(data, check_level=0)
    except (RuntimeError, ValueError) as error:
        raise InputError(f"not a complete mmCIF file ({' '.join(str(error).split())})") from error
    blocks = [block for block in document if len(block.find_values("_atom_site.Cartn_x"))]
    if not all(len(block.find_values(f"_atom_site.Cartn_{axis}")) for block in blocks for axis in "yz"):
        raise InputError("_atom_site has no Cartn_y or no Cartn_z")
    if not blocks:
        raise InputError("no _atom_site rows, expected an mmCIF file with atoms")
    return [_read_block(block, all_atoms) for block in blocks]


def _read_block(block: gemmi.cif.Block, all_atoms: bool) -> CifBlock:
    entry = block.find_value("_entry.id")
    name = gemmi.cif.as_string(entry) if entry else block.name
    return CifBlock(
        name=block.name,
        chains=_read_chains(block, all_atoms),
        released=_find_release(block),
        code=name.upper() if _CODE.fullmatch(name) else "",
    )


def _find_release(block: gemmi.cif.Block) -> datetime.date | None:
    """The first date of the revision history, or of the category that held it before 2017."""
    for column in ("_pdbx_audit_revision_history.revision_date", "_database_PDB_rev.date"):
        dates = [date for value in block.find_values(column) if (date := parse_date(gemmi.cif.as_string(value)))]
        if dates:
            return min(dates)
    return None


def _list_rows(block: gemmi.cif.Block, category: str, *names: str) -> list[list[str]]:
    """Rows of a category; empty when it or one of the columns is absent."""
    columns = [block.find_values(f"_{category}.{name}") for name in names]
    if not all(len(column) for column in columns):
        return []
    texts = [[gemmi.cif.as_string(raw) if raw[:1] in _QUOTED else raw for raw in column] for column in columns]
    if len({len(column) for column in texts}) > 1:
        raise InputError(f"_{category}: columns of different lengths")
    return [list(row) for row in zip(*texts, strict=True)]


def _read_chains(block: gemmi.cif.Block, all_atoms: bool) -> list[RnaChain]:
    types = {entity: kind.lower() for entity, kind in _list_rows(block, "entity_poly", "entity_id", "type")}
    if types and all(kind in _NO_RNA for kind in types.values()):
        return []
    rows = _AtomRows(block)
    chosen = [index for index, raw in enumerate(rows.atoms) if raw in _RAW_C1]
    parents = {
        name: parent
        for name, parent in _list_rows(block, "pdbx_struct_mod_residue", "label_comp_id", "parent_comp_id")
        + _list_rows(block, "chem_comp", "id", "mon_nstd_parent_comp_id")
        if parent not in _BLANK
    }
    stated = _list_sequences(block, types)
    found: list[RnaChain] = []
    rest: dict[str, list[str]] = {}
    by_label = _group_by_label(rows, chosen, with_blank=not stated)
    for (label, author), members in by_label.items():
        sequence = stated.get(label)
        if sequence is None or (sequence.is_rna and not _agrees(rows, members, sequence.names, parents)):
            rest.setdefault(author, sequence.names if sequence else [])
        elif sequence.is_rna:
            found.append(_place_rows(rows, author, members, sequence.names, parents))
    if rest and not all_atoms:
        raise _MoreAtomsNeeded
    for author, sites in _collect_sites(rows, rest).items():
        found += build_chains(author, sites.sites, rest[author], parents)
    order = {author: place for place, (_, author) in reversed(list(enumerate(by_label)))}
    return sorted(found, key=lambda chain: order.get(chain.chain_id, len(order)))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sequence:
    names: list[str]
    is_rna: bool


def _list_sequences(block: gemmi.cif.Block, types: dict[str, str]) -> dict[str, _Sequence]:
    """Residue names of each chain, by label_asym_id, where the file states the whole sequence."""
    by_asym: dict[str, dict[int, str]] = {}
    entity_of: dict[str, str] = {}
    for asym, entity, seq, name in _list_rows(
        block, "pdbx_poly_seq_scheme", "asym_id", "entity_id", "seq_id", "mon_id"
    ):
        if (number := _parse_number(seq)) is not None and number > 0:
            by_asym.setdefault(asym, {}).setdefault(number, name)
            entity_of[asym] = entity
    if not by_asym:
        whole: dict[str, dict[int, str]] = {}
        for entity, seq, name in _list_rows(block, "entity_poly_seq", "entity_id", "num", "mon_id"):
            if (number := _parse_number(seq)) is not None and number > 0:
                whole.setdefault(entity, {}).setdefault(number, name)
        entity_of = dict(_list_rows(block, "struct_asym", "id", "entity_id")) if whole else {}
        if whole and not entity_of:
            entity_of = dict(_list_rows(block, "atom_site", "label_asym_id", "label_entity_id"))
        by_asym = {asym: whole[entity] for asym, entity in entity_of.items() if entity in whole}
    sequences = {}
    for asym, residues in by_asym.items():
        kind = types.get(entity_of[asym], "?")
        if len(residues) >= max(residues) // 2:  # sparse numbers are the author's
            names = [residues.get(number, UNKNOWN) for number in range(1, max(residues) + 1)]
            known = kind not in _BLANK
            sequences[asym] = _Sequence(names=names, is_rna="polyribonucleotide" in kind if known else is_rna(names))
    return sequences


class _AtomRows:
    """The rows of _atom_site; where one naming is blank the other counts."""

    def __init__(self, block: gemmi.cif.Block) -> None:
        self._columns = {
            name: block.find_values(f"_atom_site.{name}")
            for name in (
                "label_asym_id", "auth_asym_id", "label_seq_id", "auth_seq_id", "label_comp_id", "auth_comp_id",
                "label_atom_id", "auth_atom_id", "label_alt_id", "pdbx_PDB_ins_code", "group_PDB", "occupancy",
                "pdbx_PDB_model_num", "Cartn_x", "Cartn_y", "Cartn_z",
            )
        }  # fmt: skip
        self.atoms = list(self._columns["label_atom_id"])
        if not self.atoms or self.atoms[0] in _BLANK:
            self.atoms = list(self._columns["auth_atom_id"])
        self._require_table()

    def _require_table(self) -> None:
        """Refuses columns of different lengths (one of them stands in another loop), or none for an axis."""
        lacking = [f"Cartn_{axis}" for axis in "xyz" if not len(self._columns[f"Cartn_{axis}"])]
        if lacking:
            raise InputError(f"_atom_site: column {lacking[0]} missing")
        odd = [name for name, column in self._columns.items() if len(column) not in (0, len(self.atoms))]
        if odd:
            found = len(self._columns[odd[0]])
            raise InputError(f"_atom_site: column {odd[0]} has {found} rows, expected {len(self.atoms)}")

    def text(self, index: int, *names: str) -> str:
        """The first of the columns that is there and not blank in a row, "" where none is."""
        for name in names:
            column = self._columns[name]
            value = column.str(index) if len(column) else ""
            if value not in _BLANK:
                return value
        return ""

    def chain(self, index: int) -> str:
        """The author's chain id."""
        return self.text(index, "auth_asym_id", "label_asym_id") or "A"

    def place(self, index: int) -> int | None:
        """The number by label, None if blank."""
        return _parse_number(self.text(index, "label_seq_id"))

    def name(self, index: int) -> str:
        """Residue name."""
        return self.text(index, "label_comp_id", "auth_comp_id")

    def occupancy(self, index: int) -> float:
        """1 where the file does not say."""
        value = gemmi.cif.as_number(self.text(index, "occupancy"))
        return value if math.isfinite(value) else 1.0

    def model(self, index: int) -> str:
        """Model number as text."""
        return self.text(index, "pdbx_PDB_model_num") or "1"

    def point(self, index: int) -> Point:
        """Coordinates in Å.

        Raises:
            InputError: they are no numbers.
        """
        x, y, z = (gemmi.cif.as_number(self._columns[f"Cartn_{axis}"].str(index)) for axis in "xyz")
        if not (math.isfinite(x) and math.isfinite(y) and math.isfinite(z)):
            found = " ".join(self.text(index, f"Cartn_{axis}") or "?" for axis in "xyz")
            place = f"atom {index + 1}, chain {self.chain(index)} residue {self.name(index)}"
            raise InputError(f"{place}: coordinates {found!r}, expected three numbers")
        return x, y, z

    def record(self, index: int, atom: str) -> AtomRecord:
        """All but the coordinates, residues numbered by the author."""
        return AtomRecord(
            model=self.model(index),
            number=_parse_number(self.text(index, "auth_seq_id", "label_seq_id")),
            insertion=self.text(index, "pdbx_PDB_ins_code"),
            name=self.name(index),
            is_het=self.text(index, "group_PDB") == "HETATM",
            atom=atom,
            alternate=self.text(index, "label_alt_id"),
            occupancy=self.occupancy(index),
        )


def _parse_number(text: str) -> int | None:
    digits = text.removeprefix("-")
    return int(text) if digits.isascii() and digits.isdigit() and len(digits) < 10 else None


def _group_by_label(rows: _AtomRows, chosen: Sequence[int], with_blank: bool) -> dict[tuple[str, str], list[int]]:
    """Rows by label and author chain id; those without a number by label are ligands where others have one."""
    groups: dict[tuple[str, str], list[int]] = {}
    for index in chosen:
        if with_blank or rows.place(index) is not None:
            groups.setdefault((rows.text(index, "label_asym_id"), rows.chain(index)), []).append(index)
    return groups


def _agrees(rows: _AtomRows, members: Sequence[int], names: Sequence[str], parents: dict[str, str]) -> bool:
    """True where the numbers by label point at the residues that the stated sequence has there, each once."""
    right, twice = 0, 0
    seen: dict[tuple[str, int], str] = {}
    for index in members:
        place = rows.place(index) or 0
        if 1 <= place <= len(names):
            letters = {read_letter(rows.name(index), parents), read_letter(names[place - 1], parents)}
            right += len(letters) == 1 or UNKNOWN in letters
        number = rows.text(index, "auth_seq_id") + rows.text(index, "pdbx_PDB_ins_code")
        twice += seen.setdefault((rows.model(index), place), number) != number
    return right >= _LEAST_AGREEMENT * len(members) and not twice


def _place_rows(
    rows: _AtomRows, author: str, members: Sequence[int], names: Sequence[str], parents: dict[str, str]
) -> RnaChain:
    """The chain of a stated sequence with its C1' where the numbers by label say."""
    sites = ChainSites()
    for index in members:
        record = rows.record(index, ATOM_NAME)._replace(number=rows.place(index), insertion="")
        sites.add_atom(record, rows.point(index))
    inside = [site for site in sites.sites if site.number is not None and 1 <= site.number <= len(names)]
    return place_sites(author, names, inside, [(site.number or 1) - 1 for site in inside], parents)


def _collect_sites(rows: _AtomRows, wanted: Collection[str]) -> dict[str, ChainSites]:
    """Residues by the author's chain id, of the chains wanted."""
    groups: dict[str, ChainSites] = {}
    if not wanted:
        return groups
    for index, raw in enumerate(rows.atoms):
        atom = _RAW_KEPT.get(raw)
        if atom is not None and (author := rows.chain(index)) in wanted:
            groups.setdefault(author, ChainSites()).add_atom(rows.record(index, atom), rows.point(index))
    return groups
