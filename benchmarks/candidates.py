"""Other programs' models beside ours: naive rules, the jury, fixed slots, ours alone and the oracle, in one run.

    python benchmarks/candidates.py --data DIRECTORY --peers DIRECTORY [--ours FILE] [--write FILE]

DIRECTORY of --data holds train_*, validation_* and recent_* sequences and labels; that of --peers scores.csv and
c1_all.csv.gz (method, target_id, rank, resid, x, y, z, bfactor). Ours is what `predict` submits by default, templates
behind each target's own date; --ours keeps it for the next run. Part-2 metric, exact scorer, best of five.
Every target is judged by a jury that was fitted without it and its likes (80 % identity). --write fits to all and
writes the parameters (rnafold/candidates/jury.json). --queries 30 lets 41 training queries with our own templates and
assemblies join the fit, which made it worse (recent 0.491 -> 0.487, rank correlation 0.68 -> 0.67; validation 0.74 ->
0.72): how like our own candidates are to each other tells nothing of other programs'. The peers are models of the very
targets: they never go below --templates.
"""

import argparse
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from tqdm import tqdm

from rnafold.candidates.calibration import calibrate
from rnafold.candidates.completion import build_outside
from rnafold.candidates.confidence import OwnConfidence, recognise_program
from rnafold.candidates.fitting import (
    Example,
    Pool,
    build_example,
    draw_scenarios,
    fit_parameters,
)
from rnafold.candidates.jury import CandidatesJury, JuryParameters, name_source
from rnafold.candidates.likeness import measure_pairwise, measure_source_likeness
from rnafold.candidates.source import OutsideModel, Source
from rnafold.config.settings import DataConfig
from rnafold.data.clusters import cluster_sequences
from rnafold.data.competition import read_entries
from rnafold.data.files import find_competition_files, find_file
from rnafold.files.shipped import find_shipped_weights, find_slots
from rnafold.model.weights import choose_weights, load_network
from rnafold.prediction.features import TolerantFeatures
from rnafold.prediction.losses import StepLosses
from rnafold.prediction.pick import choose_across
from rnafold.prediction.slots import SlotsConfig, load_slots
from rnafold.prediction.solver import CandidateSolver
from rnafold.scoring import score_target
from rnafold.scoring.choice import rank_correlation
from rnafold.structure import ORIGINS, Candidate, Entry, Origin, Pairing
from rnafold.templates.library import TemplateLibrary
from rnafold.templates.pipeline import build_candidates
from rnafold.templates.queries import select_queries
from rnafold.templates.reading import load_models, load_sources
from rnafold.templates.sources import ModellingTask, Sources

