"""Programs' own confidences made comparable: how much surer than usual a program is of a model.

No two scales agree (the means of published pLDDTs differ from 60 to 80), but more than a program's usual figure speaks
for a model whatever the scale. What is usual is the mean over targets, of published models and of those at hand.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from rnafold.candidates.source import OutsideModel, Source

# A published mean of a program's confidences counts as so many targets; of a program without one so many targets have
# to be at hand, else its models are compared within a target alone.
_PUBLISHED_TARGETS, _LEAST_TARGETS = 5.0, 5
# The spread of an energy counts as so much on the scale of the others, and nothing more than so far from usual.
_ENERGY_SPREAD, _FARTHEST = 0.1, 0.5
_LEAST: Final = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """What is usual: `centres`, the mean own confidence by source, of those between 0 and 1."""

    centres: dict[str, float] = field(default_factory=dict)

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
        if model.own.scaled:
            difference = model.own.value - self.centres.get(source.name, float(np.mean(values)))
        else:  # an energy grows with the target: its models are compared with each other alone
            difference = (
                _ENERGY_SPREAD * (model.own.value - float(np.mean(values))) / max(float(np.std(values)), _LEAST)
            )
        return float(np.clip(difference, -_FARTHEST, _FARTHEST))


def calibrate(sources: Sequence[Source], published: Mapping[str, float]) -> Calibration:
    """What is usual for each source, from its models at hand and the published mean of its program.

    Args:
        sources: as read.
        published: mean confidence of known programs, 0 to 1.
    """
    centres: dict[str, float] = {}
    for source in sources:
        values = [[m.own.value for m in models if m.own and m.own.scaled] for models in source.models.values()]
        means = [float(np.mean(found)) for found in values if found]
        known = published.get(source.program)
        if known is not None and means:
            centres[source.name] = (_PUBLISHED_TARGETS * known + sum(means)) / (_PUBLISHED_TARGETS + len(means))
        elif len(means) >= _LEAST_TARGETS:
            centres[source.name] = float(np.mean(means))
    return Calibration(centres=centres)
