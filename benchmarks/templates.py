"""Templates, assemblies and their mix against the public template method, on real data, in one run.

    python benchmarks/templates.py --data DIRECTORY

DIRECTORY holds train_*, validation_* and recent_* sequences and labels. Templates, loops and the learned models come
from train_* alone; every target sees only what was released before its temporal cutoff. Scores are part 2's
TM-score by the exact scorer, best of five, mean over targets, with the first prediction's in brackets. "assembled
alone" uses no template's atoms but folds with the pairs of templates; "no template at all" knows none.
"""

import argparse
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from rnafold import rna
from rnafold.data.competition import find_file, read_entries
from rnafold.features.alternatives import add_alternatives
from rnafold.features.secondary import predict_pairing
from rnafold.prediction.slots import SlotsConfig, load_slots, pick_five
from rnafold.scoring import score_target
from rnafold.structure import Candidate, Entry, Pairing, Target, structure_from_points
from rnafold.templates.alignment import Setting
from rnafold.templates.library import Gate, TemplateLibrary, gate_for
from rnafold.templates.pipeline import build_candidates
from rnafold.templates.ranker import FEATURE_NAMES, measure_features
from rnafold.templates.reading import load_models
from rnafold.templates.search import ProfileAligner, build_profile_scores, search_chain
from rnafold.templates.single import MOST_SAMPLES
from rnafold.templates.sources import ModellingTask, Sources, rank_hits

FloatArray = npt.NDArray[np.float64]
PUBLIC = Setting("public", "global", 0.0, -8.0, -0.4)
ACCEPTANCE = {
    "templates alone": {"validation": 0.245, "recent": 0.375},
    "assembled alone": {"validation": 0.27, "recent": 0.265},
    "no template at all": {"validation": 0.27, "recent": 0.265},
    "mix": {"validation": 0.295, "recent": 0.39},
}


@dataclass
class Result:
    """What one target reached: scores of five predictions by method, and what describes the target."""

    entry: Entry
    scores: dict[str, tuple[float, ...]] = field(default_factory=dict)
    identity: float = 0.0
    confidence: float = 0.0
    search_seconds: float = 0.0
    total_seconds: float = 0.0


def fold(target: Target, with_alternatives: bool) -> Pairing:
    """A target's predicted pairs."""
    pairing = predict_pairing(target.sequence, target.chains, num_samples=MOST_SAMPLES)
    return add_alternatives(pairing, target.sequence, target.chains) if with_alternatives else pairing


def fill_linearly(coords: FloatArray) -> FloatArray:
    """The public method's filling: straight lines over gaps, ends continued by 3 Å steps."""
    known = np.isfinite(coords).all(1)
    index = np.arange(len(coords))
    if not known.any():
        return np.stack([index * 5.95, 0.0 * index, 0.0 * index], axis=1)
    filled = np.stack([np.interp(index, index[known], coords[known, axis]) for axis in range(3)], axis=1)
    first, last = np.flatnonzero(known)[[0, -1]]
    filled[:first, 0] += 3.0 * (first - index[:first])
    filled[last + 1 :, 0] += 3.0 * (index[last + 1 :] - last)
    return filled


def predict_publicly(target: Target, sources: Sources, gate: Gate | None) -> list[FloatArray]:
    """The public template method: global alignment, score / (2 min length), lengths within 30 %, five best, lines."""
    library = sources.library
    tokens = rna.encode_sequence(target.sequence)
    aligner = ProfileAligner(build_profile_scores(tokens, np.zeros((len(tokens), 3)), 0.0), PUBLIC)
    lengths = library.chain_length
    near = np.abs(lengths - len(tokens)) <= 0.3 * np.maximum(lengths, len(tokens))
    chains = np.flatnonzero(library.allowed(gate) & near)
    scores = [
        aligner.score(aligner.encode(sources.index.codes_of(int(chain)))) / (2 * min(len(tokens), int(lengths[chain])))
        for chain in chains
    ]
    models = []
    for row in np.argsort(-np.array(scores), kind="stable")[:5]:
        mapping = aligner.align(aligner.encode(sources.index.codes_of(int(chains[row]))))
        coords = np.full((len(tokens), 3), np.nan)
        aligned = mapping >= 0
        coords[aligned] = library.coords[library.chain_rows(int(chains[row]))][mapping[aligned]]
        models.append(fill_linearly(coords))
    return models or [fill_linearly(np.full((len(tokens), 3), np.nan))]


def score_models(entry: Entry, models: Sequence[FloatArray]) -> tuple[float, ...]:
    """Exact TM-score of each model, best over references."""
    target = entry.target
    return score_target(target.target_id, target.chains, np.stack(models), entry.references).tm


