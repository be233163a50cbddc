"""Trains the loop judge: every loop of the library a query against the loops of other sequence groups.

What counts is the deviation in Å, after the best superposition, of the loop and two pairs of each of its stems.
"""

import datetime
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from rnafold.assembly.fragments import FragmentLibrary
from rnafold.assembly.loop_features import measure_differences, measure_loops
from rnafold.assembly.loop_judge import LOOP_KINDS, SHIFT, LoopJudge, LoopKind, LoopModel, kind_of
from rnafold.assembly.overlay import lay_over
from rnafold.assembly.rings import RingTable
from rnafold.assembly.shortlist import LoopIndex, choose_motifs
from rnafold.data.clusters import cluster_sequences
from rnafold.errors import InputError
from rnafold.forest import Forest, flatten_trees
from rnafold.geometry import superpose, transform
from rnafold.rna import ALPHABET, UNKNOWN
from rnafold.structure import BoolArray, FloatArray, IntArray

# Queries of each kind (a loop counts once for each of its stems), and the most stems of a multiloop.
MOST_QUERIES, MOST_STEMS = 3000, 5
# Chains of this identity are taken for one molecule, whatever group they are said to belong to.
SAME_CHAIN = 0.8
# Leaves of a tree and loops in one: there are fewer multiloops, and more of them would be learned by heart.
LEAVES: dict[LoopKind, int] = {"hairpin": 31, "internal": 31, "multiloop": 12, "linker": 16}
NUM_TREES, LEAST_IN_LEAF = 100, 200
SPREAD_BINS = 6
NUM_FOLDS = 5
# What the certainty of each kind is chosen from, by the best of so many loops, and on how many queries.
CERTAINTIES, BEST_OF, TRIAL_QUERIES = (0.15, 0.2, 0.3, 0.45, 0.7), 6, 600


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LoopRows:
    """Pairs of a query and a library loop.

    Attributes:
        features: (R, F).
        deviation: (R,) in Å.
        query: (R,) numbered from 0, in order.
        cluster: (R,) of the query's chain.
        size: (R,) unpaired residues of the query.
        cost: (R,) of the loop by sizes and letters alone.
        coords: (K, P, 3) of each query's loops, where they were wanted.
    """

    features: npt.NDArray[np.float32]
    deviation: FloatArray
    query: IntArray
    cluster: IntArray
    size: IntArray
    cost: FloatArray
    coords: Sequence[npt.NDArray[np.float32]] = ()

    @property
    def ranges(self) -> list[slice]:
        """The rows of each query."""
        begins = np.flatnonzero(np.diff(self.query, prepend=-1, append=len(self.query) + 1))
        return [slice(int(a), int(b)) for a, b in pairwise(begins)]


_COLUMNS = ("features", "deviation", "query", "cluster", "size", "cost")


def cluster_chains(fragments: FragmentLibrary) -> IntArray:
    """(chains,) number of the sequence group of each chain; groups with chains alike beyond SAME_CHAIN are one."""
    letters = np.array(list(ALPHABET + UNKNOWN))
    texts = ["".join(letters[np.asarray(chain.tokens, dtype=np.int64)]) for chain in fragments.chains]
    found = np.array(cluster_sequences(texts, SAME_CHAIN), dtype=np.int64)
    first: dict[str, int] = {}
    for number, chain in enumerate(fragments.chains):
        other = first.setdefault(chain.group, int(found[number])) if chain.group else int(found[number])
        if other != found[number]:
            found[found == other] = found[number]
            first = {group: int(found[number]) if one == other else one for group, one in first.items()}
    return found


def gather_rows(
    fragments: FragmentLibrary, kind: LoopKind, clusters: IntArray, seed: int = 0, with_coords: bool = False
) -> LoopRows:
    """Loops of one kind, at most MOST_QUERIES, as queries against what the search finds in other clusters.

    Raises:
        InputError: there is no such query.
    """
    tables = [table.select(table.whole) for table in _list_tables(fragments, kind)]
    share = min(1.0, MOST_QUERIES / max(sum(len(table) for table in tables), 1))
    rng = np.random.default_rng(seed)
    made: list[LoopRows] = []
    for table in tables:
        chosen = np.sort(rng.permutation(len(table))[: round(share * len(table))])
        for row in tqdm(chosen, desc=f"{kind}, {table.sizes.shape[1]} stems", disable=None):
            of = clusters[table.chain]
            index = LoopIndex(table.select(of != of[row]), fragments.residues)
            found = _gather(index, table.select(np.array([row])), len(made), int(of[row]))
            if found is not None:
                made.append(found if with_coords else replace(found, coords=()))
    if not made:
        raise InputError(f"training loops: {kind}: found none that has one like it in another sequence group")
    columns = {name: np.concatenate([getattr(rows, name) for rows in made]) for name in _COLUMNS}
    return LoopRows(**columns, coords=[one for rows in made for one in rows.coords])


