"""Chains of any length train: a stretch is chosen before anything grows with the square of the length."""

import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rnafold.config.settings import DataConfig
from rnafold.features import pairing_cache
from rnafold.features.source import FeatureSource
from rnafold.structure import Chain, Entry, Target, cut_target, structure_from_points, whole_chain
from rnafold.training.dataset import TrainingExamples
from rnafold.training.starts import StartStore

LENGTH = 30_000


def make_long_entry(length: int = LENGTH) -> Entry:
    rng = np.random.default_rng(0)
    sequence = "".join(rng.choice(list("ACGU"), length))
    points = np.cumsum(rng.normal(size=(length, 3)) * 3.5, axis=0)
    points[100:110] = np.nan
    target = Target(target_id="long", sequence=sequence, chains=whole_chain(length))
    return Entry(target=target, references=(structure_from_points(points),))


@pytest.fixture
def quick_folding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairing_cache, "TILE", 200)
    monkeypatch.setattr(pairing_cache, "WINDOW", 60)
    monkeypatch.setattr(pairing_cache, "MAX_SPAN", 50)


def test_a_long_chain_trains_in_little_memory_and_each_epoch_on_another_stretch(
    tmp_path: Path, quick_folding: None
) -> None:
    config = DataConfig(cache=str(tmp_path / "cache"), crop_length=128)
    (tmp_path / "MSA").mkdir()
    entry = make_long_entry()
    letters = entry.target.sequence
    rows = [f">query\n{letters}\n", *(f">row\n{letters[k:]}{letters[:k]}\n" for k in range(1, 20))]
    (tmp_path / "MSA" / "long.MSA.fasta").write_text("".join(rows))
    examples = TrainingExamples([entry], FeatureSource(config, [tmp_path]), seed=0)
    assert examples.lengths == [128]
    tracemalloc.start()
    made = [examples[epoch, 0] for epoch in range(3)]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40e6, "an (L, L) array of this chain would have 900 million elements"
    starts = [int(example.residue_index[0]) for example in made]
    assert len(set(starts)) == 3
    for first, example in zip(starts, made):
        assert example.length == 128 and example.pairing.shape == (128, 128)
        assert example.covariation is not None and example.covariation.shape == (128, 128)
        reference = entry.references[0].coords[first : first + 128, 0]
        apart = np.linalg.norm(reference[1:] - reference[:-1], axis=1)
        kept = example.coords[:, 0]
        np.testing.assert_allclose(np.linalg.norm(kept[1:] - kept[:-1], axis=1), apart, atol=1e-3)
        assert example.residue_channels[:, 6].all(), "the alignment is seen"
    again = examples[1, 0]
    assert np.array_equal(again.start, made[1].start) and np.array_equal(again.pairing, made[1].pairing)


def test_a_cut_target_keeps_what_it_holds_of_each_chain() -> None:
    chains = (Chain(chain_id="A", copy=1, start=0, stop=6), Chain(chain_id="B", copy=1, start=6, stop=10))
    target = Target(target_id="two", sequence="AAAAAACCCC", chains=chains)
    cut = cut_target(target, 4, 9)
    assert cut.sequence == "AACCC"
    assert [(c.chain_id, c.start, c.stop) for c in cut.chains] == [("A", 0, 2), ("B", 2, 5)]
    assert cut_target(target, 7, 9).chains == (Chain(chain_id="B", copy=1, start=0, stop=2),)


def test_starts_are_cut_from_their_piece_and_a_chain_without_any_starts_ideal(tmp_path: Path) -> None:
    target = make_long_entry(300).target
    path = tmp_path / "a.npz"
    coords = np.arange(2 * 200 * 3, dtype=np.float32).reshape(2, 200, 3)
    np.savez(path, coords=coords, confidence=np.ones(2, np.float32), is_template=np.zeros(2, np.bool_))
    store = StartStore({"long": [((100, 300), path), ((0, 200), tmp_path / "missing.npz")]})
    found = store.window(target, 120, 140)
    assert found is not None and np.array_equal(found.coords, coords[:, 20:40])
    assert store.window(target, 50, 70) is None and store.window(replace(target, target_id="x"), 0, 5) is None
    assert (store.count_ready(), len(store)) == (1, 1)
