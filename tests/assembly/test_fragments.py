"""Base pairs found from C1' atoms, and loops of known structures as fragments."""

import datetime

import numpy as np
import pytest

from rnafold import geometry, rna
from rnafold.assembly import assemble, build_model
from rnafold.assembly.fragments import FragmentLibrary
from rnafold.assembly.loop_judge import LoopJudge
from rnafold.assembly.loops import find_loops
from rnafold.assembly.pairs import pairs_from_coords
from rnafold.structure import CARRIED, FILLED, LINKER, LOOP, STEM
from rnafold.templates.library import TemplateLibrary
from rnafold.templates.loops import build_fragments
from tests.pieces.folds import FOLDS, make_entries, make_entry


@pytest.fixture(scope="module")
def library() -> TemplateLibrary:
    return TemplateLibrary.from_entries(make_entries())


@pytest.mark.parametrize("name", ["1AAA_A", "1DDD_A"])
def test_pairs_of_an_assembled_fold_are_found_from_its_coordinates(name: str) -> None:
    sequence, text, _ = FOLDS[name]
    partner = rna.parse_dot_bracket(text)
    coords = assemble(sequence, partner, temperature=0.0)
    tokens = rna.encode_sequence(sequence)
    canonical = rna.canonical_pair_matrix()[tokens, tokens[partner]] & (partner >= 0)
    found = pairs_from_coords(tokens, coords)
    assert (found[canonical] == partner[canonical]).mean() > 0.9
    assert (found[~canonical] >= 0).mean() < 0.2


def _hairpin() -> tuple[np.ndarray, np.ndarray]:
    """Tokens and coordinates of six ideal pairs closed by four unresolved residues."""
    strand, other = geometry.build_helix(6)
    coords = np.vstack([strand, np.full((4, 3), np.nan), other[::-1]])
    return rna.encode_sequence("GGGGGGAAAACCCCCC"), coords


def test_pairs_need_the_right_distance() -> None:
    tokens, coords = _hairpin()
    np.testing.assert_array_equal(pairs_from_coords(tokens, coords), rna.parse_dot_bracket("((((((....))))))"))
    # 10.75 Å across in the ideal helix, 7.9 Å to the partner's neighbour: at twice the size both are beyond 12.2 Å.
    assert (pairs_from_coords(tokens, coords * 2.0) < 0).all()


def test_unresolved_residues_pair_with_nothing() -> None:
    tokens, coords = _hairpin()
    coords[0] = np.nan
    found = pairs_from_coords(tokens, coords)
    assert found[0] == -1 and found[15] == -1
    assert found[1] == 14


def test_rings_count_each_loop_once_for_every_stem(library: TemplateLibrary) -> None:
    one = TemplateLibrary.from_entries([make_entry("1AAA_A", *FOLDS["1AAA_A"])])
    counts = build_fragments(one).count()
    assert counts["hairpin"] == 3
    # One four-way junction, read from each of its four stems.
    assert counts["junction"] == 4
    assert build_fragments(library).count()["hairpin"] > 3


def test_a_fragment_gives_back_the_loop_it_was_cut_from() -> None:
    entry = make_entry("1AAA_A", *FOLDS["1AAA_A"], seed=5)
    library = TemplateLibrary.from_entries([entry])
    fragments = build_fragments(library)
    tokens = rna.encode_sequence(entry.target.sequence)
    breaks = np.zeros(len(tokens) - 1, dtype=bool)
    native = entry.references[0].c1
    for loop in find_loops(library.chain_partner(0), breaks)[1:]:
        found = next(fragments.propose(loop, tokens, np.random.default_rng(0), 0.0, 1))
        assert geometry.measure_rmsd(found.coords, native[found.residues]) < 1e-4
        # Nobody was asked what to expect of it.
        assert found.known_loop and np.isnan(found.deviation)


def test_fragments_make_a_known_fold_again() -> None:
    entry = make_entry("1AAA_A", *FOLDS["1AAA_A"], seed=5)
    fragments = build_fragments(TemplateLibrary.from_entries([entry]))
    partner = rna.parse_dot_bracket(FOLDS["1AAA_A"][1])
    rebuilt = assemble(entry.target.sequence, partner, fragments=fragments, temperature=0.0)
    paired = partner >= 0
    assert geometry.measure_rmsd(rebuilt[paired], entry.references[0].c1[paired]) < 1.5


