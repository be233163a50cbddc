"""Candidates of a target from every source there is, within a time, and the choice of five."""

import datetime
import itertools
import logging
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from rnafold.errors import OutOfTime
from rnafold.features.alternatives import add_alternatives, foresee_alternatives
from rnafold.features.build import Others, StartPoint, build_example, choose_others
from rnafold.model.folding import Fold, count_pass_pairs, fold_examples
from rnafold.model.network import PairNetwork, PlainNetwork
from rnafold.prediction.features import TargetFeatures
from rnafold.prediction.losses import StepLosses
from rnafold.prediction.pick import OutsideModels
from rnafold.prediction.slots import SlotsConfig, keep_formed, pick_five
from rnafold.scoring.measures import count_violations
from rnafold.structure import Candidate, FloatArray, Origin, Target
from rnafold.submission.rows import NUM_CONFORMATIONS
from rnafold.templates.library import Gate, TemplateLibrary, gate_for
from rnafold.templates.pipeline import apply_jury, build_candidates
from rnafold.templates.sources import ModellingTask, Sources

log = logging.getLogger(__name__)
# Part of a target's time for another program's base pairs.
ALTERNATIVES_SHARE = 0.15
# Part of a target's time for templates and assemblies; the network refines within the rest.
BUILDING_SHARE = 0.6
# The choice of five takes the rest of the time after this share.
REFINED_BY = 0.85
# So many candidates go through the network: fewer of a long target, since a pass grows with the square of its length.
MOST_STARTS, LEAST_STARTS, PAIRS_OF_STARTS = 16, 2, 16 * 150**2
# So many pairs of residues go through it at once.
PAIRS_AT_ONCE = 200**2
# What the network refines; the others it rates, in one pass without recycle. On the first four assemblies of 92
# development targets its refinements gained +0.008 +- 0.002 in TM-score (+0.006 +- 0.003 on the first of those that
# the loop judge helps to build), on templates they lost (-0.001 to -0.013, by network and confidence); one pass gained
# +0.001 there but made the five more alike and their best worse (-0.002).
REFINED_ORIGINS = ("assembly",)
# What goes through the network, one of each in turn.
STARTS_IN_TURN: tuple[Origin, ...] = ("assembly", "template")
# What the network's expected TM-score of a candidate weighs beside the jury's.
NETWORK_SHARE = 0.5


