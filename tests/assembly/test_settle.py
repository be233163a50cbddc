"""Settling: clashes and bonds of built residues come into range, residues that may not move stay where they are."""

from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnafold import rna
from rnafold.assembly import assemble
from rnafold.assembly import grid as grid_module
from rnafold.assembly.grid import near_pairs
from rnafold.assembly.settle import settle
from rnafold.geometry import build_helix
from rnafold.scoring.measures import count_violations
from rnafold.structure import FloatArray


def _coil(length: int, seed: int) -> FloatArray:
    """A random walk that crosses itself."""
    return np.cumsum(np.random.default_rng(seed).normal(size=(length, 3)) * 2.5, axis=0)


@pytest.mark.parametrize("length", [2, 40, 300])
def test_a_coil_that_crosses_itself_is_settled(length: int) -> None:
    coil = _coil(length, 0)
    before = count_violations(coil)
    after = count_violations(settle(coil, np.ones(length, dtype=bool), np.zeros(length - 1, dtype=bool)))
    assert length == 2 or before.clashes_hard > 3
    assert before.bonds > 0
    assert after.bonds == after.clashes_hard == 0


def test_what_may_not_move_stays_to_the_last_bit() -> None:
    coil = _coil(60, 1)
    free = np.arange(60) % 3 == 0
    settled = settle(coil, free, np.zeros(59, dtype=bool))
    np.testing.assert_array_equal(settled[~free], coil[~free])
    assert (settled[free] != coil[free]).any()
    np.testing.assert_array_equal(settle(coil, np.zeros(60, dtype=bool), np.zeros(59, dtype=bool)), coil)


def test_a_good_structure_is_left_alone() -> None:
    helix = np.concatenate(build_helix(8))
    breaks = np.arange(15) == 7
    np.testing.assert_array_equal(settle(helix, np.ones(16, dtype=bool), breaks), helix)


def test_a_break_between_chains_is_no_bond() -> None:
    apart = np.array([[0.0, 0, 0], [5.5, 0, 0], [60.0, 0, 0], [65.5, 0, 0]])
    breaks = np.array([False, True, False])
    np.testing.assert_array_equal(settle(apart, np.ones(4, dtype=bool), breaks), apart)
    pulled = settle(apart, np.ones(4, dtype=bool), np.zeros(3, dtype=bool))
    assert np.linalg.norm(pulled[2] - pulled[1]) < 54.5


def test_two_residues_in_one_place_part() -> None:
    same = np.array([[0.0, 0, 0], [-5.5, 0, 0], [-5.5, 5.5, 0], [0.0, 0, 0]])
    settled = settle(same, np.array([False, False, False, True]), np.zeros(3, dtype=bool))
    assert np.linalg.norm(settled[3] - settled[0]) >= rna.CLASH_HARD
    np.testing.assert_array_equal(settled[:3], same[:3])


@given(st.integers(1, 120), st.integers(0, 1000), st.floats(1.0, 30.0))
def test_near_pairs_are_those_of_all_distances(length: int, seed: int, distance: float) -> None:
    points = _coil(length, seed) * 2
    apart = np.linalg.norm(points[:, None] - points[None], axis=-1)
    expected = {(int(i), int(j)) for i, j in zip(*np.nonzero(np.triu(apart < distance, 1)))}
    for dense in (0, grid_module.DENSE):  # the grid, and all distances at once
        with mock.patch.object(grid_module, "DENSE", dense):
            found = near_pairs(points, distance)
        assert found.shape[1] == len(expected)
        assert {(int(i), int(j)) for i, j in found.T} == expected


@pytest.mark.parametrize("seed", range(4))
def test_assemblies_come_settled(seed: int) -> None:
    text = "((((..((((....))))...((((....)))).((((....))))..))))" * 2
    letters = np.random.default_rng(seed).choice(list("ACGU"), len(text))
    coords = assemble("".join(letters), rna.parse_dot_bracket(text), seed=seed)
    violations = count_violations(coords)
    assert violations.clashes_hard == 0
    assert violations.bonds == 0
