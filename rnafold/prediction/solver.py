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
from rnafold.model.folding import MAX_WHOLE, Fold, fold_batch, fold_example
from rnafold.model.network import PairNetwork, PlainNetwork
from rnafold.prediction.slots import SlotsConfig, judge, keep_formed, pick_five
from rnafold.scoring.measures import count_violations
from rnafold.structure import Candidate, FloatArray, Pairing, Target
from rnafold.templates.jury import measure_likeness
from rnafold.templates.library import Gate, gate_for
from rnafold.templates.pipeline import build_candidates
from rnafold.templates.ranker import Ranker
from rnafold.templates.sources import Sources

log = logging.getLogger(__name__)
# Part of a target's time for templates and assemblies; the network refines within the rest.
BUILDING_SHARE = 0.6
# The choice of five takes the rest of the time after this share.
REFINED_BY = 0.85
# So many candidates go through the network: fewer of a long target, since a pass grows with the square of its length.
MOST_JUDGED, LEAST_JUDGED, PAIRS_JUDGED = 16, 2, 16 * 150**2
# So many pairs of residues go through it at once.
PAIRS_AT_ONCE = 200**2
# What the network refines; the others it judges, in one pass without recycle. On the first four assemblies of 92
# development targets its refinements gain +0.008 +- 0.002 in TM-score, on templates they lose (-0.001 to -0.013, by
# network and confidence); one pass gains +0.001 there but makes the five more alike and their best worse (-0.002).
REFINED_ORIGINS = ("assembly",)
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
        self.features.prepare([target])
        pairing = self.features.pairings[target.target_id]
        gate = self.gate(target)
        left = seconds - (time.monotonic() - began)
        share = BUILDING_SHARE if self.network is not None else 0.9
        candidates = build_candidates(target, pairing, self.sources, gate, budget_seconds=share * left, seed=self.seed)
        jury = self.sources.usable_jury(gate)
        if self.network is not None:
            candidates, jury = self.rate(target, candidates, pairing, jury), None
            judged, refined = self.refine(target, pairing, candidates, began + REFINED_BY * seconds)
            candidates = [*judged, *refined]
        return tuple(pick_five(target, candidates, self.slots, pairing=pairing, jury=jury, seed=self.seed))

    def rate(
        self, target: Target, candidates: list[Candidate], pairing: Pairing, jury: Ranker | None
    ) -> list[Candidate]:
        """The candidates with the jury's confidences, so that a refinement is rated as its start is."""
        if jury is None or len(candidates) < 2:
            return candidates
        return judge(candidates, measure_likeness([c.coords for c in candidates]), pairing, jury, target.chains)

    def gate(self, target: Target) -> Gate | None:
        """What the target may see of the library; None without a library or with the gate switched off."""
        if not self.gated or not self.sources.library.num_chains:
            return None
        return gate_for(target, self.before)

    def refine(
        self, target: Target, pairing: Pairing, candidates: Sequence[Candidate], stop: float
    ) -> tuple[list[Candidate], list[Candidate]]:
        """The candidates with the network's opinion in their confidence, and its refinements of the assemblies.

        The most confident of each source go first, as many as fit before `stop`; the others keep their confidence.
        """
        assert self.network is not None
        starts = self.choose_starts(candidates)
        judged = {id(c): c for c in candidates}
        refined: list[Candidate] = []
        pairs = target.length * min(target.length, MAX_WHOLE)
        size, done = max(1, PAIRS_AT_ONCE // pairs), 0
        try:
            for first in range(0, len(starts), size):
                began = time.monotonic()
                batch = starts[first : first + size]
                effort = pairs * sum(1 + self.count_recycles(start) for start in batch)
                if began + self.seconds_per_effort * effort > stop:
                    break
                for start, fold in zip(batch, self._fold(target, pairing, batch, candidates)):
                    share = NETWORK_SHARE if fold.start_tm > 0 else 0.0
                    confidence = (1 - share) * start.confidence + share * fold.start_tm
                    judged[id(start)] = replace(start, confidence=confidence)
                    if start.origin not in REFINED_ORIGINS or turns_stems(target, pairing, start.coords, fold.coords):
                        continue
                    change = fold.expected_tm - fold.start_tm  # by how much the network thinks that it helped
                    note = f"from {start.origin} {start.note}"
                    expected = float(np.clip(confidence + change, 0.0, 1.0))
                    refined.append(Candidate(coords=fold.coords, origin="network", confidence=expected, note=note))
                self.seconds_per_effort = (time.monotonic() - began) / effort
                done += len(batch)
        except OutOfTime:
            log.info("%s: out of time after %d of %d candidates; these stand", target.target_id, done, len(starts))
        return [judged[id(c)] for c in candidates], refined

    def _fold(
        self, target: Target, pairing: Pairing, starts: Sequence[Candidate], candidates: Sequence[Candidate]
    ) -> list[Fold]:
        """What the network makes of each start, the other candidates beside it; templates take one pass."""
        assert self.network is not None
        profile, scores = self.features.alignment(target)
        examples = [
            build_example(
                target,
                pairing,
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
            chosen = [examples[k] for k in rows]
            if target.length <= MAX_WHOLE:
                made = fold_batch(self.network, chosen, number, self.device)
            else:
                made = [fold_example(self.network, example, number, self.device) for example in chosen]
            folds.update(zip(rows, made))
        return [folds[k] for k in range(len(starts))]

    def count_recycles(self, start: Candidate) -> int:
        """The recycles with which a candidate goes through the network."""
        return self.recycles if start.origin in REFINED_ORIGINS else 0

    def choose_starts(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        """Templates and assemblies in turns, each by falling confidence."""
        kinds = [
            sorted((c for c in candidates if c.origin == origin), key=lambda c: -c.confidence)
            for origin in ("assembly", "template")
        ]
        mixed = [kind[k] for k in range(len(candidates)) for kind in kinds if k < len(kind)]
        length = len(candidates[0].coords) if candidates else 1
        return mixed[: max(LEAST_JUDGED, min(MOST_JUDGED, PAIRS_JUDGED // length**2))]


def turns_stems(target: Target, pairing: Pairing, start: FloatArray, result: FloatArray) -> bool:
    """Whether a refinement (L, 3) has more left-handed stems than its start, among the predicted pairs it forms."""
    before, after = (
        count_violations(coords, target.chains, keep_formed(coords, pairing.partner)).wrong_handed
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