FloatArray = npt.NDArray[np.float64]
SCENARIOS = 12
QUERY_WEIGHT = 0.2
# Two sources that score so high on these targets that they must have known the answers, and the groups of CASP15.
KNOWING = ("garn3-trRosettaRNA", "bench3d-trRosettaRNA")
CASP = ("casp15-",)
# In which order the fixed slots take two sources: as the winners did, by what is known of the programs beforehand.
FIXED = ("DeepFoldRNA", "trRosettaRNA", "DRfold2", "RhoFold", "DRfold", "AlphaFold3", "RoseTTAFoldNA")
NUM_SLOTS = 5
SETS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "validation, -trR -casp": ("validation", (*KNOWING, *CASP)),
    "validation, -trR": ("validation", KNOWING),
    "recent": ("recent", ()),
    "recent, -trR": ("recent", KNOWING),
}
ACCEPTANCE = {
    ("validation, -trR -casp", "all, jury"): 0.345,
    ("recent", "all, jury"): 0.49,
    ("recent", "peers, jury"): 0.45,
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Case:
    """One target: its set, the pool of all candidates, and each source's full name (with where it was published)."""

    part: str
    pool: Pool
    published: tuple[str, ...]


def read_peers(folder: Path, entries: Mapping[str, Entry]) -> list[Source]:
    """Every published sample as a model of a source named as published, with its pLDDT where the program writes one."""
    table = pd.read_csv(folder / "c1_all.csv.gz")
    sources: dict[str, Source] = {}
    for (method, target_id, rank), rows in table.groupby(["method", "target_id", "rank"], sort=False):
        if target_id not in entries:
            continue
        source = sources.setdefault(str(method), Source(name=str(method), program=recognise_program(str(method))))
        model = OutsideModel(
            points=rows[["x", "y", "z"]].to_numpy(dtype=np.float64),
            note=f"{method} {rank}",
            own=_read_plddt(source.program, rows["bfactor"].to_numpy(dtype=np.float64)),
            order=(int(str(rank)),),
        )
        source.models.setdefault(str(target_id), []).append(model)
    return list(sources.values())


def _read_plddt(program: str, bfactors: FloatArray) -> OwnConfidence | None:
    if not program or bfactors.std() < 1e-3 or bfactors.min() < 0 or bfactors.max() > 100 or bfactors.max() <= 1:
        return None
    return OwnConfidence(name="plddt (B-factors)", value=float(bfactors.mean()) / 100)


def name_family(published: str) -> str:
    """The program, wherever its models were published: each counts once."""
    return re.sub(r"^(garn3|bench3d)-", "", published)


def make_ours(
    entries: Sequence[Entry], data: Path, cache: Path, slots: SlotsConfig
) -> dict[str, tuple[Pairing, list[Candidate]]]:
    """What `predict` submits of each target by default, and the pairs it predicts."""
    shipped = find_shipped_weights()
    weights = None if shipped is None else choose_weights(shipped)
    if weights is None:
        raise SystemExit("no network weights are shipped with this checkout: make weights")
    network = load_network(weights)
    features = TolerantFeatures(
        DataConfig(cache=str(cache), jobs=1), find_competition_files(data).msa_folders, StepLosses()
    )
    solver = CandidateSolver(features, load_sources([data], cache), network, network.max_recycles, slots, 0)
    made = {}
    for entry in tqdm(entries, desc="ours", disable=None):
        five = solver(entry.target, 1e7)
        made[entry.target.target_id] = (features.pairings[entry.target.target_id], list(five))
    return made


def save_ours(path: Path, made: Mapping[str, tuple[Pairing, list[Candidate]]]) -> None:
    """Keeps ours for the next run."""
    arrays: dict[str, npt.NDArray[np.generic]] = {}
    for name, (pairing, five) in made.items():
        arrays[f"{name}/coords"] = np.stack([c.coords for c in five])
        arrays[f"{name}/origin"] = np.array([c.origin for c in five])
        arrays[f"{name}/confidence"] = np.array([c.confidence for c in five])
        arrays[f"{name}/probabilities"] = pairing.probabilities
        arrays[f"{name}/partner"] = pairing.partner
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type]


def load_ours(path: Path) -> dict[str, tuple[Pairing, list[Candidate]]]:
    """What `save_ours` kept."""
    made = {}
    with np.load(path, allow_pickle=False) as kept:
        for name in {key.rpartition("/")[0] for key in kept.files}:
            partner = kept[f"{name}/partner"]
            pairing = Pairing(
                probabilities=kept[f"{name}/probabilities"],
                partner=partner,
                samples=np.zeros((0, len(partner)), dtype=np.int64),
                source="kept",
            )
            rows = zip(kept[f"{name}/coords"], kept[f"{name}/origin"], kept[f"{name}/confidence"])
            five = [Candidate(coords=x, origin=_read_origin(str(o)), confidence=float(c)) for x, o, c in rows]
            made[name] = (pairing, five)
    return made


def make_query_pools(data: Path, step: int, seed: int = 0) -> list[Pool]:
    """Pools of our own training queries, every `step`-th: templates and assemblies behind each query's gate.

    Their own expectations are left out: the models behind those learned from these very chains.
    """
    files = [find_file(data, f"train_{kind}.csv") for kind in ("sequences", "labels")]
    entries = read_entries(*files)
    library = TemplateLibrary.from_entries(entries)
    sources = Sources(library, *load_models())
    pools = []
    for query in tqdm(select_queries(library, entries, seed, step), desc="training queries", disable=None):
        target = query.entry.target
        task = ModellingTask(target=target, pairing=query.pairing, sources=sources, gate=query.gate, seed=seed)
        made = [replace(c, confidence=0.0) for c in build_candidates(task, num_templates=5, num_assemblies=5)]
        coords = np.stack([c.coords for c in made])
        if len({c.origin for c in made}) < 2:
            continue
        pools.append(
            Pool(
                target=target,
                group=f"query {target.target_id}",
                pairing=query.pairing,
                candidates=tuple(made),
                sources=tuple(c.origin for c in made),
                likeness=measure_pairwise(list(coords), target.chains),
                tm=np.array(score_target(target.target_id, target.chains, coords, query.entry.references, "fast").tm),
            )
        )
    return pools


