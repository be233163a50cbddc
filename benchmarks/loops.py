"""How well the loop judge ranks known loops, leave-group-out, and what a search costs with a hundred thousand of them.

    python benchmarks/loops.py --data DIRECTORY [--json FILE] [--seed 0] [--loops 100000]

DIRECTORY holds train_sequences.csv and train_labels.csv. Every loop of these chains is a query against what the search
finds among the loops of other sequence groups, rated by trees that saw no query of its group (five folds). Deviations
are in Å, of the loop and two pairs of each stem, medians over queries; "cost" ranks by sizes and letters alone, as the
kit did before it had a judge.
"""

import argparse
import json
import tempfile
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

from rnafold.assembly.fragments import FragmentLibrary
from rnafold.assembly.loop_features import measure_differences
from rnafold.assembly.loop_judge import LOOP_KINDS, LoopJudge, LoopKind, kind_of
from rnafold.assembly.loops import Loop, Pair
from rnafold.assembly.rings import FragmentChain, Residues, RingTable, complete_table, count_unresolved
from rnafold.assembly.shortlist import choose_motifs
from rnafold.data.competition import find_file, read_entries
from rnafold.templates.library import TemplateLibrary
from rnafold.templates.loop_training import BEST_OF, LoopRows, cluster_chains, expect_out_of_fold, gather_rows
from rnafold.templates.loops import build_fragments

TO_REACH = {"hairpin": (0.35, 1.8), "internal": (0.35, 3.2)}
BANDS = {
    "hairpin": (0, 4, 5, 7, 10, 1000),
    "internal": (0, 1, 2, 4, 7, 1000),
    "multiloop": (0, 6, 12, 1000),
    "linker": (0, 1, 3, 6, 1000),
}
TIMED_LOOPS = 200
FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Ranking:
    """One query: rank correlations with the deviation, the first loop, the best of six, the best of all, in Å."""

    size: int
    by_cost: tuple[float, float, float]
    by_judge: tuple[float, float, float]
    best_of_all: float


def correlate_ranks(first: FloatArray, second: FloatArray) -> float:
    """Spearman's rank correlation, ties sharing their mean rank; NaN where one of them is all alike."""
    ranks = []
    for values in (first, second):
        _, number, count = np.unique(values, return_inverse=True, return_counts=True)
        ranks.append((np.cumsum(count) - (count - 1) / 2)[number])
    if min(rank.std() for rank in ranks) == 0:
        return float("nan")
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def rank_queries(rows: LoopRows, expected: FloatArray, certainty: float) -> list[Ranking]:
    """How each query's loops are ranked by cost and by what is expected of them."""
    found = []
    for part, coords in zip(rows.ranges, rows.coords, strict=True):
        deviation, cost, own = rows.deviation[part], rows.cost[part], expected[part]
        near = np.argsort(cost, kind="stable")
        distance = measure_differences(coords.astype(np.float64))
        motifs, _ = choose_motifs(rows.features[part], own, distance, certainty)
        lists = [(cost, near), (own, motifs)]
        of_cost, of_judge = (
            (correlate_ranks(figure, deviation), float(deviation[o[0]]), float(deviation[o[:BEST_OF]].min()))
            for figure, o in lists
        )
        found.append(Ranking(int(rows.size[part][0]), of_cost, of_judge, float(deviation.min())))
    return found


def summarize(found: list[Ranking]) -> dict[str, float]:
    """Mean rank correlations and median deviations."""
    judge, cost = np.array([r.by_judge for r in found]), np.array([r.by_cost for r in found])
    figures = {"queries": float(len(found)), "best of all": float(np.median([r.best_of_all for r in found]))}
    for name, table in (("cost", cost), ("judge", judge)):
        figures[f"rank correlation, {name}"] = float(np.nanmean(table[:, 0]))
        figures[f"first, {name}"] = float(np.median(table[:, 1]))
        figures[f"best of {BEST_OF}, {name}"] = float(np.median(table[:, 2]))
    return figures


