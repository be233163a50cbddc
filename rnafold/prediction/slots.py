"""The choice of five: quality control of candidates, then the five whose best is expected to be highest.

The jury re-estimates each candidate's TM-score from how alike the candidates are. It is then taken as normal around
that figure, with a spread that depends on figure and origin, and two candidates' errors as the more correlated the more
alike they are. Five are picked one by one so that the expected maximum grows most, within the numbers that
submission/slots.yaml allows each source.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from rnafold import rna
from rnafold.assembly import assemble
from rnafold.config.strict_yaml import build, load_yaml
from rnafold.scoring.measures import count_violations
from rnafold.structure import ORIGINS, Candidate, FloatArray, IntArray, Origin, Pairing, Target
from rnafold.templates.jury import measure_likeness, rate_candidates
from rnafold.templates.ranker import Ranker

NUM_SLOTS = 5
DRAWS = 1000
# The factor of c (1 - c) in the spread of an origin that the configuration does not name.
DEFAULT_SPREAD = 0.45
# No candidate's TM-score is taken as surer than this.
LEAST_SPREAD = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """Limits that a candidate must keep to; shares are of its residues or bonds.

    Attributes:
        smallest_spread: least radius of gyration over L^(1/3), in Å; less is collapsed.
        smallest_width: least spread across the longest axis, in Å, from 12 residues on; less is a straight line.
        bad_bond_share: most virtual bonds outside 4.7-9.5 Å.
        clash_share: most residues' worth of pairs nearer than 3.5 Å.
        wrong_handed_share: most left-handed stems.
    """

    smallest_spread: float = 2.0
    smallest_width: float = 1.5
    bad_bond_share: float = 0.35
    clash_share: float = 0.25
    wrong_handed_share: float = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """How many predictions each source may fill, [least, most], for targets up to a length and a confidence.

    `max_confidence` is compared with the best template's confidence; the first band that fits counts.
    """

    max_length: int = 1_000_000
    max_confidence: float = 1.0
    template: tuple[int, ...] = (0, 5)
    assembly: tuple[int, ...] = (0, 5)
    network: tuple[int, ...] = (0, 5)
    fallback: tuple[int, ...] = (0, 5)
    other: tuple[int, ...] = (0, 5)

    def limits(self, origin: Origin) -> tuple[int, int]:
        """(least, most) of an origin."""
        least, most = getattr(self, origin)
        return least, most


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotsConfig:
    """What submission/slots.yaml holds.

    Attributes:
        bands: numbers by length and template confidence, the first that fits counts.
        spread: by origin, the factor of c (1 - c) in the standard deviation of the TM-score around a confidence c.
        likeness_power: correlation of two candidates' errors = pairwise TM-score to this power.
        quality: limits of quality control.
        sources: where other programs' models stand beside ours, how many places a source may fill, [least, most], by
            its name or, for ours, what made it; none by default. Bands are for our own five alone.
    """

    bands: tuple[Band, ...] = (Band(),)
    spread: dict[str, float] = field(default_factory=lambda: dict.fromkeys(ORIGINS, DEFAULT_SPREAD))
    likeness_power: float = 2.0
    quality: Quality = field(default_factory=Quality)
    sources: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, limits in self.sources.items():
            if len(limits) != 2 or not 0 <= limits[0] <= limits[1] <= NUM_SLOTS:
                raise ValueError(
                    f"sources.{name}: found {list(limits)}, expected [least, most] within 0 to {NUM_SLOTS}"
                )

    def source_limits(self, name: str) -> tuple[int, int]:
        """(least, most) places of a source among several programs'."""
        least, most = self.sources.get(name, (0, NUM_SLOTS))
        return least, most


def load_slots(path: str | Path) -> SlotsConfig:
    """Read submission/slots.yaml.

    Raises:
        ConfigError: an unknown key, or a value of the wrong type.
    """
    return build(SlotsConfig, load_yaml(path), str(path))