def _read_origin(text: str) -> Origin:
    """What made a kept candidate."""
    return next(origin for origin in ORIGINS if origin == text)


def build_cases(
    entries: Mapping[str, tuple[str, Entry]],
    peers: Sequence[Source],
    ours: Mapping[str, tuple[Pairing, list[Candidate]]],
    centres: dict[str, float],
) -> list[Case]:
    """All candidates of every target, scored exactly and compared."""
    calibration = calibrate(peers, centres)
    names = list(entries)
    clusters = cluster_sequences([entries[name][1].target.sequence for name in names])
    cases = []
    for name, cluster in tqdm(list(zip(names, clusters)), desc="pools", disable=None):
        part, entry = entries[name]
        pairing, five = ours[name]
        outside = build_outside(entry.target, peers, pairing, calibration)
        candidates = [*(c for c in five if c.origin != "fallback"), *outside]
        coords = np.stack([candidate.coords for candidate in candidates])
        pool = Pool(
            target=entry.target,
            group=f"group {cluster}",
            pairing=pairing,
            candidates=tuple(replace(c, source=name_family(c.source)) if c.source else c for c in candidates),
            sources=tuple(name_family(name_source(c)) for c in candidates),
            likeness=measure_pairwise(list(coords), entry.target.chains),
            tm=np.array(score_target(name, entry.target.chains, coords, entry.references, "exact").tm),
        )
        cases.append(Case(part=part, pool=pool, published=tuple(name_source(c) for c in candidates)))
    return cases


Rule = Callable[[Pool], list[int]]


def pick_naively(pool: Pool) -> list[int]:
    """By likeness to other sources, at most one of a source; further ones only where sources run out."""
    others, _ = measure_source_likeness(pool.likeness, pool.sources)
    order = [int(k) for k in np.argsort(-np.nan_to_num(others), kind="stable")]
    first = [k for n, k in enumerate(order) if pool.sources[k] not in {pool.sources[j] for j in order[:n]}]
    return [*first, *(k for k in order if k not in first)][:NUM_SLOTS]


def pick_freely(pool: Pool) -> list[int]:
    """By likeness to other sources alone."""
    others, _ = measure_source_likeness(pool.likeness, pool.sources)
    return [int(k) for k in np.argsort(-np.nan_to_num(others), kind="stable")[:NUM_SLOTS]]


def pick_by_mean(pool: Pool) -> list[int]:
    """By likeness to all other candidates, whatever their source: many samples of one outvote the rest."""
    mean = (pool.likeness.sum(1) - 1.0) / max(len(pool.tm) - 1, 1)
    return [int(k) for k in np.argsort(-mean, kind="stable")[:NUM_SLOTS]]


def pick_fixed(pool: Pool) -> list[int]:
    """One of ours and two of each of two sources, as part 2's winners did; where a source has fewer, the next one's."""
    ours = [k for k, c in enumerate(pool.candidates) if not c.source][:1]
    order = [*FIXED, *sorted({c.source for c in pool.candidates if c.source} - set(FIXED))]
    taken = [k for name in order for k in [j for j, s in enumerate(pool.sources) if s == name][:2]]
    return [*ours, *taken, *(k for k, c in enumerate(pool.candidates) if not c.source and k not in ours)][:NUM_SLOTS]


