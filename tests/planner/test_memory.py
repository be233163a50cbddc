"""Predicted memory against the real CPU allocator, the caching allocator by hand, and what is chosen from both."""

import dataclasses
import gc
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rnafold.config.hardware import load_gpus
from rnafold.config.settings import Config, resolve_config
from rnafold.planner.memory import records
from rnafold.planner.memory.allocator import BLOCK, CachingAllocator, reserve
from rnafold.planner.memory.estimate import (
    TraceStore,
    choose_micro_batch,
    estimate_memory,
    largest_micro_batch,
    machine_memory_gib,
    memory_limit_gib,
    trace_key,
)
from rnafold.planner.memory.records import DTYPES, PHASES, TAGS, Trace, TraceKey, load_trace
from rnafold.planner.memory.trace import SYMBOLIC_BATCH, record, split_count

ROOT = Path(__file__).resolve().parents[2]
MIB = 2**20


def config_of(gpu: str, *overrides: str) -> Config:
    return resolve_config(gpu, "minimal", ["data.crop_length=48", *overrides])


VARIANTS = {
    "fp32 math": ("train.precision=fp32", "train.attention=math"),
    "fp16 math": ("train.attention=math",),
    "fp16": (),
    "fp16 recomputed": ("train.gradient_checkpointing=true",),
}


@pytest.fixture(scope="module")
def store(trace_folder: Path) -> TraceStore:
    found = TraceStore(trace_folder)
    # all traces of these tests at once: one process instead of one for each
    keys = [trace_key(config_of("v100", *more), 48) for more in VARIANTS.values()]
    found.request([*keys, trace_key(config_of("t4"), 96), trace_key(config_of("t4"), 96, "predict")])
    found.wait()
    return found


@pytest.fixture(scope="module")
def cpu_trace() -> Trace:
    return record(trace_key(config_of("cpu"), 48))


# The benchmark does all of minimal, base, large and plain; here one stands for them.
@pytest.mark.parametrize(
    ("model", "precision", "length", "micro_batches"),
    [("minimal", "bf16", 64, 2)],
    ids=["bf16, two micro batches"],
)
def test_peak_is_within_two_per_cent_of_the_real_allocator(
    model: str, precision: str, length: int, micro_batches: int
) -> None:
    script = ROOT / "benchmarks" / "planner.py"
    arguments = ["real", model, precision, str(length), "2", str(micro_batches)]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", script, *arguments], capture_output=True, text=True, check=True
    )
    real = int(done.stdout.split()[-1])
    config = resolve_config("cpu", model, [f"train.precision={precision}"])
    predicted = record(trace_key(config, length)).peak(2, micro_batches).total_bytes
    assert predicted == pytest.approx(real, rel=0.02)


def test_a_hand_made_step_peaks_where_it_should() -> None:
    # storage 0: weights 1,000 B; 1: activations 100 B an example; 2: gradients 1,000 B; 3: output 10 B an example
    tags = [TAGS.index(name) for name in ("weights", "activations", "gradients", "output")]
    key = trace_key(config_of("cpu"), 48)
    forward, loss, backward = (PHASES.index(name) for name in ("forward", "loss", "backward"))
    trace = Trace(
        key=key,
        num_parameters=250,
        num_frozen=0,
        fixed_bytes=np.array([1000, 0, 1000, 0]),
        example_bytes=np.array([0, 100, 0, 10]),
        tags=np.array(tags, dtype=np.int8),
        owners=np.array(["setup", "blocks", "backward", "heads"]),
        events=np.array([1, 2, 4, 3, -2, -4], dtype=np.int32),
        event_phases=np.array([0, forward, loss, backward, backward, backward], dtype=np.int8),
        operations=np.zeros((0, 7)),
    )
    # one micro batch of 5: 1,000 + 500 + 50 + 1,000
    single = trace.peak(5)
    assert single.total_bytes == 2550
    assert {k: v for k, v in single.parts.items() if v} == {
        "weights": 1000,
        "activations": 500,
        "output": 50,
        "gradients": 1000,
    }
    assert single.modules == {"blocks": 500, "heads": 50}
    # a later micro batch also holds the gradients of the first (its output is gone)
    later = trace.peak(5, accumulation=2)
    assert later.total_bytes == 3550 and later.parts["gradients"] == 2000


def test_what_grows_with_the_batch_is_told_from_what_does_not() -> None:
    assert split_count(SYMBOLIC_BATCH * 12) == (0, 12)
    assert split_count(35 * 64) == (35 * 64, 0)


def test_one_trace_answers_for_every_batch(cpu_trace: Trace) -> None:
    peaks = [cpu_trace.peak(n).total_bytes for n in (1, 2, 3, 4)]
    steps = np.diff(peaks)
    assert steps[0] > 0 and np.ptp(steps) <= 0.02 * steps[0]


