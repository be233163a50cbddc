"""The TM-score: hand arithmetic, properties, copies, and the batched fit beneath."""

import tracemalloc
from itertools import permutations
from typing import cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rnafold.errors import InputError
from rnafold.geometry import superpose
from rnafold.scoring import Mode, measure_d0, score_all, score_target, tm, tm_score
from rnafold.scoring.complexes import assign_greatest, map_copies
from rnafold.scoring.fit import _rotate_by_quaternion, _rotate_by_svd, build_moments, fit_moments
from rnafold.structure import Chain, Structure, structure_from_points, whole_chain

seeds = st.integers(min_value=0, max_value=2**32 - 1)
lengths = st.integers(min_value=5, max_value=60)
noises = st.floats(min_value=0.1, max_value=12.0)
quick = settings(max_examples=25, deadline=None)


def build_walk(length: int, seed: int) -> np.ndarray:
    """A chain (L, 3) of 5.5 Å steps in directions that persist for a while."""
    steps = np.random.default_rng(seed).normal(size=(length, 3))
    for index in range(1, length):
        steps[index] += steps[index - 1] / np.linalg.norm(steps[index - 1])
    return np.cumsum(5.5 * steps / np.linalg.norm(steps, axis=1, keepdims=True), axis=0)


def build_rotation(seed: int) -> np.ndarray:
    """A random proper rotation (3, 3)."""
    q, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    rotation: np.ndarray = q * np.sign(np.linalg.det(q))
    return rotation


def build_complex(num_copies: int, length: int, seed: int) -> tuple[np.ndarray, list[Chain]]:
    """Copies of one walk, turned and placed apart, (num_copies * length, 3)."""
    generator = np.random.default_rng(seed)
    base = build_walk(length, seed)
    parts = [base @ build_rotation(seed + k).T + generator.normal(size=3) * 40 for k in range(num_copies)]
    chains = [Chain(chain_id="A", copy=k + 1, start=k * length, stop=(k + 1) * length) for k in range(num_copies)]
    return np.concatenate(parts), chains


def score_pair(points: np.ndarray, native: np.ndarray, mode: Mode = "exact") -> float:
    return float(tm_score(points[None], [structure_from_points(native)], mode)[0, 0])


@pytest.mark.parametrize(
    ("num_resolved", "expected"),
    [(3, 0.3), (11, 0.3), (12, 0.4), (15, 0.4), (16, 0.5), (19, 0.5), (20, 0.6), (23, 0.6), (24, 0.7), (29, 0.7)],
)
def test_d0_of_short_rnas_comes_from_the_table(num_resolved: int, expected: float) -> None:
    assert measure_d0(num_resolved) == expected


def test_d0_from_30_residues_on_follows_the_rna_formula() -> None:
    assert measure_d0(30) == pytest.approx(0.75883, abs=1e-5)  # 0.6 * sqrt(29.5) - 2.5 = 0.6 * 5.43139 - 2.5
    assert measure_d0(10_000) == pytest.approx(57.4985, abs=1e-4)  # 0.6 * 99.9975 - 2.5


def test_half_right_and_half_far_away_scores_one_half() -> None:
    native = build_walk(80, 1)
    points = native.copy()
    points[40:] += 5000.0 * np.arange(1, 41)[:, None]
    # 40 residues at distance 0 give 40 / 80; the others at > 5000 Å and d0 = 2.85 add less than 40 * 4e-7.
    assert score_pair(points, native) == pytest.approx(0.5, abs=1e-5)


def test_the_score_is_divided_by_the_resolved_residues_of_the_reference() -> None:
    native = build_walk(60, 2)
    points = native.copy()
    native[45:] = np.nan
    assert score_pair(points, native) == pytest.approx(1.0, abs=1e-9)
    points[:9] = np.nan
    # 36 of the 45 resolved ones are there and exact: 36 / 45 = 0.8
    assert score_pair(points, native) == pytest.approx(0.8, abs=1e-9)


@pytest.mark.parametrize("missing", [np.nan, np.inf, -1e18, -1e6], ids=["nan", "inf", "label", "limit"])
def test_missing_residues_are_recognised_in_all_their_spellings(missing: float) -> None:
    native = build_walk(40, 3)
    points = native.copy()
    points[::4, 1] = missing
    assert score_pair(points, native) == pytest.approx(0.75, abs=1e-9)


