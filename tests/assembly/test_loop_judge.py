"""Which loops of a library a query is given: of like letters and likely geometries, and the same loop once."""

import datetime
from pathlib import Path

import numpy as np
import pytest

from rnafold import geometry, rna
from rnafold.assembly.fragments import FragmentLibrary
from rnafold.assembly.loop_features import LOOP_FEATURES, count_votes, measure_differences, measure_loops
from rnafold.assembly.loop_judge import LOOP_KINDS, SHIFT, LoopJudge, LoopModel
from rnafold.assembly.loops import find_loops
from rnafold.assembly.overlay import inner_stems, lay_over, list_places, match_places
from rnafold.assembly.rings import FragmentChain, complete_table, count_unresolved
from rnafold.assembly.shortlist import COPIES, LoopIndex, choose_motifs
from rnafold.errors import InputError
from rnafold.forest import Forest
from rnafold.structure import FloatArray, IntArray

STEM = 4
EXPECTED = LOOP_FEATURES.index("expected_1")


def make_hairpin(
    name: str, loop: str, bulge: float = 0.0, stem: str = "GGCC", noise: float = 0.0, seed: int = 0
) -> FragmentChain:
    """A hairpin of four ideal pairs whose loop bulges out by so many Å."""
    strand, other = geometry.build_helix(STEM)
    size = len(loop)
    arc = np.linspace(strand[-1], other[-1], size + 2)[1:-1]
    arc[:, 2] += 4.0 + bulge * np.sin(np.linspace(0.3, 2.8, size))
    coords = np.vstack([strand, arc, other[::-1]])
    coords += noise * np.random.default_rng(seed).normal(size=coords.shape)
    other_strand = stem.translate(str.maketrans("ACGU", "UGCA"))[::-1]
    return FragmentChain(
        chain_id=name,
        group=name[:4],
        codes=frozenset({name[:4]}),
        released=datetime.date(2001, 1, 1),
        tokens=rna.encode_sequence(stem + loop + other_strand),
        coords=coords,
        partner=rna.parse_dot_bracket("(" * STEM + "." * size + ")" * STEM),
    )


def make_judge(column: int = EXPECTED) -> LoopJudge:
    """A judge whose expectation is one feature: as many steps of 0.05 as it exceeds multiples of that."""
    steps = 0.05 * np.arange(1, 120)
    count = len(steps)
    root = 3 * np.arange(count)
    feature = np.full(3 * count, -1)
    feature[root] = column
    threshold, value = np.zeros(3 * count), np.zeros(3 * count)
    threshold[root], value[root + 2] = steps, 0.05
    left, right = np.zeros(3 * count, dtype=np.int64), np.zeros(3 * count, dtype=np.int64)
    left[root], right[root] = root + 1, root + 2
    forest = Forest(feature=feature, threshold=threshold, left=left, right=right, value=value, roots=root, baseline=0.0)
    model = LoopModel(forest=forest, at=np.array([0.0, 1.0]), spread=np.array([0.5, 0.5]), certainty=2.0)
    return LoopJudge(models=dict.fromkeys(LOOP_KINDS, model), trained_before=datetime.date(2022, 1, 1))


@pytest.fixture(scope="module")
def library() -> FragmentLibrary:
    """Loops of four: GNRA alike (bulge 0), others of UUCG kind alike (bulge 6), each of its own stem."""
    stems = ("GGCC", "GCGC", "CCGG", "CGAG", "GACG", "CAGG")
    chains = [
        make_hairpin(f"{k}GNR_A", loop, 0.0, stem, 0.1, k)
        for k, (loop, stem) in enumerate(zip(("GAAA", "GCAA", "GUGA", "GAGA", "GUAA", "GGAA"), stems))
    ]
    chains += [
        make_hairpin(f"{k}UUC_A", loop, 6.0, stem, 0.1, k + 10)
        for k, (loop, stem) in enumerate(zip(("UUCG", "UACG", "UCCG", "UUUG", "UUCU", "CUCG"), stems))
    ]
    return FragmentLibrary.build(chains)


def propose(
    library: FragmentLibrary, query: FragmentChain, seed: int = 0, temperature: float = 0.0
) -> list[FloatArray]:
    tokens: IntArray = np.asarray(query.tokens, dtype=np.int64)
    loop = find_loops(query.partner, np.zeros(len(tokens) - 1, dtype=np.bool_))[1]
    made = list(library.propose(loop, tokens, np.random.default_rng(seed), temperature, 8))
    assert all(one.known_loop for one in made)
    return [np.vstack([one.coords, [[one.deviation] * 3]]) for one in made]