def test_the_parts_of_a_peak_add_up(cpu_trace: Trace) -> None:
    for accumulation in (1, 4):
        peak = cpu_trace.peak(3, accumulation)
        assert sum(peak.parts.values()) == peak.total_bytes
    weights = 4 * cpu_trace.num_parameters
    assert peak.parts["weights"] == peak.parts["average"] == weights
    # two moments and a step count of 4 B for each parameter tensor
    assert 2 * weights < peak.parts["optimizer"] < 2.01 * weights
    assert weights <= peak.parts["gradients"] < 1.5 * weights


def test_a_trace_survives_its_cache(cpu_trace: Trace, tmp_path: Path) -> None:
    cpu_trace.save(tmp_path)
    again = load_trace(cpu_trace.key, tmp_path)
    assert again is not None and again.peak(7, 2).total_bytes == cpu_trace.peak(7, 2).total_bytes
    assert again.num_parameters == cpu_trace.num_parameters
    (path,) = tmp_path.glob("*.npz")
    path.write_bytes(path.read_bytes()[:100])
    assert load_trace(cpu_trace.key, tmp_path) is None
    other = dataclasses.replace(cpu_trace.key, length=56)
    assert other.fingerprint() != cpu_trace.key.fingerprint()
    assert TraceKey.from_json(other.to_json()) == other


def test_mixed_precision_and_the_efficient_kernel_take_less(store: TraceStore) -> None:
    configs = {name: config_of("v100", *more) for name, more in VARIANTS.items()}
    peaks = {name: store.get(trace_key(c, 48)).peak(16).total_bytes for name, c in configs.items()}
    assert peaks["fp32 math"] > peaks["fp16 math"] > peaks["fp16"] > peaks["fp16 recomputed"]


def test_fp16_and_bf16_on_cuda_share_a_trace_and_flash_takes_no_mask() -> None:
    config = config_of("a100")
    half = dataclasses.replace(config, train=dataclasses.replace(config.train, precision="fp16"))
    flash = dataclasses.replace(config, train=dataclasses.replace(config.train, attention="flash"))
    assert trace_key(config, 48) == trace_key(half, 48) == trace_key(flash, 48)
    assert trace_key(config, 48).attention == "memory_efficient"
    assert trace_key(config_of("cpu"), 48).attention == "stock"


def test_cuda_adds_context_workspace_and_allocator(store: TraceStore) -> None:
    config = config_of("h100")
    trace = store.get(trace_key(config, 48))
    estimate = estimate_memory(trace, config.hardware, config.train, 4, 1)
    assert estimate.parts["context"] == 0.4 and estimate.parts["workspace"] == pytest.approx(1 / 32)
    assert estimate.parts["allocator"] > 0
    assert estimate.peak_gib == pytest.approx(sum(estimate.parts.values()))
    assert estimate.limit_gib == pytest.approx(0.9 * 79.1)


def test_the_largest_micro_batch_fits_and_one_more_does_not(store: TraceStore) -> None:
    config = config_of("t4")
    trace = store.get(trace_key(config, 48))
    small = dataclasses.replace(config.hardware, memory=dataclasses.replace(config.hardware.memory, total_gib=1.0))
    largest = largest_micro_batch(trace, small, config.train, 4096)
    assert 1 < largest < 4096
    accumulation = 1 if largest >= config.train.effective_batch else 2
    assert estimate_memory(trace, small, config.train, largest, accumulation).fits
    assert not estimate_memory(trace, small, config.train, largest + 8, 2).fits
    tiny = dataclasses.replace(config.hardware, memory=dataclasses.replace(config.hardware.memory, total_gib=0.3))
    assert largest_micro_batch(trace, tiny, config.train, 64) == 0


@pytest.mark.parametrize(
    ("largest", "effective", "cards", "chosen"),
    [(39, 48, 1, 24), (39, 48, 2, 24), (5, 48, 1, 4), (1, 7, 1, 1), (0, 48, 1, 0), (9, 7, 2, 0)],
)
def test_the_micro_batch_divides_each_cards_share(largest: int, effective: int, cards: int, chosen: int) -> None:
    assert choose_micro_batch(largest, effective, cards) == chosen


def test_a_cpu_run_may_fill_this_machine_not_the_files(monkeypatch: pytest.MonkeyPatch) -> None:
    hardware = load_gpus()["cpu"].hardware
    assert memory_limit_gib(hardware, 0.5) == pytest.approx(machine_memory_gib() / 2)
    assert 0.1 < machine_memory_gib() < 1e5


def test_predicting_keeps_less_than_training(store: TraceStore) -> None:
    config = config_of("t4")
    predicted = store.get(trace_key(config, 96, "predict"))
    trained = store.get(trace_key(config, 96))
    assert predicted.peak(1).total_bytes < 0.5 * trained.peak(1).total_bytes
    assert predicted.peak(1).parts["gradients"] == predicted.peak(1).parts["optimizer"] == 0