def test_two_valid_residues_score_nothing_and_three_do() -> None:
    native = build_walk(40, 4)
    points = np.full_like(native, np.nan)
    points[:2] = native[:2]
    assert score_pair(points, native) == 0.0
    points[2] = native[2]
    assert score_pair(points, native) == pytest.approx(3 / 40, abs=1e-9)


@pytest.mark.parametrize("mode", ["exact", "fast"])
@pytest.mark.parametrize(
    "points",
    [np.zeros((40, 3)), np.outer(np.arange(40.0), [3.0, 0.0, 0.0]), np.full((40, 3), 1e5), np.full((40, 3), 1e300)],
    ids=["zeros", "line", "far", "huge"],
)
def test_degenerate_predictions_get_a_score_and_no_warning(points: np.ndarray, mode: Mode) -> None:
    assert 0.0 < score_pair(points, build_walk(40, 5), mode) < 0.3


def test_the_matrix_holds_a_row_a_prediction_and_a_column_a_reference() -> None:
    natives = [build_walk(30, seed) for seed in range(3)]
    natives[1][:7] = np.nan
    points = np.stack([natives[0], natives[2] + 1.0])
    together = tm_score(points, [structure_from_points(native) for native in natives])
    assert together.shape == (2, 3)
    for p in range(2):
        for r in range(3):
            assert together[p, r] == pytest.approx(score_pair(points[p], natives[r]), abs=1e-12)
    assert together[0, 0] == pytest.approx(1.0) and together[1, 2] == pytest.approx(1.0)


def test_wrong_shapes_and_modes_are_refused() -> None:
    native = structure_from_points(build_walk(10, 0))
    with pytest.raises(ValueError, match=r"expected \(P, L, 3\)"):
        tm_score(np.zeros((10, 3)), [native])
    with pytest.raises(ValueError, match="found 10 residues, expected 9"):
        tm_score(np.zeros((1, 9, 3)), [native])
    with pytest.raises(ValueError, match="'exact' or 'fast'"):
        tm_score(np.zeros((1, 10, 3)), [native], cast(Mode, "slow"))


@quick
@given(length=lengths, seed=seeds, noise=noises)
def test_rigid_motion_of_either_side_changes_nothing(length: int, seed: int, noise: float) -> None:
    native = build_walk(length, seed)
    points = native + np.random.default_rng(seed).normal(size=native.shape) * noise
    before = score_pair(points, native)
    assert score_pair(points @ build_rotation(seed + 1).T + 77.0, native) == pytest.approx(before, abs=1e-7)
    assert score_pair(points, native @ build_rotation(seed + 2).T - 31.0) == pytest.approx(before, abs=1e-7)


@quick
@given(length=lengths, seed=seeds)
def test_identity_scores_one_and_the_mirror_image_less(length: int, seed: int) -> None:
    native = build_walk(length, seed)
    assert score_pair(native @ build_rotation(seed).T, native) == pytest.approx(1.0, abs=1e-9)
    assert score_pair(native * [1.0, 1.0, -1.0], native) < 0.999


@quick
@given(length=lengths, seed=seeds, noise=noises)
def test_scores_lie_between_zero_and_one_and_fast_never_above_exact(length: int, seed: int, noise: float) -> None:
    native = build_walk(length, seed)
    points = native + np.random.default_rng(seed).normal(size=native.shape) * noise
    exact, fast = score_pair(points, native), score_pair(points, native, "fast")
    assert 0.0 <= fast <= exact <= 1.0


@quick
@given(seed=seeds, noise=noises)
def test_adding_a_prediction_never_lowers_the_best(seed: int, noise: float) -> None:
    native = build_walk(25, seed)
    generator = np.random.default_rng(seed)
    points = native + generator.normal(size=(5, 25, 3)) * noise * generator.random((5, 1, 1))
    references = [structure_from_points(native), structure_from_points(build_walk(25, seed + 1))]
    best = [score_target("x", whole_chain(25), points[:count], references).best for count in range(1, 6)]
    # Predictions are searched together, so a sum may round differently by the last digit.
    assert (np.diff(best) >= -1e-12).all()


