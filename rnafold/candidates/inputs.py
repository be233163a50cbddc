"""The other way: input files of a test CSV for the programs whose models come back as candidates.

One entry a different chain, its copies named together, with its own slice of the alignment: the competition's covers
all chains of a target at once, which no program takes. Ligands come as SMILES, where the competition names them.

Sources: the programs' own pages: AlphaFold 3, input.md; Protenix, infer_json_format.md; Boltz, prediction.md. RNAPro
reads a submission as templates.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from rnafold.candidates.matching import group_chains
from rnafold.config.strict_yaml import dump
from rnafold.data.competition import read_targets
from rnafold.data.tables import read_rows
from rnafold.errors import InputError
from rnafold.features.alignment_files import find_msa
from rnafold.features.msa import read_msa
from rnafold.files.atomic import write_text
from rnafold.files.names import name_files
from rnafold.structure import Target
from rnafold.submission import read_sample, read_submission
from rnafold.submission.rows import write_rows

_LETTERS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_ALIGNED: Final = np.array(list("ACGUN-"))
_GAP: Final = 5
# Version 2 of AlphaFold 3's input is the first with RNA alignments in files and is read by all later ones.
_ALPHAFOLD_VERSION: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainInput:
    """One different chain of a target: the ids of its copies, its sequence, its alignment as a3m ("": none)."""

    ids: tuple[str, ...]
    sequence: str
    alignment: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JobInput:
    """What a program is asked to model: chains, and (id, SMILES) of ligands; `aligned`: alignments were asked for."""

    name: str
    chains: tuple[ChainInput, ...]
    ligands: tuple[tuple[str, str], ...]
    aligned: bool


def name_chain(number: int) -> str:
    """A, B, .. Z, AA, BA, .. of 0, 1, ..: upper-case letters, as AlphaFold 3 wants them."""
    name = ""
    while number >= 0:
        name += _LETTERS[number % len(_LETTERS)]
        number = number // len(_LETTERS) - 1
    return name


def read_ligands(path: Path) -> dict[str, tuple[str, ...]]:
    """SMILES of the ligands of each target, in order; none where the file has no such column.

    Raises:
        InputError: as `read_targets`.
    """
    header, rows = read_rows(path, ("target_id", "sequence"))
    if "ligand_SMILES" not in header:
        return {}
    at_id, at_smiles = header.index("target_id"), header.index("ligand_SMILES")
    return {row[at_id]: tuple(part for part in row[at_smiles].strip().split(";") if part) for row in rows}


def build_jobs(path: Path, msa_folders: Sequence[Path] = (), ligands: bool = True) -> list[JobInput]:
    """The jobs of a test CSV.

    Args:
        path: test_sequences.csv.
        msa_folders: folders with the competition's alignments; empty leaves them to the program.
        ligands: False leaves them out.

    Raises:
        InputError: a malformed file or alignment.
    """
    smiles = read_ligands(path) if ligands else {}
    return [_build_job(target, msa_folders, smiles.get(target.target_id, ())) for target in read_targets(path)]


def _build_job(target: Target, msa_folders: Sequence[Path], smiles: Sequence[str]) -> JobInput:
    number, chains = 0, []
    path = find_msa(msa_folders, target.target_id)
    for sequence, starts in group_chains(target):
        ids = tuple(name_chain(number + k) for k in range(len(starts)))
        number += len(starts)
        alignment = "" if path is None else slice_alignment(path, target, starts[0], len(sequence))
        chains.append(ChainInput(ids=ids, sequence=sequence, alignment=alignment))
    named = tuple((name_chain(number + k), text) for k, text in enumerate(smiles))
    return JobInput(name=target.target_id, chains=tuple(chains), ligands=named, aligned=bool(msa_folders))


def slice_alignment(path: Path, target: Target, start: int, length: int) -> str:
    """The a3m text of one chain's columns: the query, then each row once that says anything of the chain."""
    tokens = read_msa(path, target, columns=(start, start + length)).tokens
    seen: set[bytes] = set()
    lines = []
    for number, row in enumerate(tokens):
        content = row.tobytes()
        if content in seen or (number and (row == _GAP).all()):
            continue
        seen.add(content)
        letters = target.sequence[start : start + length] if not number else "".join(_ALIGNED[row])
        lines.append(f">{'query' if not number else f'row_{number}'}\n{letters}\n")
    return "".join(lines)


