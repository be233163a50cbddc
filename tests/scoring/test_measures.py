"""lDDT, RMSD and violation counts, by hand arithmetic."""

import tracemalloc

import numpy as np
import pytest

from rnafold import rna
from rnafold.geometry import build_helix
from rnafold.scoring import count_violations, measure_lddt, measure_superposed_rmsd
from rnafold.scoring.measures import Violations, is_wrong_handed
from rnafold.structure import Chain, structure_from_points

LINE = np.array([[0.0, 0.0, 0.0], [6.0, 0.0, 0.0], [12.0, 0.0, 0.0], [18.0, 0.0, 0.0]])


def bend(points: np.ndarray) -> np.ndarray:
    """A copy with every other residue moved aside by 4 Å: angles of about 113 degrees."""
    bent = points.copy()
    bent[1::2, 1] += 4.0
    return bent


def test_lddt_counts_the_distances_kept_at_each_threshold() -> None:
    points = LINE.copy()
    points[3, 0] += 1.5
    # Distances under 15 Å: 0-1, 1-2, 2-3 (6 Å), 0-2, 1-3 (12 Å). Those to residue 3 are off by 1.5 Å.
    # Kept: 3/5, 3/5, 5/5, 5/5; mean 3.2 / 4 = 0.8.
    assert measure_lddt(points, structure_from_points(LINE)) == pytest.approx(0.8)


def test_lddt_counts_a_missing_residue_as_lost_and_an_unresolved_one_not_at_all() -> None:
    points = LINE.copy()
    points[3] = np.nan
    assert measure_lddt(points, structure_from_points(LINE)) == pytest.approx(3 / 5)
    assert measure_lddt(LINE, structure_from_points(points)) == 1.0


def test_lddt_does_not_care_for_place_but_the_mirror_image_fools_it() -> None:
    points = bend(LINE)
    moved = points @ np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]) + 50.0
    assert measure_lddt(moved, structure_from_points(points)) == 1.0
    assert measure_lddt(points * [1.0, 1.0, -1.0], structure_from_points(points)) == 1.0


def test_lddt_and_rmsd_without_anything_to_measure_are_nan() -> None:
    far = np.array([[0.0, 0.0, 0.0], [100.0, 0.0, 0.0]])
    assert np.isnan(measure_lddt(far, structure_from_points(far)))
    assert np.isnan(measure_superposed_rmsd(far, structure_from_points(far)))


def test_rmsd_superposes_the_shared_residues_first() -> None:
    native = np.array([[0.0, 0.0, 0.0], [4.0, 0.0, 0.0], [0.0, 4.0, 0.0], [4.0, 4.0, 0.0], [9.0, 9.0, 9.0]])
    points = native + 20.0
    points[4] = np.nan
    # A square with one diagonal raised and the other lowered by 1 Å: no motion helps, every residue is 1 Å off.
    points[:4, 2] += [1.0, -1.0, -1.0, 1.0]
    assert measure_superposed_rmsd(points, structure_from_points(native)) == pytest.approx(1.0)


def test_a_straight_line_breaks_angles_and_nothing_else() -> None:
    # Angles of 180 degrees at residues 1 and 2; bonds of 6 Å are fine.
    assert count_violations(LINE) == Violations(
        num_bonds=3, bonds=0, num_angles=2, angles=2, clashes_hard=0, clashes_soft=0
    )


def test_bonds_too_short_and_too_long_are_counted() -> None:
    points = bend(np.array([[0.0, 0.0, 0.0], [6.0, 0.0, 0.0], [12.0, 0.0, 0.0], [30.0, 0.0, 0.0]]))
    points = np.concatenate([points, points[-1:] + [0.0, 2.0, 0.0]])
    found = count_violations(points)
    # sqrt(36 + 16) = 7.2 twice, then more than 18 Å, then 2 Å.
    assert (found.num_bonds, found.bonds) == (4, 2)


def test_no_bond_or_angle_is_looked_at_across_chains_or_missing_residues() -> None:
    points = np.concatenate([bend(LINE), bend(LINE) + 100.0])
    halves = [Chain(chain_id="A", copy=copy, start=4 * copy - 4, stop=4 * copy) for copy in (1, 2)]
    assert count_violations(points).bonds == 1
    found = count_violations(points, halves)
    # Two chains of four: 3 bonds and 2 angles each.
    assert (found.num_bonds, found.bonds, found.num_angles) == (6, 0, 4)
    points[1] = np.nan
    found = count_violations(points, halves)
    # The first chain keeps the bond 2-3 only.
    assert (found.num_bonds, found.num_angles) == (4, 2)


def test_clashes_count_each_pair_once_and_neighbours_never() -> None:
    points = np.array([[0.0, 0.0, 0.0], [2.0, 0.0, 0.0], [3.4, 0.0, 0.0], [0.0, 3.9, 0.0], [0.0, 50.0, 0.0]])
    found = count_violations(points)
    # 0-2 at 3.4 Å is hard, 0-3 at 3.9 Å soft; 1-3 is 4.4 Å; 0-1 and 1-2 are neighbours.
    assert (found.clashes_hard, found.clashes_soft) == (1, 2)


def test_clashes_go_by_residue_number_where_some_are_missing() -> None:
    points = np.array([[0.0, 0.0, 0.0], [np.nan] * 3, [3.0, 0.0, 0.0]])
    assert count_violations(points).clashes_hard == 1


@pytest.mark.parametrize("num_pairs", [3, 4, 6, 12])
def test_a_mirrored_helix_is_wrong_handed_and_the_helix_is_not(num_pairs: int) -> None:
    strand, partners = build_helix(num_pairs)
    generator = np.random.default_rng(num_pairs)
    turn, _ = np.linalg.qr(generator.normal(size=(3, 3)))
    turn *= np.sign(np.linalg.det(turn))
    noise = generator.normal(size=(2, num_pairs, 3)) * 0.5
    right = [side @ turn.T + 9.0 + error for side, error in zip((strand, partners), noise)]
    assert not is_wrong_handed(*right)
    assert is_wrong_handed(*(side * [1.0, 1.0, -1.0] for side in right))


def test_wrong_handed_stems_are_counted_among_the_stems_long_enough() -> None:
    strand, partners = build_helix(5)
    loop = np.array([[30.0, 0.0, 20.0], [36.0, 0.0, 20.0], [30.0, 9.0, 20.0]])
    hairpin = np.concatenate([strand, loop, partners[::-1]])
    partner = rna.parse_dot_bracket("(((((...)))))((...))")
    points = np.concatenate([hairpin, np.arange(21.0).reshape(7, 3) + 60.0])
    # The second stem has two pairs: not looked at.
    found = count_violations(points, partner=partner)
    assert (found.num_stems, found.wrong_handed) == (1, 0)
    found = count_violations(points * [-1.0, 1.0, 1.0], partner=partner)
    assert (found.num_stems, found.wrong_handed) == (1, 1)
    points[2] = np.nan
    assert count_violations(points, partner=partner).num_stems == 0


def test_long_targets_are_measured_in_little_memory() -> None:
    points = np.cumsum(np.random.default_rng(0).normal(size=(4640, 3)) * 3.4, axis=0)
    tracemalloc.start()
    count_violations(points)
    measure_lddt(points, structure_from_points(points))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # All pairs at once would take 172 MB an array.
    assert peak < 60e6


@pytest.mark.parametrize("length", [0, 1, 2])
def test_the_shortest_predictions_break_nothing(length: int) -> None:
    found = count_violations(np.zeros((length, 3)))
    assert (found.num_bonds, found.num_angles, found.clashes_hard) == (max(length - 1, 0), 0, 0)
