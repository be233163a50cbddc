"""Models as other programs write them: PDB and mmCIF texts of made-up folds, and the trees they lie in."""

import datetime
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from rnafold import rna
from rnafold.assembly import assemble
from rnafold.structure import Chain, FloatArray, Target
from tests.pieces.folds import FOLDS

SEQUENCE, TEXT, _ = FOLDS["1CCC_A"]
LENGTH = len(SEQUENCE)
PARTNER = rna.parse_dot_bracket(TEXT)


def make_points(seed: int = 0) -> FloatArray:
    """(30, 3) C1' atoms of a fold; every seed another one."""
    return np.round(assemble(SEQUENCE, PARTNER, seed=seed), 3)


def make_outside_target(target_id: str = "T1", copies: int = 1, cutoff: str | None = "2022-06-01") -> Target:
    """The target that the models are of, in one or more copies."""
    chains = tuple(Chain(chain_id="A", copy=k + 1, start=k * LENGTH, stop=(k + 1) * LENGTH) for k in range(copies))
    date = None if cutoff is None else datetime.date.fromisoformat(cutoff)
    return Target(target_id=target_id, sequence=SEQUENCE * copies, chains=chains, cutoff=date)


def write_atoms(
    points: FloatArray,
    *,
    letters: str = SEQUENCE,
    chain: str = "A",
    name: Callable[[int, str], str] = lambda _, letter: letter,
    atom: str = "C1'",
    first: int = 1,
    bfactors: Sequence[float] | None = None,
    width: int = 80,
    serial: int = 1,
) -> str:
    """ATOM lines: P, C4' and the atom asked for of every residue, cut after `width` columns."""
    lines = []
    for index, (letter, point) in enumerate(zip(letters, points)):
        for number, (label, shift) in enumerate([("P", 2.0), ("C4'", 1.0), (atom, 0.0)]):
            x, y, z = point + shift
            value = 0.0 if bfactors is None else bfactors[index]
            line = (
                f"ATOM  {serial + 3 * index + number:>5}  {label:<3} {name(index, letter):>3} {chain:1}"
                f"{first + index:>4}    {x:8.3f}{y:8.3f}{z:8.3f}{1.0:6.2f}{value:6.2f}          {'C':>2}"
            )
            lines.append(f"{line:<80}"[:width])
    return "\n".join(lines) + "\n"


_COLUMNS = (
    "group_PDB id type_symbol label_atom_id label_alt_id label_comp_id label_asym_id label_entity_id label_seq_id "
    "pdbx_PDB_ins_code Cartn_x Cartn_y Cartn_z occupancy B_iso_or_equiv auth_seq_id auth_asym_id pdbx_PDB_model_num"
)


def write_cif(
    chains: Sequence[tuple[str, str, FloatArray]], bfactors: Sequence[float] | None = None, models: int = 1
) -> str:
    """An mmCIF text of (chain id, letters, points), as predictors write it: atom_site alone."""
    lines = ["data_model", "loop_", *(f"_atom_site.{column}" for column in _COLUMNS.split(" "))]
    for model in range(1, models + 1):
        for chain, letters, points in chains:
            for index, (letter, (x, y, z)) in enumerate(zip(letters, points + model - 1), start=1):
                value = 0.0 if bfactors is None else bfactors[index - 1]
                place = f"{letter} {chain} 1 {index} ?"
                rest = f"{y:.3f} {z:.3f} 1 {value} {index} {chain} {model}"
                lines.append(f"ATOM 1 P P . {place} {x + 2:.3f} {rest}")
                lines.append(f'ATOM 1 C "C1\'" . {place} {x:.3f} {rest}')
    return "\n".join(lines) + "\n#\n"


def one_chain(seed: int = 0, bfactors: Sequence[float] | None = None) -> str:
    """The mmCIF text of one fold."""
    return write_cif([("A", SEQUENCE, make_points(seed))], bfactors)


def write(path: Path, text: str) -> Path:
    """Writes a file and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def write_json(path: Path, **values: object) -> Path:
    """Writes a JSON object."""
    return write(path, json.dumps(values))