def to_protenix(job: JobInput, paths: Mapping[str, str], seeds: Sequence[int]) -> dict[str, Any]:
    """One entry of Protenix's list of jobs; `paths` are the alignments' files by first chain id."""
    entries: list[dict[str, Any]] = []
    for chain in job.chains:
        entry: dict[str, Any] = {"sequence": chain.sequence, "count": len(chain.ids)}
        if chain.ids[0] in paths:
            entry["unpairedMsaPath"] = paths[chain.ids[0]]
        entries.append({"rnaSequence": entry})
    entries += [{"ligand": {"ligand": smiles, "count": 1}} for _, smiles in job.ligands]
    return {"name": job.name, "modelSeeds": list(seeds), "sequences": entries, "covalent_bonds": []}


def to_alphafold(job: JobInput, seeds: Sequence[int]) -> dict[str, Any]:
    """AlphaFold 3's input of one job. Alignments asked for but not there are empty: the program searches for none."""
    entries: list[dict[str, Any]] = []
    for chain in job.chains:
        entry: dict[str, Any] = {"id": list(chain.ids), "sequence": chain.sequence}
        if job.aligned:
            entry["unpairedMsa"] = chain.alignment
        entries.append({"rna": entry})
    entries += [{"ligand": {"id": [name], "smiles": smiles}} for name, smiles in job.ligands]
    return {
        "name": job.name,
        "modelSeeds": list(seeds),
        "sequences": entries,
        "dialect": "alphafold3",
        "version": _ALPHAFOLD_VERSION,
    }


def to_boltz(job: JobInput) -> dict[str, Any]:
    """Boltz's input of one job; it takes alignments of proteins alone."""
    entries: list[dict[str, Any]] = [
        {"rna": {"id": list(chain.ids), "sequence": chain.sequence}} for chain in job.chains
    ]
    entries += [{"ligand": {"id": name, "smiles": smiles}} for name, smiles in job.ligands]
    return {"version": 1, "sequences": entries}


def write_inputs(
    program: str,
    test: Path,
    out: Path,
    *,
    msa_folders: Sequence[Path] = (),
    ligands: bool = True,
    seeds: Sequence[int] = (1,),
) -> list[Path]:
    """Writes the input files of a program for every target of a test CSV; returns them.

    Protenix: one `protenix.json` with all jobs, alignments below `msa/`. Boltz and AlphaFold 3: a file a target.

    Raises:
        InputError: a malformed file, or a folder that cannot be written.
    """
    jobs = build_jobs(test, msa_folders, ligands)
    names = name_files([job.name for job in jobs])
    written: list[Path] = []
    if program == "protenix":
        entries = []
        for job in jobs:
            paths = dict(_write_alignments(job, out / "msa" / names[job.name]))
            written += [Path(path) for path in paths.values()]
            entries.append(to_protenix(job, paths, seeds))
        return [*written, _write(out / "protenix.json", json.dumps(entries, indent=1))]
    for job in jobs:
        if program == "boltz":
            written.append(_write(out / f"{names[job.name]}.yaml", dump(to_boltz(job))))
        else:
            written.append(_write(out / f"{names[job.name]}.json", json.dumps(to_alphafold(job, seeds), indent=1)))
    return written


def _write_alignments(job: JobInput, stem: Path) -> Iterator[tuple[str, str]]:
    """(first chain id, path) of the alignments of a job, as written."""
    for chain in job.chains:
        if chain.alignment:
            path = stem.with_name(f"{stem.name}_{chain.ids[0]}.a3m")
            yield chain.ids[0], str(_write(path, chain.alignment).resolve())


def _write(path: Path, text: str) -> Path:
    write_text(path, text if text.endswith("\n") else f"{text}\n")
    return path


def write_templates(submission_path: Path, test: Path, out: Path) -> Path:
    """RNAPro's template CSV: a submission's conformations of the test targets, every residue filled.

    RNAPro takes an empty cell for a zero with its mask on, so a submission with one is refused.

    Raises:
        InputError: a malformed submission, an empty cell, or a target of another length than in the test CSV.
    """
    submission = read_submission(submission_path)
    for target in read_targets(test):
        found = len(submission.groups.get(target.target_id, ()))
        if found != target.length:
            raise InputError(
                f"{submission_path}: {target.target_id} has {found} rows, expected {target.length} as in {test}"
            )
    path = out / "rnapro_templates.csv"
    write_rows(path, read_sample(submission_path), submission.coords)
    return path