def evaluate(entry: Entry, pairing: Pairing, sources: Sources, config: SlotsConfig, gate: Gate | None) -> Result:
    """All methods on one target."""
    result = Result(entry)
    target = entry.target
    began = time.perf_counter()
    search_chain(sources.index, target.sequence, pairing.probabilities, gate)
    result.search_seconds = time.perf_counter() - began
    began = time.perf_counter()
    task = ModellingTask(target=target, pairing=pairing, sources=sources, gate=gate)
    candidates = build_candidates(task)

    def pick(origins: set[str], settings: SlotsConfig) -> list[Candidate]:
        pool = [candidate for candidate in candidates if candidate.origin in origins]
        return pick_five(target, pool, settings, pairing=pairing, jury=task.jury)

    mix = pick({"template", "assembly"}, config)
    result.total_seconds = time.perf_counter() - began
    free = SlotsConfig(spread=config.spread, likeness_power=config.likeness_power, quality=config.quality)
    groups = {"templates alone": pick({"template"}, free), "assembled alone": pick({"assembly"}, free), "mix": mix}
    for name, chosen in groups.items():
        result.scores[name] = score_models(entry, [candidate.coords for candidate in chosen])
    pure = build_candidates(task, num_templates=0)
    chosen = pick_five(target, pure, free, pairing=pairing, jury=task.jury)
    result.scores["no template at all"] = score_models(entry, [candidate.coords for candidate in chosen])
    result.scores["oracle"] = score_models(entry, [candidate.coords for candidate in candidates])
    result.scores["public method"] = score_models(entry, predict_publicly(target, sources, gate))
    ranked = rank_hits(task)
    if ranked:
        best = [ranked[0].hit]
        features = measure_features(sources.library, best, target.sequence, pairing.probabilities, pairing.partner)[0]
        value = dict(zip(FEATURE_NAMES, features))
        result.identity, result.confidence = value["identity_per_aligned"] * value["coverage"], ranked[0].expected_tm
    return result


def mean_best(results: Sequence[Result], name: str) -> str:
    """ "0.302 (0.250)": best of five and first, means over targets."""
    best = np.mean([max(r.scores[name]) for r in results])
    return f"{best:.3f} ({np.mean([r.scores[name][0] for r in results]):.3f})"


def compare(results: Sequence[Result], name: str, other: str) -> str:
    """Paired difference with its standard error, and how many targets won and lost."""
    difference = np.array([max(r.scores[name]) - max(r.scores[other]) for r in results])
    error = difference.std(ddof=1) / np.sqrt(len(difference))
    won, lost = (difference > 0.005).sum(), (difference < -0.005).sum()
    return f"{difference.mean():+.3f} +- {error:.3f} ({won} won, {lost} lost)"


def print_bands(
    results: Sequence[Result], title: str, value: Callable[[Result], float], edges: Sequence[float]
) -> None:
    """Mean best of five of each method in bands of a value."""
    names = ("public method", "templates alone", "assembled alone", "mix", "oracle")
    print(f"\n{title:26s}{'n':>4s}" + "".join(f"{name:>18s}" for name in names))
    for low, high in pairwise(edges):
        inside = [r for r in results if low < value(r) <= high]
        if inside:
            cells = "".join(f"{np.mean([max(r.scores[name]) for r in inside]):18.3f}" for name in names)
            print(f"{low:g} < .. <= {high:g}".ljust(26) + f"{len(inside):4d}{cells}")


def grow_library(entries: Sequence[Entry], factor: int, seed: int = 0) -> list[Entry]:
    """The entries and factor - 1 synthetic mutants of each: 15 % of the letters changed, atoms moved by about 1 Å."""
    rng = np.random.default_rng(seed)
    grown = list(entries)
    for copy in range(1, factor):
        for entry in entries:
            letters = np.array(list(entry.target.sequence))
            changed = rng.random(len(letters)) < 0.15
            letters[changed] = rng.choice(list(rna.ALPHABET), int(changed.sum()))
            points = entry.references[0].c1 + rng.normal(size=(len(letters), 3))
            target = Target(
                target_id=f"M{copy}{entry.target.target_id}",
                sequence="".join(letters),
                chains=entry.target.chains,
                cutoff=entry.target.cutoff,
            )
            grown.append(Entry(target=target, references=(structure_from_points(points),), group=entry.group))
    return grown


