"""Candidates of whole targets: honest dates, budgets, complexes, copies and long chains."""

import datetime
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rnafold import geometry, rna
from rnafold.assembly.grid import count_clashes
from rnafold.errors import InputError
from rnafold.structure import (
    CARRIED,
    FILLED,
    Candidate,
    Chain,
    Entry,
    Pairing,
    Target,
    structure_from_points,
    whole_chain,
)
from rnafold.templates.complexes import place_copies
from rnafold.templates.library import TemplateLibrary, gate_for
from rnafold.templates.pipeline import build_candidates
from rnafold.templates.ranker import FEATURE_NAMES, Exemption, Ranker, measure_features, train_ranker
from rnafold.templates.search import search_chain
from rnafold.templates.single import structures_to_assemble
from rnafold.templates.sources import ModellingTask, Sources, rank_hits
from rnafold.templates.transfer import build_hybrid, drop_short_runs, merge_pairs
from tests.pieces.folds import FOLDS, make_entries, make_entry, make_pairing, make_target
from tests.pieces.timing import measure_growth

TEXT = FOLDS["1AAA_A"][1]


@pytest.fixture(scope="module")
def sources() -> Sources:
    return Sources(TemplateLibrary.from_entries(make_entries()), None)


def make_task(target: Target, pairing: Pairing, sources: Sources, gated: bool = True, seed: int = 0) -> ModellingTask:
    gate = gate_for(target) if gated else None
    return ModellingTask(target=target, pairing=pairing, sources=sources, gate=gate, seed=seed)


def task_of_sequence(sequence: str, pairing: Pairing, sources: Sources) -> ModellingTask:
    target = Target(target_id="query", sequence=sequence, chains=whole_chain(len(sequence)))
    return make_task(target, pairing, sources, gated=False)


def test_a_known_fold_comes_back_from_its_template(sources: Sources) -> None:
    target = make_target("1AAA_A", cutoff="2018-01-01")
    made = build_candidates(make_task(target, make_pairing(TEXT), sources), num_assemblies=4)
    assert {c.origin for c in made} == {"template", "assembly"}
    assert all(np.isfinite(c.coords).all() and c.coords.shape == (76, 3) for c in made)
    best = max((c for c in made if c.origin == "template"), key=lambda c: c.confidence)
    assert best.note == "1AAA_A"
    native = make_entries()[0].references[0].c1
    assert geometry.measure_rmsd(best.coords, native) < 0.01


def test_templates_at_or_after_the_cutoff_do_not_get_in(sources: Sources) -> None:
    target = make_target("1AAA_A", cutoff="2001-05-01")
    made = build_candidates(make_task(target, make_pairing(TEXT), sources), num_assemblies=2)
    assert {c.origin for c in made} == {"assembly"}
    # With the gate off the same search finds the answer itself: the leak.
    leaked = build_candidates(make_task(target, make_pairing(TEXT), sources, gated=False), num_assemblies=0)
    assert {"1AAA_A", "1EEE_A"} & {c.note for c in leaked}


def test_fragments_obey_the_same_gate(sources: Sources) -> None:
    gate = gate_for(make_target("1AAA_A", cutoff="2001-05-01"))
    assert sum(sources.fragments(gate).count().values()) == 0
    assert sum(sources.fragments(None).count().values()) > 0


def test_a_spent_budget_still_gives_one_candidate(sources: Sources) -> None:
    target = make_target("1AAA_A")
    made = build_candidates(make_task(target, make_pairing(TEXT), sources), budget_seconds=0.0)
    assert len(made) == 1


def test_the_same_seed_gives_the_same_candidates(sources: Sources) -> None:
    target = make_target("1CCC_A")
    pairing = make_pairing(FOLDS["1CCC_A"][1])
    first, again = (build_candidates(make_task(target, pairing, sources, seed=7)) for _ in range(2))
    assert [c.note for c in first] == [c.note for c in again]
    for one, other in zip(first, again):
        np.testing.assert_array_equal(one.coords, other.coords)