def pick_by_jury(pool: Pool, parameters: JuryParameters, slots: SlotsConfig) -> list[int]:
    """As `predict --candidates` and `pick` do."""
    jury = CandidatesJury(parameters=parameters)
    choice = choose_across(pool.target, pool.candidates, pool.pairing, jury, slots, likeness=pool.likeness)
    place = {id(candidate.coords): k for k, candidate in enumerate(pool.candidates)}
    return [place[id(c.coords)] for c in choice.five if id(c.coords) in place]


def is_ours(pool: Pool) -> npt.NDArray[np.int64]:
    """Rows of our own candidates."""
    return np.array([k for k, c in enumerate(pool.candidates) if not c.source], dtype=np.int64)


def is_outside(pool: Pool) -> npt.NDArray[np.int64]:
    """Rows of the others'."""
    return np.array([k for k, c in enumerate(pool.candidates) if c.source], dtype=np.int64)


def drop(case: Case, left_out: Sequence[str]) -> Pool:
    """A case's pool without some published sources."""
    return case.pool.take(
        np.array([k for k, n in enumerate(case.published) if not n.startswith(tuple(left_out) or ("~",))])
    )


def best(pool: Pool, rule: Rule) -> float:
    """Best of five by a rule."""
    return float(pool.tm[rule(pool)].max())


def report(title: str, rows: Mapping[str, FloatArray], against: str) -> None:
    """A table of means with paired differences and their standard errors."""
    print(f"\n{title}: {len(next(iter(rows.values())))} targets")
    for name, values in rows.items():
        line = f"  {name:34s} {values.mean():.3f}"
        if name != against:
            difference = values - rows[against]
            error = difference.std(ddof=1) / np.sqrt(len(difference))
            won, lost = int((difference > 0.005).sum()), int((difference < -0.005).sum())
            line += f"   {difference.mean():+.3f} +- {error:.3f} ({won} won, {lost} lost) against {against}"
        needed = ACCEPTANCE.get((title, name))
        print(line + (f"   to reach {needed}" if needed else ""))


def compare_rules(cases: Sequence[Case], juries: Mapping[str, JuryParameters], slots: SlotsConfig) -> None:
    """The main tables."""
    for title, (part, left_out) in SETS.items():
        rows: dict[str, list[float]] = {}
        ranks: dict[str, list[float]] = {"jury": [], "naive": []}
        for case in (case for case in cases if case.part == part):
            pool = drop(case, left_out)
            jury = juries[pool.group]

            def judged(one: Pool, jury: JuryParameters = jury) -> list[int]:
                return pick_by_jury(one, jury, slots)

            peers, ours = pool.take(is_outside(pool)), pool.take(is_ours(pool))
            figures = {
                "ours alone": float(ours.tm.max()),
                "peers, naive": best(peers, pick_naively),
                "peers, jury": best(peers, judged),
                "peers, oracle": float(peers.tm.max()),
                "all, mean likeness to all": best(pool, pick_by_mean),
                "all, fixed slots 1 + 2 + 2": best(pool, pick_fixed),
                "all, naive, any": best(pool, pick_freely),
                "all, naive, one a source": best(pool, pick_naively),
                "all, jury": best(pool, judged),
                "all, oracle": float(pool.tm.max()),
            }
            for name, value in figures.items():
                rows.setdefault(name, []).append(value)
            rated, _ = CandidatesJury(parameters=jury).rate(pool.target, pool.candidates, pool.pairing, pool.likeness)
            others, _ = measure_source_likeness(pool.likeness, pool.sources)
            ranks["jury"].append(rank_correlation(np.array([c.confidence for c in rated]), pool.tm) or 0.0)
            ranks["naive"].append(rank_correlation(np.nan_to_num(others), pool.tm) or 0.0)
        report(title, {name: np.array(values) for name, values in rows.items()}, "ours alone")
        difference = np.array(rows["all, jury"]) - np.array(rows["all, naive, one a source"])
        error = difference.std(ddof=1) / np.sqrt(len(difference))
        print(f"  jury - naive, one a source: {difference.mean():+.4f} +- {error:.4f}")
        told = ", ".join(f"{name} {np.mean(values):.2f}" for name, values in ranks.items())
        print(f"  rank correlation of expected and reached within a target: {told}")


