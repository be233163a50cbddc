"""What tells how near a known loop is to the query's: votes of loops with like letters, letters by place, sizes.

The votes say most. Every candidate stands for what loops of its letters look like; those whose letters resemble the
query's vote, by how much they do, with their distance to the candidate in question. The same loop solved many times has
one vote, and none for itself. Source: docs/studies/arrangement.md (rank correlation with the deviation 0.65 for
hairpins, of sizes and equal letters alone 0.14).
"""

from collections.abc import Sequence

import numpy as np

from rnafold.assembly.overlay import ANCHORS, Overlay
from rnafold.assembly.rings import RingTable
from rnafold.structure import BoolArray, FloatArray, IntArray

# How sharply a vote falls with what the letters differ, and the distance in Å below which a voter is of one opinion.
SHARPNESSES = (0.0, 0.5, 1.0, 2.0)
ALIKE = 1.0
# Letters of one kind (purine or pyrimidine), of the pairs that close the loop, and a residue too many or too few.
SAME_KIND, PAIR_SHARE, SIZE_MALUS = 0.4, 0.5, 0.8
# Ends of segments whose letters are features of their own, and segments that have them.
NUM_ENDS, NUM_SEGMENTS = 3, 3
# Places that distances are taken between: of longer loops every so many.
MOST_PLACES = 40
ABSENT = -1.0
_IS_PURINE = np.array([True, False, True, False, False])
_IS_LETTER = np.array([True, True, True, True, False])

VOTE_NAMES = tuple(
    f"{name}_{sharpness:g}" for sharpness in SHARPNESSES for name in ("expected", "expected_behind_best", "share_alike")
)
PLAIN_NAMES = (
    "residues_differing",
    "segments_differing",
    "size",
    "longest_segment",
    "letters_alike",
    "letters_equal",
    "likeness",
    "likeness_behind_best",
    "closing_equal",
    "closing_same_kind",
    "second_equal",
    "gyration",
    "vote",
)
END_NAMES = tuple(
    f"{name}_{k}"
    for k in range(NUM_SEGMENTS)
    for name in (*(f"{end}{n}" for n in range(NUM_ENDS) for end in ("first", "last")), "wanted", "more")
)
LOOP_FEATURES = (*VOTE_NAMES, *PLAIN_NAMES, *END_NAMES)


def measure_loops(
    tokens: IntArray, sizes: Sequence[int], loops: RingTable, laid: Overlay, distance: FloatArray
) -> FloatArray:
    """(K, features) in the order of LOOP_FEATURES of loops laid over a query.

    Args:
        tokens: (P,) the query's letters at its places.
        sizes: S unpaired residues after each of the query's stems.
        loops: K rows.
        laid: the same at the query's places.
        distance: (K, K) of `measure_differences`.
    """
    num_anchors = ANCHORS * len(sizes)
    equal = (laid.tokens == tokens) & _IS_LETTER[tokens]
    kind = _IS_LETTER[tokens] & (laid.tokens >= 0) & (_IS_PURINE[laid.tokens] == _IS_PURINE[tokens]) & ~equal
    alike = equal + SAME_KIND * kind
    inner = np.array([ANCHORS * k + at for k in range(len(sizes)) for at in (0, 2)])
    more = loops.sizes.astype(np.float64) - np.asarray(sizes)
    likeness = alike[:, num_anchors:].sum(1) + PAIR_SHARE * alike[:, inner].sum(1) - SIZE_MALUS * np.abs(more).sum(1)
    _, number, count = np.unique(loops.kin, return_inverse=True, return_counts=True)
    vote = 1.0 / count[number]
    votes = count_votes(distance, likeness, vote, number)
    spread = laid.coords - laid.coords.mean(1, keepdims=True)
    size = len(tokens) - num_anchors
    plain = [
        np.abs(more).sum(1),
        (more != 0).sum(1),
        np.full(len(loops), size),
        np.full(len(loops), max(sizes)),
        alike[:, num_anchors:].sum(1) / max(size, 1),
        equal[:, num_anchors:].sum(1) / max(size, 1),
        likeness,
        likeness - likeness.max(),
        equal[:, inner].mean(1),
        kind[:, inner].mean(1),
        equal[:, inner + 1].mean(1),
        np.sqrt((spread**2).sum(-1).mean(1)),
        vote,
    ]
    return np.column_stack([votes, *plain, _measure_ends(alike, sizes, more)])


def measure_differences(coords: FloatArray) -> FloatArray:
    """(K, K) root mean square difference in Å of the inner distances of point sets (K, P, 3)."""
    points = coords[:, :: -(-coords.shape[1] // MOST_PLACES)]
    first, second = np.triu_indices(points.shape[1], 1)
    inner = np.sqrt(((points[:, first] - points[:, second]) ** 2).sum(-1)) / np.sqrt(len(first))
    square = (inner**2).sum(1)
    return np.asarray(np.sqrt(np.maximum(square[:, None] + square - 2 * inner @ inner.T, 0.0)), dtype=np.float64)


def count_votes(distance: FloatArray, likeness: FloatArray, vote: FloatArray, number: IntArray) -> FloatArray:
    """(K, votes) for each sharpness: mean distance to voters, by how much beyond the least, share nearer than 1 Å."""
    others: BoolArray = number[:, None] != number
    near = (distance < ALIKE) & others
    far = np.where(others, distance, 0.0)
    weights = np.exp(np.multiply.outer(SHARPNESSES, likeness - likeness.max())) * vote
    total = others @ weights.T + 1e-9
    expected = far @ weights.T / total
    return np.stack([expected, expected - expected.min(0), near @ weights.T / total], axis=2).reshape(len(vote), -1)


def _measure_ends(alike: FloatArray, sizes: Sequence[int], more: FloatArray) -> FloatArray:
    """(K, ends) likeness of the letters at both ends of the first segments, the wanted sizes and what is too much."""
    columns = np.full((len(alike), NUM_SEGMENTS, 2 * NUM_ENDS + 2), ABSENT)
    start = ANCHORS * len(sizes)
    for k, size in enumerate(sizes):
        if k < NUM_SEGMENTS:
            for n in range(min(size, NUM_ENDS)):
                columns[:, k, 2 * n], columns[:, k, 2 * n + 1] = alike[:, start + n], alike[:, start + size - 1 - n]
            columns[:, k, -2], columns[:, k, -1] = size, more[:, k]
        start += size
    return columns.reshape(len(alike), -1)
