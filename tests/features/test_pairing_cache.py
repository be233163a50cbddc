"""Base pairs on disk: whole for short chains, by tile for long ones, cut to any window."""

from pathlib import Path

import numpy as np
import pytest

from rnafold.features import pairing_cache, secondary
from rnafold.features.pairing_cache import PairingCache, count_tiles
from rnafold.features.secondary import fold_stretch, predict_pairing
from rnafold.structure import Chain, Target, whole_chain

HAIRPIN = "GGGACGCUUCGGCGUCCC"


@pytest.fixture
def no_vienna(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (secondary, pairing_cache):
        monkeypatch.setattr(module, "load_vienna", lambda: None)


@pytest.fixture
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits so small that 400 residues are a long chain."""
    for module in (secondary, pairing_cache):
        for name, value in (("MAX_UNWINDOWED", 120), ("WINDOW", 60), ("MAX_SPAN", 40), ("FALLBACK_WINDOW", 50)):
            monkeypatch.setattr(module, name, value, raising=module is secondary)
    monkeypatch.setattr(pairing_cache, "TILE", 90)


def make_target(name: str, sequence: str) -> Target:
    return Target(target_id=name, sequence=sequence, chains=whole_chain(len(sequence)))


def test_the_cache_gives_what_was_computed_and_computes_once(
    tmp_path: Path, no_vienna: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = PairingCache(tmp_path)
    stored = cache.compute(
        [make_target("one", HAIRPIN), make_target("same", HAIRPIN), make_target("two", "GGGAAAACCC")]
    )
    assert sorted(stored) == ["one", "same", "two"] and len(list(tmp_path.iterdir())) == 2
    direct = predict_pairing(HAIRPIN)
    for name in ("one", "same"):
        assert np.array_equal(stored[name].probabilities, direct.probabilities)
        assert np.array_equal(stored[name].samples, direct.samples)
        assert np.array_equal(stored[name].partner, direct.partner)
        assert stored[name].source == direct.source
    monkeypatch.setattr(pairing_cache, "predict_pairing", None)
    assert len(cache.compute([make_target("one", HAIRPIN)])) == 1


def test_damaged_files_are_made_again_and_other_settings_have_other_files(tmp_path: Path, no_vienna: None) -> None:
    cache = PairingCache(tmp_path)
    cache.compute([make_target("one", HAIRPIN)])
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:100])
    assert cache.compute([make_target("one", HAIRPIN)])["one"].partner[0] == 17
    assert PairingCache(tmp_path, seed=1).locate(make_target("one", HAIRPIN)) != path
    assert PairingCache(tmp_path, num_samples=1).locate(make_target("one", HAIRPIN)) != path


def test_two_processes_give_the_same_files_as_one(tmp_path: Path) -> None:
    pytest.importorskip("RNA")
    targets = [make_target("one", HAIRPIN), make_target("two", "GGGAAAACCC" + HAIRPIN)]
    alone = PairingCache(tmp_path / "1").compute(targets, jobs=1)
    both = PairingCache(tmp_path / "2").compute(targets, jobs=2)
    for name in alone:
        assert np.array_equal(alone[name].probabilities, both[name].probabilities)
        assert np.array_equal(alone[name].samples, both[name].samples)


def random_sequence(length: int, seed: int = 0) -> str:
    return "".join(np.random.default_rng(seed).choice(list("ACGU"), length))


def test_a_window_of_a_short_chain_is_cut_from_the_whole(tmp_path: Path, no_vienna: None) -> None:
    target = make_target("one", "A" * 6 + HAIRPIN + random_sequence(40))
    whole = predict_pairing(target.sequence)
    found = PairingCache(tmp_path).window(target, 4, 50)
    assert np.array_equal(found.pairing.probabilities, whole.probabilities[4:50, 4:50])
    np.testing.assert_allclose(found.opening, np.triu(whole.probabilities).sum(1)[4:50], atol=1e-6)
    np.testing.assert_allclose(found.closing, np.tril(whole.probabilities).sum(1)[4:50], atol=1e-6)
    # the hairpin's first pair is residues 6 and 23
    assert found.pairing.partner[2] == 19 and found.pairing.samples.shape == (4, 46)


def test_tiles_give_the_pairs_of_the_whole_chain_folded_in_windows(tmp_path: Path, small_windows: None) -> None:
    pytest.importorskip("RNA")
    target = make_target("long", random_sequence(400))
    left, right, values = fold_stretch(target.sequence)
    whole = np.zeros((400, 400), np.float32)
    whole[left, right] = whole[right, left] = values
    cache = PairingCache(tmp_path)
    for first, stop in ((0, 100), (75, 190), (300, 400), (0, 400)):
        found = cache.window(target, first, stop)
        np.testing.assert_allclose(found.pairing.probabilities, whole[first:stop, first:stop], atol=2e-6)
        np.testing.assert_allclose(found.opening, np.triu(whole).sum(1)[first:stop], atol=1e-5)
        np.testing.assert_allclose(found.closing, np.tril(whole).sum(1)[first:stop], atol=1e-5)
    assert len(list(tmp_path.iterdir())) == count_tiles(400) == 5


def test_only_the_tiles_that_a_window_touches_are_folded_and_each_once(
    tmp_path: Path, small_windows: None, no_vienna: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    folded: list[int] = []

    def spy(sequence: str) -> object:
        folded.append(len(sequence))
        return fold_stretch(sequence)

    monkeypatch.setattr(pairing_cache, "fold_stretch", spy)
    target = make_target("long", random_sequence(100_000))
    cache = PairingCache(tmp_path)
    first, second = (cache.window(target, 50_000, 50_064) for _ in range(2))
    assert folded == [210, 210], "two tiles of 90 with margins of 60, although the chain has 1,112"
    assert np.array_equal(first.pairing.probabilities, second.pairing.probabilities)
    assert np.array_equal(first.pairing.samples, second.pairing.samples)
    partner = first.pairing.partner
    assert all(partner[j] == i for i, j in enumerate(partner) if j >= 0)


def test_long_targets_of_several_chains_are_folded_chain_by_chain(
    tmp_path: Path, small_windows: None, no_vienna: None
) -> None:
    part = "A" * 40 + HAIRPIN + "A" * 10
    chains = tuple(Chain(chain_id="A", copy=k + 1, start=68 * k, stop=68 * k + 68) for k in range(3))
    found = PairingCache(tmp_path).window(Target(target_id="three", sequence=part * 3, chains=chains), 60, 200)
    alone = predict_pairing(part).probabilities
    assert np.array_equal(found.pairing.probabilities[8:76, 8:76], alone)
    assert found.pairing.probabilities[:8, 8:].sum() == 0, "no pairs between chains"
    # the second copy's hairpin begins at residue 68 + 40, 48 of the window
    assert found.pairing.partner[48] == 65
    assert len(list(tmp_path.iterdir())) == 1, "copies share a file"


def test_what_is_not_made_in_time_is_made_when_it_is_asked_for(tmp_path: Path, no_vienna: None) -> None:
    targets = [make_target(f"t{k}", random_sequence(30, seed=k)) for k in range(3)]
    cache = PairingCache(tmp_path)
    cache.compute(targets, limit_seconds=-1.0)
    assert not list(tmp_path.iterdir())
    assert cache.window(targets[1], 0, 30).pairing.probabilities.shape == (30, 30)
    assert len(list(tmp_path.iterdir())) == 1
