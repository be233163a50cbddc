"""Why models are refused: what is no trace of an RNA, copies of one job in one frame, and exact duplicates."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from rnafold.candidates.matching import LEAST_COVERED, Placed
from rnafold.candidates.source import OutsideModel, Source
from rnafold.structure import FloatArray, Target, crossing_chains

# In the words of the report.
OTHER_SEQUENCE: Final = "of no target's sequence"
DUPLICATE: Final = "the same coordinates as an earlier one"
ZEROS: Final = "zeros or empty instead of coordinates"
INTERLEAVED: Final = "residues of two chains interleaved"
COPY: Final = "another copy of one job in one frame (the best-scored is kept)"
COLLAPSED: Final = "collapsed"
BROKEN: Final = "a broken trace"
PARTIAL: Final = f"less than {LEAST_COVERED:.0%} of the target"
# Collapsed: a smaller radius of gyration over L^(1/3) in Å than any RNA has. Broken: a step longer than a bond can be,
# or shorter than two C1' can come, at more than this share of a chain's bonds; see `check_trace`.
_LEAST_RADIUS: Final = 2.0
_STEP_RANGE: Final = (2.0, 12.0)
_MOST_BROKEN: Final = 0.5
_SHORTEST_CHECKED: Final = 8
# Coordinates equal within this are the same.
_SAME: Final = 2e-3
# Copies of one job in one frame do not touch, while separate models overlap: C1' nearer than this, in Å.
_TOUCHING: Final = 3.0


def check_placed(placed: Placed) -> str:
    """Why a placed model is refused, "" where it is not."""
    real = np.isfinite(placed.points).all(1)
    if not real.any():
        return ZEROS
    if real.mean() < LEAST_COVERED:
        return PARTIAL if real.mean() > 0 else OTHER_SEQUENCE
    return check_trace(placed.points, placed.target)


def check_trace(points: FloatArray, target: Target) -> str:
    """Why points (L, 3), NaN where missing, are no trace of an RNA; "" for a trace that might be one."""
    real = np.asarray(np.isfinite(points).all(1), dtype=np.bool_)
    known = points[real]
    if len(known) < _SHORTEST_CHECKED:
        return ""
    radius = float(np.sqrt(((known - known.mean(0)) ** 2).sum(1).mean()))
    if radius < _LEAST_RADIUS * len(known) ** (1 / 3):
        return COLLAPSED
    bonded = real[1:] & real[:-1] & ~crossing_chains(target.chains, target.length)
    steps = _distances(points[1:], points[:-1])[bonded]
    wrong = (steps < _STEP_RANGE[0]) | (steps > _STEP_RANGE[1])
    if not len(steps) or wrong.mean() <= _MOST_BROKEN:
        return ""
    second = _distances(points[2:], points[:-2])[real[2:] & real[:-2]]
    alternating = float(((second > _STEP_RANGE[0]) & (second < _STEP_RANGE[1])).mean()) > 1 - _MOST_BROKEN / 2
    return INTERLEAVED if alternating and float(np.median(steps)) > _STEP_RANGE[1] else BROKEN


def _distances(first: FloatArray, second: FloatArray) -> FloatArray:
    """(n,) distance of each row of (n, 3) from that of another."""
    return np.asarray(np.sqrt(((first - second) ** 2).sum(1)), dtype=np.float64)


def leave_out_copies(source: Source) -> None:
    """Of files that hold the copies of one job in one frame, chain by chain, the best-scored stays."""
    for target_id, models in source.models.items():
        groups = _group_frames(models)
        kept = []
        for group in groups:
            best = max(group, key=lambda model: model.own.value if model.own else 0.0)
            kept.append(best)
            for model in group:
                if model is not best:
                    source.refuse(COPY, model.note)
        source.models[target_id] = sorted(kept, key=lambda model: model.order)


def _group_frames(models: Sequence[OutsideModel]) -> list[list[OutsideModel]]:
    """Models that lie side by side without touching anywhere, as copies in one frame do, in one group."""
    groups: list[list[OutsideModel]] = []
    for model in models:
        home = next((group for group in groups if all(_are_copies(model, other) for other in group)), None)
        if home is None:
            groups.append([model])
        else:
            home.append(model)
    return groups


def _are_copies(first: OutsideModel, second: OutsideModel) -> bool:
    """Whether two models are different chains that lie beside each other: near, and nowhere too near for two chains."""
    if set(first.chain_ids) & set(second.chain_ids):
        return False
    one, two = (model.points[np.isfinite(model.points).all(1)] for model in (first, second))
    size = float(np.sqrt(((one - one.mean(0)) ** 2).sum(1).mean()))
    between = float(np.linalg.norm(one.mean(0) - two.mean(0)))
    if between < size or between > 20.0 * size:
        return False
    squared = (one**2).sum(1)[:, None] + (two**2).sum(1) - 2.0 * one @ two.T
    return bool(squared.min() > _TOUCHING**2)


def leave_out_duplicates(sources: Sequence[Source]) -> None:
    """Models with the coordinates of an earlier one of their target, in any source, are counted and left out."""
    seen: dict[tuple[str, bytes], list[FloatArray]] = {}
    for source in sources:
        for target_id, models in source.models.items():
            kept = []
            for model in models:
                near = seen.setdefault((target_id, _fingerprint(model.points)), [])
                if any(_is_same(model.points, other) for other in near):
                    source.refuse(DUPLICATE, model.note)
                else:
                    near.append(model.points)
                    kept.append(model)
            source.models[target_id] = kept
        source.models = {target_id: models for target_id, models in source.models.items() if models}


def _fingerprint(points: FloatArray) -> bytes:
    """Equal for equal points: which residues are there."""
    return np.packbits(np.isfinite(points).all(1)).tobytes()


def _is_same(first: FloatArray, second: FloatArray) -> bool:
    return bool(np.allclose(first, second, rtol=0.0, atol=_SAME, equal_nan=True))
