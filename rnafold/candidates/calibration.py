"""Programs' own confidences made comparable: how much surer than usual a program is of a model.

No two scales agree (the means of published pLDDTs differ from 60 to 80), but more than a program's usual figure speaks
for a model whatever the scale. What is usual is the mean over targets, of published models and of those at hand.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from rnafold.candidates.sources import OutsideModel, Source

# A published mean of a program's confidences counts as so many targets; of a program without one so many targets have
# to be at hand, else its models are compared within a target alone.
_PUBLISHED_TARGETS, _LEAST_TARGETS = 5.0, 5
# The spread of an energy counts as so much on the scale of the others, and nothing more than so far from usual.
_ENERGY_SPREAD, _FARTHEST = 0.1, 0.5
_LEAST_SPREAD: Final = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """What is usual: `centres` and `units` (what a difference is divided by), by source."""

    centres: dict[str, float] = field(default_factory=dict)
    units: dict[str, float] = field(default_factory=dict)

    def compare(self, source: Source, model: OutsideModel, models: Sequence[OutsideModel]) -> float:
        """How much surer than usual the source is of a model, on a scale of 0 to 1; 0 where nothing is known.

        Args:
            source: the source.
            model: one of its models of a target.
            models: all of them: where nothing is known of other targets, they are what is usual.
        """
        if model.own is None:
            return 0.0
        values = [other.own.value for other in models if other.own is not None]
        centre = self.centres.get(source.name, float(np.mean(values)))
        unit = self.units.get(source.name, 1.0 if model.own.scaled else _unit_of_energies(values))
        return float(np.clip((model.own.value - centre) / unit, -_FARTHEST, _FARTHEST))


def calibrate(sources: Sequence[Source], published: Mapping[str, float]) -> Calibration:
    """What is usual for each source, from its models at hand and the published mean of its program.

    Args:
        sources: as read.
        published: mean confidence of known programs, 0 to 1.
    """
    found = Calibration()
    for source in sources:
        by_target = [[m.own for m in models if m.own is not None] for models in source.models.values()]
        means = [float(np.mean([own.value for own in owns])) for owns in by_target if owns]
        scaled = all(own.scaled for owns in by_target for own in owns)
        known = published.get(source.program, published.get(source.name)) if scaled else None
        if known is not None:
            total = _PUBLISHED_TARGETS + len(means)
            found.centres[source.name] = (_PUBLISHED_TARGETS * known + sum(means)) / total
        elif len(means) >= _LEAST_TARGETS:
            found.centres[source.name] = float(np.mean(means))
            found.units[source.name] = 1.0 if scaled else _unit_of_energies(means)
    return found


def _unit_of_energies(values: Sequence[float]) -> float:
    return max(float(np.std(values)), _LEAST_SPREAD) / _ENERGY_SPREAD
