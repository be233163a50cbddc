"""RNA chains of users' own structure files (mmCIF or PDB, also .gz) as entries with C1' coordinates.

Chains are named by the author's id, modified residues read as their parents, alternate locations give the one of
highest occupancy, and residues of the sequence without coordinates are kept, masked.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from rnafold.data.structures.chains import RnaChain
from rnafold.data.structures.reading import StructureFile, read_structure
from rnafold.data.tables import list_names
from rnafold.errors import InputError
from rnafold.structure import Entry, Target, structure_from_points, whole_chain

MIN_RESOLVED: Final = 3


def read_structure_file(
    path: str | Path, chain_ids: Sequence[str] | None = None, all_models: bool = False
) -> list[Entry]:
    """The RNA chains of a structure file, one entry each, named STEM_CHAIN; DNA, proteins and ligands are left out.

    The cutoff is the entry's first release (mmCIF pdbx_audit_revision_history, before 2017 database_PDB_rev; PDB
    REVDAT 1), None if not stated.

    Args:
        path: .cif, .mmcif, .pdb or .ent file, also .gz.
        chain_ids: author chain ids to read; None reads all RNA chains.
        all_models: every model as a reference (NMR ensembles) instead of the first.

    Raises:
        InputError: no such file, another kind of file, damaged, no atoms, no RNA, or a chain asked for is not there.
    """
    file = read_structure(path)
    chains = file.chains
    if chain_ids is not None:
        found = [name for name, _ in chains]
        absent = [chain_id for chain_id in chain_ids if chain_id not in found]
        if absent:
            raise InputError(f"{path}: no RNA chain {list_names(absent)}; found {list_names(found) or 'none'}")
        chains = tuple((name, chain) for name, chain in chains if name in chain_ids)
    entries = [_build_entry(file, name, chain, all_models) for name, chain in chains]
    kept = [entry for entry in entries if entry.references]
    if not kept:
        raise InputError(f"{path}: no RNA chain with {MIN_RESOLVED} or more C1' atoms ({len(chains)} RNA chains)")
    return kept


def _build_entry(file: StructureFile, name: str, chain: RnaChain, all_models: bool) -> Entry:
    structures = [structure_from_points(points) for points in chain.models[: None if all_models else 1]]
    target = Target(
        target_id=f"{file.stem}_{name}",
        sequence=chain.sequence,
        chains=whole_chain(len(chain.sequence), chain.chain_id),
        cutoff=file.released,
    )
    source = f"{file.stem}_{chain.block}" if chain.block else file.stem
    references = tuple(one for one in structures if int(one.mask.sum()) >= MIN_RESOLVED)
    return Entry(target=target, references=references, source=source, code=file.code)
