"""What a launcher tells: who writes, how many train, and the batch that follows."""

import pytest

from rnafold.cli.main import main
from rnafold.cli.train import require_batch
from rnafold.config.launch import count_launched, is_first_rank, name_launched
from rnafold.config.settings import resolve_config
from rnafold.errors import ConfigError


@pytest.mark.parametrize(
    ("environment", "first", "count"),
    [
        ({}, True, 1),
        ({"RANK": "0", "WORLD_SIZE": "2"}, True, 2),
        ({"RANK": "1", "WORLD_SIZE": "2"}, False, 2),
        ({"WORLD_SIZE": "0"}, True, 1),
        ({"WORLD_SIZE": "many"}, True, 1),
    ],
)
def test_rank_and_number_are_the_launchers(environment: dict[str, str], first: bool, count: int) -> None:
    assert is_first_rank(environment) == first
    assert count_launched(environment) == count


def test_the_batch_follows_the_processes_that_were_launched() -> None:
    two = {"RANK": "0", "WORLD_SIZE": "2"}
    train = resolve_config("cpu", "minimal", name_launched("cpu", [], two)).train
    # 8 = micro batch 2 x 2 turns x 2 processes; alone 2 x 4
    assert (train.micro_batch, train.accumulation, train.effective_batch) == (2, 2, 8)
    assert resolve_config("cpu", "minimal", name_launched("cpu", [], {})).train.accumulation == 4
    # a machine of two cards of which one is used
    assert name_launched("t4x2", ["train.seed=1"], {}) == ["hardware.num_gpus=1", "train.seed=1"]
    assert name_launched("t4x2", [], two) == []
    assert name_launched("cpu", ["hardware.num_gpus=1"], two) == ["hardware.num_gpus=1"]


def test_a_batch_that_the_processes_cannot_share_is_refused_before_any_data_are_read(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = resolve_config("cpu", "minimal", ["train.micro_batch=3", "train.effective_batch=6"])
    with pytest.raises(ConfigError, match=r"found 6, but train.micro_batch 3 x train.accumulation 2 x 4 GPU = 24"):
        require_batch(config, 4)
    monkeypatch.setenv("WORLD_SIZE", "3")
    assert main(["train", "--gpu", "cpu", "--data", "nowhere", "--set", "train.effective_batch=7"]) == 2
    said = capsys.readouterr().err
    assert "effective_batch" in said and "nowhere" not in said and "Traceback" not in said
