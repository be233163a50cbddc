"""Fixtures that every room's tests share: a tiny configuration, the real data where present."""

from pathlib import Path

import pytest

from rnafold.config.settings import Config, resolve_config

SHARED = Path(__file__).resolve().parents[1] / ".." / "shared" / "data"


@pytest.fixture
def shared_data() -> Path:
    """The folder with real structures, beside the checkout; tests skip without it."""
    if not SHARED.is_dir():
        pytest.skip("the real data beside the checkout is absent")
    return SHARED


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
