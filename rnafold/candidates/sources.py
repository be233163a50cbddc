"""Whole sources of models: what a user names, read file by file, with every refusal counted and said in one line."""

import datetime
import logging
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import numpy as np
from tqdm import tqdm

from rnafold.candidates.confidence import OwnConfidence, measure_plddt, read_confidence, recognise_program
from rnafold.candidates.layouts import PLAIN, SUBMISSION, ModelFile, list_model_files
from rnafold.candidates.matching import LEAST_COVERED, Placed, TargetIndex, list_copies
from rnafold.candidates.traces import Model, has_atoms, read_models, read_table
from rnafold.candidates.unpack import read_packed
from rnafold.errors import InputError
from rnafold.structure import ORIGINS, FloatArray, Target, crossing_chains

log = logging.getLogger(__name__)

# Why models are refused, in the words of the report.
OTHER_SEQUENCE: Final = "of no target's sequence"
DUPLICATE: Final = "the same coordinates as an earlier one"
ZEROS: Final = "zeros or empty instead of coordinates"
INTERLEAVED: Final = "residues of two chains interleaved"
COPY: Final = "another copy of one job in one frame (the best-scored is kept)"
COLLAPSED: Final = "collapsed"
BROKEN: Final = "a broken trace"
PARTIAL: Final = f"less than {LEAST_COVERED:.0%} of the target"
# Collapsed: a smaller radius of gyration over L^(1/3) in Å than any RNA has. Broken: a step longer than a bond can be,
# or shorter than two C1' can come, at more than this share of a chain's bonds; see `check_trace`.
_LEAST_RADIUS: Final = 2.0
_STEP_RANGE: Final = (2.0, 12.0)
_MOST_BROKEN: Final = 0.5
_SHORTEST_CHECKED: Final = 8
# Coordinates equal within this are the same.
_SAME: Final = 2e-3
# Copies of one job in one frame do not touch, while separate models overlap: C1' nearer than this, in Å.
_TOUCHING: Final = 3.0
_DATE: Final = re.compile(r"^(?P<name>[^@]*)@(?P<date>\d{4}-\d{2}-\d{2})$")
_RESERVED: Final = frozenset(ORIGINS)


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceSpec:
    """What a user names: a path, the source's name ("": by what is found there), and its training cutoff if stated."""

    path: Path
    name: str = ""
    trained_until: datetime.date | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OutsideModel:
    """A model that another program made of a target.

    Attributes:
        points: (L, 3) in Å, NaN where the model lacks a residue.
        note: file and number in it.
        own: what the program itself says of it.
        chain_ids: as the file names the chains taken: the copies of one job have one each.
        order: sorts a source's models as the program ranks them.
    """

    points: FloatArray
    note: str
    own: OwnConfidence | None = None
    chain_ids: tuple[str, ...] = ()
    order: tuple[object, ...] = ()


@dataclass(slots=True, kw_only=True)
class Source:
    """The models of one source by target, and how many were refused for what, with the first file of each.

    Attributes:
        name: by which slots.yaml and the report know it.
        program: what wrote it, as far as it was recognised.
        trained_until: the training cutoff that the user stated.
        models: by target_id, as the program ranks them.
        refused: reason -> names of files.
    """

    name: str
    program: str = PLAIN
    trained_until: datetime.date | None = None
    models: dict[str, list[OutsideModel]] = field(default_factory=dict)
    refused: dict[str, list[str]] = field(default_factory=dict)

    @property
    def num_models(self) -> int:
        """How many models of all targets there are."""
        return sum(len(models) for models in self.models.values())

    def may_have_seen(self, target: Target) -> bool:
        """Whether the target was released before the source's stated training cutoff."""
        return self.trained_until is not None and target.cutoff is not None and target.cutoff <= self.trained_until

    def describe(self) -> str:
        """One line: what was read, what refused and why, the first file of each reason."""
        told = ", ".join(
            f"{len(names)} {reason} ({names[0]}{', ..' if len(names) > 1 else ''})"
            for reason, names in self.refused.items()
        )
        until = f", trained until {self.trained_until}" if self.trained_until else ""
        known = f" ({self.program})" if self.program not in (PLAIN, self.name) else ""
        line = f"{self.name}{known}{until}: {self.num_models} models of {len(self.models)} targets"
        return f"{line}; refused: {told}" if told else line