@pytest.mark.parametrize(("loop", "bulge"), [("GCGA", 0.0), ("UGCG", 6.0)], ids=["GNRA", "UNCG"])
def test_a_query_is_given_a_loop_of_its_motif(library: FragmentLibrary, loop: str, bulge: float) -> None:
    query = make_hairpin("9QQQ_A", loop, bulge, "AUAU")
    wanted: FloatArray = np.asarray(query.coords[STEM : STEM + 4], dtype=np.float64)
    first = propose(library.judged_by(make_judge()), query)[0][:-1]
    # four residues of the loop lie last
    assert geometry.measure_rmsd(first[-4:], wanted) < 0.5


def test_another_likely_geometry_is_proposed_too(library: FragmentLibrary) -> None:
    query = make_hairpin("9QQQ_A", "GCGA", 0.0, "AUAU")
    proposals = propose(library.judged_by(make_judge()), query)
    chain = make_hairpin("8QQQ_A", "UUCG", 6.0, "AUAU")
    other: FloatArray = np.asarray(chain.coords[STEM : STEM + 4], dtype=np.float64)
    alike = [geometry.measure_rmsd(one[-5:-1], other) < 0.5 for one in proposals]
    assert not alike[0] and any(alike)
    assert proposals[0][-1, 0] < proposals[alike.index(True)][-1, 0], "what is expected to be nearer comes first"


def test_what_is_expected_is_the_mean_of_a_log_normal_figure() -> None:
    verdict = make_judge().rate("hairpin", np.full((1, len(LOOP_FEATURES)), 1.02))
    # twenty steps of 0.05; exp(1 + 0.125) - SHIFT
    np.testing.assert_allclose(verdict.expected, [1.0])
    np.testing.assert_allclose(verdict.deviation, [np.exp(1.125) - SHIFT])


def test_the_same_seed_draws_the_same_loops_and_other_seeds_others(library: FragmentLibrary) -> None:
    query = make_hairpin("9QQQ_A", "GCGA", 0.0, "AUAU")
    judged = library.judged_by(make_judge())
    for seed in range(3):
        for one, other in zip(propose(judged, query, seed, 1.0), propose(judged, query, seed, 1.0), strict=True):
            np.testing.assert_array_equal(one, other)
    assert len({propose(judged, query, seed, 1.0)[0].tobytes() for seed in range(8)}) > 1
    assert len({propose(judged, query, seed, 0.0)[0].tobytes() for seed in range(8)}) == 1


def test_places_correspond_from_both_ends_and_gaps_are_bridged() -> None:
    chain = make_hairpin("1AAA_A", "GCA")
    library = FragmentLibrary.build([chain])
    table = library.rings[1]
    # enter 6, 7 and leave 3, 2; three residues 4, 5, 6 .. of the library for five of the query
    places = match_places(table, [5], library.residues)
    np.testing.assert_array_equal(places[0], [7, 8, 3, 2, 4, 5, -1, -1, 6])
    laid = lay_over(table, [5], library.residues)
    np.testing.assert_array_equal(laid.tokens[0, 4:], [*chain.tokens[4:6], -1, -1, chain.tokens[6]])
    thirds = chain.coords[5] + (chain.coords[6] - chain.coords[5]) * np.array([[1], [2]]) / 3
    np.testing.assert_allclose(laid.coords[0, 6:8], thirds)
    assert match_places(table, [2], library.residues)[0, 4:].tolist() == [4, 6]


def test_votes_by_hand() -> None:
    # Three loops of one vote each; the first two are the same one seen twice.
    distance = np.array([[0.0, 0.2, 3.0], [0.2, 0.0, 4.0], [3.0, 4.0, 0.0]])
    votes = count_votes(distance, np.array([2.0, 2.0, 0.0]), np.array([0.5, 0.5, 1.0]), np.array([0, 0, 1]))
    by_name = dict(zip(LOOP_FEATURES, votes.T))
    # the first hears the third alone; the third hears both, 0.5 each
    np.testing.assert_allclose(by_name["expected_0"], [3.0, 4.0, 3.5])
    np.testing.assert_allclose(by_name["expected_behind_best_0"], [0.0, 1.0, 0.5])
    np.testing.assert_allclose(by_name["share_alike_0"], 0.0)