def check_candidate(
    target: Target, coords: FloatArray, partner: IntArray | None = None, quality: Quality | None = None
) -> list[str]:
    """Why a candidate (L, 3) is no plausible RNA; empty when it passes.

    Args:
        target: its length and chains.
        coords: the candidate.
        partner: (L,) predicted pairs; stems of them are tested for right-handedness where the candidate forms them.
        quality: limits.
    """
    limits = quality or Quality()
    if coords.shape != (target.length, 3):
        return [f"shape {coords.shape}, expected ({target.length}, 3)"]
    if not np.isfinite(coords).all():
        return [f"{int((~np.isfinite(coords).all(1)).sum())} residues without coordinates"]
    reasons = []
    centred = coords - coords.mean(0)
    widths = np.sqrt(np.maximum(np.linalg.eigvalsh(centred.T @ centred / len(coords)), 0.0))[::-1]
    spread = float(np.linalg.norm(widths)) / target.length ** (1 / 3)
    if target.length >= 4 and spread < limits.smallest_spread:
        reasons.append(f"collapsed: radius of gyration {spread:.1f} Å x L^(1/3), least {limits.smallest_spread}")
    elif target.length >= 12 and widths[1] < limits.smallest_width:
        reasons.append(f"a straight line: {widths[1]:.1f} Å across, least {limits.smallest_width}")
    found = count_violations(coords, target.chains, None if partner is None else keep_formed(coords, partner))
    bonds, clashes = found.bonds / max(found.num_bonds, 1), found.clashes_hard / target.length
    if bonds > limits.bad_bond_share:
        reasons.append(f"{found.bonds} of {found.num_bonds} bonds out of range, at most {limits.bad_bond_share:.0%}")
    if clashes > limits.clash_share:
        reasons.append(f"{found.clashes_hard} clashes in {target.length} residues, at most {limits.clash_share:.0%}")
    if found.num_stems and found.wrong_handed / found.num_stems > limits.wrong_handed_share:
        reasons.append(f"{found.wrong_handed} of {found.num_stems} stems left-handed")
    return reasons


def keep_formed(coords: FloatArray, partner: IntArray) -> IntArray:
    """Partners (L,) of the pairs that coords (L, 3) form, as their distance says; -1 elsewhere."""
    distance = np.linalg.norm(coords - coords[partner], axis=1)
    formed = (partner >= 0) & (distance > rna.FORMED_RANGE[0]) & (distance < rna.FORMED_RANGE[1])
    return np.where(formed, partner, -1)


def draw_scores(means: FloatArray, spreads: FloatArray, likeness: FloatArray, seed: int = 0) -> FloatArray:
    """(draws, P) joint draws of the candidates' TM-scores: normal, errors correlated by `likeness`."""
    values, vectors = np.linalg.eigh(likeness)
    root = vectors * np.sqrt(np.clip(values, 0.0, None))
    root /= np.maximum(np.linalg.norm(root, axis=1, keepdims=True), 1e-9)
    normal = np.random.default_rng(seed).normal(size=(DRAWS, len(means)))
    return np.asarray(means + spreads * (normal @ root.T), dtype=np.float64)


def find_band(length: int, candidates: Sequence[Candidate], config: SlotsConfig) -> Band:
    """The first band of the configuration that fits a target of `length` residues with these candidates."""
    best = max((c.confidence for c in candidates if c.origin == "template"), default=0.0)
    for band in config.bands:
        if length <= band.max_length and best <= band.max_confidence:
            return band
    return Band()


def pick_indices(
    means: FloatArray,
    origins: Sequence[Origin],
    likeness: FloatArray,
    config: SlotsConfig,
    band: Band,
    seed: int = 0,
) -> list[int]:
    """Indices of five candidates picked one by one for the largest expected maximum, within the band's numbers.

    Args:
        means: (P,) expected TM-scores.
        origins: of each candidate.
        likeness: (P, P) pairwise TM-scores.
        config: spreads and the power of likeness.
        band: numbers by origin.
        seed: of the draws.
    """
    factors = np.array([config.spread.get(origin, DEFAULT_SPREAD) for origin in origins])
    draws = draw_scores(means, LEAST_SPREAD + factors * means * (1.0 - means), likeness**config.likeness_power, seed)
    return pick_from_draws(draws, origins, {origin: band.limits(origin) for origin in origins})


