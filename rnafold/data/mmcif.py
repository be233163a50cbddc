"""RNA chains of users' own structure files (mmCIF or PDB, also .gz) as entries with C1' coordinates.

Chains are named by the author's id, modified residues read as their parents, alternate locations give the one of
highest occupancy, and residues of the sequence without coordinates are kept, masked.
"""

import datetime
import gzip
import io
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from Bio.PDB.MMCIF2Dict import MMCIF2Dict
from Bio.PDB.PDBParser import PDBParser

from rnafold.data.residues import PARENT_OF, is_nucleotide, read_letter
from rnafold.data.tables import list_names, open_binary
from rnafold.errors import InputError
from rnafold.rna import ATOM_NAME
from rnafold.structure import Entry, FloatArray, Target, structure_from_points, whole_chain

logger = logging.getLogger(__name__)

MIN_RESOLVED: Final = 3
_ATOM_NAMES: Final = (ATOM_NAME, "C1*")
_SUFFIX: Final = re.compile(r"\.(cif|mmcif|pdb|ent)(\.gz)?$", re.IGNORECASE)


@dataclass(slots=True, kw_only=True)
class _ChainAtoms:
    """One chain as read: names of all its residues (L), and for each model (point, occupancy) by residue index."""

    chain_id: str
    names: list[str]
    models: dict[str, dict[int, tuple[FloatArray, float]]] = field(default_factory=dict)

    def add(self, model: str, index: int, point: FloatArray, occupancy: float) -> None:
        """Keeps an atom unless one of at least that occupancy is there."""
        atoms = self.models.setdefault(model, {})
        if index not in atoms or occupancy > atoms[index][1]:
            atoms[index] = (point, occupancy)


def read_structure_file(
    path: str | Path, chain_ids: Sequence[str] | None = None, all_models: bool = False
) -> list[Entry]:
    """The RNA chains of a structure file, one entry each, named STEM_CHAIN; DNA and proteins are left out.

    The cutoff is the entry's first release (mmCIF pdbx_audit_revision_history, PDB REVDAT 1), None if not stated.

    Args:
        path: .cif, .mmcif, .pdb or .ent file, also .gz.
        chain_ids: author chain ids to read; None reads all RNA chains.
        all_models: every model as a reference (NMR ensembles) instead of the first.

    Raises:
        InputError: no such file, another kind of file, no atoms, no RNA, or a chain asked for is not there.
    """
    path = Path(path)
    if not _SUFFIX.search(path.name):
        raise InputError(f"{path}: found suffix {path.suffix!r}, expected .cif, .mmcif, .pdb or .ent, also with .gz")
    with open_binary(path) as handle:
        try:
            text = handle.read().decode("utf-8", errors="replace")
        except (gzip.BadGzipFile, EOFError) as error:
            raise InputError(f"{path}: cannot be unpacked ({error})") from error
    if not text.strip():
        raise InputError(f"{path}: the file is empty, expected a structure")
    is_cif = "cif" in path.name.lower().rsplit(".", 2 if path.suffix == ".gz" else 1)[1]
    chains, parents, released = _read_cif(path, text) if is_cif else _read_pdb(path, text)
    stem = _SUFFIX.sub("", path.name)
    if chain_ids is not None:
        found = [chain.chain_id for chain in chains]
        absent = [chain_id for chain_id in chain_ids if chain_id not in found]
        if absent:
            raise InputError(f"{path}: no RNA chain {list_names(absent)}; found {list_names(found) or 'none'}")
        chains = [chain for chain in chains if chain.chain_id in chain_ids]
    entries = [_build_entry(stem, chain, parents, released, all_models) for chain in chains]
    kept = [entry for entry in entries if entry.references]
    if not kept:
        raise InputError(f"{path}: no RNA chain with {MIN_RESOLVED} or more C1' atoms ({len(chains)} RNA chains)")
    return kept


