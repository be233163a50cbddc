"""How alike candidates are: pairwise TM-scores on the metric's own scale, and the likeness to others by source."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from rnafold.scoring import map_copies
from rnafold.scoring.tm import Correspondence, superpose_pairs
from rnafold.structure import Chain, FloatArray, IntArray, structure_from_points

# A longer candidate is thinned to about so many residues, with d0 and the sum still those of all.
MOST_RESIDUES: Final = 200
# Two sources of which each model is this like one of the other's are one source under two names.
SAME_SOURCE: Final = 0.985
_BATCH_PAIRS: Final = 2000
_SMALLEST: Final = 3


def measure_pairwise(candidates: Sequence[FloatArray], chains: Sequence[Chain] = ()) -> FloatArray:
    """(P, P) pairwise TM-scores of candidates (L, 3) of one target, one on the diagonal.

    Copies of a chain are interchangeable: each candidate's are first put in the order in which they lie best on those
    of the first candidate.

    Args:
        candidates: P candidates, all residues finite.
        chains: of the target.
    """
    count = len(candidates)
    likeness = np.eye(count)
    if count < 2:
        return likeness
    length = len(candidates[0])
    rows, thin = thin_chains(chains, length)
    points = [candidate[rows] for candidate in candidates]
    if len(rows) < _SMALLEST:
        return np.ones((count, count))
    if max((chain.copy for chain in thin), default=1) > 1:
        first = structure_from_points(points[0])
        points = [points[0], *(one[map_copies(one, first, thin)[0][1]] for one in points[1:])]
    places = [(i, j) for i in range(count) for j in range(i)]
    share = length / len(rows)
    for start in range(0, len(places), _BATCH_PAIRS):
        batch = places[start : start + _BATCH_PAIRS]
        pairs = [Correspondence(mobile=points[i], reference=points[j], num_resolved=length) for i, j in batch]
        for (i, j), found in zip(batch, superpose_pairs(pairs, "fast")):
            likeness[i, j] = likeness[j, i] = min(1.0, found.tm * share)
    return likeness


def thin_chains(chains: Sequence[Chain], length: int) -> tuple[IntArray, tuple[Chain, ...]]:
    """Rows to keep of L, every n-th of each chain, and the chains as they lie in those rows."""
    step = -(-length // MOST_RESIDUES)
    if not chains:
        return np.arange(0, length, step), ()
    parts = [np.arange(chain.start, chain.stop, step) for chain in chains]
    bounds = np.cumsum([0, *(len(part) for part in parts)])
    thin = [replace(chain, start=int(a), stop=int(b)) for chain, a, b in zip(chains, bounds, bounds[1:])]
    return np.concatenate(parts), tuple(thin)


def join_sources(likeness: FloatArray, sources: Sequence[str]) -> list[str]:
    """The sources of candidates, with one name for those of which each model is as good as one of the other's.

    What a user gives twice under two names would otherwise agree with itself.
    """
    names = list(dict.fromkeys(sources))
    home = {name: name for name in names}
    rows = {name: [k for k, source in enumerate(sources) if source == name] for name in names}
    for position, name in enumerate(names):
        for earlier in names[:position]:
            between = likeness[np.ix_(rows[name], rows[earlier])]
            if between.max(1).min() >= SAME_SOURCE or between.max(0).min() >= SAME_SOURCE:
                home[name] = home[earlier]
                break
    return [home[source] for source in sources]


def measure_source_likeness(likeness: FloatArray, sources: Sequence[str]) -> tuple[FloatArray, FloatArray]:
    """(P,) likeness to other sources, and to the rest of the own source; NaN where there is nothing to be like.

    The first is the mean over the other sources of the mean pairwise TM-score to their models: each source counts once,
    however many models it has.
    """
    names = list(dict.fromkeys(sources))
    member = np.array([[source == name for name in names] for source in sources], dtype=np.float64)
    counts = member.sum(0)
    to_source = likeness @ member / counts
    others = np.maximum(len(names) - 1, 1)
    to_others = (to_source * (1.0 - member)).sum(1) / others if len(names) > 1 else np.full(len(sources), np.nan)
    own = counts @ member.T
    within = np.where(own > 1, ((likeness @ member * member).sum(1) - 1.0) / np.maximum(own - 1, 1), np.nan)
    return np.asarray(to_others, dtype=np.float64), np.asarray(within, dtype=np.float64)