def test_operations_count_the_products_of_a_linear_layer(cpu_trace: Trace) -> None:
    # forward 2 FLOPs a weight and position, backward twice that: the trunk's matrices alone give a lower bound
    model = cpu_trace.key.model
    matrices = model.layers * (4 * model.width**2 + 2 * model.width * model.feed_forward)
    assert cpu_trace.flops(1) > 6 * matrices * 48
    assert cpu_trace.flops(2) > 1.9 * cpu_trace.flops(1)
    kinds = {DTYPES[int(k)] for k in cpu_trace.operations[:, 1]}
    assert kinds == {"fp32"}


def test_a_recycle_costs_a_forward_pass_and_only_where_there_are_recycles(store: TraceStore, cpu_trace: Trace) -> None:
    # the minimal model never recycles; what it does without gradient belongs to every pass
    assert cpu_trace.flops(2, 1.0) == cpu_trace.flops(2)
    config = config_of("cpu")
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, max_recycles=1))
    trace = store.get(trace_key(config, 48))
    # a step is a forward and a backward pass of twice the work: a recycle adds about a third
    assert 0.2 < trace.flops(2, 1.0) / trace.flops(2) - 1.0 < 0.4


@pytest.mark.parametrize(
    ("sizes", "events", "reserved"),
    [
        # a small block takes a segment of 2 MiB, which three more share
        ([1000, 1000, 1000, 1000], [1, 2, 3, 4], 2 * MIB),
        # 1 MiB + 512 B is large: a segment of 20 MiB
        ([MIB + 512], [1], 20 * MIB),
        # 11 MiB + 1 B: rounded up to 12 MiB
        ([11 * MIB + 1], [1], 12 * MIB),
        # freed and taken again: nothing new
        ([11 * MIB, 11 * MIB], [1, -1, 2], 12 * MIB),
        # two of 8 MiB share 20 MiB; both free again, they merge and hold one of 16 MiB
        ([8 * MIB, 8 * MIB, 16 * MIB], [1, 2, -1, -2, 3], 20 * MIB),
        # one still taken: 12 MiB are free in two pieces of 8 and 4, so 11 MiB need a segment of their own
        ([8 * MIB, 8 * MIB, 11 * MIB], [1, 2, -1, 3], 32 * MIB),
    ],
    ids=["small", "large", "huge", "reused", "merged", "fragmented"],
)
def test_the_caching_allocator_by_hand(sizes: list[int], events: list[int], reserved: int) -> None:
    assert reserve(events, sizes) == reserved


@given(st.lists(st.tuples(st.integers(1, 30 * MIB), st.booleans()), max_size=60))
def test_the_caching_allocator_keeps_its_books(steps: list[tuple[int, bool]]) -> None:
    allocator = CachingAllocator()
    taken: list[int] = []
    for size, frees in steps:
        taken.append(allocator.take(-(-size // BLOCK) * BLOCK))
        if frees:
            allocator.give(taken.pop(0))
    used = sum(allocator.size[block] for block in taken)
    free = sum(size for pool in allocator.free_blocks for size, _ in pool)
    assert used + free == allocator.reserved
    for block in taken:
        allocator.give(block)
    # everything free has merged: as many free blocks as segments
    assert sum(size for pool in allocator.free_blocks for size, _ in pool) == allocator.reserved


def test_tracing_leaves_no_tensor_and_no_mode_behind() -> None:
    record(trace_key(config_of("cpu"), 24))
    gc.collect()
    assert float(torch.ones(2).sum()) == 2.0
    assert torch.nn.functional.scaled_dot_product_attention.__name__ == "scaled_dot_product_attention"


def test_the_worker_reports_its_failure(store: TraceStore) -> None:
    from rnafold.planner.memory.estimate import PlannerError

    broken = TraceStore(store.folder / "x")
    key = trace_key(config_of("cpu"), 48)
    bad = dataclasses.replace(key, length=1)
    text = json.loads(bad.to_json())
    assert text["length"] == 1
    object.__setattr__(bad, "device", "none")
    with pytest.raises(PlannerError, match="tracing the network failed"):
        broken.get(bad)


def test_a_cached_trace_hangs_on_every_file_that_shapes_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    original = Path.read_bytes

    def spy(self: Path) -> bytes:
        read.append(self.name)
        return original(self)

    monkeypatch.setattr(Path, "read_bytes", spy)
    before = records._hash_sources()
    package = Path(records.__file__).parent.parent
    assert set(read) >= {path.name for path in (package / "model").glob("*.py")} | {"losses.py", "batch.py", "trace.py"}
    monkeypatch.setattr(Path, "read_bytes", lambda self: b"" if self.name == "heads.py" else original(self))
    assert records._hash_sources() != before