def parse_source(text: str) -> SourceSpec:
    """`[NAME[@YYYY-MM-DD]=]PATH`.

    Raises:
        InputError: no such path, a date that is none, or the name of an origin of our own.
    """
    name, equals, path = text.partition("=")
    if not equals or Path(text).exists():
        name, path = "", text
    until = None
    if "@" in name:
        match = _DATE.match(name)
        if match is None:
            raise InputError(f"--candidates {text}: found {name!r}, expected NAME@YYYY-MM-DD=PATH")
        name = match["name"]
        try:
            until = datetime.date.fromisoformat(match["date"])
        except ValueError:
            raise InputError(f"--candidates {text}: {match['date']} is no date") from None
    if name.lower() in _RESERVED or (equals and name == "" and path != text and until is None):
        raise InputError(f"--candidates {text}: the name {name!r} is taken; call the source something else")
    if not path or not Path(path).exists():
        raise InputError(f"--candidates {text}: no such file or folder: {path or '(empty)'}")
    return SourceSpec(path=Path(path), name=name, trained_until=until)


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
        _leave_out_copies(source)
    _leave_out_duplicates(kept)
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
    return f"{name} models" if name.lower() in _RESERVED else name


def _read_file(source: Source, file: ModelFile, spec: SourceSpec, index: TargetIndex) -> None:
    """Adds the models of one file to a source, or counts why not."""
    place = file.path.name
    program = file.program if file.program not in (PLAIN, SUBMISSION) else recognise_program(source.name)
    source.program = program or source.program
    try:
        text = read_packed(file.path)
        models = read_table(text) if file.program == SUBMISSION else read_models(text)
    except (ValueError, OSError) as error:
        _refuse(source, f"unreadable: {error}", place)
        return
    if not models:
        _refuse(source, _explain_empty(file, text), place)
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


def _refuse(source: Source, reason: str, name: str) -> None:
    source.refused.setdefault(reason, []).append(name)


def _place(source: Source, model: Model, index: TargetIndex, names: Sequence[str], label: str) -> Iterator[Placed]:
    """Where a model belongs; what no target can use is counted."""
    if model.interleaved:
        _refuse(source, INTERLEAVED, label)
        return
    found = index.find(model, names)
    if not found:
        _refuse(source, OTHER_SEQUENCE if _has_points(model) else ZEROS, label)
        return
    for placed in found:
        placed = _take_best_copy(source, model, placed, label)
        reason = _check_placed(placed)
        if reason:
            _refuse(source, reason, label)
        else:
            yield placed


def _has_points(model: Model) -> bool:
    return any(np.isfinite(trace.points).all(1).any() for trace in model.traces)


def _check_placed(placed: Placed) -> str:
    """Why a placed model is refused, "" where it is not."""
    real = np.isfinite(placed.points).all(1)
    if not real.any():
        return ZEROS
    if real.mean() < LEAST_COVERED:
        return PARTIAL if real.mean() > 0 else OTHER_SEQUENCE
    return check_trace(placed.points, placed.target)


def check_trace(points: FloatArray, target: Target) -> str:
    """Why points (L, 3), NaN where missing, are no trace of an RNA; "" for a trace that might be one."""
    real = np.asarray(np.isfinite(points).all(1), dtype=np.bool_)
    known = points[real]
    if len(known) < _SHORTEST_CHECKED:
        return ""
    radius = float(np.sqrt(((known - known.mean(0)) ** 2).sum(1).mean()))
    if radius < _LEAST_RADIUS * len(known) ** (1 / 3):
        return COLLAPSED
    bonded = real[1:] & real[:-1] & ~crossing_chains(target.chains, target.length)
    steps = _distances(points[1:], points[:-1])[bonded]
    wrong = (steps < _STEP_RANGE[0]) | (steps > _STEP_RANGE[1])
    if not len(steps) or wrong.mean() <= _MOST_BROKEN:
        return ""
    second = _distances(points[2:], points[:-2])[real[2:] & real[:-2]]
    alternating = float(((second > _STEP_RANGE[0]) & (second < _STEP_RANGE[1])).mean()) > 1 - _MOST_BROKEN / 2
    return INTERLEAVED if alternating and float(np.median(steps)) > _STEP_RANGE[1] else BROKEN