def test_copies_are_folded_once_and_do_not_touch(sources: Sources) -> None:
    target = make_target("1CCC_A", copies=3)
    made = build_candidates(make_task(target, make_pairing(FOLDS["1CCC_A"][1] * 3), sources), num_assemblies=4)
    placed = [candidate for candidate in made if candidate.note.endswith("placed")]
    assert placed
    for candidate in placed:
        parts = candidate.coords.reshape(3, 30, 3)
        for part in parts[1:]:
            assert geometry.measure_rmsd(parts[0], part) < 1e-6
        assert count_clashes(parts[0], parts[1], 5.0) == 0
        assert np.linalg.norm(parts[0].mean(0) - parts[1].mean(0)) < 100.0


def _dimer_library(second_date: str = "2000-01-01") -> TemplateLibrary:
    """A complex 2DIM of two chains that stand 40 Å apart, as two entries of one structure."""
    entries = [make_entry("2DIM_A", *FOLDS["1AAA_A"], seed=1), make_entry("2DIM_B", *FOLDS["1CCC_A"], seed=2)]
    moved = structure_from_points(entries[1].references[0].c1 + [40.0, 0.0, 0.0])
    dates = [datetime.date(2000, 1, 1), datetime.date.fromisoformat(second_date)]
    dated = [replace(entry, target=replace(entry.target, cutoff=date)) for entry, date in zip(entries, dates)]
    return TemplateLibrary.from_entries([dated[0], replace(dated[1], references=(moved,))])


def _dimer_target() -> tuple[Target, Pairing]:
    """The chains of 2DIM the other way round: the assignment is by sequence."""
    first, second = FOLDS["1CCC_A"], FOLDS["1AAA_A"]
    target = Target(
        target_id="9YYY",
        sequence=first[0] + second[0],
        chains=(
            Chain(chain_id="A", copy=1, start=0, stop=30),
            Chain(chain_id="B", copy=1, start=30, stop=106),
        ),
        cutoff=datetime.date(2018, 1, 1),
    )
    return target, make_pairing(first[1] + second[1])


def test_chains_of_a_known_complex_keep_their_places() -> None:
    library = _dimer_library()
    target, pairing = _dimer_target()
    made = build_candidates(make_task(target, pairing, Sources(library, None)), num_assemblies=2)
    whole = [c for c in made if c.note == "complex 2DIM"]
    assert len(whole) == 1
    native = np.vstack([library.coords[library.chain_rows(1)], library.coords[library.chain_rows(0)]])
    assert geometry.measure_rmsd(whole[0].coords, native.astype(float)) < 0.01


def test_a_chain_dated_at_the_cutoff_is_not_part_of_a_complex() -> None:
    target, pairing = _dimer_target()
    sources = Sources(_dimer_library(second_date="2018-01-01"), None)
    made = build_candidates(make_task(target, pairing, sources), num_assemblies=2)
    assert not [c for c in made if c.note.startswith("complex")]
    assert [c for c in build_candidates(make_task(target, pairing, sources, gated=False)) if c.note == "complex 2DIM"]


def test_strands_that_pair_with_each_other_are_built_as_one(sources: Sources) -> None:
    target = Target(
        target_id="9XXX",
        sequence="GGGGGGAACCCCCC",
        chains=(Chain(chain_id="A", copy=1, start=0, stop=8), Chain(chain_id="B", copy=1, start=8, stop=14)),
        cutoff=datetime.date(2018, 1, 1),
    )
    made = build_candidates(make_task(target, make_pairing("((((((..))))))"), sources), num_assemblies=2)
    whole = next(c for c in made if c.note == "best, seed 0")
    # Ideal pairs are 10.75 Å across.
    np.testing.assert_allclose(np.linalg.norm(whole.coords[:6] - whole.coords[:7:-1], axis=1), 10.75, atol=0.05)


