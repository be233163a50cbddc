"""Where the network begins on a chain: candidates of the chain, or the ideal assembly of its predicted pairs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rnafold.assembly import assemble
from rnafold.features.build import Others, StartPoint, choose_others
from rnafold.features.cache import load_arrays
from rnafold.files.mounts import find_made
from rnafold.structure import Candidate, Pairing, Target

# Training: share of starts drawn from the best, how many those are, and how often no template is to be seen.
SHARE_OF_BEST, NUM_BEST = 0.5, 8
SHARE_WITHOUT_TEMPLATES = 0.15
# Training: of the starts beside which templates are seen, the share drawn among assemblies alone.
SHARE_OF_ASSEMBLIES = 0.75
# Training: each candidate beside a start is hidden with a probability drawn between 0 and this.
MOST_HIDDEN = 0.8


def build_start(target: Target, pairing: Pairing, variant: int) -> StartPoint:
    """The assembly of the predicted pairs; nobody has rated it.

    Variant 0 takes the best secondary structure, further variants its samples in turn, each with its own seed.
    """
    options = [pairing.partner, *pairing.samples]
    return StartPoint(coords=assemble(target.sequence, options[variant % len(options)], target.chains, seed=variant))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Starts:
    """Candidates (K, L, 3) of a chain in Å, their expected TM-scores (K,) and which are of templates (K,), the most
    confident first."""

    coords: npt.NDArray[np.float32]
    confidence: npt.NDArray[np.float32]
    is_template: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, candidates: Sequence[Candidate]) -> "Starts":
        """The starts of at least one candidate."""
        ordered = sorted(candidates, key=lambda c: -c.confidence)
        return cls(
            coords=np.stack([c.coords for c in ordered]).astype(np.float32),
            confidence=np.array([c.confidence for c in ordered], np.float32),
            is_template=np.array([c.origin == "template" for c in ordered], np.bool_),
        )

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """The fields by name, for the cache."""
        return {"coords": self.coords, "confidence": self.confidence, "is_template": self.is_template}

    def others(self, start: int, *, templates: bool = True, rng: np.random.Generator | None = None) -> Others:
        """What the network sees beside candidate `start`; without templates where a chain is to do without.

        With `rng` (training) each is hidden with a probability of its own draw, so that each epoch sees others.
        """
        usable = np.arange(len(self.coords)) != start
        if rng is not None:
            usable &= rng.random(len(usable)) >= rng.random() * MOST_HIDDEN
        if not templates:
            usable &= ~self.is_template
        return choose_others(self.coords[usable], self.confidence[usable], self.is_template[usable])

    def point(self, start: int, others: Others) -> StartPoint:
        """Candidate `start` as what the network refines."""
        coords, confidence = self.coords[start].astype(np.float64), float(self.confidence[start])
        return StartPoint(coords=coords, confidence=confidence, others=others)

    def for_prediction(self) -> StartPoint:
        """What prediction refines first, beside the surest others: the most confident assembly, else a template."""
        start = self.first_assembly()
        return self.point(start, self.others(start))

    def for_training(self, rng: np.random.Generator) -> StartPoint:
        """A drawn start beside some of the others."""
        start, templates = self.draw(rng)
        return self.point(start, self.others(start, templates=templates, rng=rng))

    def first_assembly(self) -> int:
        """The most confident assembly, which prediction refines first; a template where there is none."""
        return int(np.argmin(self.is_template))

    def draw(self, rng: np.random.Generator) -> tuple[int, bool]:
        """A start for training and whether templates are to be seen beside it.

        Poor ones as well as the best; mostly assemblies, since prediction refines no templates.
        """
        templates = bool(rng.random() >= SHARE_WITHOUT_TEMPLATES) or bool(self.is_template.all())
        mixed = templates and bool(rng.random() >= SHARE_OF_ASSEMBLIES)
        usable = np.arange(len(self.coords)) if mixed else np.flatnonzero(~self.is_template)
        if not len(usable):
            usable = np.arange(len(self.coords))
        best = usable[: NUM_BEST if rng.random() < SHARE_OF_BEST else None]
        return int(best[int(rng.integers(len(best)))]), templates


class StartStore:
    """Starts of targets by piece (first, stop), read from disk when asked for: thousands of chains take no memory."""

    def __init__(self, pieces: Mapping[str, Sequence[tuple[tuple[int, int], Path]]]) -> None:
        self._pieces = dict(pieces)

    def __len__(self) -> int:
        return len(self._pieces)

    def window(self, target: Target, first: int, stop: int) -> Starts | None:
        """Starts of residues first <= i < stop, cut from a piece that holds them all; None where none was made."""
        for (begin, end), path in self._pieces.get(target.target_id, ()):
            if begin <= first and stop <= end:
                stored = load_arrays(path, ["coords", "confidence", "is_template"])
                if stored is not None:
                    return Starts(**{**stored, "coords": stored["coords"][:, first - begin : stop - begin]})
        return None

    def count_ready(self) -> int:
        """Targets of which some start is there."""
        return sum(any(find_made(path) for _, path in pieces) for pieces in self._pieces.values())
