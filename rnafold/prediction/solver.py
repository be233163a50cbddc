"""Candidates of a target from every source there is, within a time, and the choice of five."""

import datetime
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from rnafold.errors import OutOfTime
from rnafold.features.build import Others, StartPoint, build_example, choose_others
from rnafold.features.source import FeatureSource
from rnafold.model.folding import Fold, count_pass_pairs, fold_examples
from rnafold.model.network import PairNetwork, PlainNetwork
from rnafold.prediction.slots import SlotsConfig, keep_formed, pick_five
from rnafold.scoring.measures import count_violations
from rnafold.structure import Candidate, FloatArray, Origin, Target
from rnafold.templates.library import Gate, gate_for
from rnafold.templates.pipeline import apply_jury, build_candidates
from rnafold.templates.sources import ModellingTask, Sources

log = logging.getLogger(__name__)
# Part of a target's time for templates and assemblies; the network refines within the rest.
BUILDING_SHARE = 0.6
# The choice of five takes the rest of the time after this share.
REFINED_BY = 0.85
# So many candidates go through the network: fewer of a long target, since a pass grows with the square of its length.
MOST_STARTS, LEAST_STARTS, PAIRS_OF_STARTS = 16, 2, 16 * 150**2
# So many pairs of residues go through it at once.
PAIRS_AT_ONCE = 200**2
# What the network refines; the others it rates, in one pass without recycle. On the first four assemblies of 92
# development targets its refinements gain +0.008 +- 0.002 in TM-score, on templates they lose (-0.001 to -0.013, by
# network and confidence); one pass gains +0.001 there but makes the five more alike and their best worse (-0.002).
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
        before: date for targets without a temporal cutoff.
        seconds_per_effort: of the last refinement, by passes x residues x residues seen at once; foretells the next.
    """

    features: FeatureSource
    sources: Sources
    network: PairNetwork | PlainNetwork | None
    recycles: int
    slots: SlotsConfig
    seed: int
    device: str = "cpu"
    gated: bool = True
    before: datetime.date | None = None
    seconds_per_effort: float = 0.0

    def __call__(self, target: Target, seconds: float) -> tuple[Candidate, ...]:
        """The five candidates of a target to submit, within about `seconds`."""
        began = time.monotonic()
        task = self.prepare(target)
        left = seconds - (time.monotonic() - began)
        share = BUILDING_SHARE if self.network is not None else 0.9
        candidates = build_candidates(task, budget_seconds=share * left)
        jury = task.jury
        if self.network is not None:
            rated, refined = self.refine(task, apply_jury(task, candidates), began + REFINED_BY * seconds)
            candidates, jury = [*rated, *refined], None
        return tuple(pick_five(target, candidates, self.slots, pairing=task.pairing, jury=jury, seed=self.seed))

    def prepare(self, target: Target) -> ModellingTask:
        """The target with its predicted pairs, behind its gate."""
        self.features.prepare([target])
        pairing = self.features.pairings[target.target_id]
        return ModellingTask(
            target=target, pairing=pairing, sources=self.sources, gate=self.gate(target), seed=self.seed
        )

    def gate(self, target: Target) -> Gate | None:
        """What the target may see of the library; None without a library or with the gate switched off."""
        if not self.gated or not self.sources.library.num_chains:
            return None
        return gate_for(target, self.before)

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
        size, done = max(1, PAIRS_AT_ONCE // pairs), 0
        try:
            for first in range(0, len(starts), size):
                began = time.monotonic()
                batch = starts[first : first + size]
                effort = pairs * sum(1 + self.count_recycles(start) for start in batch)
                if began + self.seconds_per_effort * effort > stop:
                    break
                for start, fold in zip(batch, self._fold(task, batch, candidates)):
                    rated[id(start)] = weigh_in(start, fold)
                    if start.origin in REFINED_ORIGINS and not turns_stems(task, start.coords, fold.coords):
                        refined.append(take_refinement(rated[id(start)], fold))
                self.seconds_per_effort = (time.monotonic() - began) / effort
                done += len(batch)
        except OutOfTime:
            log.info("%s: out of time after %d of %d candidates; these stand", task.target.target_id, done, len(starts))
        return [rated[id(c)] for c in candidates], refined

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