def test_a_ring_of_copies_is_symmetric_and_just_not_touching() -> None:
    points = make_entries()[3].references[0].c1
    ring = place_copies(points, 4, np.random.default_rng(0))
    centre = ring.reshape(-1, 3).mean(0)
    distance = np.linalg.norm(ring.mean(1) - centre, axis=1)
    np.testing.assert_allclose(distance, distance[0])
    assert count_clashes(ring[0], ring[1], 7.9) == 0
    # Handedness is kept: each copy superposes on the original without a mirror.
    assert all(geometry.measure_rmsd(copy, points) < 1e-6 for copy in ring)


@pytest.mark.slow
def test_4640_residues_are_built_whole_and_at_no_more_than_the_square_of_their_length() -> None:
    sources = sources_with_a_long_chain()

    made: dict[int, list[Candidate]] = {}

    def build(num_hairpins: int) -> None:
        target, pairing = row_of_hairpins(num_hairpins)
        task = make_task(target, pairing, sources)
        made[target.length] = build_candidates(task, num_templates=1, num_assemblies=1)

    # four times the residues: 16 times the pairs, 64 times the triples
    assert measure_growth(lambda: build(58), lambda: build(232), turns=1) < 40
    assert set(made) == {1160, 4640}
    assert all(len(c.coords) == 4640 and np.isfinite(c.coords).all() for c in made[4640])
    assert all(np.ptp(c.coords, axis=0).max() < 9000 for c in made[4640])


def row_of_hairpins(count: int) -> tuple[Target, Pairing]:
    """A target of `count` hairpins of 20 residues in a row, and a pairing that is certain of them."""
    length = 20 * count
    partner = rna.parse_dot_bracket("((((((((....))))))))" * count)
    probabilities = np.zeros((length, length), dtype=np.float32)
    probabilities[np.flatnonzero(partner >= 0), partner[partner >= 0]] = 1.0
    pairing = Pairing(probabilities=probabilities, partner=partner, samples=partner[None], source="test")
    chains = (Chain(chain_id="A", copy=1, start=0, stop=length),)
    sequence = "GGGCAAGAAAGCUUGCCCAA" * count
    return Target(target_id="9WWW", sequence=sequence, chains=chains, cutoff=datetime.date(2018, 1, 1)), pairing


def sources_with_a_long_chain() -> Sources:
    """The small library and one chain of 4,000 residues without a shape."""
    rng = np.random.default_rng(0)
    entry = make_entries()[3]
    letters = "".join(rng.choice(list("ACGU"), 4000))
    large = Entry(
        target=replace(entry.target, target_id="4BIG_A", sequence=letters, chains=whole_chain(4000)),
        references=(structure_from_points(rng.normal(size=(4000, 3)) * 50),),
        group="big",
    )
    return Sources(TemplateLibrary.from_entries([*make_entries(), large]), None)


def test_short_runs_are_dropped_long_ones_kept() -> None:
    coords = np.zeros((12, 3))
    coords[[3, 7]] = np.nan  # runs of 3, 3 and 4
    kept = np.isfinite(drop_short_runs(coords)).all(1)
    assert np.flatnonzero(kept).tolist() == [8, 9, 10, 11]


def test_merged_pairs_keep_the_given_ones_and_add_what_nests() -> None:
    predicted = rna.parse_dot_bracket("((..((....))..))")
    merged = merge_pairs(16, [(4, 11)], predicted)
    assert merged.tolist() == rna.parse_dot_bracket("((..((....))..))").tolist()
    # A given pair that the predicted outer stem would cross takes its place.
    merged = merge_pairs(16, [(1, 5)], predicted)
    assert merged[1] == 5 and merged[0] == 15 and merged[4] == -1


def test_structures_begin_with_the_best_and_go_on_with_those_of_templates(sources: Sources) -> None:
    sequence = FOLDS["1AAA_A"][0]
    wrong = make_pairing("." * 76)
    ranked = rank_hits(task_of_sequence(sequence, make_pairing(TEXT), sources))
    made = list(structures_to_assemble(task_of_sequence(sequence, wrong, sources), ranked, 4))
    assert [structure.informed for structure in made] == [False, True, True, True]
    np.testing.assert_array_equal(made[0].partner, wrong.partner)
    known = sources.library.chain_partner(sources.library.ids.index("1AAA_A"))
    # The second is the fold with the pairs of the templates, the first of which is the answer.
    assert (made[1].partner == known).mean() > 0.9


