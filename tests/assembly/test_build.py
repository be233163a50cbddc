"""The assembler: stems as measured, every residue placed, fixed atoms kept, chains apart, seeds repeatable."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rnafold import geometry, rna
from rnafold.assembly import assemble, find_loops, split_knots
from rnafold.assembly.curves import draw_arc
from rnafold.assembly.fill import fill_chain, separate
from rnafold.assembly.grid import count_clashes
from rnafold.assembly.loops import clean_pairing, stem_residues
from rnafold.structure import Chain

TRNA = "GCGGAUUUAGCUCAGUUGGGAGAGCGCCAGACUGAANAUNUGGAGGUCNUGUGUUCGAUCCACAGAAUUCGCACCA"
TRNA_PAIRS = "(((((((..((((........)))).((((.........)))).....(((((.......))))))))))))...."


def _two_chains(first: int, second: int) -> tuple[Chain, ...]:
    return (
        Chain(chain_id="A", copy=1, start=0, stop=first),
        Chain(chain_id="B", copy=1, start=first, stop=first + second),
    )


@st.composite
def dot_brackets(draw: st.DrawFn) -> str:
    """Random nested structures of hairpins, bulges and junctions."""

    def element(depth: int) -> str:
        stem = draw(st.integers(1, 5))
        inner = "." * draw(st.integers(3, 7))
        if depth < 3 and draw(st.booleans()):
            parts = [element(depth + 1) for _ in range(draw(st.integers(1, 3)))]
            inner = "".join("." * draw(st.integers(0, 3)) + part for part in parts) + "." * draw(st.integers(0, 3))
        return "(" * stem + inner + ")" * stem

    return "".join("." * draw(st.integers(0, 4)) + element(0) for _ in range(draw(st.integers(1, 2))))


@settings(max_examples=40, deadline=None)
@given(text=dot_brackets(), seed=st.integers(0, 2**31))
def test_any_structure_gives_finite_coordinates_with_bonds_of_nucleotides(text: str, seed: int) -> None:
    coords = assemble("A" * len(text), rna.parse_dot_bracket(text), seed=seed)
    assert coords.shape == (len(text), 3)
    assert np.isfinite(coords).all()
    bonds = geometry.measure_bonds(coords)
    # A residue spans at most about 7 Å; linkers without residues may be stretched a little in crowded junctions.
    assert np.median(bonds) < 6.5
    assert bonds.min() > 2.0


def test_stems_are_right_handed_a_form_helices() -> None:
    coords = assemble(TRNA, rna.parse_dot_bracket(TRNA_PAIRS), temperature=0.0)
    for stem in rna.find_stems(clean_pairing(rna.parse_dot_bracket(TRNA_PAIRS), np.zeros(len(TRNA) - 1, dtype=bool))):
        ideal = np.vstack(geometry.build_helix(stem[2]))
        placed = coords[stem_residues(stem)]
        assert geometry.measure_rmsd(ideal, placed) < 0.3
        if stem[2] >= 5:
            assert geometry.measure_rmsd(ideal * [1, 1, -1], placed) > 3.0


def test_the_same_seed_gives_the_same_coordinates_and_another_seed_others() -> None:
    partner = rna.parse_dot_bracket(TRNA_PAIRS)
    first, again, other = (assemble(TRNA, partner, seed=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1.0


def test_fixed_atoms_stay_where_they_are() -> None:
    partner = rna.parse_dot_bracket(TRNA_PAIRS)
    fixed = assemble(TRNA, partner, seed=1) + 50.0
    fixed[10:40] = np.nan
    coords = assemble(TRNA, partner, fixed=fixed, seed=2)
    kept = np.isfinite(fixed).all(1)
    np.testing.assert_array_equal(coords[kept], fixed[kept])
    assert np.isfinite(coords).all()


def test_two_fixed_atoms_are_too_few_to_build_around_but_are_kept() -> None:
    fixed = np.full((12, 3), np.nan)
    fixed[0], fixed[1] = [100.0, 0.0, 0.0], [105.0, 0.0, 0.0]
    coords = assemble("GGGGAAAACCCC", rna.parse_dot_bracket("((((....))))"), fixed=fixed)
    np.testing.assert_array_equal(coords[:2], fixed[:2])
    assert np.isfinite(coords).all()
    assert np.linalg.norm(coords - fixed[0], axis=1).max() < 40.0


def test_strands_of_a_duplex_pair_across_the_chain_break() -> None:
    partner = rna.parse_dot_bracket("((((((" + "))))))")
    coords = assemble("GGGGGGCCCCCC", partner, chains=_two_chains(6, 6), temperature=0.0)
    distance = np.linalg.norm(coords[np.arange(12)] - coords[partner], axis=1)
    # Ideal helix: the two strands of radius 8.45, 73.8 degrees and 3.54 Å apart: chord 2*8.45*sin(36.9) = 10.15,
    # with the shift sqrt(10.15^2 + 3.54^2) = 10.75 Å.
    np.testing.assert_allclose(distance, 10.75, atol=0.02)


def test_chains_that_do_not_pair_are_set_apart_without_clashes() -> None:
    partner = rna.parse_dot_bracket("((((....))))((((....))))....")
    coords = assemble("GGGGAAAACCCCGGGGAAAACCCCAAAA", partner, chains=_two_chains(12, 16))
    assert count_clashes(coords[:12], coords[12:], 5.0) == 0
    # Nor are they at opposite ends of the world: 60 Å is twice the span of both.
    assert np.linalg.norm(coords[:12].mean(0) - coords[12:].mean(0)) < 60.0


@pytest.mark.parametrize("length", [1, 2, 3, 50, 400], ids=lambda n: f"{n} residues")
def test_an_rna_without_pairs_is_a_compact_chain(length: int) -> None:
    coords = assemble("A" * length, np.full(length, -1))
    assert np.isfinite(coords).all()
    if length > 1:
        bonds = geometry.measure_bonds(coords)
        np.testing.assert_allclose(np.median(bonds), 5.42, atol=0.05)
        assert bonds.min() > rna.BOND_RANGE[0] and bonds.max() < rna.BOND_SOFT_MAXIMUM
    # One straight A-form strand of 400 would be 400 * 2.65 = 1,060 Å long.
    assert np.ptp(coords, axis=0).max() < 300.0


def test_a_junction_of_hundreds_of_hairpins_fits_into_the_submission_range() -> None:
    text = "((((" + "((((....))))." * 100 + "))))"
    coords = assemble("A" * len(text), rna.parse_dot_bracket(text))
    assert np.ptp(coords, axis=0).max() < 900.0


def test_lengths_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match="4 letters, 3 partners"):
        assemble("ACGU", np.full(3, -1))


def test_loops_of_a_three_way_junction_by_hand() -> None:
    #        0123456789...
    text = "((.((...))..((....)).))"
    loops = find_loops(rna.parse_dot_bracket(text), np.zeros(len(text) - 1, dtype=bool))
    junction = next(loop for loop in loops if len(loop.branches) == 2)
    assert junction.closing == (1, 21)
    assert junction.branches == ((3, 9), (12, 19))
    assert junction.sizes == (1, 2, 1)
    assert junction.depths == (2, 2, 2)
    assert loops[0].closing is None
    assert loops[0].sizes == (0, 0)


def test_the_shorter_of_two_crossing_stems_is_the_knot() -> None:
    partner = rna.parse_dot_bracket("((((..[[..))))..]]")
    nested, knots = split_knots(partner)
    assert nested.tolist() == rna.parse_dot_bracket("((((......))))....").tolist()
    assert knots == [(6, 17, 2)]


def test_an_arc_keeps_its_bonds_and_bulges_outwards() -> None:
    arc = draw_arc(np.zeros(3), np.array([10.0, 0.0, 0.0]), 5, np.array([0.0, 0.0, 1.0]))
    assert (arc[:, 2] > 0).all()
    bonds = geometry.measure_bonds(np.vstack([np.zeros((1, 3)), arc, [[10.0, 0.0, 0.0]]]))
    # Six equal chords of an arc that is 6 * 5.6 = 33.6 Å long: a little under 5.6 each.
    assert np.ptp(bonds) < 1e-6
    assert 5.2 < bonds[0] < 5.6


def test_a_gap_too_wide_for_its_residues_becomes_a_straight_line() -> None:
    coords = np.full((5, 3), np.nan)
    coords[0], coords[4] = 0.0, [40.0, 0.0, 0.0]
    np.testing.assert_allclose(fill_chain(coords)[:, 0], [0.0, 10.0, 20.0, 30.0, 40.0])


def test_separated_groups_do_not_touch() -> None:
    points = np.random.default_rng(0).normal(size=(30, 3)) * 10
    moved = separate([points, points, points])
    for a in range(3):
        for b in range(a):
            assert count_clashes(moved[a], moved[b], 8.0) == 0
