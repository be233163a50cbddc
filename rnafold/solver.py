"""Candidates of a target from every source there is, within a time, and the choice of five."""

import datetime
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass

from rnafold.errors import OutOfTime
from rnafold.features.build import build_example
from rnafold.folding import MAX_WHOLE, fold_example
from rnafold.model.network import PairNetwork, PlainNetwork
from rnafold.slots import SlotsConfig, judge, pick_five
from rnafold.structure import Candidate, Pairing, Target
from rnafold.templates.jury import measure_likeness
from rnafold.templates.library import Gate, gate_for
from rnafold.templates.pipeline import build_candidates
from rnafold.templates.ranker import Ranker
from rnafold.templates.sources import Sources
from rnafold.training.dataset import FeatureSource

log = logging.getLogger(__name__)
# Part of a target's time for templates and assemblies; the network refines within the rest.
BUILDING_SHARE = 0.6
# The choice of five takes the rest of the time after this share.
REFINED_BY = 0.85
# So many starts are refined; fewer of a long target, whose passes cost most.
MOST_REFINED, LEAST_REFINED, RESIDUES_REFINED = 8, 2, 2400


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
        seconds_per_effort: of the last refinement, by residues x residues seen at once; foretells the next.
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
            candidates, jury = self.rate(candidates, pairing, jury), None
            candidates += self.refine(target, pairing, candidates, began + REFINED_BY * seconds)
        return tuple(pick_five(target, candidates, self.slots, pairing=pairing, jury=jury, seed=self.seed))

    def rate(self, candidates: list[Candidate], pairing: Pairing, jury: Ranker | None) -> list[Candidate]:
        """The candidates with the jury's confidences, so that a refinement is rated as its start is."""
        if jury is None or len(candidates) < 2:
            return candidates
        return judge(candidates, measure_likeness([c.coords for c in candidates]), pairing, jury)

    def gate(self, target: Target) -> Gate | None:
        """What the target may see of the library; None without a library or with the gate switched off."""
        if not self.gated or not self.sources.library.num_chains:
            return None
        return gate_for(target, self.before)

    def refine(self, target: Target, pairing: Pairing, candidates: Sequence[Candidate], stop: float) -> list[Candidate]:
        """Network refinements of the most confident candidates of each source, as many as fit before `stop`."""
        assert self.network is not None
        profile, scores = self.features.alignment(target)
        refined: list[Candidate] = []
        effort = target.length * min(target.length, MAX_WHOLE)
        try:
            for start in self._starts(candidates):
                began = time.monotonic()
                if began + self.seconds_per_effort * effort > stop:
                    break
                example = build_example(
                    target,
                    pairing,
                    start.coords,
                    start_confidence=start.confidence,
                    profile=profile,
                    covariation=scores,
                )
                fold = fold_example(self.network, example, self.recycles, self.device)
                # Rated as its start is: on the development split refinements reached what their starts did (+0.002),
                # while the network's own expected TM-score did not follow what was reached (r -0.1).
                note = f"from {start.origin} {start.note}; own estimate {fold.expected_tm:.2f}"
                refined.append(Candidate(coords=fold.coords, origin="network", confidence=start.confidence, note=note))
                self.seconds_per_effort = (time.monotonic() - began) / effort
        except OutOfTime:
            log.info(
                "%s: out of time after %d refinements; the candidates so far stand", target.target_id, len(refined)
            )
        return refined

    def _starts(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        """Templates and assemblies in turns, each by falling confidence."""
        kinds = [
            sorted((c for c in candidates if c.origin == origin), key=lambda c: -c.confidence)
            for origin in ("assembly", "template")
        ]
        mixed = [kind[k] for k in range(MOST_REFINED) for kind in kinds if k < len(kind)]
        length = len(candidates[0].coords) if candidates else 1
        return mixed[: max(LEAST_REFINED, min(MOST_REFINED, RESIDUES_REFINED // length))]
