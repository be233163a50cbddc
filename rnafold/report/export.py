"""Predictions as PDB or mmCIF files for ChimeraX and PyMOL: one C1' atom a residue, a model a prediction.

Consecutive C1' atoms are stated as bonded (CONECT, struct_conn), since viewers would draw single atoms as loose dots.
Formats: wwPDB file format 3.3 and the PDBx/mmCIF dictionary 5.
"""

import string
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from rnafold.errors import InputError
from rnafold.files.atomic import write_text
from rnafold.rna import ATOM_NAME
from rnafold.structure import Chain, FloatArray, Target, whole_chain

# One column for the chain, four for the residue number, five for the serial number of atoms and chain ends.
_PDB_CHAIN_IDS: Final = string.ascii_uppercase + string.ascii_lowercase + string.digits
_PDB_MAX_RESIDUES: Final = 9999
_PDB_MAX_SERIAL: Final = 99999
_PDB_RANGE: Final = (-999.999, 9999.999)
_PDB_BFACTOR_RANGE: Final = (-99.99, 999.99)
_SEQRES_WIDTH: Final = 13
_TITLE_WIDTH: Final = 70
_AGREEMENT_RADIUS: Final = 15.0
_AGREEMENT_THRESHOLDS: Final = (0.5, 1.0, 2.0, 4.0)
_BLOCK_ELEMENTS: Final = 1 << 22


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Models:
    """What both formats write: models (M, L, 3), bfactors (M, L), chains with the ids they get in the file."""

    target: Target
    coords: FloatArray
    bfactors: FloatArray
    chains: tuple[Chain, ...]
    names: tuple[str, ...]


def write_pdb(
    path: str | Path,
    target: Target,
    coords: FloatArray | Sequence[FloatArray],
    bfactors: FloatArray | None = None,
    remark: str = "",
) -> None:
    """Writes models of a target as a PDB file.

    A chain keeps its id where that is one letter or digit and still free, else it gets the next free of A-Z, a-z, 0-9.

    Args:
        path: file to write, through a temporary name.
        target: sequence and chains; residues are numbered from 1 in each chain.
        coords: (L, 3) or M models (M, L, 3) in Å; a residue that is not finite is left out of its model.
        bfactors: (L,) or (M, L) values of the B-factor column, 0 without; clipped to its six places.
        remark: one line on what the B-factors mean.

    Raises:
        InputError: more residues, chains or Å than the format's columns hold (mmCIF has no such limits), or shapes
            that do not fit the target.
    """
    models = _check(path, target, coords, bfactors, _name_pdb_chains(path, target))
    _check_pdb_limits(path, models)
    write_text(path, "".join(f"{line:<80}\n" for line in _build_pdb(models, remark)))


def write_mmcif(
    path: str | Path,
    target: Target,
    coords: FloatArray | Sequence[FloatArray],
    bfactors: FloatArray | None = None,
    remark: str = "",
) -> None:
    """Writes models of a target as an mmCIF file; see `write_pdb` for the arguments.

    Chains keep their ids of any length; further copies are named `ID-2`, `ID-3` and so on.

    Raises:
        InputError: shapes that do not fit the target.
    """
    models = _check(path, target, coords, bfactors, _name_cif_chains(target))
    write_text(path, "".join(f"{line}\n" for line in _build_cif(models, remark)))