@settings(max_examples=12, deadline=None)
@given(num_copies=st.integers(min_value=2, max_value=4), seed=seeds, noise=st.floats(min_value=0.1, max_value=3.0))
def test_permuting_identical_copies_changes_nothing(num_copies: int, seed: int, noise: float) -> None:
    native, chains = build_complex(num_copies, 20, seed)
    generator = np.random.default_rng(seed)
    points = native + generator.normal(size=native.shape) * noise
    shuffled = points.reshape(num_copies, 20, 3)[generator.permutation(num_copies)].reshape(-1, 3)
    references = [structure_from_points(native)]
    before = score_target("x", chains, points[None], references).best
    assert score_target("x", chains, shuffled[None], references).best == pytest.approx(before, abs=1e-6)


def test_copies_are_put_where_the_reference_has_them() -> None:
    native, chains = build_complex(4, 30, 7)
    placed = [2, 0, 3, 1]
    points = native.reshape(4, 30, 3)[placed].reshape(-1, 3)
    # Row block k of the prediction is native copy placed[k]; native copy c therefore takes block placed.index(c).
    _, order = map_copies(points, structure_from_points(native), chains)[0]
    assert [int(order[30 * copy]) // 30 for copy in range(4)] == [placed.index(copy) for copy in range(4)]
    assert tm_score(points[None], [structure_from_points(native)])[0, 0] < 0.5
    assert score_target("x", chains, points[None], [structure_from_points(native)]).best == pytest.approx(1.0)


def test_chains_that_differ_keep_their_place() -> None:
    native, _ = build_complex(2, 30, 8)
    chains = [
        Chain(chain_id="A", copy=1, start=0, stop=30),
        Chain(chain_id="B", copy=1, start=30, stop=60),
        Chain(chain_id="B", copy=2, start=60, stop=90),
    ]
    native = np.concatenate([native, build_walk(30, 3) + 60.0])
    points = native.reshape(3, 30, 3)[[1, 0, 2]].reshape(-1, 3)
    _, order = map_copies(points, structure_from_points(native), chains)[0]
    assert order[:30].tolist() == list(range(30))


def test_a_missing_copy_costs_its_share_wherever_it_stands() -> None:
    native, chains = build_complex(2, 30, 9)
    for lost in (slice(0, 30), slice(30, 60)):
        points = native.copy()
        points[lost] = np.nan
        score = score_target("x", chains, points[None], [structure_from_points(native)])
        assert score.best == pytest.approx(0.5, abs=1e-9)


def test_a_prediction_of_nothing_scores_zero_with_copies_too() -> None:
    native, chains = build_complex(2, 30, 9)
    score = score_target("x", chains, np.full((5, 60, 3), np.nan), [structure_from_points(native)], "fast")
    assert score.tm == (0.0,) * 5 and score.best == 0.0 and score.reference == 1


def test_the_reference_named_is_the_one_the_best_was_reached_on() -> None:
    natives = [build_walk(30, seed) for seed in range(3)]
    points = np.stack([natives[0] + np.random.default_rng(0).normal(size=(30, 3)), natives[2]])
    score = score_target("x", whole_chain(30), points, [structure_from_points(native) for native in natives])
    assert (score.target_id, score.length, score.reference) == ("x", 30, 3)
    assert score.best == score.tm[1] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("chains", "predictions", "num_references", "message"),
    [
        ((), np.zeros((5, 9, 3)), 1, "target x: found 9 predicted residues, expected 10"),
        ((), np.zeros((9, 3)), 1, r"target x: found predictions of shape \(9, 3\)"),
        ((), np.zeros((5, 10, 3)), 0, "target x: found no reference"),
        (whole_chain(9), np.zeros((5, 10, 3)), 1, "target x: its 1 chains do not cover its 10 residues"),
    ],
    ids=["rows", "shape", "reference", "chains"],
)
def test_input_that_does_not_fit_is_named(
    chains: tuple[Chain, ...], predictions: np.ndarray, num_references: int, message: str
) -> None:
    references = [structure_from_points(build_walk(10, 0))] * num_references
    with pytest.raises(InputError, match=message):
        score_target("x", chains, predictions, references)


class Rows:
    """Labels of one target, as the reader yields them."""

    def __init__(self, target_id: str, native: np.ndarray, chains: list[Chain] | None = None) -> None:
        self.target_id, self.chains = target_id, chains
        self.resnames = "A" * len(native)
        self.references: tuple[Structure, ...] = (structure_from_points(native),)