def test_without_templates_only_predicted_structures_are_assembled(sources: Sources) -> None:
    made = list(structures_to_assemble(task_of_sequence(FOLDS["1AAA_A"][0], make_pairing(TEXT), sources), [], 6))
    assert not any(structure.informed for structure in made)
    assert [structure.name for structure in made] == ["best", "likeliest", "best", "sample 0", "sample 1", "likeliest"]


def _training_rows(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(900, len(FEATURE_NAMES)))
    tm = np.clip(0.4 + 0.1 * features[:, 0] + 0.1 * (features[:, 5] > 0), 0, 1)
    return features, tm, np.repeat(np.arange(90), 10)


@pytest.fixture(scope="module")
def ranker() -> Ranker:
    return train_ranker(*_training_rows(), FEATURE_NAMES, datetime.date(2015, 1, 1), num_trees=40)


def test_the_ranker_learns_and_its_json_predicts_the_same(ranker: Ranker, tmp_path: Path) -> None:
    features, tm, _ = _training_rows(1)
    predicted = ranker.predict(features)
    assert np.corrcoef(predicted, tm)[0, 1] > 0.9
    path = tmp_path / "ranker.json"
    ranker.save(path)
    np.testing.assert_allclose(Ranker.load(path).predict(features), predicted, atol=1e-4)


def test_the_share_of_the_ridge_regression_is_the_files_own(ranker: Ranker, tmp_path: Path) -> None:
    features, _, _ = _training_rows(1)
    for share, expected in ((0.0, ranker.forest.predict(features)), (1.0, None)):
        replace(ranker, linear_share=share).save(tmp_path / "ranker.json")
        loaded = Ranker.load(tmp_path / "ranker.json")
        assert loaded.linear_share == share
        if expected is None:
            expected = (features - ranker.mean) / ranker.scale @ ranker.weights + ranker.intercept
        np.testing.assert_allclose(loaded.predict(features), np.clip(expected, 0.0, 1.0), atol=1e-4)


