"""Whole sources of models read file by file, each said in one line."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from rnafold.candidates.confidence import measure_plddt, read_confidence, recognise_program
from rnafold.candidates.layouts import PLAIN, SUBMISSION, ModelFile, list_model_files
from rnafold.candidates.matching import Placed, TargetIndex, list_copies
from rnafold.candidates.refusals import (
    COPY,
    INTERLEAVED,
    OTHER_SEQUENCE,
    ZEROS,
    check_placed,
    leave_out_copies,
    leave_out_duplicates,
)
from rnafold.candidates.source import RESERVED, OutsideModel, Source, SourceSpec
from rnafold.candidates.traces import Model, has_atoms, read_models, read_table
from rnafold.candidates.unpack import read_packed
from rnafold.structure import Target

log = logging.getLogger(__name__)


def read_sources(specs: Sequence[SourceSpec], targets: Sequence[Target]) -> list[Source]:
    """Every source's models of the targets; what cannot be read is counted, and each source said in one line.

    A source given under one name in several places is one source. A file that another source has too counts once.

    Returns:
        The sources with a model of a target; none where nothing can be used, which a warning says.
    """
    index = TargetIndex(targets)
    sources: dict[str, Source] = {}
    for spec in specs:
        files = list_model_files(spec.path)
        if not files:
            log.warning("%s: no structure file and no submission there", spec.path)
        for file in tqdm(files, desc=f"reading {spec.name or spec.path.name}", unit="file", disable=None):
            name = spec.name or _name_source(spec.path, file)
            source = sources.setdefault(name, Source(name=name))
            source.trained_until = spec.trained_until or source.trained_until
            _read_file(source, file, spec, index)
    kept = list(sources.values())
    for source in kept:
        for models in source.models.values():
            models.sort(key=lambda model: model.order)
        leave_out_copies(source)
    leave_out_duplicates(kept)
    for source in kept:
        log.info("candidates of %s", source.describe())
    if specs and not any(source.num_models for source in kept):
        looked = ", ".join(str(spec.path) for spec in specs[:3])
        log.warning("no model of any of the %d targets in %s; %s", len(targets), looked, _first_reason(kept))
    return [source for source in kept if source.num_models]


def _first_reason(sources: Iterable[Source]) -> str:
    reasons = [f"{reason} ({names[0]})" for source in sources for reason, names in source.refused.items()]
    return f"first refusal: {reasons[0]}" if reasons else "no structure files found"


def _name_source(path: Path, file: ModelFile) -> str:
    """The program where it was recognised, else the folder or, for a single file, its name."""
    if file.program not in (PLAIN, SUBMISSION):
        return file.program
    name = path.name.split(".")[0] if path.is_file() else path.resolve().name
    return f"{name} models" if name.lower() in RESERVED else name


def _read_file(source: Source, file: ModelFile, spec: SourceSpec, index: TargetIndex) -> None:
    """Adds the models of one file to a source, or counts why not."""
    place = file.path.name
    program = file.program if file.program not in (PLAIN, SUBMISSION) else recognise_program(source.name)
    source.program = program or source.program
    try:
        text = read_packed(file.path)
        models = read_table(text) if file.program == SUBMISSION else read_models(text)
    except (ValueError, OSError) as error:
        source.refuse(f"unreadable: {error}", place)
        return
    if not models:
        source.refuse(_explain_empty(file, text), place)
    names = (file.job, file.path.name, file.path.parent.name)
    for model in models:
        label = place if len(models) == 1 else f"{place} model {model.number}"
        for placed in _place(source, model, index, names, label):
            found = OutsideModel(
                points=placed.points,
                note=f"{label} {model.name}".strip(),
                own=read_confidence(file, program, text, model),
                chain_ids=placed.chain_ids,
                order=(*file.order, model.number),
            )
            source.models.setdefault(placed.target.target_id, []).append(found)


def _explain_empty(file: ModelFile, text: str) -> str:
    """Why a structure file has no C1' at all."""
    if "rets_dir" in file.path.parts:
        return "no C1' atoms: DRfold2's rets_dir holds traces of three atoms, name the folder above it (relax, folds)"
    return "no C1' atoms" if has_atoms(text) else "no atoms"


def _place(source: Source, model: Model, index: TargetIndex, names: Sequence[str], label: str) -> Iterator[Placed]:
    """Where a model belongs; what no target can use is counted."""
    if model.interleaved:
        source.refuse(INTERLEAVED, label)
        return
    found = index.find(model, names)
    if not found:
        source.refuse(OTHER_SEQUENCE if _has_points(model) else ZEROS, label)
        return
    for placed in found:
        placed = _take_best_copy(source, model, placed, label)
        reason = check_placed(placed)
        if reason:
            source.refuse(reason, label)
        else:
            yield placed


def _has_points(model: Model) -> bool:
    return any(np.isfinite(trace.points).all(1).any() for trace in model.traces)


def _take_best_copy(source: Source, model: Model, placed: Placed, label: str) -> Placed:
    """Of several copies of a single chain in one model the one of which the program is surest, else the first."""
    copies = list_copies(model, placed.target) if placed.spare_copies and len(placed.target.chains) <= 1 else []
    if len(copies) < 2:
        return placed
    owns = [measure_plddt(replace(model, traces=(trace,))) if source.program != PLAIN else None for trace in copies]
    best = max(range(len(copies)), key=lambda k: own.value if (own := owns[k]) else 0.0)
    for number in range(1, len(copies) + 1):
        if number != best + 1:
            source.refuse(COPY, f"{label} chain {number}")
    return replace(placed, points=copies[best].points.copy(), chain_ids=(copies[best].chain_id,), spare_copies=0)
