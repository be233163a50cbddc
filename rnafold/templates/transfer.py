"""From an alignment to coordinates: template atoms carried over, the query refolded around the template's pairs."""

from collections.abc import Callable, Sequence

import numpy as np

from rnafold import rna
from rnafold.assembly.build import FragmentSource, build_model
from rnafold.assembly.settle import settle
from rnafold.structure import Chain, FloatArray, Grounds, IntArray, crossing_chains
from rnafold.templates.alignment import Hit
from rnafold.templates.library import TemplateLibrary

# Folds a sequence with a bonus energy in kcal/mol for each of the pairs given; returns partners (L,).
Refold = Callable[[str, Sequence[tuple[int, int]], float], IntArray]

# Source: docs/studies/templates.md: -1 kcal/mol a mapped template pair; runs of 1-3 residues carried over hurt.
PAIR_BONUS_KCAL = -1.0
SHORTEST_RUN = 4
# A template expected to reach TM 0.5 counts like -1 kcal/mol. Source: later train chains (0.2933 against 0.2916 of the
# best template's pairs alone, 0.2658 of none, mean of assemblies).
VOTE_STEP, VOTE_BONUS_KCAL = 0.1, -0.2


def drop_short_runs(coords: FloatArray, shortest: int = SHORTEST_RUN) -> FloatArray:
    """A copy of coords (L, 3) in which runs of fewer than `shortest` placed residues are NaN."""
    kept = coords.copy()
    placed = np.isfinite(coords).all(1)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], placed.astype(np.int8), [0]])))
    for start, stop in edges.reshape(-1, 2):
        if stop - start < shortest:
            kept[start:stop] = np.nan
    return kept


def usable_pairs(tokens: IntArray, first: IntArray, second: IntArray) -> list[tuple[int, int]]:
    """Those pairs that the query can form: canonical and at least four residues apart."""
    fine = rna.canonical_pair_matrix()[tokens[first], tokens[second]] & (second - first > 3)
    return [(int(i), int(j)) for i, j in zip(first[fine], second[fine])]


def merge_pairs(length: int, pairs: Sequence[tuple[int, int]], partner: IntArray) -> IntArray:
    """Partners (L,) of the given pairs, and of those of `partner` that neither conflict with nor cross them."""
    merged = np.full(length, -1, dtype=np.int64)
    for i, j in pairs:
        if merged[i] < 0 and merged[j] < 0:
            merged[i], merged[j] = j, i
    # Each residue's innermost enclosing given pair: a further pair crosses none exactly when both ends agree on it.
    inside = np.full(length, -1, dtype=np.int64)
    stack: list[int] = []
    for i in range(length):
        if merged[i] > i:
            stack.append(i)
        elif 0 <= merged[i] < i and int(merged[i]) in stack:
            stack.remove(int(merged[i]))
        inside[i] = stack[-1] if stack else -1
    for a in np.flatnonzero(partner > np.arange(length)):
        b = int(partner[a])
        if merged[a] < 0 and merged[b] < 0 and inside[a] == inside[b]:
            merged[a], merged[b] = b, a
    return merged


def build_hybrid(
    sequence: str,
    chains: Sequence[Chain],
    carried: FloatArray,
    partner: IntArray,
    fragments: FragmentSource | None,
    seed: int = 0,
    temperature: float = 0.0,
) -> tuple[FloatArray, Grounds]:
    """(L, 3) all finite: the carried atoms where they form runs, stems and loops of `partner` built around them.

    Where the query lacks residues that the template has, two carried residues lie farther apart than a bond reaches;
    so what was built is settled first, then the whole.
    """
    fixed = drop_short_runs(carried)
    if np.isfinite(fixed).all(1).sum() < 4:
        fixed = carried if np.isfinite(carried).all(1).sum() >= 4 else np.full_like(carried, np.nan)
    coords, grounds = build_model(sequence, partner, chains, fragments, fixed, seed, temperature)
    return settle(coords, np.ones(len(coords), dtype=np.bool_), crossing_chains(chains, len(coords))), grounds


def pair_with_templates(
    sequence: str, library: TemplateLibrary, hits: Sequence[tuple[Hit, float]], refold: Refold
) -> IntArray:
    """Partners (L,) of the query refolded with all templates' pairs favoured, each by its expected TM-score.

    Args:
        sequence: L letters.
        library: where the hits' chains are.
        hits: templates of different sequences with their expected TM-scores.
        refold: folds with a bonus a pair; a pair given k times counts k times.
    """
    tokens = rna.encode_sequence(sequence)
    pairs = []
    for hit, expected in hits:
        first, second, _ = library.map_pairs(hit)
        pairs += usable_pairs(tokens, first, second) * round(expected / VOTE_STEP)
    return refold(sequence, pairs, VOTE_BONUS_KCAL)


def pair_with_template(
    sequence: str, library: TemplateLibrary, hit: Hit, predicted: IntArray, refold: Refold | None
) -> IntArray:
    """Partners (L,) of the query given a template: refolded with a bonus, or merged with the prediction without."""
    first, second, _ = library.map_pairs(hit)
    pairs = usable_pairs(rna.encode_sequence(sequence), first, second)
    if refold is not None:
        return refold(sequence, pairs, PAIR_BONUS_KCAL)
    return merge_pairs(len(sequence), pairs, predicted)
