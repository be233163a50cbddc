"""Checkpoints survive kills and damage; metrics have neither gap nor repeat."""

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch

from rnafold.config.settings import Config
from rnafold.errors import InputError
from rnafold.files.metrics import MetricsFile, read_metrics
from rnafold.files.run_folder import find_damage
from rnafold.training.checkpoint import (
    Checkpoint,
    flatten_optimizer,
    load_checkpoint,
    restore_optimizer,
    save_checkpoint,
)
from rnafold.training.schedule import TimeBudget, rate_at


def make(step: int) -> Checkpoint:
    return Checkpoint(tensors={"model": {"w": torch.full((3,), float(step))}}, state={"step": step})


def test_the_newest_checkpoint_is_loaded_and_older_ones_are_pruned(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        save_checkpoint(tmp_path, step, make(step), keep=2)
    loaded = load_checkpoint(tmp_path)
    assert loaded is not None
    assert loaded.state == {"step": 3}
    assert loaded.tensors["model"]["w"].tolist() == [3.0, 3.0, 3.0]
    assert sorted(p.name for p in tmp_path.glob("step_*")) == ["step_00000002", "step_00000003"]


@pytest.mark.parametrize("damage", ["truncate", "remove", "manifest", "half_written"])
def test_a_damaged_checkpoint_is_skipped_for_the_one_before(tmp_path: Path, damage: str) -> None:
    save_checkpoint(tmp_path, 1, make(1), keep=5)
    newest = save_checkpoint(tmp_path, 2, make(2), keep=5)
    if damage == "truncate":
        (newest / "model.safetensors").write_bytes((newest / "model.safetensors").read_bytes()[:-4])
    elif damage == "remove":
        (newest / "model.safetensors").unlink()
    elif damage == "manifest":
        (newest / "manifest.json").write_text('{"model.saf')
    else:
        (newest / "manifest.json").unlink()
    assert find_damage(newest) is not None
    loaded = load_checkpoint(tmp_path)
    assert loaded is not None and loaded.state == {"step": 1}


def test_a_kill_between_rename_and_pointer_still_finds_a_complete_checkpoint(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 1, make(1), keep=5)
    save_checkpoint(tmp_path, 2, make(2), keep=5)
    (tmp_path / "LATEST").write_text("step_00000001")
    (tmp_path / ".step_00000003.tmp").mkdir()
    loaded = load_checkpoint(tmp_path)
    assert loaded is not None and loaded.state == {"step": 1}


def test_no_checkpoint_is_none(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path / "nothing") is None


def test_the_optimizer_goes_on_exactly_after_a_round_trip() -> None:
    def build() -> tuple[torch.nn.Linear, torch.optim.AdamW, dict[Any, str]]:
        torch.manual_seed(0)
        layer = torch.nn.Linear(4, 2)
        return layer, torch.optim.AdamW(layer.parameters(), lr=0.1), {p: n for n, p in layer.named_parameters()}

    def step(layer: torch.nn.Linear, optimizer: torch.optim.AdamW) -> None:
        optimizer.zero_grad()
        layer(torch.ones(1, 4)).pow(2).sum().backward()
        optimizer.step()

    layer, optimizer, names = build()
    step(layer, optimizer)
    flat = flatten_optimizer(optimizer, names)
    other, fresh, other_names = build()
    other.load_state_dict(layer.state_dict())
    restore_optimizer(fresh, other_names, flat)
    step(layer, optimizer)
    step(other, fresh)
    assert torch.equal(layer.weight, other.weight)
    with pytest.raises(InputError, match="does not have"):
        restore_optimizer(fresh, other_names, {"exp_avg.nothing": torch.zeros(1)})


def test_metrics_beyond_the_checkpoint_and_a_cut_line_are_dropped_on_resume(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    metrics = MetricsFile(path)
    for step in (1, 2, 3):
        metrics.write({"step": step})
    with path.open("a") as file:
        file.write('{"step": 4, "lo')
    assert [r["step"] for r in read_metrics(path)] == [1, 2, 3]
    MetricsFile(path, resume_step=2).write({"step": 3})
    assert [r["step"] for r in read_metrics(path)] == [1, 2, 3]


def test_the_rate_warms_up_from_1e_6_and_falls_to_its_share(tiny_config: Config) -> None:
    from dataclasses import replace

    train = replace(tiny_config.train, epochs=10, warmup_epochs=2, final_rate_share=0.1)
    rates = [rate_at(step, 5, 1e-3, train) for step in range(50)]
    assert rates[0] == pytest.approx(1e-6 + (1e-3 - 1e-6) / 10)
    assert rates[9] == pytest.approx(1e-3)
    assert rates[10] == pytest.approx(1e-3)
    assert rates[-1] == pytest.approx(1e-4)
    assert all(a >= b for a, b in itertools.pairwise(rates[9:]))


def test_the_budget_keeps_time_for_the_longest_step_and_checkpoint() -> None:
    now = [0.0]
    budget = TimeBudget(0.01, clock=lambda: now[0])  # 36 seconds
    budget.record("step", 4.0)
    budget.record("checkpoint", 6.0)
    now[0] = 18.9  # 18.9 + 1.5 * (4 + 6) + 2 = 35.9
    assert budget.allows("step")
    now[0] = 19.1
    assert not budget.allows("step")
    assert TimeBudget(None).allows("step")


def test_the_rest_of_a_budget_goes_by_the_same_clock() -> None:
    now = [0.0]
    budget = TimeBudget(0.01, clock=lambda: now[0])  # 36 seconds
    budget.record("step", 30.0)
    now[0] = 16.0
    rest = budget.rest()
    assert rest.seconds == pytest.approx(20.0) and rest.elapsed_seconds == 0
    assert not budget.allows("step"), "16 + 1.5 * 30 + 2 is more than 36"
    assert rest.allows("step"), "what another run's steps took says nothing about this one's"
    now[0] = 40.0
    assert not rest.allows("step") and budget.hours_left == 0
    assert TimeBudget(None).rest().hours_left is None
