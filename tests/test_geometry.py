"""Hand-computed geometry: helix, superposition, angles."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnafold import geometry, rna


def random_rotation(seed: int) -> np.ndarray:
    q, r = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    if np.linalg.det(q) < 0:
        q[:, 0] *= -1
    return q


def test_the_ideal_helix_has_the_measured_pair_and_bond_distances() -> None:
    strand, partner = geometry.build_helix(10)
    # chord of 32.5 degrees on radius 8.45: 2 * 8.45 * sin(16.25 deg) = 4.729; rise 2.65: sqrt(22.37 + 7.02) = 5.421
    assert geometry.measure_bonds(strand) == pytest.approx(np.full(9, 5.421), abs=1e-3)
    # chord of 73.8 degrees: 2 * 8.45 * sin(36.9 deg) = 10.147; with 3.54: sqrt(102.96 + 12.53) = 10.747
    assert np.linalg.norm(strand - partner, axis=1) == pytest.approx(np.full(10, 10.747), abs=1e-3)


def test_the_helix_is_right_handed() -> None:
    strand, _ = geometry.build_helix(6)
    # a right-handed helix climbs while turning counter-clockwise seen from above
    turned = strand[:-1, 0] * strand[1:, 1] - strand[:-1, 1] * strand[1:, 0]
    assert (np.diff(strand[:, 2]) > 0).all() and (turned > 0).all()


def test_an_angle_of_three_points_in_an_l_is_ninety_degrees() -> None:
    points = np.array([[1.0, 0, 0], [0, 0, 0], [0, 2.0, 0]])
    assert geometry.measure_angles_degrees(points) == pytest.approx([90.0])


def test_a_straight_line_has_an_angle_of_180_degrees() -> None:
    assert geometry.measure_angles_degrees(np.arange(9.0).reshape(3, 3)) == pytest.approx([180.0], abs=1e-3)


@given(seed=st.integers(0, 10_000), size=st.integers(4, 30))
def test_superposition_undoes_any_rigid_motion(seed: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(size, 3)) * 10
    moved = points @ random_rotation(seed).T + rng.normal(size=3) * 50
    assert geometry.measure_rmsd(moved, points) < 1e-6


def test_superposition_never_reflects() -> None:
    points = np.random.default_rng(1).normal(size=(20, 3)) * 10
    rotation, _ = geometry.superpose(points * np.array([1, 1, -1]), points)
    assert np.linalg.det(rotation) == pytest.approx(1.0)
    assert geometry.measure_rmsd(points * np.array([1, 1, -1]), points) > 1.0


def test_weights_of_zero_take_points_out_of_a_superposition() -> None:
    rng = np.random.default_rng(2)
    points = rng.normal(size=(10, 3))
    spoiled = points.copy()
    spoiled[0] += 100.0
    weights = np.ones(10)
    weights[0] = 0.0
    moved = geometry.transform(spoiled, *geometry.superpose(spoiled, points, weights))
    assert np.abs(moved[1:] - points[1:]).max() < 1e-9


def test_brackets_of_a_pseudoknot_pair_with_their_own_kind() -> None:
    # ( at 0 and 1 with ) at 10 and 9, [ at 4 to 6 with ] at 15 to 13
    partner = rna.parse_dot_bracket("((..[[[..))..]]]")
    assert partner.tolist() == [10, 9, -1, -1, 15, 14, 13, -1, -1, 1, 0, -1, -1, 6, 5, 4]


@pytest.mark.parametrize("text", ["((.)", "())", "(x)"], ids=["open", "closed", "letter"])
def test_a_bad_dot_bracket_names_the_position(text: str) -> None:
    with pytest.raises(ValueError, match="position"):
        rna.parse_dot_bracket(text)


def test_stems_are_found_with_their_lengths() -> None:
    # pairs (0, 11), (1, 10) and, after a bulge at 2, (3, 9), (4, 8)
    assert rna.find_stems(rna.parse_dot_bracket("((.((...))))")) == [(0, 11, 2), (3, 9, 2)]


def test_unknown_letters_get_the_unknown_token_and_t_counts_as_u() -> None:
    assert rna.encode_sequence("ACGUTNx-").tolist() == [0, 1, 2, 3, 3, 4, 4, 4]
