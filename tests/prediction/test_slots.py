"""Quality control, expected best of five, the bands of slots.yaml, and five predictions whatever comes in."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rnafold import rna
from rnafold.assembly import assemble
from rnafold.errors import ConfigError
from rnafold.prediction.slots import (
    Band,
    Quality,
    SlotsConfig,
    check_candidate,
    draw_scores,
    load_slots,
    pick_five,
)
from rnafold.structure import ORIGINS, Candidate, Origin
from rnafold.templates.jury import measure_likeness
from tests.pieces.folds import FOLDS, make_target

TARGET = make_target("1AAA_A")
PARTNER = rna.parse_dot_bracket(FOLDS["1AAA_A"][1])


def _fold(seed: int = 0) -> np.ndarray:
    return assemble(TARGET.sequence, PARTNER, seed=seed)


def _candidate(seed: int, origin: Origin = "assembly", confidence: float = 0.3) -> Candidate:
    return Candidate(coords=_fold(seed), origin=origin, confidence=confidence, note=f"seed {seed}")


def test_an_assembled_fold_passes_quality_control() -> None:
    assert check_candidate(TARGET, _fold(), PARTNER) == []


def _spoil(how: str) -> np.ndarray:
    coords = _fold()
    if how == "without coordinates":
        coords[3] = np.nan
    elif how == "collapsed":
        coords *= 0.1
    elif how == "straight line":
        coords = np.arange(76)[:, None] * np.array([[5.5, 0.0, 0.0]])
    elif how == "bonds":
        coords *= 3.0
    elif how == "clashes":
        coords[38:] = coords[:38] + 0.5
    elif how == "left-handed":
        coords = coords * [1.0, 1.0, -1.0]
    elif how == "shape":
        coords = coords[:-1]
    return coords


@pytest.mark.parametrize(
    "how", ["without coordinates", "collapsed", "straight line", "bonds", "clashes", "left-handed", "shape"]
)
def test_what_is_no_rna_is_refused_with_the_reason(how: str) -> None:
    reasons = check_candidate(TARGET, _spoil(how), PARTNER)
    assert any(how in reason for reason in reasons), reasons


def test_limits_come_from_the_configuration() -> None:
    assert check_candidate(TARGET, _fold(), PARTNER, Quality(smallest_spread=100.0))[0].startswith("collapsed")


def test_likeness_is_one_for_equal_and_low_for_different_folds() -> None:
    first = _fold(0)
    turned = first @ np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    mirrored = np.linalg.det(np.linalg.lstsq(first, turned, rcond=None)[0]) < 0
    likeness = measure_likeness([first, turned * ([1, 1, -1] if mirrored else [1, 1, 1]), first[::-1]])
    if not mirrored:
        assert likeness[0, 1] == pytest.approx(1.0, abs=1e-6)
    assert likeness[0, 2] < 0.5
    np.testing.assert_allclose(likeness, likeness.T)


def test_draws_have_the_means_spreads_and_correlations_asked_for() -> None:
    likeness = np.array([[1.0, 0.9, 0.0], [0.9, 1.0, 0.0], [0.0, 0.0, 1.0]])
    draws = draw_scores(np.array([0.2, 0.3, 0.4]), np.array([0.1, 0.1, 0.05]), likeness)
    # 600 draws: the mean is known to 0.1 / sqrt(600) = 0.004.
    np.testing.assert_allclose(draws.mean(0), [0.2, 0.3, 0.4], atol=0.015)
    np.testing.assert_allclose(draws.std(0), [0.1, 0.1, 0.05], atol=0.01)
    found = np.asarray(np.corrcoef(draws.T))
    assert found[0, 1] == pytest.approx(0.9, abs=0.05)
    assert found[0, 2] == pytest.approx(0.0, abs=0.12)


def test_a_copy_of_a_chosen_candidate_gains_nothing_against_a_different_one() -> None:
    best, copy = _candidate(0, confidence=0.5), _candidate(0, confidence=0.5)
    others = [_candidate(seed, confidence=0.45) for seed in range(1, 5)]
    notes = [candidate.note for candidate in pick_five(TARGET, [best, copy, *others])]
    assert notes.count("seed 0") == 1


def test_the_surest_candidate_comes_first() -> None:
    candidates = [_candidate(seed, confidence=0.1 * seed) for seed in range(1, 8)]
    chosen = pick_five(TARGET, candidates)
    assert chosen[0].note == "seed 7"
    assert [c.confidence for c in chosen] == sorted((c.confidence for c in chosen), reverse=True)


def test_a_band_gives_each_source_its_least_and_its_most() -> None:
    templates = [_candidate(seed, "template", 0.9) for seed in range(6)]
    assemblies = [_candidate(seed, "assembly", 0.1) for seed in range(6, 12)]
    bands = (Band(max_confidence=0.95, template=(1, 3), assembly=(2, 5)),)
    chosen = pick_five(TARGET, [*templates, *assemblies], SlotsConfig(bands=bands))
    assert sorted(c.origin for c in chosen) == ["assembly"] * 2 + ["template"] * 3


def test_the_band_is_found_by_length_and_template_confidence() -> None:
    bands = (
        Band(max_length=50, template=(0, 0)),
        Band(max_confidence=0.3, template=(1, 1)),
        Band(template=(5, 5)),
    )
    pool = [_candidate(seed, "template", 0.25) for seed in range(6)] + [_candidate(s) for s in range(6, 12)]
    assert sum(c.origin == "template" for c in pick_five(TARGET, pool, SlotsConfig(bands=bands))) == 1
    sure = [_candidate(20, "template", 0.6), *pool]
    assert sum(c.origin == "template" for c in pick_five(TARGET, sure, SlotsConfig(bands=bands))) == 5


def test_an_origin_that_is_not_there_leaves_its_slots_to_others() -> None:
    bands = (Band(template=(3, 5)),)
    chosen = pick_five(TARGET, [_candidate(seed) for seed in range(8)], SlotsConfig(bands=bands))
    assert [c.origin for c in chosen] == ["assembly"] * 5


@settings(max_examples=15, deadline=None)
@given(good=st.integers(0, 7), bad=st.integers(0, 3), seed=st.integers(0, 100))
def test_there_are_always_five_finite_predictions(good: int, bad: int, seed: int) -> None:
    candidates = [_candidate(seed + k) for k in range(good)]
    candidates += [
        Candidate(coords=np.full((76, 3), np.nan), origin="network", confidence=0.9, note="broken") for _ in range(bad)
    ]
    coords = np.stack([candidate.coords for candidate in pick_five(TARGET, candidates, seed=seed)])
    assert coords.shape == (5, 76, 3)
    assert np.isfinite(coords).all()


def test_a_doubtful_candidate_is_better_than_a_plain_strand_and_says_why() -> None:
    line = Candidate(coords=_spoil("straight line"), origin="network", confidence=0.9, note="net")
    chosen = pick_five(TARGET, [line, _candidate(0)])
    assert chosen[0].origin == "assembly"
    assert "straight line" in chosen[1].note and chosen[1].confidence == 0.0
    assert [c.origin for c in chosen[2:]] == ["fallback"] * 3


def test_slots_yaml_is_read_and_typing_errors_in_it_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "slots.yaml"
    path.write_text("likeness_power: 2\nbands:\n  - {max_length: 50, template: [1, 2]}\n")
    config = load_slots(path)
    assert config.bands == (Band(max_length=50, template=(1, 2)),)
    assert config.likeness_power == 2.0
    path.write_text("likenes_power: 2\n")
    with pytest.raises(ConfigError, match="likeness_power"):
        load_slots(path)


def test_the_shipped_slots_yaml_covers_every_target() -> None:
    config = load_slots(Path(__file__).resolve().parents[2] / "submission" / "slots.yaml")
    assert config.bands[-1].max_length >= 5500
    assert config.bands[-1].max_confidence >= 1.0
    assert set(config.spread) == set(ORIGINS)
    for band in config.bands:
        for origin in ORIGINS:
            least, most = band.limits(origin)
            assert 0 <= least <= most <= 5
        assert sum(band.limits(origin)[0] for origin in ORIGINS) <= 5