def _build_entry(
    stem: str, chain: _ChainAtoms, parents: Mapping[str, str], released: datetime.date | None, all_models: bool
) -> Entry:
    length = len(chain.names)
    references = []
    for atoms in list(chain.models.values())[: None if all_models else 1]:
        points = np.full((length, 3), np.nan)
        for index, (point, _) in atoms.items():
            points[index] = point
        structure = structure_from_points(points)
        if int(structure.mask.sum()) >= MIN_RESOLVED:
            references.append(structure)
    target = Target(
        target_id=f"{stem}_{chain.chain_id}",
        sequence="".join(read_letter(name, parents) for name in chain.names),
        chains=whole_chain(length, chain.chain_id),
        cutoff=released,
    )
    return Entry(target=target, references=tuple(references))


def _list_columns(data: Mapping[str, Any], category: str, *names: str) -> list[tuple[str, ...]]:
    """Rows of an mmCIF category; empty when the category or one of the columns is absent."""
    columns = [data.get(f"_{category}.{name}") for name in names]
    if any(column is None for column in columns):
        return []
    lists = [column if isinstance(column, list) else [str(column)] for column in columns]
    return [tuple(row) for row in zip(*lists, strict=True)]


def _read_cif(path: Path, text: str) -> tuple[list[_ChainAtoms], dict[str, str], datetime.date | None]:
    try:
        data: Mapping[str, Any] = MMCIF2Dict(io.StringIO(text))
        atoms = _list_columns(
            data, "atom_site", "label_asym_id", "auth_asym_id", "label_seq_id", "label_comp_id", "label_atom_id",
            "Cartn_x", "Cartn_y", "Cartn_z",
        )  # fmt: skip
    except (ValueError, KeyError, IndexError, StopIteration) as error:
        raise InputError(f"{path}: not a complete mmCIF file ({error})") from error
    if not atoms:
        raise InputError(f"{path}: no _atom_site rows, expected an mmCIF file with atoms")
    num = len(atoms)
    occupancies = data.get("_atom_site.occupancy") or ["1"] * num
    models = data.get("_atom_site.pdbx_PDB_model_num") or ["1"] * num
    sequences = _list_cif_sequences(data, atoms)
    author = {asym: auth for asym, auth, *_ in atoms}
    rna = {asym: _ChainAtoms(chain_id=author[asym], names=names) for asym, names in sequences.items() if asym in author}
    for row, occupancy, model in zip(atoms, occupancies, models, strict=True):
        asym, _, seq, _, atom, *xyz = row
        if asym in rna and atom in _ATOM_NAMES and seq.isdigit() and int(seq) <= len(rna[asym].names):
            try:
                point = np.array(xyz, dtype=np.float64)
                rna[asym].add(model, int(seq) - 1, point, float(occupancy) if occupancy not in ".?" else 1.0)
            except ValueError as error:
                raise InputError(f"{path}: atom {atom} of chain {row[1]} residue {seq}: {error}") from error
    parents = {
        name: parent
        for name, parent in _list_columns(data, "pdbx_struct_mod_residue", "label_comp_id", "parent_comp_id")
        + _list_columns(data, "chem_comp", "id", "mon_nstd_parent_comp_id")
        if parent not in ".?"
    }
    dates = [_parse_date(text) for (text,) in _list_columns(data, "pdbx_audit_revision_history", "revision_date")]
    released = min((date for date in dates if date), default=None)
    return list(rna.values()), {str(name): str(parent) for name, parent in parents.items()}, released


