"""A run's configuration keeps the names it was made from, and derives of its batch what nobody named."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rnafold.config.hardware import load_gpu
from rnafold.config.settings import TrainChoices, load_config, resolve_config
from rnafold.config.strict_yaml import config_directory, dump
from rnafold.errors import ConfigError

BATCH = ("micro_batch", "accumulation", "effective_batch")


@pytest.mark.parametrize(
    ("gpu", "overrides", "expected"),
    [
        # t4: 16 x 3 x 1 = 48; t4x2: 8 x 3 x 2 = 48; cpu: 2 x 4 x 1 = 8
        pytest.param("t4", {}, (16, 3, 48), id="nothing-named"),
        pytest.param("t4", {"micro_batch": 16, "accumulation": 1}, (16, 1, 16), id="the-effective-batch-follows"),
        pytest.param("t4x2", {"micro_batch": 4, "accumulation": 3}, (4, 3, 24), id="over-two-cards"),
        pytest.param("t4", {"micro_batch": 8}, (8, 6, 48), id="a-micro-batch-keeps-the-effective"),
        pytest.param("t4", {"micro_batch": 10}, (10, 5, 50), id="as-near-as-it-gets"),
        pytest.param("t4", {"micro_batch": 64}, (64, 1, 64), id="a-micro-batch-above-the-effective"),
        pytest.param("t4", {"accumulation": 1}, (16, 1, 16), id="an-accumulation-keeps-the-micro-batch"),
        pytest.param("t4", {"effective_batch": 96}, (16, 6, 96), id="an-effective-batch-keeps-the-micro-batch"),
        pytest.param("t4", {"effective_batch": 6}, (6, 1, 6), id="or-the-largest-that-divides"),
        pytest.param("t4", {"effective_batch": 40}, (10, 4, 40), id="or-the-largest-below"),
        pytest.param("t4", {"accumulation": 4, "effective_batch": 40}, (10, 4, 40), id="the-micro-batch-follows"),
        pytest.param("t4", {"micro_batch": 4, "effective_batch": 40}, (4, 10, 40), id="the-accumulation-follows"),
        pytest.param("cpu", {"micro_batch": 8, "accumulation": "auto"}, (8, "auto", 8), id="auto-stays"),
        pytest.param("cpu", {"micro_batch": 3, "accumulation": "auto"}, (3, "auto", 9), id="auto-comes-out-even"),
    ],
)
def test_of_a_batch_what_nobody_named_follows(gpu: str, overrides: dict[str, Any], expected: tuple[Any, ...]) -> None:
    config = resolve_config(gpu, "minimal", [f"train.{key}={value}" for key, value in overrides.items()])
    assert tuple(getattr(config.train, key) for key in BATCH) == expected


def test_cards_that_the_user_names_keep_the_effective_batch() -> None:
    config = resolve_config("t4", "minimal", ["hardware.num_gpus=2"])
    assert tuple(getattr(config.train, key) for key in BATCH) == (12, 2, 48)
    config = resolve_config("cpu", "minimal", ["hardware.num_gpus=2"])
    assert tuple(getattr(config.train, key) for key in BATCH) == (2, 2, 8)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        pytest.param(
            ["train.micro_batch=16", "train.accumulation=1", "train.effective_batch=48"],
            "--set train.effective_batch=48: train.effective_batch: found 48, but train.micro_batch 16 x "
            "train.accumulation 1 x 1 GPU = 16; leave one of the three out and it follows",
            id="three-that-do-not-agree",
        ),
        pytest.param(
            ["train.micro_batch=16", "train.effective_batch=40"],
            "--set train.effective_batch=40: train.effective_batch: 40 is no multiple of micro batch 16 x 1 GPU; "
            "the next smaller micro batch that does is 10",
            id="two-that-leave-no-whole-third",
        ),
        pytest.param(
            ["train.precision=bf16"],
            "--set train.precision=bf16: train.precision: NVIDIA Tesla T4 does not run bf16; use fp32 or fp16",
            id="the-key-that-was-set",
        ),
        pytest.param(["train.micro_batch=0"], "--set train.micro_batch=0: train.micro_batch: found 0", id="zero"),
        pytest.param(["train.micro_batch=many"], "--set train.micro_batch=many: train.micro_batch: found", id="text"),
        pytest.param(["hardware.num_gpus=0"], "--set hardware.num_gpus=0: hardware.num_gpus: found 0", id="no-card"),
        pytest.param(["choices.gpu=a100"], "--set choices: says how a run was started", id="names-cannot-be-set"),
    ],
)
def test_a_real_contradiction_is_refused_by_the_key_that_the_user_may_set(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve_config("t4", "minimal", overrides)
    assert str(caught.value).startswith(message)


def test_names_and_overrides_are_kept_and_saved(tmp_path: Path) -> None:
    overrides = ["train.epochs=3", "data.cache=here"]
    config = resolve_config("t4", "minimal", overrides)
    assert config.choices == TrainChoices(gpu="t4", model="minimal", overrides=tuple(overrides))
    assert config.gpu == "t4"
    (tmp_path / "config.yaml").write_text(dump(config))
    assert load_config(tmp_path / "config.yaml").choices == config.choices


def test_the_names_are_no_part_of_what_a_configuration_says() -> None:
    one = resolve_config("t4", "minimal", ["train.epochs=3"])
    other = resolve_config("t4", "minimal", ["train.epochs=9", "train.epochs=3"])
    assert one == other and one.choices != other.choices
    assert replace(one, choices=None).gpu == ""


def write_gpu(folder: Path, old: str, new: str) -> Path:
    path = folder / "mine.yaml"
    text = (config_directory() / "gpu" / "cpu.yaml").read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    return path


def test_a_gpu_file_of_the_users_own_is_kept_by_its_path(tmp_path: Path) -> None:
    path = write_gpu(tmp_path, "micro_batch: 2", "micro_batch: 1")
    with pytest.raises(ConfigError, match=r"mine.yaml:\d+: train.effective_batch: found 8, but .* = 4; leave"):
        load_gpu(str(path))
    path = write_gpu(tmp_path, "name: any CPU", "name: my CPU, any CPU")
    assert resolve_config(str(path), "minimal").gpu == str(path)


def test_a_gpu_file_from_before_the_section_was_renamed_gets_one_line(tmp_path: Path) -> None:
    path = write_gpu(tmp_path, "\ntrain:\n", "\nrun:\n")
    line = path.read_text().splitlines().index("run:") + 1
    for read in (load_gpu, lambda name: resolve_config(name, "minimal")):
        with pytest.raises(ConfigError) as caught:
            read(str(path))
        assert str(caught.value).endswith(
            f"mine.yaml:{line}: run: this section is called train now, as in --set; rename it"
        )


def test_a_gpu_file_that_lacks_a_section_is_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("hardware: {}\n")
    with pytest.raises(ConfigError, match=r"train"):
        resolve_config(str(path), "minimal")