def test_score_all_takes_the_chains_of_the_labels_and_keeps_their_order(caplog: pytest.LogCaptureFixture) -> None:
    native, chains = build_complex(2, 20, 3)
    single = build_walk(12, 0)
    empty = Rows("none", single)
    empty.references = ()
    swapped = np.concatenate([native[20:], native[:20]])
    predictions = {"pair": swapped[None], "one": single[None], "none": single[None]}
    scores = list(score_all(predictions, [Rows("pair", native, chains), empty, Rows("one", single)]))
    assert [score.target_id for score in scores] == ["pair", "one"]
    assert [score.best for score in scores] == pytest.approx([1.0, 1.0])
    assert "target none: no reference" in caplog.text
    with pytest.raises(InputError, match="target one: found in the labels, not in the submission"):
        list(score_all({}, [Rows("one", single)]))


def test_single_precision_search_agrees_with_double(monkeypatch: pytest.MonkeyPatch) -> None:
    native = build_walk(600, 11)
    generator = np.random.default_rng(1)
    variants = [native + generator.normal(size=native.shape) * noise for noise in (1.0, 6.0)]
    variants.append(build_walk(600, 12))
    variants[0][300:] += 9000.0
    single = [score_pair(points, native) for points in variants]
    monkeypatch.setattr(tm, "_SINGLE_PRECISION_LENGTH", 10**6)
    assert single == pytest.approx([score_pair(points, native) for points in variants], abs=1e-5)


def test_memory_does_not_grow_with_starts_times_residues() -> None:
    native = build_walk(2000, 13)
    points = build_walk(2000, 14)
    tracemalloc.start()
    score_pair(points, native)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # About 8,100 starts of 2,000 residues would take 65 MB a float32 matrix, and the search needs several.
    assert peak < 30e6


@pytest.mark.parametrize("kind", ["general", "planar", "mirror", "isotropic", "collinear", "zero"])
def test_quaternion_rotations_are_as_good_as_the_singular_value_ones(kind: str) -> None:
    generator = np.random.default_rng(0)
    x = generator.normal(size=(300, 8, 3))
    y = generator.normal(size=(300, 8, 3))
    if kind == "planar":
        y[..., 2] = 0.0
    elif kind == "mirror":
        y = x * [1.0, 1.0, -1.0]
    elif kind == "collinear":
        x[..., 1:] = 0.0
    covariance = np.einsum("kni,knj->kij", x, y)
    if kind == "isotropic":
        covariance = np.eye(3) + 1e-3 * covariance
    elif kind == "zero":
        covariance = np.zeros((300, 3, 3))
    safe = _rotate_by_svd(covariance)
    rotation, unsafe = _rotate_by_quaternion(covariance)
    assert unsafe.all() if kind in ("collinear", "zero") else not unsafe.any()
    rotation[unsafe] = safe[unsafe]
    assert np.linalg.det(rotation) == pytest.approx(np.ones(300))
    gain = [np.einsum("kij,kji->k", r, covariance) for r in (rotation, safe)]
    np.testing.assert_allclose(gain[0], gain[1], rtol=1e-10, atol=1e-10)


def test_a_fit_from_moments_is_the_plain_superposition() -> None:
    generator = np.random.default_rng(3)
    x, y = generator.normal(size=(2, 9, 3)) * 20
    moments = build_moments(x, y).sum(0)
    rotation, translation = superpose(x, y)
    for copies in (1, 200):
        found = fit_moments(np.repeat(moments[None], copies, axis=0))
        np.testing.assert_allclose(found[0][0], rotation, atol=1e-9)
        np.testing.assert_allclose(found[1][0], translation, atol=1e-8)


@quick
@given(size=st.integers(min_value=1, max_value=6), seed=seeds)
def test_the_assignment_is_the_best_of_all_permutations(size: int, seed: int) -> None:
    gain = np.random.default_rng(seed).random((size, size))
    chosen = assign_greatest(gain)
    assert sorted(chosen.tolist()) == list(range(size))
    best = max(sum(gain[row, column] for row, column in enumerate(order)) for order in permutations(range(size)))
    assert gain[np.arange(size), chosen].sum() == pytest.approx(best)