def test_a_file_of_an_older_version_is_refused_in_one_line(ranker: Ranker, tmp_path: Path) -> None:
    content = json.loads(ranker.to_json())
    del content["linear_share"]
    (tmp_path / "ranker.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"older version's; train it anew.*linear_share"):
        Ranker.load(tmp_path / "ranker.json")


def test_flattened_trees_predict_what_scikit_learn_does(ranker: Ranker) -> None:
    from sklearn.ensemble import HistGradientBoostingRegressor

    features, tm, _ = _training_rows()
    trees = HistGradientBoostingRegressor(
        max_depth=5, max_iter=40, learning_rate=0.06, min_samples_leaf=60, max_features=0.5, random_state=0
    ).fit(features, tm, np.ones(900))
    np.testing.assert_allclose(ranker.forest.predict(features), trees.predict(features), atol=1e-9)


@pytest.mark.parametrize(
    ("exemption", "asked_of_old"), [("none", False), ("out of fold", True), ("in sample", True)], ids=str
)
def test_a_ranker_is_asked_of_targets_older_than_its_training_only_where_someone_says_why(
    ranker: Ranker, exemption: Exemption, asked_of_old: bool
) -> None:
    sources = Sources(TemplateLibrary.from_entries(make_entries()), None).rated_by(ranker.exempt(exemption), None)
    old, new = (
        make_task(make_target("1AAA_A", cutoff=date), make_pairing(TEXT), sources)
        for date in ("2014-12-31", "2015-01-01")
    )
    assert (old.ranker is not None) == asked_of_old
    assert new.ranker is sources.ranker and new.jury is None


def test_features_of_a_perfect_hit_by_hand(sources: Sources) -> None:
    sequence, text, _ = FOLDS["1DDD_A"]
    pairing = make_pairing(text)
    hits = search_chain(sources.index, sequence, pairing.probabilities, None)
    hit = max((h for h in hits if h.setting == 0), key=lambda h: h.score)
    row = measure_features(sources.library, [hit], sequence, pairing.probabilities, pairing.partner)[0]
    value = dict(zip(FEATURE_NAMES, row))
    assert value["coverage"] == value["identity_per_length"] == value["identity_per_aligned"] == 1.0
    assert value["gaps_per_length"] == value["half_mapped_pairs_per_length"] == value["longest_hole"] == 0.0
    assert value["longest_run"] == 1.0
    # 10 predicted pairs in 25 residues.
    assert value["pair_content"] == pytest.approx(0.4)
    assert value["log_length"] == pytest.approx(np.log(25))
    assert value["log_length_ratio"] == 0.0


def test_a_query_that_weighs_nothing_teaches_nothing() -> None:
    features = np.random.default_rng(0).random(size=(400, 2))
    query = np.arange(400) // 100
    tm = np.where(query < 2, 0.2, 0.8)
    date = datetime.date(2015, 1, 1)
    heavy = np.array([1.0, 1.0, 0.0, 0.0])
    only_low = train_ranker(features, tm, query, ("a", "b"), date, num_trees=5, importance=heavy)
    np.testing.assert_allclose(only_low.predict(features), 0.2, atol=1e-6)
    both = train_ranker(features, tm, query, ("a", "b"), date, num_trees=5)
    np.testing.assert_allclose(both.predict(features).mean(), 0.5, atol=0.02)


def test_a_hybrid_has_no_bond_broken_by_what_the_query_lacks(sources: Sources) -> None:
    sequence, text, _ = FOLDS["1AAA_A"]
    whole = sources.library.coords[sources.library.chain_rows(sources.library.ids.index("1AAA_A"))]
    keep = np.r_[0:30, 38:76]  # the query lacks eight residues of the template
    carried = whole[keep].astype(np.float64)
    assert np.linalg.norm(carried[30] - carried[29]) > rna.BOND_SOFT_MAXIMUM
    short = "".join(sequence[k] for k in keep)
    partner = rna.parse_dot_bracket(text)
    partner = np.array([int(np.searchsorted(keep, p)) if (p := int(partner[k])) in keep else -1 for k in keep])
    coords, grounds = build_hybrid(short, whole_chain(68), carried, partner, None)
    bonds = np.linalg.norm(np.diff(coords, axis=0), axis=1)
    assert bonds.max() <= rna.BOND_SOFT_MAXIMUM
    assert (grounds.kinds == CARRIED).all(), "it still rests on the template"
    # What lies far from the gap has not moved.
    np.testing.assert_allclose(coords[:15], carried[:15], atol=1e-9)


def test_chains_that_are_placed_keep_what_each_rests_on(sources: Sources) -> None:
    target = make_target("1AAA_A", copies=2)
    pairing = make_pairing(TEXT + TEXT)
    made = build_candidates(make_task(target, pairing, sources, gated=False), num_templates=1, num_assemblies=2)
    placed = next(c for c in made if c.note.endswith("placed"))
    assert placed.grounds is not None
    np.testing.assert_array_equal(placed.grounds.kinds[:76], placed.grounds.kinds[76:])
    assert (placed.grounds.kinds != FILLED).mean() > 0.8


def test_several_forests_give_the_mean_of_each() -> None:
    rng = np.random.default_rng(4)
    features, query = rng.normal(size=(400, 3)), np.arange(400) // 4
    tm = np.clip(0.4 + 0.1 * features[:, 0] + 0.05 * rng.normal(size=400), 0, 1)
    date = datetime.date(2015, 1, 1)

    def train(seed: int, num_forests: int) -> Ranker:
        return train_ranker(features, tm, query, ("a", "b", "c"), date, seed, 20, num_forests=num_forests)

    single, several = [train(seed, 1) for seed in (5, 6, 7)], train(5, 3)
    each = [one.forest.predict(features) for one in single]
    assert not np.allclose(each[0], each[1])
    np.testing.assert_allclose(several.forest.predict(features), np.mean(each, axis=0), atol=1e-12)
    assert len(several.forest.roots) == 60 and several.forest.depth == max(one.forest.depth for one in single)