def measure_model_agreement(models: FloatArray) -> FloatArray:
    """(M, L) how far each residue's surroundings agree with the other models, 0 to 1: the mean lDDT against them.

    Where several predictions of one target stand and no reference, this is what can be said about local trust: a
    residue on which all agree is more often right. Distances under 15 Å in the other model count, kept within 0.5, 1,
    2 and 4 Å. A single model agrees with itself: 1 throughout; a residue without neighbours: NaN.

    Args:
        models: (M, L, 3) coordinates in Å of the same L residues; a residue that is not finite agrees with nothing.

    Source: lDDT, Mariani et al., Bioinformatics 29, 2722 (2013); the consensus idea, Wallner and Elofsson, Protein
    Science 15, 900 (2006).
    """
    num_models, length = models.shape[:2]
    if num_models == 1:
        return np.ones((1, length))
    result = np.zeros((num_models, length))
    step = max(_BLOCK_ELEMENTS // max(num_models * length, 1), 1)
    for start in range(0, length, step):
        stop = min(start + step, length)
        with np.errstate(invalid="ignore"):
            distances = np.linalg.norm(models[:, start:stop, None] - models[:, None, :], axis=-1)
        own = np.arange(start, stop)[:, None] == np.arange(length)
        for other in range(num_models):
            near = (distances[other] < _AGREEMENT_RADIUS) & ~own
            count = np.maximum(near.sum(1), 1e-9) * np.where(near.any(1), 1.0, np.nan)
            for model in range(num_models):
                if model != other:
                    error = np.abs(distances[model] - distances[other])
                    kept = sum(((error < limit) & near).sum(1) for limit in _AGREEMENT_THRESHOLDS)
                    result[model, start:stop] += kept / (len(_AGREEMENT_THRESHOLDS) * count)
    return np.asarray(result / (num_models - 1), dtype=np.float64)


def _check(
    path: str | Path,
    target: Target,
    coords: FloatArray | Sequence[FloatArray],
    bfactors: FloatArray | None,
    names: tuple[str, ...],
) -> _Models:
    points = np.asarray(coords, dtype=np.float64)
    points = points[None] if points.ndim == 2 else points
    if points.ndim != 3 or points.shape[1:] != (target.length, 3) or not len(points):
        raise InputError(
            f"{path}: {target.target_id} has coordinates of shape {points.shape}, expected (models, {target.length}, 3)"
        )
    values = np.zeros(points.shape[:2]) if bfactors is None else np.asarray(bfactors, dtype=np.float64)
    values = np.broadcast_to(values, points.shape[:2]) if values.ndim == 1 and len(values) == target.length else values
    if values.shape != points.shape[:2]:
        raise InputError(
            f"{path}: {target.target_id} has B-factors of shape {values.shape}, expected {points.shape[:2]}"
        )
    return _Models(
        target=target, coords=points, bfactors=np.nan_to_num(values, nan=0.0), chains=_chains_of(target), names=names
    )


def _chains_of(target: Target) -> tuple[Chain, ...]:
    return target.chains or whole_chain(target.length)


def _name_pdb_chains(path: str | Path, target: Target) -> tuple[str, ...]:
    chains = _chains_of(target)
    if len(chains) > len(_PDB_CHAIN_IDS):
        raise InputError(
            f"{path}: {target.target_id} has {len(chains)} chains, the PDB format has room for {len(_PDB_CHAIN_IDS)}; "
            "write mmCIF instead (--format mmcif)"
        )
    names: list[str] = []
    wanted = {chain.chain_id for chain in chains}
    spare = [letter for letter in _PDB_CHAIN_IDS if letter not in wanted]
    spare += [letter for letter in _PDB_CHAIN_IDS if letter in wanted]
    for chain in chains:
        fits = chain.chain_id in _PDB_CHAIN_IDS and len(chain.chain_id) == 1 and chain.chain_id not in names
        names.append(chain.chain_id if fits else next(letter for letter in spare if letter not in names))
    return tuple(names)


def _name_cif_chains(target: Target) -> tuple[str, ...]:
    names: list[str] = []
    for chain in _chains_of(target):
        base = "".join(letter if letter.isalnum() else "-" for letter in chain.chain_id) or "A"
        number = chain.copy
        while (name := base if number == 1 else f"{base}-{number}") in names:
            number += 1
        names.append(name)
    return tuple(names)


def _check_pdb_limits(path: str | Path, models: _Models) -> None:
    target, instead = models.target, "write mmCIF instead (--format mmcif)"
    for chain, name in zip(models.chains, models.names):
        if chain.stop - chain.start > _PDB_MAX_RESIDUES:
            raise InputError(
                f"{path}: chain {name} of {target.target_id} has {chain.stop - chain.start} residues, the PDB format "
                f"numbers up to {_PDB_MAX_RESIDUES}; {instead}"
            )
    if target.length + len(models.chains) > _PDB_MAX_SERIAL:
        raise InputError(
            f"{path}: {target.target_id} has {target.length} atoms in {len(models.chains)} chains, the PDB format "
            f"numbers up to {_PDB_MAX_SERIAL}; {instead}"
        )
    finite = models.coords[np.isfinite(models.coords).all(-1)]
    if finite.size and (finite.min() < _PDB_RANGE[0] or finite.max() > _PDB_RANGE[1]):
        raise InputError(
            f"{path}: {target.target_id} has coordinates from {finite.min():.1f} to {finite.max():.1f} Å, the PDB "
            f"format holds {_PDB_RANGE[0]} to {_PDB_RANGE[1]}; {instead}"
        )


def _build_pdb(models: _Models, remark: str) -> Iterator[str]:
    target = models.target
    title = f"{target.target_id}: {len(models.coords)} predicted conformations, {ATOM_NAME} atoms only".upper()
    for number, part in enumerate(_cut(title, _TITLE_WIDTH), start=1):
        yield f"TITLE   {number if number > 1 else '':>2}{' ' if number > 1 else ''}{part}"
    for part in _cut(f"B-FACTORS: {remark}" if remark else "", 60):
        yield f"REMARK 250 {part}"
    for chain, name in zip(models.chains, models.names):
        letters = target.sequence[chain.start : chain.stop]
        for number, first in enumerate(range(0, len(letters), _SEQRES_WIDTH), start=1):
            row = "".join(f"{letter:>4}" for letter in letters[first : first + _SEQRES_WIDTH])
            yield f"SEQRES {number:>3} {name} {len(letters):>4} {row}"
    for number, (points, values) in enumerate(zip(models.coords, models.bfactors), start=1):
        yield f"MODEL     {number:>4}"
        yield from _build_pdb_model(models, points, values)
        yield "ENDMDL"
    # Serials follow the residues, so that one set of bonds holds in every model.
    present = _resolved_in_all(models)
    for offset, chain in enumerate(models.chains):
        for index in range(chain.start, chain.stop - 1):
            if present[index] and present[index + 1]:
                yield f"CONECT{index + 1 + offset:>5}{index + 2 + offset:>5}"
    yield "END"


def _build_pdb_model(models: _Models, points: FloatArray, values: FloatArray) -> Iterator[str]:
    sequence = models.target.sequence
    for offset, (chain, name) in enumerate(zip(models.chains, models.names)):
        for index in range(chain.start, chain.stop):
            if np.isfinite(points[index]).all():
                x, y, z = points[index] + 0.0
                yield (
                    f"ATOM  {index + 1 + offset:>5}  {ATOM_NAME:<3} {sequence[index]:>3} {name}"
                    f"{index - chain.start + 1:>4}    {x:8.3f}{y:8.3f}{z:8.3f}{1.0:6.2f}"
                    f"{np.clip(values[index], *_PDB_BFACTOR_RANGE):6.2f}          {'C':>2}"
                )
        last = chain.stop - 1
        yield f"TER   {chain.stop + 1 + offset:>5}      {sequence[last]:>3} {name}{chain.stop - chain.start:>4}"


def _build_cif(models: _Models, remark: str) -> Iterator[str]:
    target = models.target
    yield f"data_{_cif_word(target.target_id)}"
    yield f"_entry.id {_quote(_cif_word(target.target_id))}"
    title = f"{target.target_id}: {len(models.coords)} predicted conformations, {ATOM_NAME} atoms only"
    yield f"_struct.title {_quote(title + (f'; B-factors: {remark}' if remark else ''))}"
    sequences = [target.sequence[chain.start : chain.stop] for chain in models.chains]
    entities = {sequence: number for number, sequence in enumerate(dict.fromkeys(sequences), start=1)}
    yield from _loop("entity", ("id", "type"), [(number, "polymer") for number in entities.values()])
    strands = {
        sequence: ",".join(n for n, own in zip(models.names, sequences) if own == sequence) for sequence in entities
    }
    yield from _loop(
        "entity_poly",
        ("entity_id", "type", "pdbx_seq_one_letter_code_can", "pdbx_strand_id"),
        [(number, "'polyribonucleotide'", letters, _quote(strands[letters])) for letters, number in entities.items()],
    )
    yield from _loop(
        "entity_poly_seq",
        ("entity_id", "num", "mon_id"),
        [(number, k, letter) for letters, number in entities.items() for k, letter in enumerate(letters, start=1)],
    )
    asyms = [(name, entities[letters]) for name, letters in zip(models.names, sequences)]
    yield from _loop("struct_asym", ("id", "entity_id"), asyms)
    yield from _loop("struct_conn_type", ("id",), [("covale",)])
    yield from _loop("struct_conn", _CONNECTION_COLUMNS, list(_connections(models)))
    yield from _loop("atom_site", _ATOM_COLUMNS, list(_atoms(models, dict(asyms))))


_ATOM_COLUMNS: Final = (
    "group_PDB", "id", "type_symbol", "label_atom_id", "label_alt_id", "label_comp_id", "label_asym_id",
    "label_entity_id", "label_seq_id", "pdbx_PDB_ins_code", "Cartn_x", "Cartn_y", "Cartn_z", "occupancy",
    "B_iso_or_equiv", "auth_seq_id", "auth_asym_id", "pdbx_PDB_model_num",
)  # fmt: skip
_CONNECTION_COLUMNS: Final = (
    "id", "conn_type_id", "ptnr1_label_asym_id", "ptnr1_label_comp_id", "ptnr1_label_seq_id", "ptnr1_label_atom_id",
    "ptnr2_label_asym_id", "ptnr2_label_comp_id", "ptnr2_label_seq_id", "ptnr2_label_atom_id",
    "ptnr1_auth_asym_id", "ptnr1_auth_seq_id", "ptnr2_auth_asym_id", "ptnr2_auth_seq_id",
)  # fmt: skip


def _atoms(models: _Models, entities: dict[str, int]) -> Iterator[tuple[object, ...]]:
    number = 0
    atom = f'"{ATOM_NAME}"'
    for model, (points, values) in enumerate(zip(models.coords, models.bfactors), start=1):
        real = np.isfinite(points).all(-1)
        for chain, name in zip(models.chains, models.names):
            for index in range(chain.start, chain.stop):
                if real[index]:
                    number += 1
                    x, y, z = (f"{value + 0.0:.3f}" for value in points[index])
                    seq, letter = index - chain.start + 1, models.target.sequence[index]
                    yield (
                        "ATOM", number, "C", atom, ".", letter, name, entities[name], seq, "?", x, y, z, "1.00",
                        f"{values[index]:.2f}", seq, name, model,
                    )  # fmt: skip


def _connections(models: _Models) -> Iterator[tuple[object, ...]]:
    present = _resolved_in_all(models)
    atom, number = f'"{ATOM_NAME}"', 0
    for chain, name in zip(models.chains, models.names):
        for index in range(chain.start, chain.stop - 1):
            if present[index] and present[index + 1]:
                number += 1
                seq, sequence = index - chain.start + 1, models.target.sequence
                one, two = sequence[index], sequence[index + 1]
                yield (
                    f"covale{number}", "covale", name, one, seq, atom, name, two, seq + 1, atom,
                    name, seq, name, seq + 1,
                )  # fmt: skip


def _resolved_in_all(models: _Models) -> list[bool]:
    """For each residue, whether every model has it: only such can be bonded."""
    finite = np.isfinite(models.coords).reshape(len(models.coords), -1, 3)
    return [bool(row.all()) for row in finite.transpose(1, 0, 2)]


def _loop(category: str, columns: Sequence[str], rows: Sequence[tuple[object, ...]]) -> Iterator[str]:
    if rows:
        yield "#"
        yield "loop_"
        yield from (f"_{category}.{column}" for column in columns)
        yield from (" ".join(map(str, row)) for row in rows)


def _quote(text: str) -> str:
    """A value in quotes that it does not hold itself."""
    plain = " ".join(text.split())
    return f"'{plain}'" if "'" not in plain else '"' + plain.replace('"', "") + '"'


def _cif_word(text: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in text) or "target"


def _cut(text: str, width: int) -> list[str]:
    return [text[first : first + width] for first in range(0, len(text), width)]