def print_targets(cases: Sequence[Case], juries: Mapping[str, JuryParameters], slots: SlotsConfig) -> None:
    """Every target's five by the jury, with what each reached, beside the naive rule's best and the best of all."""
    for case in cases:
        pool = case.pool
        five = pick_by_jury(pool, juries[pool.group], slots)
        told = ", ".join(f"{pool.sources[k]} {pool.tm[k]:.2f}" for k in five)
        naive, oracle = best(pool, pick_naively), float(pool.tm.max())
        print(f"{case.part} {pool.target.target_id}: naive {naive:.3f}, best {oracle:.3f}; jury's five: {told}")


def compare_scenarios(pools: Sequence[Pool], juries: Mapping[str, JuryParameters], slots: SlotsConfig) -> None:
    """What users have: ours with three to seven sources drawn at random, means over the draws of each target."""
    found: dict[str, list[list[float]]] = {}
    for pool in draw_scenarios(pools, 2 * SCENARIOS, seed=5):
        ours, others = is_ours(pool), is_outside(pool)
        if not len(ours) or not len(others):
            continue
        figures = (
            float(pool.tm[ours].max()),
            best(pool, pick_fixed),
            best(pool, pick_naively),
            float(pool.tm[pick_by_jury(pool, juries[pool.group], slots)].max()),
            float(pool.tm.max()),
        )
        found.setdefault(pool.target.target_id, []).append(list(figures))
    means = np.array([np.mean(rows, axis=0) for rows in found.values()])
    names = ("ours alone", "all, fixed slots 1 + 2 + 2", "all, naive, one a source", "all, jury", "all, oracle")
    title = f"all targets, {SCENARIOS} draws of three to seven sources each, -trR"
    report(title, {name: means[:, k] for k, name in enumerate(names)}, "all, naive, one a source")


def try_robustness(
    cases: Sequence[Case], juries: Mapping[str, JuryParameters], slots: SlotsConfig, seed: int = 0
) -> None:
    """What the mean loses where a source is removed, given ten times, or replaced by noise."""
    rng = np.random.default_rng(seed)
    print("\nrobustness: best of five, all candidates, each source in turn (means over sources and targets)")
    for title in ("validation, -trR -casp", "recent", "recent, -trR"):
        part, left_out = SETS[title]
        figures: dict[str, list[float]] = {"as it is": [], "removed": [], "ten times": [], "noise": []}
        for case in (case for case in cases if case.part == part):
            pool = drop(case, left_out)
            jury = juries[pool.group]
            names = sorted({c.source for c in pool.candidates if c.source})
            names = [names[k] for k in rng.permutation(len(names))[:3]]
            plain = float(pool.tm[pick_by_jury(pool, jury, slots)].max())
            for name in names:
                figures["as it is"].append(plain)
                for how, changed in (
                    ("removed", pool.without(name)),
                    ("ten times", repeat_source(pool, name)),
                    ("noise", spoil_source(pool, name, rng)),
                ):
                    figures[how].append(float(changed.tm[pick_by_jury(changed, jury, slots)].max()))
        told = ", ".join(f"{how} {np.mean(values):.4f}" for how, values in figures.items())
        print(f"  {title}: {told}")


def repeat_source(pool: Pool, name: str, times: int = 10) -> Pool:
    """The pool with one source's models under ten names."""
    rows = [k for k, source in enumerate(pool.sources) if source == name]
    order = [*range(len(pool.tm)), *(rows * (times - 1))]
    larger = pool.take(np.array(order, dtype=np.int64))
    copies = [f"{name} {number}" for number in range(1, times) for _ in rows]
    renamed = [
        replace(c, source=copy, coords=c.coords.copy()) for c, copy in zip(larger.candidates[len(pool.tm) :], copies)
    ]
    return replace(larger, candidates=(*pool.candidates, *renamed), sources=(*pool.sources, *copies))


