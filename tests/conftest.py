"""Shared builders of small inputs: ideal duplexes as examples, tiny configurations, the real data where present."""

from pathlib import Path

import numpy as np
import pytest

from rnafold import geometry
from rnafold.config.settings import Config, resolve_config
from rnafold.features.build import Example, build_example
from rnafold.structure import Chain, Pairing, Target, structure_from_points

SHARED = Path(__file__).resolve().parents[1] / ".." / "shared" / "data"
COMPLEMENT = {"A": "U", "C": "G", "G": "C", "U": "A"}


@pytest.fixture
def shared_data() -> Path:
    """The folder with real structures, beside the checkout; tests skip without it."""
    if not SHARED.is_dir():
        pytest.skip("the real data beside the checkout is absent")
    return SHARED


def make_duplex(num_pairs: int, seed: int = 0, noise: float = 0.0, unresolved: int = 0) -> Example:
    """An ideal A-form duplex; the start is the reference with `noise` Å, the first residues are unresolved."""
    rng = np.random.default_rng(seed)
    strand, other = geometry.build_helix(num_pairs)
    points = np.concatenate([strand, other[::-1]])
    letters = "".join(rng.choice(list("ACGU"), num_pairs))
    sequence = letters + "".join(COMPLEMENT[x] for x in reversed(letters))
    size = 2 * num_pairs
    partner = np.arange(size)[::-1].copy()
    probabilities = np.zeros((size, size), np.float32)
    probabilities[np.arange(size), partner] = 0.9
    chains = (
        Chain(chain_id="A", copy=1, start=0, stop=num_pairs),
        Chain(chain_id="B", copy=1, start=num_pairs, stop=size),
    )
    known = points.copy()
    known[:unresolved] = np.nan
    return build_example(
        Target(target_id=f"duplex{num_pairs}", sequence=sequence, chains=chains),
        Pairing(probabilities=probabilities, partner=partner, samples=np.zeros((0, size), np.int64), source="ideal"),
        points + rng.normal(scale=noise, size=points.shape) if noise else points,
        reference=structure_from_points(known),
    )


@pytest.fixture
def tiny_config(tmp_path: Path) -> Config:
    """The minimal model on the CPU, cut down to run in seconds."""
    return resolve_config(
        "cpu",
        "minimal",
        [
            "model.width=16",
            "model.attention_heads=2",
            "model.feed_forward=32",
            "model.layers=2",
            "model.pair_channels=8",
            "model.pair_updates=1",
            "train.epochs=2",
            "train.log_every_steps=1",
            "train.warmup_epochs=0",
            f"data.cache={tmp_path / 'cache'}",
        ],
    )
