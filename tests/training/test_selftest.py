"""The self-test on the CPU: every check runs, finds what it should, and sees what is wrong."""

import json

import pytest
import torch

from rnafold import machine
from rnafold.cli.main import main
from rnafold.config.settings import resolve_config
from rnafold.errors import InputError
from rnafold.planner.memory.estimate import TraceStore
from rnafold.training import selftest
from rnafold.training.probe import Probe, build_random_batch


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> TraceStore:
    return TraceStore(tmp_path_factory.mktemp("traces"))


def test_the_short_form_checks_device_precisions_and_attention(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["selftest", "--gpu", "cpu", "--short", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["gpu"] == "cpu"
    names = [c["name"] for c in found["checks"]]
    assert names == ["device", "precision fp32", "precision bf16", "attention math", "attention flash"]
    assert all(c["status"] == "ok" for c in found["checks"])
    fp32, bf16 = (c["figures"]["losses"] for c in found["checks"][1:3])
    assert len(fp32) == selftest.CURVE_STEPS and fp32 != bf16


def test_memory_of_a_step_is_as_planned(store: TraceStore) -> None:
    (check,) = selftest.check_cases("cpu", store, (("minimal", 64),))
    assert check.status == "ok"
    assert abs(float(check.figures["relative_difference"])) < 0.01  # type: ignore[arg-type]
    assert check.figures["share_of_peak"] > 0  # type: ignore[operator]


def test_a_precision_that_learns_nothing_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Probe, "losses", lambda self, batch, count: [4.0, float("nan")])
    config = resolve_config("cpu", "minimal", [])
    assert [c.status for c in selftest.check_precisions("cpu", config)] == ["failed", "failed"]


def test_an_attention_kernel_that_is_wrong_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", lambda q, k, v, attn_mask: v)
    config = resolve_config("cpu", "minimal", [])
    assert {c.status for c in selftest.check_attention(config)} == {"failed"}


def test_a_device_without_kernels_fails_and_the_command_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(_: object) -> None:
        raise InputError("no kernel image is available")

    monkeypatch.setattr(machine, "check_device", refuse)
    monkeypatch.setattr(Probe, "losses", lambda self, batch, count: [4.0, 3.0])
    assert main(["selftest", "--gpu", "cpu", "--short"]) == 1
    assert "failed   device: no kernel image" in capsys.readouterr().out


def test_a_step_that_was_planned_to_fit_and_ran_out_fails(monkeypatch: pytest.MonkeyPatch, store: TraceStore) -> None:
    monkeypatch.setattr(Probe, "seconds", lambda *_: (_ for _ in ()).throw(MemoryError("planted")))
    (check,) = selftest.check_cases("cpu", store, (("minimal", 64),))
    assert check.status == "failed" and "yet ran out" in check.detail


def test_two_ranks_and_compile_are_skipped_where_there_are_none() -> None:
    config = resolve_config("cpu", "minimal", [])
    found = [*selftest.check_compile(config), *selftest.check_ranks(config)]
    assert [c.status for c in found] == ["skipped", "skipped"]


def test_random_chains_are_the_same_for_the_same_seed() -> None:
    first, again, other = (build_random_batch(16, 2, seed) for seed in (0, 0, 1))
    assert torch.equal(first.coords, again.coords) and not torch.equal(first.coords, other.coords)
