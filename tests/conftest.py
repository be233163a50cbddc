"""Fixtures that every room's tests share: a tiny configuration, the real data where present."""

from pathlib import Path

import pytest

from rnafold.config.settings import Config, resolve_config
from tests.pieces.tiny import TINY_MODEL

REAL_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Slow tests first; without those that read the competition's files where these are not (each has a twin)."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
    if REAL_DATA.is_dir():
        return
    absent = [item for item in items if item.get_closest_marker("real_data")]
    items[:] = [item for item in items if not item.get_closest_marker("real_data")]
    config.hook.pytest_deselected(items=absent)


@pytest.fixture
def real_data() -> Path:
    """The folder with the competition's files beside the checkout, for tests marked `real_data`."""
    return REAL_DATA


@pytest.fixture
def tiny_config(tmp_path: Path) -> Config:
    """The minimal model on the CPU, cut down to run in seconds."""
    return resolve_config(
        "cpu",
        "minimal",
        [
            *TINY_MODEL,
            "model.pair_updates=1",
            "train.epochs=2",
            "train.log_every_steps=1",
            "train.warmup_epochs=0",
            f"data.cache={tmp_path / 'cache'}",
        ],
    )