def pick_from_draws(draws: FloatArray, names: Sequence[str], limits: Mapping[str, tuple[int, int]]) -> list[int]:
    """Indices of five candidates picked one by one for the largest expected maximum, within limits by name.

    Args:
        draws: (draws, P) joint draws of the candidates' TM-scores.
        names: of each candidate, what counts for the limits.
        limits: (least, most) of every name.
    """
    chosen: list[int] = []
    reached = np.full(len(draws), -np.inf)
    while len(chosen) < min(NUM_SLOTS, len(names)):
        used = {name: sum(names[k] == name for k in chosen) for name in limits}
        left = [k for k in range(len(names)) if k not in chosen]
        open_slots = NUM_SLOTS - len(chosen)
        owed = {
            name: min(max(0, least - used[name]), sum(names[k] == name for k in left))
            for name, (least, _) in limits.items()
        }
        if sum(owed.values()) >= open_slots:  # the rest is promised to sources that have not had their least
            allowed = [k for k in left if owed[names[k]] > 0]
        else:
            allowed = [k for k in left if used[names[k]] < limits[names[k]][1]]
        options = allowed or left
        gains = [float(np.maximum(reached, draws[:, k]).mean()) for k in options]
        best = options[int(np.argmax(gains))]
        chosen.append(best)
        reached = np.maximum(reached, draws[:, best])
    return chosen


def pick_five(
    target: Target,
    candidates: Sequence[Candidate],
    config: SlotsConfig | None = None,
    *,
    pairing: Pairing | None = None,
    jury: Ranker | None = None,
    seed: int = 0,
) -> list[Candidate]:
    """The five candidates to submit, the most confident first; fewer candidates are filled up with plain strands.

    Candidates that fail quality control are used only when too few pass. Their `note` then says why.

    Args:
        target: sequence and chains.
        candidates: from all sources.
        config: of slots.yaml; None means the defaults.
        pairing: predicted pairs, for the handedness of stems and for the jury.
        jury: re-estimates confidences (needs `pairing`); None takes them as they are.
        seed: of the draws.
    """
    config = config or SlotsConfig()
    partner = None if pairing is None else pairing.partner
    reasons = [check_candidate(target, candidate.coords, partner, config.quality) for candidate in candidates]
    sound = [candidate for candidate, why in zip(candidates, reasons) if not why]
    chosen: list[Candidate] = []
    if sound:
        band = find_band(target.length, sound, config)
        likeness = measure_likeness([candidate.coords for candidate in sound])
        if jury is not None and pairing is not None:
            sound = rate_candidates(sound, likeness, pairing, jury)
        means = np.array([candidate.confidence for candidate in sound])
        picked = pick_indices(means, [candidate.origin for candidate in sound], likeness, config, band, seed)
        chosen = [sound[k] for k in picked]
    doubtful = [
        Candidate(coords=c.coords, origin=c.origin, confidence=0.0, note=f"{c.note}; {why[0]}")
        for c, why in zip(candidates, reasons)
        if why and c.coords.shape == (target.length, 3) and np.isfinite(c.coords).all()
    ]
    return complete_five(target, chosen, doubtful, seed)


def complete_five(
    target: Target, chosen: Sequence[Candidate], doubtful: Sequence[Candidate], seed: int = 0
) -> list[Candidate]:
    """The chosen, surest first, and where they are fewer than five, doubtful ones and plain strands."""
    five = sorted(chosen, key=lambda candidate: -candidate.confidence)
    five += doubtful[: NUM_SLOTS - len(five)]
    for number in range(NUM_SLOTS - len(five)):
        strand = assemble(target.sequence, np.full(target.length, -1), target.chains, seed=seed + number)
        five.append(Candidate(coords=strand, origin="fallback", confidence=0.0, note="A-form strand"))
    return five