def test_one_loop_solved_many_times_comes_a_few_times() -> None:
    same = [make_hairpin(f"{k}AAA_A", "GAAA", 0.1 * k) for k in range(9)]
    library = FragmentLibrary.build([*same, make_hairpin("1BBB_A", "GCAA")])
    assert len(set(library.rings[1].kin.tolist())) == 2
    index = LoopIndex(library.rings[1], library.residues)
    query = make_hairpin("1CCC_A", "GAAA", 0.0, "AUAU")
    loop = find_loops(query.partner, np.zeros(11, dtype=np.bool_))[1]
    letters = np.asarray(query.tokens)[list_places(inner_stems(loop), loop.sizes)]
    rows, _ = index.find(loop.sizes, letters)
    assert len(rows) == COPIES + 1


def test_loops_with_a_hole_are_not_judged_and_nearer_sizes_come_first() -> None:
    holed = make_hairpin("1HHH_A", "GAAA")
    holed.coords[STEM + 1] = np.nan
    chains = [holed, *(make_hairpin(f"{k}SSS_A", "GAAAAAAA"[:size]) for k, size in enumerate((3, 5, 8)))]
    library = FragmentLibrary.build(chains)
    assert library.rings[1].whole.tolist().count(False) == 1
    index = LoopIndex(library.rings[1], library.residues)
    rows, cost = index.find([5], np.full(9, rna.UNKNOWN_TOKEN))
    assert [int(index.table.sizes[row, 0]) for row in rows] == [5, 3, 8]
    # a residue more or less 1.2, a segment that differs 0.6
    np.testing.assert_allclose(cost, [0.0, 3.0, 4.2])


def test_motifs_cover_what_is_likely() -> None:
    # Two tight groups of three, one apart; the judge finds the first group nearer.
    position = np.array([0.0, 0.1, 0.2, 5.0, 5.1, 5.2, 20.0])
    features = np.zeros((7, len(LOOP_FEATURES)))
    features[:, LOOP_FEATURES.index("vote")] = 1.0
    expected = np.array([0.2, 0.1, 0.2, 0.5, 0.4, 0.5, 3.0])
    motifs, share = choose_motifs(features, expected, np.abs(position[:, None] - position), 0.3)
    assert motifs[:2].tolist() == [1, 4] and share[0] > share[1] > share[-1]
    np.testing.assert_allclose(share.sum(), 1.0)


def test_a_judge_that_was_saved_judges_the_same(tmp_path: Path, library: FragmentLibrary) -> None:
    judge = make_judge()
    judge.save(tmp_path / "loops.json")
    again = LoopJudge.load(tmp_path / "loops.json")
    assert again.to_json() == judge.to_json()
    table = library.rings[1].select(np.arange(5))
    laid = lay_over(table, [4], library.residues)
    features = measure_loops(laid.tokens[0], [4], table, laid, measure_differences(laid.coords))
    np.testing.assert_array_equal(judge.rate("hairpin", features).expected, again.rate("hairpin", features).expected)
    text = (tmp_path / "loops.json").read_text()
    (tmp_path / "other.json").write_text(text.replace('"gyration"', '"weather"'))
    with pytest.raises(InputError, match=r"other\.json: trained on \d+ other features"):
        LoopJudge.load(tmp_path / "other.json")
    (tmp_path / "none.json").write_text("{}")
    with pytest.raises(InputError, match=r"none\.json: not a loop judge"):
        LoopJudge.load(tmp_path / "none.json")


def test_a_judge_is_asked_only_by_targets_later_than_its_training() -> None:
    judge = make_judge()
    assert judge.may_rate(datetime.date(2022, 1, 1)) and judge.may_rate(None)
    assert not judge.may_rate(datetime.date(2021, 12, 31))


def test_the_columns_of_an_older_table_are_completed(library: FragmentLibrary) -> None:
    table = library.rings[1]
    shuffled = np.random.default_rng(0).permutation(len(table))
    old = {name: getattr(table, name)[shuffled] for name in ("stems", "sizes", "depths", "chain")}
    made = complete_table(old, library.residues, count_unresolved(library.residues))
    np.testing.assert_array_equal(np.sort(made.kin), np.sort(table.kin))
    assert (np.diff(made.kin[made.sizes[:, 0] == 4].astype(np.float64)) >= 0).all()