def print_line(name: str, figures: dict[str, float], needed: str = "") -> None:
    """One row of the table."""
    pairs = [f"{figures[f'{what}, cost']:7.2f} ->{figures[f'{what}, judge']:5.2f}" for what in
             ("rank correlation", "first", f"best of {BEST_OF}")]  # fmt: skip
    print(f"{name:26s}{figures['queries']:7.0f}  {'  '.join(pairs)}  {figures['best of all']:7.2f}  {needed}")


def grow(table: RingTable, factor: int, residues: Residues, unresolved: IntArray, chains: int) -> RingTable:
    """The table for a library of `factor` mutants of every chain."""
    shift = np.repeat(np.arange(factor, dtype=np.int32) * chains, len(table))
    columns = {name: np.concatenate([getattr(table, name)] * factor) for name in ("stems", "sizes", "depths", "chain")}
    columns["chain"] = columns["chain"] + shift
    return complete_table(columns, residues, unresolved)


def grow_fragments(fragments: FragmentLibrary, loops: int, folder: Path, seed: int) -> FragmentLibrary:
    """A library of at least so many loops, memory-mapped: mutants of its chains, 15 % of the letters changed, 1 Å."""
    rng = np.random.default_rng(seed)
    factor = -(-loops // sum(fragments.count().values()))
    old = fragments.residues
    tokens = np.concatenate([old.tokens] * factor)
    changed = rng.random(len(tokens)) < 0.15
    tokens[changed] = rng.integers(0, 4, int(changed.sum()))
    coords = np.concatenate([old.coords] * factor) + rng.normal(0, 0.5, (len(tokens), 3)).astype(np.float32)
    np.save(folder / "tokens.npy", tokens)
    np.save(folder / "coords.npy", coords.astype(np.float32))
    first = np.concatenate([old.first + k * len(old.tokens) for k in range(factor)])
    grown = Residues(
        tokens=np.load(folder / "tokens.npy", mmap_mode="r"),
        coords=np.load(folder / "coords.npy", mmap_mode="r"),
        first=first,
        length=np.concatenate([old.length] * factor),
    )
    chains: list[FragmentChain] = [fragments.chains[0]] * len(first)  # no search looks at them
    count = len(old.first)
    unresolved = count_unresolved(grown)
    rings = {size: grow(table, factor, grown, unresolved, count) for size, table in fragments.rings.items()}
    linkers = grow(fragments.linkers, factor, grown, unresolved, count)
    return FragmentLibrary(chains, rings, linkers, grown, fragments.judge)


def list_queries(fragments: FragmentLibrary, rng: np.random.Generator) -> dict[LoopKind, list[tuple[Loop, IntArray]]]:
    """Some loops of each kind but linkers, with the letters of their chains."""
    queries: dict[LoopKind, list[tuple[Loop, IntArray]]] = {}
    for size, table in sorted(fragments.rings.items()):
        for row in rng.permutation(len(table))[:TIMED_LOOPS]:
            stems = [(int(enter), int(leave)) for enter, leave in table.stems[row]]
            sizes, depths = (tuple(int(x) for x in column[row]) for column in (table.sizes, table.depths))
            closing = (stems[0][1], stems[0][0])
            loop = Loop(closing=closing, branches=tuple(stems[1:]), sizes=sizes, nicked=(False,) * size, depths=depths)
            queries.setdefault(kind_of(size), []).append((loop, read_letters(fragments, int(table.chain[row]))))
    return queries


def list_linkers(fragments: FragmentLibrary, rng: np.random.Generator) -> list[tuple[Pair, Pair, int, IntArray]]:
    """Some linkers: the two stems' pairs, the residues between them, the letters of the chain."""
    table = fragments.linkers
    found = []
    for row in rng.permutation(len(table))[:TIMED_LOOPS]:
        first, second = ((int(enter), int(leave)) for enter, leave in table.stems[row][:2])
        found.append((first, second, int(table.sizes[row][0]), read_letters(fragments, int(table.chain[row]))))
    return found


def read_letters(fragments: FragmentLibrary, chain: int) -> IntArray:
    """The letters of a chain of the library."""
    start, length = int(fragments.residues.first[chain]), int(fragments.residues.length[chain])
    return np.asarray(fragments.residues.tokens[start : start + length], dtype=np.int64)


def time_searches(fragments: FragmentLibrary, library: FragmentLibrary, seed: int) -> dict[str, float]:
    """CPU seconds until the first of each kind is found, behind a target's gate, then milliseconds a loop or linker."""
    rng = np.random.default_rng(seed)
    queries, linkers = list_queries(fragments, rng), list_linkers(fragments, rng)
    allowed = rng.random(len(library.chains)) < 0.9
    began = time.process_time()
    seen = library.select(allowed)
    for loops in queries.values():
        list(seen.propose(*loops[0], rng, 1.0, BEST_OF))
    list(seen.propose_linker(*linkers[0], rng, 1.0, BEST_OF))
    figures = {"until the first of each, s": time.process_time() - began}
    for kind, loops in queries.items():
        began = time.process_time()
        for loop, tokens in loops[1:]:
            list(seen.propose(loop, tokens, rng, 1.0, BEST_OF))
        figures[f"{kind}, ms a loop"] = 1e3 * (time.process_time() - began) / (len(loops) - 1)
    began = time.process_time()
    for linker in linkers[1:]:
        list(seen.propose_linker(*linker, rng, 1.0, BEST_OF))
    figures["linker, ms a linker"] = 1e3 * (time.process_time() - began) / (len(linkers) - 1)
    return figures


def main() -> None:
    """Parse the command line, rank every loop, time the search, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--loops", type=int, default=100_000, help="loops of the library that searches are timed in")
    arguments = parser.parse_args()
    files = (find_file(arguments.data, name) for name in ("train_sequences.csv", "train_labels.csv"))
    fragments = build_fragments(TemplateLibrary.from_entries(read_entries(*files)))
    shipped = LoopJudge.load()
    clusters = cluster_chains(fragments)
    print(f"loops {fragments.count()}, {len(set(clusters.tolist()))} sequence groups; cost -> judge, out of fold")
    print(f"{'':26s}{'queries':>7s}  {'rank corr.':>14s}  {'first, Å':>14s}  {f'best of {BEST_OF}, Å':>14s}  of all, Å")
    results: dict[str, dict[str, float]] = {}
    for kind in LOOP_KINDS:
        rows = gather_rows(fragments, kind, clusters, arguments.seed, with_coords=True)
        found = rank_queries(rows, expect_out_of_fold(rows, kind, arguments.seed), shipped.models[kind].certainty)
        results[kind] = summarize(found)
        needed = "to reach: {:g}, {:g} Å".format(*TO_REACH[kind]) if kind in TO_REACH else ""
        print_line(kind, results[kind], needed)
        for low, high in pairwise(BANDS[kind]):
            inside = [one for one in found if low <= one.size < high]
            if inside:
                results[f"{kind} {low}-{high - 1}"] = summarize(inside)
                print_line(f"  {low} to {high - 1} residues", results[f"{kind} {low}-{high - 1}"])
    with tempfile.TemporaryDirectory() as folder:
        grown = grow_fragments(fragments.judged_by(shipped), arguments.loops, Path(folder), arguments.seed)
        count = sum(grown.count().values())
        times = time_searches(fragments, grown, arguments.seed)
    print(f"search among {count} loops, CPU: " + ", ".join(f"{name} {value:.2f}" for name, value in times.items()))
    if arguments.json:
        text = json.dumps({"loops": results, "search": times | {"loops": count}}, indent=1)
        arguments.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