def _list_cif_sequences(data: Mapping[str, Any], atoms: Iterable[tuple[str, ...]]) -> dict[str, list[str]]:
    """Residue names of each RNA chain, by label_asym_id: the whole sequence where the file states it."""
    types: dict[str, str] = {row[0]: row[1] for row in _list_columns(data, "entity_poly", "entity_id", "type")}
    by_asym: dict[str, dict[int, str]] = {}
    entity_of: dict[str, str] = {}
    for asym, entity, seq, name in _list_columns(
        data, "pdbx_poly_seq_scheme", "asym_id", "entity_id", "seq_id", "mon_id"
    ):
        by_asym.setdefault(asym, {}).setdefault(int(seq), name)
        entity_of[asym] = entity
    if not by_asym:
        entity_of = {row[0]: row[1] for row in _list_columns(data, "atom_site", "label_asym_id", "label_entity_id")}
        whole: dict[str, dict[int, str]] = {}
        for entity, number, name in _list_columns(data, "entity_poly_seq", "entity_id", "num", "mon_id"):
            whole.setdefault(entity, {}).setdefault(int(number), name)
        by_asym = {asym: whole[entity] for asym, entity in entity_of.items() if entity in whole}
    if not by_asym:
        for asym, _, seq, name, *_ in atoms:
            if seq.isdigit():
                by_asym.setdefault(asym, {}).setdefault(int(seq), name)
    sequences = {}
    for asym, residues in by_asym.items():
        names = [residues.get(number, "N") for number in range(1, max(residues) + 1)]
        kind = types.get(entity_of.get(asym, ""), "")
        if "polyribonucleotide" in kind if kind else _is_rna(names):
            sequences[asym] = names
    return sequences


def _is_rna(names: Sequence[str]) -> bool:
    """True where most residues are nucleotides of RNA."""
    return 2 * sum(is_nucleotide(name) for name in names) > len(names)


def _parse_date(text: str) -> datetime.date | None:
    for form in ("%Y-%m-%d", "%d-%b-%y"):
        try:
            return datetime.datetime.strptime(text.strip().title(), form).date()
        except ValueError:
            continue
    return None


def _read_pdb(path: Path, text: str) -> tuple[list[_ChainAtoms], dict[str, str], datetime.date | None]:
    lines = text.splitlines()
    stated: dict[str, list[str]] = {}
    parents: dict[str, str] = {}
    dates = []
    for line in lines:
        if line.startswith("SEQRES"):
            stated.setdefault(line[11].strip() or "A", []).extend(line[19:].split())
        elif line.startswith("MODRES"):
            parents[line[12:15].strip()] = line[24:27].strip()
        elif line.startswith("REVDAT"):
            dates.append(_parse_date(line[13:22]))
    try:
        structure = PDBParser(QUIET=True, PERMISSIVE=True).get_structure("file", io.StringIO(text))
    except (ValueError, KeyError, IndexError) as error:
        raise InputError(f"{path}: not a complete PDB file ({error})") from error
    chains: dict[str, _ChainAtoms] = {}
    for model in structure:
        for chain in model:
            chain_id = chain.id.strip() or "A"
            names = stated.get(chain_id, [])
            known = set(names) | set(parents) | set(PARENT_OF)
            residues = [r for r in chain if r.id[0] == " " or r.id[0].removeprefix("H_").strip() in known]
            _add_pdb_chain(chains, str(model.id), chain_id, names, residues)
    if not any(True for _ in structure.get_atoms()):
        raise InputError(f"{path}: no ATOM rows, expected a PDB file")
    rna = [chain for chain in chains.values() if _is_rna(chain.names)]
    return rna, parents, min((date for date in dates if date), default=None)


def _add_pdb_chain(
    chains: dict[str, _ChainAtoms], model: str, chain_id: str, stated: Sequence[str], residues: Sequence[Any]
) -> None:
    """Adds one model's C1' atoms of a chain, placed on the SEQRES sequence where there is one that fits."""
    names = [residue.get_resname().strip() for residue in residues]
    numbers = [residue.id[1] for residue in residues]
    places = place_residues(stated, names, numbers)
    if chain_id not in chains:
        chains[chain_id] = _ChainAtoms(chain_id=chain_id, names=list(stated) if places is not None else names)
    if places is None:
        places = list(range(len(names)))
    for place, residue in zip(places, residues, strict=True):
        for variant in residue.disordered_get_list() if residue.is_disordered() == 2 else [residue]:
            for atom in variant.get_unpacked_list():
                if atom.get_name() in _ATOM_NAMES and place < len(chains[chain_id].names):
                    point = np.asarray(atom.get_coord(), dtype=np.float64)
                    chains[chain_id].add(model, place, point, float(atom.get_occupancy() or 0.0))


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