def spoil_source(pool: Pool, name: str, rng: np.random.Generator) -> Pool:
    """The pool with one source's models replaced by random walks, which score next to nothing."""
    candidates, tm = list(pool.candidates), pool.tm.copy()
    for k in [k for k, source in enumerate(pool.sources) if source == name]:
        steps = rng.normal(size=(pool.target.length, 3))
        steps *= 5.9 / np.linalg.norm(steps, axis=1, keepdims=True)
        candidates[k] = replace(candidates[k], coords=np.cumsum(steps, axis=0))
        tm[k] = 0.05
    likeness = measure_pairwise([c.coords for c in candidates], pool.target.chains)
    return replace(pool, candidates=tuple(candidates), tm=tm, likeness=likeness)


def main() -> None:
    """Parse the command line, build the pools, fit, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--peers", type=Path, required=True)
    parser.add_argument("--ours", type=Path, help="file to keep our predictions in (.npz)")
    parser.add_argument("--cache", type=Path, default=Path(".cache/rnafold"))
    parser.add_argument("--slots", default=None)
    parser.add_argument(
        "--queries", type=int, default=0, metavar="STEP", help="fit to every STEP-th training query too"
    )
    parser.add_argument("--write", type=Path, help="write the parameters fitted to all targets")
    parser.add_argument("--per-target", action="store_true", help="print every target's five")
    arguments = parser.parse_args()
    slots = load_slots(find_slots(arguments.slots))
    scored = set(pd.read_csv(arguments.peers / "scores.csv")["target_id"])
    entries: dict[str, tuple[str, Entry]] = {}
    for part in ("validation", "recent"):
        files = [find_file(arguments.data, f"{part}_{kind}.csv") for kind in ("sequences", "labels")]
        entries |= {e.target.target_id: (part, e) for e in read_entries(*files) if e.target.target_id in scored}
    peers = read_peers(arguments.peers, {name: entry for name, (_, entry) in entries.items()})
    if arguments.ours is not None and arguments.ours.is_file():
        ours = load_ours(arguments.ours)
    else:
        ours = make_ours([entry for _, entry in entries.values()], arguments.data, arguments.cache, slots)
        if arguments.ours is not None:
            save_ours(arguments.ours, ours)
    centres = find_centres(peers)
    cases = build_cases(entries, peers, ours, centres)
    pools = [drop(case, KNOWING) for case in cases]
    scenarios = [pool for pool in draw_scenarios(pools, SCENARIOS) if len(set(pool.sources)) > 2]
    examples: list[Example] = [
        build_example(pool, 1.0 / SCENARIOS) for pool in tqdm(scenarios, desc="examples", disable=None)
    ]
    own = make_query_pools(arguments.data, arguments.queries) if arguments.queries else []
    # two sources of ours say less of a target than many: a query weighs a fifth of a target with others' models
    examples += [build_example(pool, QUERY_WEIGHT) for pool in own]
    groups = sorted({pool.group for pool in pools})
    juries = {group: fit_parameters(examples, group, centres) for group in tqdm(groups, desc="fits", disable=None)}
    final = fit_parameters(examples, None, centres)
    print("fitted to all:", json.dumps({"intercept": final.intercept, **final.weights, "spread": final.spread}))
    compare_rules(cases, juries, slots)
    if arguments.per_target:
        print_targets(cases, juries, slots)
    compare_scenarios(pools, juries, slots)
    try_robustness(cases, juries, slots)
    if arguments.write is not None:
        told = {
            "made by": "benchmarks/candidates.py --write",
            "fitted to": f"{len(cases)} targets, {SCENARIOS} draws each of 3 to 7 of {len(peers)} published sources; "
            f"{len(own)} training queries with our own candidates",
            "left out": "garn3- and bench3d-trRosettaRNA, whose scores suggest that they knew the answers",
        }
        text = json.dumps(asdict(replace(final, provenance=told)), indent=1)
        arguments.write.write_text(text + "\n", encoding="utf-8")
        print(f"{arguments.write}: written")


def find_centres(peers: Sequence[Source]) -> dict[str, float]:
    """Mean own confidence of each program over targets."""
    values: dict[str, list[float]] = {}
    for source in peers:
        for models in source.models.values():
            own = [model.own.value for model in models if model.own is not None]
            if own and source.program:
                values.setdefault(source.program, []).append(float(np.mean(own)))
    return {program: round(float(np.mean(found)), 3) for program, found in sorted(values.items())}


if __name__ == "__main__":
    main()
