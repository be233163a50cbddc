"""Training examples: what is built ahead and kept is what would be built anew."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from rnafold.config.settings import Config, resolve_config
from rnafold.data.demo import write_demo_data
from rnafold.data.selection import choose_entries
from rnafold.features.build import Example
from rnafold.training import assemblies
from rnafold.training.dataset import TrainingExamples
from rnafold.training.prepare import prepare_entries
from rnafold.training.starts import build_start


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    write_demo_data(folder, num_train=8, num_test=2)
    return folder


def prepare(demo: Path, cache: Path, model: str = "minimal", *more: str) -> TrainingExamples:
    settings = ["data.cutoff=2022-01-01", "data.validation=file", "data.jobs=1", f"data.cache={cache}", *more]
    config: Config = resolve_config("cpu", model, settings)
    return prepare_entries(config, choose_entries(demo, config.data)).examples


def assert_equal(one: Example, other: Example) -> None:
    for field in dataclasses.fields(Example):
        np.testing.assert_array_equal(getattr(one, field.name), getattr(other, field.name), field.name)


def test_what_was_built_ahead_and_kept_is_what_is_built_anew(demo: Path, tmp_path: Path) -> None:
    ahead = prepare(demo, tmp_path / "ahead")
    entry = ahead.entries[0]
    pairing = ahead.features.pairing_cache.window(entry.target, 0, entry.target.length).pairing
    for variant in range(2):
        point = ahead.assemblies.point(entry.target, variant)
        np.testing.assert_array_equal(point.coords, build_start(entry.target, pairing, variant).coords)
    for epoch in range(3):  # of two variants some epoch meets one again
        anew = TrainingExamples(ahead.entries, ahead.features, ahead.seed)
        for index in range(len(ahead)):
            assert_equal(ahead[epoch, index], anew[epoch, index])


def test_no_step_builds_what_was_built_ahead_and_a_second_run_builds_nothing(
    demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = []

    def build(*arguments: object) -> object:
        built.append(arguments)
        return build_start(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(assemblies, "build_start", build)
    examples = prepare(demo, tmp_path / "cache")
    assert len(built) == 2 * len(examples)
    for epoch in range(2):
        for index in range(len(examples)):
            examples[epoch, index]
    again = prepare(demo, tmp_path / "cache")
    assert_equal(again[1, 3], examples[1, 3])
    assert len(built) == 2 * len(examples)


def test_a_network_that_reads_tokens_alone_gets_no_starts_and_no_features(demo: Path, tmp_path: Path) -> None:
    examples = prepare(demo, tmp_path / "cache", "plain")
    found, whole = examples[0, 2], prepare(demo, tmp_path / "other")[0, 2]
    assert not list((tmp_path / "cache").glob("*.ideal.npz"))
    assert not found.pairing.any()
    # what it does read and learn from is the same
    for name in ("tokens", "chain_index", "residue_index", "coords", "coord_mask", "partner"):
        np.testing.assert_array_equal(getattr(found, name), getattr(whole, name), name)