def _list_tables(fragments: FragmentLibrary, kind: LoopKind) -> list[RingTable]:
    if kind == "linker":
        return [fragments.linkers]
    return [table for size, table in sorted(fragments.rings.items()) if kind_of(size) == kind and size <= MOST_STEMS]


def _gather(index: LoopIndex, query: RingTable, number: int, cluster: int) -> LoopRows | None:
    """What an index has for one query; None where that is nothing, or a single loop."""
    sizes = [int(size) for size in query.sizes[0]]
    own = lay_over(query, sizes, index.residues)
    rows, cost = index.find(sizes, own.tokens[0])
    if len(rows) < 2:
        return None
    near = index.table.select(rows)
    laid = lay_over(near, sizes, index.residues)
    features = measure_loops(own.tokens[0], sizes, near, laid, measure_differences(laid.coords))
    reference = np.broadcast_to(own.coords, laid.coords.shape)
    moved = transform(laid.coords, *superpose(laid.coords, reference))
    return LoopRows(
        features=features.astype(np.float32),
        deviation=np.sqrt(((moved - reference) ** 2).sum(-1).mean(1)),
        query=np.full(len(rows), number),
        cluster=np.full(len(rows), cluster),
        size=np.full(len(rows), sum(sizes)),
        cost=cost,
        coords=[laid.coords.astype(np.float32)],
    )


def fit_forest(rows: LoopRows, kind: LoopKind, used: BoolArray, seed: int = 0) -> Forest:
    """Trees for the logarithm of deviation + SHIFT, from the rows where `used` (R,) is True."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    trees = HistGradientBoostingRegressor(
        max_iter=NUM_TREES,
        max_leaf_nodes=LEAVES[kind],
        max_depth=6,
        min_samples_leaf=LEAST_IN_LEAF,
        l2_regularization=1.0,
        random_state=seed,
    )
    return flatten_trees(trees.fit(rows.features[used], np.log(rows.deviation[used] + SHIFT)))


def expect_out_of_fold(rows: LoopRows, kind: LoopKind, seed: int = 0) -> FloatArray:
    """(R,) what is expected of each pair by trees that saw no query of its cluster."""
    fold = np.random.default_rng(seed).permutation(int(rows.cluster.max()) + 1)[rows.cluster] % NUM_FOLDS
    expected = np.zeros(len(rows.cost))
    for number in range(NUM_FOLDS):
        if (fold == number).any():
            inside = fold == number
            expected[inside] = fit_forest(rows, kind, ~inside, seed).predict(rows.features[inside])
    return expected


def measure_best(rows: LoopRows, expected: FloatArray, certainty: float, most: int = TRIAL_QUERIES) -> FloatArray:
    """(Q,) deviation in Å of the best of BEST_OF motifs of `most` of the queries, evenly taken."""
    best = []
    every = max(1, len(rows.ranges) // most)
    for part, coords in list(zip(rows.ranges, rows.coords, strict=True))[::every]:
        distance = measure_differences(coords.astype(np.float64))
        motifs, _ = choose_motifs(rows.features[part], expected[part], distance, certainty)
        best.append(rows.deviation[part][motifs[:BEST_OF]].min())
    return np.array(best)


def fit_model(rows: LoopRows, kind: LoopKind, seed: int = 0) -> LoopModel:
    """The model of one kind; its spread and certainty are of what is expected out of fold."""
    expected = expect_out_of_fold(rows, kind, seed)
    error = np.log(rows.deviation + SHIFT) - expected
    edges = np.quantile(expected, np.linspace(0, 1, SPREAD_BINS + 1))
    of = np.clip(np.searchsorted(edges, expected) - 1, 0, SPREAD_BINS - 1)
    reached = [float(np.log(measure_best(rows, expected, c) + SHIFT).mean()) for c in CERTAINTIES]
    return LoopModel(
        forest=fit_forest(rows, kind, np.ones(len(error), dtype=np.bool_), seed),
        at=np.array([expected[of == k].mean() for k in range(SPREAD_BINS)]),
        spread=np.array([error[of == k].std() for k in range(SPREAD_BINS)]),
        certainty=CERTAINTIES[int(np.argmin(reached))],
    )


def train_judge(rows: Mapping[LoopKind, LoopRows], before: datetime.date, seed: int = 0) -> LoopJudge:
    """A judge of all rows; no structure released on or after `before` has a part in them."""
    return LoopJudge(models={kind: fit_model(rows[kind], kind, seed) for kind in LOOP_KINDS}, trained_before=before)


def leave_out(
    judge: LoopJudge, rows: Mapping[LoopKind, LoopRows], clusters: Collection[int], seed: int = 0
) -> LoopJudge:
    """The judge with trees that saw no query of some clusters."""
    models = {}
    for kind in LOOP_KINDS:
        used = ~np.isin(rows[kind].cluster, sorted(clusters))
        models[kind] = replace(judge.models[kind], forest=fit_forest(rows[kind], kind, used, seed))
    return replace(judge, models=models)