def _distances(first: FloatArray, second: FloatArray) -> FloatArray:
    """(n,) distance of each row of (n, 3) from that of another."""
    return np.asarray(np.sqrt(((first - second) ** 2).sum(1)), dtype=np.float64)


def _take_best_copy(source: Source, model: Model, placed: Placed, label: str) -> Placed:
    """Of several copies of a single chain in one model the one of which the program is surest, else the first."""
    copies = list_copies(model, placed.target) if placed.spare_copies and len(placed.target.chains) <= 1 else []
    if len(copies) < 2:
        return placed
    owns = [measure_plddt(replace(model, traces=(trace,))) if source.program != PLAIN else None for trace in copies]
    best = max(range(len(copies)), key=lambda k: own.value if (own := owns[k]) else 0.0)
    for number in range(1, len(copies) + 1):
        if number != best + 1:
            _refuse(source, COPY, f"{label} chain {number}")
    return replace(placed, points=copies[best].points.copy(), chain_ids=(copies[best].chain_id,), spare_copies=0)


def _leave_out_copies(source: Source) -> None:
    """Of files that hold the copies of one job in one frame, chain by chain, the best-scored stays."""
    for target_id, models in source.models.items():
        groups = _group_frames(models)
        kept = []
        for group in groups:
            best = max(group, key=lambda model: model.own.value if model.own else 0.0)
            kept.append(best)
            for model in group:
                if model is not best:
                    _refuse(source, COPY, model.note)
        source.models[target_id] = sorted(kept, key=lambda model: model.order)


def _group_frames(models: Sequence[OutsideModel]) -> list[list[OutsideModel]]:
    """Models that lie side by side without touching anywhere, as copies in one frame do, in one group."""
    groups: list[list[OutsideModel]] = []
    for model in models:
        home = next((group for group in groups if all(_are_copies(model, other) for other in group)), None)
        if home is None:
            groups.append([model])
        else:
            home.append(model)
    return groups


def _are_copies(first: OutsideModel, second: OutsideModel) -> bool:
    """Whether two models are different chains that lie beside each other: near, and nowhere too near for two chains."""
    if set(first.chain_ids) & set(second.chain_ids):
        return False
    one, two = (model.points[np.isfinite(model.points).all(1)] for model in (first, second))
    size = float(np.sqrt(((one - one.mean(0)) ** 2).sum(1).mean()))
    between = float(np.linalg.norm(one.mean(0) - two.mean(0)))
    if between < size or between > 20.0 * size:
        return False
    squared = (one**2).sum(1)[:, None] + (two**2).sum(1) - 2.0 * one @ two.T
    return bool(squared.min() > _TOUCHING**2)


def _leave_out_duplicates(sources: Sequence[Source]) -> None:
    """Models with the coordinates of an earlier one of their target, in any source, are counted and left out."""
    seen: dict[tuple[str, bytes], list[FloatArray]] = {}
    for source in sources:
        for target_id, models in source.models.items():
            kept = []
            for model in models:
                near = seen.setdefault((target_id, _fingerprint(model.points)), [])
                if any(_is_same(model.points, other) for other in near):
                    _refuse(source, DUPLICATE, model.note)
                else:
                    near.append(model.points)
                    kept.append(model)
            source.models[target_id] = kept
        source.models = {target_id: models for target_id, models in source.models.items() if models}


def _fingerprint(points: FloatArray) -> bytes:
    """Equal for equal points: which residues are there."""
    return np.packbits(np.isfinite(points).all(1)).tobytes()


def _is_same(first: FloatArray, second: FloatArray) -> bool:
    return bool(np.allclose(first, second, rtol=0.0, atol=_SAME, equal_nan=True))


def count_refusals(sources: Iterable[Source]) -> Counter[str]:
    """How many models were refused for each reason."""
    counts: Counter[str] = Counter()
    for source in sources:
        counts.update({reason: len(names) for reason, names in source.refused.items()})
    return counts
