"""`pick`: a submission from other programs' models alone, without templates, network or torch."""

import logging
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from rnafold.candidates.source import parse_source
from rnafold.config.settings import DataConfig
from rnafold.errors import InputError
from rnafold.files.shipped import find_slots
from rnafold.prediction.deadline import Outcome, Solver, predict
from rnafold.prediction.features import TargetFeatures, TolerantFeatures
from rnafold.prediction.losses import StepLosses
from rnafold.prediction.pick import OutsideModels, open_sources
from rnafold.prediction.slots import NUM_SLOTS, SlotsConfig, load_slots
from rnafold.structure import Candidate, Pairing, Target
from rnafold.submission.provenance import PredictionRecord
from rnafold.templates.library import TemplateLibrary
from rnafold.templates.pipeline import build_candidates
from rnafold.templates.sources import ModellingTask, Sources

log = logging.getLogger(__name__)
# So many assemblies stand in where a target has fewer models than places.
_STAND_INS: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class PickOptions:
    """Files and choices of one `pick` call; see the command's help."""

    test: Path
    sample: Path
    out: Path
    candidates: tuple[str, ...]
    slots: str | None = None
    deadline_minutes: float | None = None
    msa_folders: tuple[Path, ...] = ()
    cache: Path = Path(".cache/rnafold")
    seed: int = 0
    began: float = field(default_factory=time.monotonic)


@dataclass(slots=True)
class Picker:
    """Picks five of the models at hand; assemblies of the predicted pairs stand in where there are too few.

    Attributes:
        features: pairings.
        outside: the models.
        slots: quality limits, and how many places each source may fill.
        seed: of the draws and of what is built.
        losses: the steps that failed.
        bare: what assemblies are made from.
    """

    features: TargetFeatures
    outside: OutsideModels
    slots: SlotsConfig
    seed: int
    losses: StepLosses = field(default_factory=StepLosses)
    bare: Sources = field(default_factory=lambda: Sources(TemplateLibrary.from_entries([]), None))

    def __call__(self, target: Target, seconds: float) -> tuple[Candidate, ...]:
        """The five candidates of a target to submit, within about `seconds`."""
        self.features.prepare([target], seconds)
        pairing = self.features.pairings[target.target_id]
        count = sum(len(source.models.get(target.target_id, ())) for source in self.outside.sources)
        ours = [] if count >= NUM_SLOTS else self.assemble(target, pairing, seconds / 2)
        with self.losses.allow("candidates of other programs", target.target_id):
            picked = self.outside.choose(target, ours, pairing, self.slots, seed=self.seed)
            if picked:
                return tuple(picked)
        return tuple(ours or self.assemble(target, pairing, seconds / 2))

    def assemble(self, target: Target, pairing: Pairing, seconds: float) -> list[Candidate]:
        """Assemblies of the predicted pairs."""
        task = ModellingTask(target=target, pairing=pairing, sources=self.bare, gate=None, seed=self.seed)
        made = build_candidates(task, budget_seconds=seconds, num_templates=0, num_assemblies=_STAND_INS)
        while made and len(made) < NUM_SLOTS:  # the time was up: what is there fills the places
            made.append(replace(made[-1], note=f"{made[-1].note}, again"))
        return made[:NUM_SLOTS]


def pick_submission(options: PickOptions) -> Outcome:
    """Picks five of the models at hand for every target of the sample and writes the submission and its records.

    Raises:
        InputError: malformed or mismatched files, no model of any target, a folder that cannot be written.
    """
    if not options.out.parent.is_dir():
        raise InputError(f"{options.out}: the folder {options.out.parent} does not exist")
    specs = [parse_source(text) for text in options.candidates]
    slots = load_slots(find_slots(options.slots))
    losses = StepLosses()
    opened: list[OutsideModels] = []

    def build(targets: Sequence[Target]) -> Solver:
        outside = open_sources(specs, targets)
        if outside is None:
            raise InputError(f"--candidates: no model of any of the {len(targets)} targets of {options.test}")
        opened.append(outside)
        config = replace(DataConfig(), cache=str(options.cache), jobs=1)
        features = TolerantFeatures(config, options.msa_folders, losses)
        return Picker(features, outside, slots, options.seed, losses)

    seconds = None if options.deadline_minutes is None else options.deadline_minutes * 60.0
    outcome, _ = predict(options.test, options.sample, options.out, build, seconds, options.began)
    losses.log_summary()
    for outside in opened:
        outside.write_pool(options.out)
    won = Counter(record.source or record.origin for rows in outcome.records.values() for record in rows)
    made = ", ".join(f"{count} {name}" for name, count in won.most_common()) or "none"
    log.info("%s: %d targets in %.1f s; places won: %s", options.out, len(outcome.records), outcome.seconds, made)
    return outcome


def format_choices(outcome: Outcome) -> str:
    """A line a target: which source won each place, what is expected of it and how alike it is to the others."""
    lines = []
    for target_id, rows in outcome.records.items():
        lines.append(f"{target_id}: {'; '.join(_format_place(record) for record in rows)}")
    return "\n".join(lines)


def _format_place(record: PredictionRecord) -> str:
    figures = []
    if record.confidence is not None:
        spread = "" if record.spread is None else f" +- {record.spread:.2f}"
        figures.append(f"expected {record.confidence:.2f}{spread}")
    if record.likeness is not None:
        figures.append(f"like others {record.likeness:.2f}")
    figures += ["may have been seen"] if record.may_have_seen else []
    return f"{record.source or record.origin} ({', '.join(figures) or record.note})"