def test_a_model_tells_what_each_residue_rests_on() -> None:
    entry = make_entry("1AAA_A", *FOLDS["1AAA_A"], seed=5)
    fragments = build_fragments(TemplateLibrary.from_entries([entry]))
    sequence, text, _ = FOLDS["1AAA_A"]
    partner = rna.parse_dot_bracket(text)
    coords, grounds = build_model(sequence, partner, fragments=fragments, temperature=0.0)
    np.testing.assert_array_equal(coords, assemble(sequence, partner, fragments=fragments, temperature=0.0))
    # The last four residues follow no stem; every unpaired one before lies in a hairpin or in the junction.
    assert (grounds.kinds[-4:] == FILLED).all() and not (grounds.kinds[:-4] == FILLED).any()
    unpaired = (partner < 0) & (np.arange(76) < 72)
    assert (grounds.kinds[unpaired] == LOOP).all()
    assert np.isnan(grounds.deviation).all(), "nobody was asked what to expect of the loops"


@pytest.mark.parametrize("places", [range(9, 13), range(35, 40), range(2), range(20, 60)])
def test_only_residues_of_judged_loops_have_an_expected_deviation(places: range) -> None:
    entry = make_entry("1AAA_A", *FOLDS["1AAA_A"], seed=5)
    fragments = build_fragments(TemplateLibrary.from_entries([entry])).judged_by(LoopJudge.load())
    sequence, text, _ = FOLDS["1AAA_A"]
    fixed = np.full((76, 3), np.nan)
    fixed[list(places)] = entry.references[0].c1[list(places)] + 200.0
    for seed in range(3):
        _, grounds = build_model(sequence, rna.parse_dot_bracket(text), fragments=fragments, fixed=fixed, seed=seed)
        np.testing.assert_array_equal(np.isfinite(grounds.deviation), grounds.kinds == LOOP)
        assert (grounds.deviation[grounds.kinds == LOOP] > 0).all()
        np.testing.assert_array_equal(grounds.kinds == CARRIED, np.isfinite(fixed[:, 0]))


def test_what_was_fixed_counts_as_carried_and_ideal_loops_as_linkers() -> None:
    text = "((((....))))...((((....))))"
    sequence = "GGGGAAAACCCCAAAGGGGAAAACCCC"
    fixed = assemble(sequence, rna.parse_dot_bracket(text), seed=1)
    fixed[12:] = np.nan
    _, grounds = build_model(sequence, rna.parse_dot_bracket(text), fixed=fixed, seed=2)
    assert (grounds.kinds[:12] == CARRIED).all()
    assert (grounds.kinds[19:23] == LINKER).all() and (grounds.kinds[12:15] == FILLED).all()
    # Beyond the two pairs that the linker brings the second stem is an ideal helix.
    assert (grounds.kinds[[17, 18, 23, 24]] == STEM).all()
    assert np.isnan(grounds.deviation).all()


def test_restricted_fragments_come_from_earlier_structures_of_other_entries_and_groups(
    library: TemplateLibrary,
) -> None:
    everything = build_fragments(library)
    date = datetime.date(2010, 5, 1)

    def chains(fragments: FragmentLibrary) -> set[str]:
        rows = np.concatenate([table.chain for table in fragments.rings.values()] + [fragments.linkers.chain])
        return {fragments.chains[row].chain_id for row in rows}

    assert chains(everything) == set(FOLDS)
    assert chains(everything.restrict(date)) == {"1AAA_A", "1BBB_A", "1BBB_B"}
    assert chains(everything.restrict(date, codes={"1BBB"})) == {"1AAA_A"}
    assert chains(everything.restrict(None, groups={FOLDS["1AAA_A"][0][:8]})) == set(FOLDS) - {"1AAA_A", "1EEE_A"}


def test_an_empty_library_falls_back_to_ideal_geometry() -> None:
    sequence, text, _ = FOLDS["1AAA_A"]
    coords = assemble(sequence, rna.parse_dot_bracket(text), fragments=FragmentLibrary.build([]))
    assert np.isfinite(coords).all()
