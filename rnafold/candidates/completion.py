"""Other programs' models as candidates: what a model lacks is built by the assembler around what it has."""

from collections.abc import Sequence

import numpy as np

from rnafold.assembly import build_model
from rnafold.candidates.calibration import Calibration
from rnafold.candidates.source import OutsideModel, Source
from rnafold.structure import Candidate, Evidence, Pairing, Target

# More models of one source and target tell little and cost much: the most confident, else the program's first, stay.
# All sources together have so many of a target, for all are compared with all; of each at least a few stay.
MOST_OF_A_SOURCE, LEAST_OF_A_SOURCE, MOST_OF_A_TARGET = 12, 3, 240


def build_outside(
    target: Target, sources: Sequence[Source], pairing: Pairing, calibration: Calibration, seed: int = 0
) -> list[Candidate]:
    """The candidates that the sources have of a target, all residues finite; their confidence is not yet known.

    Args:
        target: sequence and chains.
        sources: as read.
        pairing: predicted pairs, by which missing residues are built.
        calibration: what is usual of each source's own confidences.
        seed: of what is built.
    """
    made = []
    present = [source for source in sources if source.models.get(target.target_id)]
    most = min(MOST_OF_A_SOURCE, max(LEAST_OF_A_SOURCE, MOST_OF_A_TARGET // max(len(present), 1)))
    for source in present:
        models = choose_models(source.models[target.target_id], most)
        for number, model in enumerate(models):
            relative = calibration.compare(source, model, models)
            made.append(_build(target, source, model, relative, pairing, seed + number))
    return made


def choose_models(models: Sequence[OutsideModel], most: int) -> list[OutsideModel]:
    """At most `most` models of one source, in the program's order."""
    if len(models) <= most:
        return list(models)
    sure = sorted(range(len(models)), key=lambda k: -(own.value if (own := models[k].own) else -np.inf))
    return [models[k] for k in sorted(sure[:most])]


def _build(
    target: Target, source: Source, model: OutsideModel, relative: float, pairing: Pairing, seed: int
) -> Candidate:
    missing = ~np.isfinite(model.points).all(1)
    coords, grounds, note = model.points, None, model.note
    if missing.any():
        coords, grounds = build_model(target.sequence, pairing.partner, target.chains, fixed=model.points, seed=seed)
        note = f"{note}, {int(missing.sum())} residues added"
    return Candidate(
        coords=coords,
        origin="other",
        confidence=0.0,
        note=note,
        grounds=grounds,
        source=source.name,
        evidence=Evidence(
            own_confidence=None if model.own is None else model.own.value,
            own_relative=relative,
            own_name="" if model.own is None else model.own.name,
            may_have_seen=source.may_have_seen(target),
            num_added=int(missing.sum()),
        ),
    )