@dataclass(slots=True)
class CandidateSolver:
    """Makes templates hybrids, assemblies and network refinements of a target and picks five.

    Attributes:
        features: pairings and alignments.
        sources: template library, loop fragments, ranker and jury.
        network: None goes on without.
        recycles: of the network.
        slots: which source fills how many.
        seed: of assemblies and of the choice.
        device: where the network runs.
        gated: False switches the date gate off, which leaks.
        before: date for targets without a temporal cutoff, which see structures without a release date as well.
        undated: all targets see structures without a release date.
        losses: the steps that failed.
        outside: other programs' models, judged beside our five; None: ours alone.
        pairs_at_once: so many pairs of residues go through the network at once; fewer after it ran out of memory.
        seconds_per_effort: of the last refinement, by passes x residues x residues seen at once; foretells the next.
        following: the targets that come after each, by target_id: another program begins with them meanwhile.
    """

    features: TargetFeatures
    sources: Sources
    network: PairNetwork | PlainNetwork | None
    recycles: int
    slots: SlotsConfig
    seed: int
    device: str = "cpu"
    gated: bool = True
    before: datetime.date | None = None
    undated: bool = False
    losses: StepLosses = field(default_factory=StepLosses)
    outside: OutsideModels | None = None
    pairs_at_once: int = PAIRS_AT_ONCE
    seconds_per_effort: float = 0.0
    following: Mapping[str, Sequence[Target]] = field(default_factory=dict)

    def __call__(self, target: Target, seconds: float) -> tuple[Candidate, ...]:
        """The five candidates of a target to submit, within about `seconds`.

        A step that fails is left out and noted in `losses`.

        Raises:
            OutOfTime: before there was any candidate.
            Exception: nothing at all could be made.
        """
        began = time.monotonic()
        task = self.prepare(target, seconds)
        self.foresee(target, seconds)
        left = seconds - (time.monotonic() - began)
        share = BUILDING_SHARE if self.network is not None else 0.9
        candidates = self.build(task, share * left)
        jury = task.jury
        if self.network is not None:
            with self.losses.allow("jury", target.target_id):
                candidates, jury = apply_jury(task, candidates), None
            rated, refined = self.refine(task, candidates, began + REFINED_BY * seconds)
            candidates = [*rated, *refined]
        with self.losses.allow("choice of five", target.target_id):
            five = pick_five(target, candidates, self.slots, pairing=task.pairing, jury=jury, seed=self.seed)
            return self.judge_outside(task, five)
        best = sorted(candidates, key=lambda c: -c.confidence)
        return tuple(itertools.islice(itertools.cycle(best), NUM_CONFORMATIONS))

    def judge_outside(self, task: ModellingTask, five: list[Candidate]) -> tuple[Candidate, ...]:
        """Our five and other programs' models on one scale; our five as they are where that fails or time is up."""
        name = task.target.target_id
        if self.outside is not None:
            try:
                with self.losses.allow("candidates of other programs", name):
                    return tuple(self.outside.choose(task.target, five, task.pairing, self.slots, seed=self.seed))
            except OutOfTime:
                log.info("%s: out of time before other programs' models were judged; our five stand", name)
        return tuple(five)

    def build(self, task: ModellingTask, seconds: float) -> list[Candidate]:
        """Hybrids and assemblies; where they fail, assemblies without anything known."""
        with self.losses.allow("templates", task.target.target_id):
            return build_candidates(task, budget_seconds=seconds)
        alone = replace(task, sources=Sources(TemplateLibrary.from_entries([]), None), gate=None)
        return build_candidates(alone, budget_seconds=seconds)

    def prepare(self, target: Target, seconds: float = math.inf) -> ModellingTask:
        """The target with its predicted pairs, behind its gate; `seconds` is what the target may take in all."""
        began = time.monotonic()
        self.features.prepare([target], seconds)
        left = seconds - (time.monotonic() - began)
        pairing = self.features.pairings[target.target_id]
        with self.losses.allow("alternative base pairs", target.target_id):
            pairing = add_alternatives(pairing, target.sequence, target.chains, ALTERNATIVES_SHARE * left)
        return ModellingTask(
            target=target, pairing=pairing, sources=self.sources, gate=self.gate(target), seed=self.seed
        )

    def foresee(self, target: Target, seconds: float) -> None:
        """Another program begins with the targets that follow, while this process is busy with this one."""
        for one in self.following.get(target.target_id, ()):
            with self.losses.allow("alternative base pairs", one.target_id):
                foresee_alternatives(one.sequence, one.chains, ALTERNATIVES_SHARE * seconds)

    def gate(self, target: Target) -> Gate | None:
        """What the target may see of the library; None without a library or with the gate switched off."""
        if not self.gated or not self.sources.library.num_chains:
            return None
        return gate_for(target, self.before, undated=self.undated or target.cutoff is None)

    def refine(
        self, task: ModellingTask, candidates: Sequence[Candidate], stop: float
    ) -> tuple[list[Candidate], list[Candidate]]:
        """The candidates with the network's opinion in their confidence, and its refinements of the assemblies.

        The most confident of each source go first, as many as fit before `stop`; the others keep their confidence.
        """
        starts = self.choose_starts(candidates)
        rated = {id(c): c for c in candidates}
        refined: list[Candidate] = []
        pairs = count_pass_pairs(task.target.length)
        done = 0
        name = task.target.target_id
        try:
            with self.losses.allow("network", name):
                while done < len(starts):
                    began = time.monotonic()
                    batch = starts[done : done + max(1, self.pairs_at_once // pairs)]
                    effort = pairs * sum(1 + self.count_recycles(start) for start in batch)
                    if began + self.seconds_per_effort * effort > stop:
                        break
                    folds = self._fold_or_shrink(task, batch, candidates)
                    if folds is None:
                        continue
                    for start, fold in zip(batch, folds):
                        rated[id(start)] = weigh_in(start, fold)
                        if start.origin in REFINED_ORIGINS and not turns_stems(task, start.coords, fold.coords):
                            refined.append(take_refinement(rated[id(start)], fold))
                    self.seconds_per_effort = (time.monotonic() - began) / effort
                    done += len(batch)
        except OutOfTime:
            log.info("%s: out of time after %d of %d candidates; these stand", name, done, len(starts))
        return [rated[id(c)] for c in candidates], refined

    def _fold_or_shrink(
        self, task: ModellingTask, batch: Sequence[Candidate], candidates: Sequence[Candidate]
    ) -> list[Fold] | None:
        """What the network makes of a batch; None where the card's memory was too small and less of it is asked now.

        Half as many candidates at once, and where one alone is too much, the CPU, for this and all later targets.

        Raises:
            torch.OutOfMemoryError: on the CPU as well.
        """
        try:
            return self._fold(task, batch, candidates)
        except torch.OutOfMemoryError as error:
            if len(batch) == 1 and self.device == "cpu":
                raise
            self.losses.note("memory of the card", task.target.target_id, error)
        if len(batch) > 1:
            self.pairs_at_once = count_pass_pairs(task.target.length) * (len(batch) // 2)
        else:
            assert self.network is not None
            self.device, self.seconds_per_effort = "cpu", 0.0
            self.network.to("cpu")
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return None

    def _fold(self, task: ModellingTask, starts: Sequence[Candidate], candidates: Sequence[Candidate]) -> list[Fold]:
        """What the network makes of each start, the other candidates beside it; templates take one pass."""
        assert self.network is not None
        profile, scores = self.features.alignment(task.target)
        examples = [
            build_example(
                task.target,
                task.pairing,
                StartPoint(
                    coords=start.coords,
                    confidence=start.confidence,
                    others=_others([c for c in candidates if c is not start]),
                ),
                profile=profile,
                covariation=scores,
            )
            for start in starts
        ]
        recycles = [self.count_recycles(start) for start in starts]
        folds: dict[int, Fold] = {}
        for number in sorted(set(recycles)):
            rows = [k for k, found in enumerate(recycles) if found == number]
            folds.update(zip(rows, fold_examples(self.network, [examples[k] for k in rows], number, self.device)))
        return [folds[k] for k in range(len(starts))]

    def count_recycles(self, start: Candidate) -> int:
        """The recycles with which a candidate goes through the network."""
        return self.recycles if start.origin in REFINED_ORIGINS else 0

    def choose_starts(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        """Templates and assemblies in turns, each by falling confidence."""
        kinds = [
            sorted((c for c in candidates if c.origin == origin), key=lambda c: -c.confidence)
            for origin in STARTS_IN_TURN
        ]
        mixed = [kind[k] for k in range(len(candidates)) for kind in kinds if k < len(kind)]
        length = len(candidates[0].coords) if candidates else 1
        return mixed[: max(LEAST_STARTS, min(MOST_STARTS, PAIRS_OF_STARTS // length**2))]


def weigh_in(start: Candidate, fold: Fold) -> Candidate:
    """A start with the network's expected TM-score of it in its confidence, where the network has one."""
    share = NETWORK_SHARE if fold.start_tm > 0 else 0.0
    return replace(start, confidence=(1 - share) * start.confidence + share * fold.start_tm)


def take_refinement(start: Candidate, fold: Fold) -> Candidate:
    """What the network made of a start; expected to be better than it by as much as the network thinks it helped."""
    change = fold.expected_tm - fold.start_tm
    return Candidate(
        coords=fold.coords,
        origin="network",
        confidence=float(np.clip(start.confidence + change, 0.0, 1.0)),
        note=f"from {start.origin} {start.note}",
        grounds=start.grounds,
    )


def turns_stems(task: ModellingTask, start: FloatArray, result: FloatArray) -> bool:
    """Whether a refinement (L, 3) has more left-handed stems than its start, among the predicted pairs it forms."""
    before, after = (
        count_violations(coords, task.target.chains, keep_formed(coords, task.pairing.partner)).wrong_handed
        for coords in (start, result)
    )
    return after > before


def _others(candidates: Sequence[Candidate]) -> Others | None:
    """What the network sees beside a start."""
    if not candidates:
        return None
    return choose_others(
        np.stack([c.coords for c in candidates]).astype(np.float32),
        np.array([c.confidence for c in candidates], np.float32),
        np.array([c.origin == "template" for c in candidates], np.bool_),
    )
