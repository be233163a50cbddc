"""Other programs' models beside ours on one scale, and the five to submit; needs neither templates nor network."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import numpy as np

from rnafold.candidates.calibration import Calibration, calibrate
from rnafold.candidates.completion import build_outside
from rnafold.candidates.jury import CandidatesJury, load_parameters, name_source
from rnafold.candidates.reading import read_sources
from rnafold.candidates.source import Source, SourceSpec
from rnafold.errors import InputError
from rnafold.prediction.slots import SlotsConfig, check_candidate, complete_five, draw_scores, pick_from_draws
from rnafold.structure import Candidate, FloatArray, Pairing, Target
from rnafold.submission.pool import write_pool

log = logging.getLogger(__name__)
LEAST_SPREAD: Final = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The five candidates to submit, and all that were judged, with what was expected of each."""

    five: tuple[Candidate, ...]
    rated: tuple[Candidate, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OutsideModels:
    """Other programs' models of all targets, and what rates them.

    Attributes:
        sources: as read.
        jury: expects TM-scores of candidates of all sources.
        calibration: what is usual of each source's own confidences.
        pools: all candidates that were judged, by target, as they come.
    """

    sources: tuple[Source, ...]
    jury: CandidatesJury
    calibration: Calibration
    pools: dict[str, tuple[Candidate, ...]] = field(default_factory=dict)

    def choose(
        self, target: Target, ours: Sequence[Candidate], pairing: Pairing, slots: SlotsConfig, *, seed: int = 0
    ) -> list[Candidate]:
        """Five of our own candidates and the others'; our own as they are where there are no others.

        Args:
            target: sequence and chains.
            ours: our own five, with their expected TM-scores; may be none.
            pairing: predicted pairs.
            slots: quality limits, and how many places each source may fill.
            seed: of the draws and of what is built.
        """
        outside = build_outside(target, self.sources, pairing, self.calibration, seed)
        if not outside:
            return list(ours)
        sure = [candidate for candidate in ours if candidate.origin != "fallback"]
        choice = choose_across(target, [*sure, *outside], pairing, self.jury, slots, seed=seed)
        self.pools[target.target_id] = choice.rated
        return list(choice.five)

    def write_pool(self, out: Path) -> None:
        """Writes beside a submission what was judged, for `score` and the report; a fault costs a line in the log."""
        try:
            write_pool(out, self.pools)
        except (InputError, OSError) as error:
            log.warning("no record of all candidates beside the submission: %s", error)


def open_sources(specs: Sequence[SourceSpec], targets: Sequence[Target]) -> OutsideModels | None:
    """What `--candidates` names, read, one line a source; None where there is no model of any target."""
    parameters = load_parameters()
    sources = read_sources(specs, targets)
    if not sources:
        return None
    return OutsideModels(
        sources=tuple(sources),
        jury=CandidatesJury(parameters=parameters),
        calibration=calibrate(sources, parameters.centres),
    )


def choose_across(
    target: Target,
    candidates: Sequence[Candidate],
    pairing: Pairing,
    jury: CandidatesJury,
    slots: SlotsConfig,
    *,
    likeness: FloatArray | None = None,
    seed: int = 0,
) -> Choice:
    """Five of candidates of all sources for the largest expected maximum, within the numbers of `slots.sources`.

    Two candidates' errors are as correlated as they are alike, and those of one source's models by the jury's kinship
    at least: five samples of one program are right or wrong together. What fails quality control counts for likeness
    but fills a place only where nothing else is left.
    """
    rated, correlation = jury.rate(target, candidates, pairing, likeness)
    reasons = [_check(target, candidate, pairing, slots) for candidate in rated]
    sound = [k for k, why in enumerate(reasons) if not why]
    chosen: list[Candidate] = []
    if sound:
        means = np.array([rated[k].confidence for k in sound])
        spreads = LEAST_SPREAD + np.array([jury.spread(mean) for mean in means])
        draws = draw_scores(means, spreads, correlation[np.ix_(sound, sound)], seed)
        names = [name_source(rated[k]) for k in sound]
        limits = {name: slots.source_limits(name) for name in names}
        chosen = [rated[sound[k]] for k in pick_from_draws(draws, names, limits)]
    doubtful = [replace(c, confidence=0.0, note=f"{c.note}; {why[0]}") for c, why in zip(rated, reasons) if why]
    return Choice(five=tuple(complete_five(target, chosen, doubtful, seed)), rated=tuple(rated))


def _check(target: Target, candidate: Candidate, pairing: Pairing, slots: SlotsConfig) -> list[str]:
    """Quality control; of others' models without the handedness of stems, which tells nothing of their TM-scores."""
    return check_candidate(target, candidate.coords, None if candidate.source else pairing.partner, slots.quality)