def print_search_times(entries: Sequence[Entry], results: Sequence[Result], pairings: dict[str, Pairing]) -> None:
    """Seconds of a search by library size."""
    chosen = sorted(results, key=lambda r: r.entry.target.length)
    chosen = [r for r in chosen if r.entry.target.length <= 500][-1:] + chosen[len(chosen) // 2 : len(chosen) // 2 + 1]
    print("\nsearch seconds by library size")
    for factor in (1, 2, 4):
        sources = Sources(TemplateLibrary.from_entries(grow_library(entries, factor)), None)
        cells = []
        for result in chosen:
            target = result.entry.target
            began = time.perf_counter()
            search_chain(sources.index, target.sequence, pairings[target.target_id].probabilities, gate_for(target))
            cells.append(f"{target.length} nt {time.perf_counter() - began:.2f} s")
        print(f"  {factor}x, {sources.library.num_chains} chains: {', '.join(cells)}")


def main() -> None:
    """Parse the command line, run every method, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument(
        "--models", type=Path, default=Path("rnafold/templates"), help="folder of ranker.json, jury.json"
    )
    parser.add_argument("--slots", type=Path, default=Path("submission/slots.yaml"))
    parser.add_argument("--per-target", action="store_true", help="print every target")
    parser.add_argument("--no-alternatives", action="store_true", help="ViennaRNA's structures alone")
    parser.add_argument("--quick", action="store_true", help="without the gate-off run and the library growth")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    sets = {}
    for name in ("train", "validation", "recent"):
        files = [find_file(arguments.data, f"{name}_{kind}.csv") for kind in ("sequences", "labels")]
        sets[name] = read_entries(*files)
    config = load_slots(arguments.slots)
    sources = Sources(TemplateLibrary.from_entries(sets["train"]), *load_models(arguments.models))
    print(f"library: {sources.library.num_chains} chains, loops {sources.fragments(None).count()}")
    tested = [(name, entry) for name in ("validation", "recent") for entry in sets[name]]
    pairings = {
        entry.target.target_id: fold(entry.target, not arguments.no_alternatives)
        for _, entry in tqdm(tested, desc="base pairs", disable=None)
    }
    found = {one.source for pairing in pairings.values() for one in pairing.alternatives}
    print(f"structures beside the predicted ones: {', '.join(sorted(found)) or 'none'}")
    results: dict[str, list[Result]] = {"validation": [], "recent": []}
    for name, entry in tqdm(tested, desc="targets", disable=None):
        pairing = pairings[entry.target.target_id]
        results[name].append(evaluate(entry, pairing, sources, config, gate_for(entry.target)))
    print_summary(results, arguments.per_target)
    if not arguments.quick:
        print_leak(sources, sets, pairings, results)
        print_search_times(sets["train"], results["validation"] + results["recent"], pairings)


def print_summary(results: dict[str, list[Result]], per_target: bool) -> None:
    """The table of methods, the paired differences, bands and times."""
    print(f"\n{'best of five (first)':26s}{'validation 12':>20s}{'recent 60':>20s}   to reach")
    for name in ("public method", "templates alone", "no template at all", "assembled alone", "mix", "oracle"):
        cells = "".join(f"{mean_best(results[key], name):>20s}" for key in ("validation", "recent"))
        needed = ACCEPTANCE.get(name)
        print(f"{name:26s}{cells}   " + (f"{needed['validation']} / {needed['recent']}" if needed else ""))
    for other in ("templates alone", "public method"):
        for key, found in results.items():
            print(f"mix - {other}, {key}: {compare(found, 'mix', other)}")
    both = results["validation"] + results["recent"]
    print_bands(both, "identity x coverage", lambda r: r.identity, (-1, 0.4, 0.5, 0.6, 0.8, 1.0))
    print_bands(both, "below and above 0.8", lambda r: r.identity, (-1, 0.8, 1.0))
    print_bands(both, "length", lambda r: r.entry.target.length, (0, 30, 50, 80, 130, 250, 5000))
    print_bands(both, "confidence", lambda r: r.confidence, (-1, 0.2, 0.3, 0.4, 0.6, 1.0))
    seconds = np.array([r.search_seconds for r in both if r.entry.target.length <= 500])
    total = np.array([r.total_seconds for r in both])
    print(f"\nsearch, targets of <= 500 nt: mean {seconds.mean():.2f} s, most {seconds.max():.2f} s")
    print(f"all candidates and the choice: mean {total.mean():.1f} s, most {total.max():.1f} s")
    top = np.array([[r.confidence, max(r.scores["templates alone"][:3])] for r in both])
    print(f"confidence against the best of the first three templates: r = {np.corrcoef(top.T)[0, 1]:.2f}")
    if per_target:
        for result in both:
            cells = " ".join(f"{name} {max(values):.3f}" for name, values in result.scores.items())
            print(f"{result.entry.target.target_id:10s} {result.entry.target.length:5d} {cells}")


def print_leak(
    sources: Sources, sets: dict[str, list[Entry]], pairings: dict[str, Pairing], gated: dict[str, list[Result]]
) -> None:
    """Five templates with the date gate off and all structures in the library: without and with the target's own."""
    leaky = [*sets["train"], *sets["validation"], *sets["recent"]]
    open_sources = Sources(TemplateLibrary.from_entries(leaky), sources.ranker, sources.jury, sources.loop_judge)
    print("\ndate gate off, later structures in the library (a leak, for show)")
    for key, found in gated.items():
        cells = []
        for own in (False, True):
            inflated = []
            for result in found:
                target = result.entry.target
                gate = None if own else Gate(before=None, codes=gate_for(target).codes)
                pairing = pairings[target.target_id]
                task = ModellingTask(target=target, pairing=pairing, sources=open_sources, gate=gate)
                made = build_candidates(task, num_templates=5, num_assemblies=0)
                inflated.append(max(score_models(result.entry, [c.coords for c in made])))
            cells.append(f"{np.mean(inflated):.3f} {'with' if own else 'without'} the target's own structure")
        print(f"  {key}: {', '.join(cells)}; behind the gate {mean_best(found, 'templates alone')}")


if __name__ == "__main__":
    main()
