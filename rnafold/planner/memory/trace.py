"""What one training step or prediction allocates and computes, recorded without doing it.

The real network and losses run on fake tensors (shapes without data) under a dispatch mode that notes every storage
made and freed and every operation's arithmetic. The batch is a large prime, so that a size is a multiple of it exactly
where it grows with the batch: one trace then answers for every batch size. Nothing here knows a layer of the network.
"""

import contextlib
import dataclasses
import math
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from rnafold.config.settings import LossConfig
from rnafold.features.batch import Batch, collate
from rnafold.features.build import Others, StartPoint, build_example
from rnafold.model.chunks import chunk_as_on
from rnafold.model.encoder import read_encoder_shape, thaw
from rnafold.model.losses import compute_losses
from rnafold.model.network import build_network
from rnafold.planner.memory.records import DTYPES, PHASES, TAGS, Device, Trace, TraceKey
from rnafold.structure import Chain, Pairing, Structure, Target

# Divides no layer width, no length and no parameter count; checked against the parameters at every trace.
SYMBOLIC_BATCH = 1009
AMP_DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}
# What is made between the network's parts.
NO_MODULE = "between"
# Operations that only make a new view of a storage cost neither time nor memory.
VIEWS = """
    view _unsafe_view t transpose permute expand select slice unsqueeze squeeze detach alias split unbind
    as_strided reshape chunk split_with_sizes lift_fresh unfold _reshape_alias diagonal
"""


def split_count(count: int) -> tuple[int, int]:
    """`count` as (what does not grow with the batch, what each example adds)."""
    return (count, 0) if count % SYMBOLIC_BATCH else (0, count // SYMBOLIC_BATCH)


def count_wide_product(x: Tensor, weight: Tensor, *_arguments: Any, out_val: Tensor) -> int:
    """Operations of the product that model.products takes on a CPU, which torch's own table lacks."""
    return 2 * out_val.numel() * weight.shape[1]


VIEW_NAMES = frozenset(VIEWS.split())


class Recorder(TorchDispatchMode):
    """Notes storages and operations; `phase`, `inside_attention` and `network` are set by whoever drives the step."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.phase = "setup"
        self.inside_attention = False
        self.network: nn.Module | None = None
        self.owner = NO_MODULE
        self.owners: list[str] = []
        self.live: dict[int, int] = {}
        self.fixed: list[int] = []
        self.scaled: list[int] = []
        self.tags: list[int] = []
        self.events: list[int] = []
        self.event_phases: list[int] = []
        self.operations: dict[tuple[int, int, int, int, int, int], int] = {}

    def add(self, tensor: Tensor, tag: str) -> None:
        """Notes the storage of a tensor, unless it is known."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self.live or storage.nbytes() == 0:
            return
        index = len(self.fixed)
        fixed, scaled = split_count(storage.nbytes())
        self.fixed.append(fixed)
        self.scaled.append(scaled)
        self.tags.append(TAGS.index(tag))
        self.owners.append(self.owner if self.phase in ("forward", "predict") else self.phase)
        self.live[key] = index
        self._note(index + 1)
        weakref.finalize(storage, self._free, key, index)

    def retag(self, tensor: Tensor, tag: str) -> None:
        """Changes what a known storage counts as."""
        index = self.live.get(tensor.untyped_storage()._cdata)
        if index is not None:
            self.tags[index] = TAGS.index(tag)

    def _free(self, key: int, index: int) -> None:
        self.live.pop(key, None)
        self._note(-index - 1)

    def _note(self, event: int) -> None:
        self.events.append(event)
        self.event_phases.append(PHASES.index(self.phase))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        made = [t for t in tree_leaves(result) if isinstance(t, Tensor)]
        tag = "attention" if self.inside_attention else "activations"
        for tensor in made:
            self.add(tensor, tag)
        name = func._schema.name.partition("::")[2]
        if name not in VIEW_NAMES and not str(func).startswith("prim."):
            self._count(func, args, kwargs, result, made)
        return result

    def _count(self, func: Any, args: Any, kwargs: Any, result: Any, made: list[Tensor]) -> None:
        read = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        sizes = [split_count(t.numel() * t.element_size()) for t in read + made]
        is_wide = str(func).startswith("mkldnn._linear_pointwise")
        counter = count_wide_product if is_wide else flop_registry.get(func._overloadpacket)
        flops = split_count(int(counter(*args, **kwargs, out_val=result))) if counter else (0, 0)
        dtype = next((t.dtype for t in made if t.is_floating_point()), torch.float32)
        # a step has a random number of recycles: their work is counted apart
        recycles = self.phase == "forward" and getattr(self.network, "is_recycling", False)
        phase = PHASES.index("recycle" if recycles else self.phase)
        kind = DTYPES.index({torch.float16: "fp16", torch.bfloat16: "bf16"}.get(dtype, "fp32"))
        row = (phase, kind, *flops, sum(s[0] for s in sizes), sum(s[1] for s in sizes))
        self.operations[row] = self.operations.get(row, 0) + 1


@contextlib.contextmanager
def watch_modules(network: nn.Module, recorder: Recorder) -> Iterator[None]:
    """Tells the recorder which of the network's parts is at work: a child, with the items of a list taken together."""
    names = {id(module): name.partition(".")[0] for name, module in network.named_modules() if name}
    above: list[str] = []

    def enter(module: nn.Module, _: object) -> None:
        above.append(recorder.owner)
        recorder.owner = names.get(id(module), NO_MODULE)

    def leave(*_: object) -> None:
        recorder.owner = above.pop()

    before = nn.modules.module.register_module_forward_pre_hook(enter)
    after = nn.modules.module.register_module_forward_hook(leave, always_call=True)
    try:
        yield
    finally:
        before.remove()
        after.remove()


@contextlib.contextmanager
def attention_as(kernel: str, recorder: Recorder, amp: torch.dtype | None) -> Iterator[None]:
    """Puts the attention kernel a card would choose in place of scaled_dot_product_attention; "stock" leaves it.

    With a mask no card takes the flash kernel, so `flash` becomes the memory-efficient one there.
    """
    original = F.scaled_dot_product_attention

    def attend(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, **options: Any) -> Tensor:
        recorder.inside_attention = True
        if attn_mask is not None and attn_mask.dim() == 4 and attn_mask.shape[2] > 1:
            recorder.retag(attn_mask, "attention")
        try:
            if kernel == "stock":
                return original(query, key, value, attn_mask=attn_mask, **options)
            return _attend(kernel, query, key, value, attn_mask, amp)
        finally:
            recorder.inside_attention = False

    F.scaled_dot_product_attention = attend  # type: ignore[assignment]
    try:
        yield
    finally:
        F.scaled_dot_product_attention = original


def _attend(
    kernel: str, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, amp: torch.dtype | None
) -> Tensor:
    if amp is not None and torch.is_autocast_enabled("cpu"):
        query, key, value = (t.to(amp) for t in (query, key, value))
        mask = mask.to(amp) if mask is not None and mask.dtype != torch.bool else mask
    with torch.autocast("cpu", enabled=False):
        if mask is not None and mask.dtype == torch.bool:
            zeros = torch.zeros(mask.shape, dtype=query.dtype)
            mask = zeros.masked_fill(~mask, float("-inf"))
        if mask is not None:
            mask = mask.expand(query.shape[0], query.shape[1], query.shape[2], key.shape[2])
        aten = torch.ops.aten
        if kernel == "math":
            result: Tensor = aten._scaled_dot_product_attention_math(query, key, value, mask, 0.0, False)[0]
        elif kernel == "flash" and mask is None:
            result = aten._scaled_dot_product_flash_attention(query, key, value, 0.0, False, False)[0]
        else:
            keep = any(t.requires_grad for t in (query, key, value))
            result = aten._scaled_dot_product_efficient_attention(query, key, value, mask, keep, 0.0, False)[0]
        return result


def build_batch(length: int, candidates: int = 0) -> Batch:
    """A batch of one featureless example with others beside it, by the functions that build the real ones."""
    target = Target(
        target_id="plan", sequence="A" * length, chains=(Chain(chain_id="A", copy=1, start=0, stop=length),)
    )
    pairing = Pairing(
        probabilities=np.zeros((length, length), np.float32),
        partner=np.full(length, -1, np.int64),
        samples=np.zeros((0, length), np.int64),
        source="plan",
    )
    reference = Structure(coords=np.zeros((length, 1, 3)), mask=np.ones((length, 1), np.bool_))
    shown = Others(
        coords=np.zeros((candidates, length, 3), np.float32),
        confidence=np.ones(candidates, np.float32),
        is_template=np.arange(candidates) < candidates // 2,
    )
    start = StartPoint(coords=np.zeros((length, 3)), others=shown)
    return collate([build_example(target, pairing, start, reference=reference)], length=length)


def record(key: TraceKey) -> Trace:
    """Traces one step or prediction; for CUDA in mixed precision call `autocast.install_cuda_policy()` first."""
    real = build_batch(key.length, key.candidates)
    recorder = Recorder()
    amp = AMP_DTYPES.get(key.precision)
    shape = None if key.model.encoder is None else read_encoder_shape(key.model.encoder)
    with FakeTensorMode(allow_non_fake_inputs=True):
        network = build_network(key.model, shape)
        network.recomputed = key.gradient_checkpointing
        thaw(network, math.inf)  # with all layers that ever train, where memory and time are highest
        recorder.network = network
        batch = Batch(
            **{
                f.name: torch.zeros((SYMBOLIC_BATCH, *t.shape[1:]), dtype=t.dtype)
                for f in dataclasses.fields(real)
                for t in (getattr(real, f.name),)
            }
        )
        for parameter in network.parameters():
            if parameter.numel() % SYMBOLIC_BATCH == 0:
                raise ValueError(f"a parameter of {parameter.numel()} values looks like {SYMBOLIC_BATCH} examples")
            recorder.add(parameter, "weights")
        for buffer in network.buffers():
            recorder.add(buffer, "weights")
        placed = chunk_as_on(key.device)
        with placed, attention_as(key.attention, recorder, amp), watch_modules(network, recorder):
            if key.mode == "predict":
                _predict(network, batch, recorder, amp, min(1, key.model.max_recycles))
            else:
                _train(network, batch, recorder, amp, min(1, key.model.max_recycles), key.loss, key.device)
        trained = sum(p.numel() for p in network.parameters() if p.requires_grad)
        frozen = sum(p.numel() for p in network.parameters()) - trained
        recorder.phase = "done"
        ended = len(recorder.events)
    return _finish(key, recorder, trained, frozen, ended)


def _predict(network: nn.Module, batch: Batch, recorder: Recorder, amp: torch.dtype | None, recycles: int) -> None:
    network.eval()
    with recorder, torch.no_grad():
        for field in dataclasses.fields(batch):
            recorder.add(getattr(batch, field.name), "batch")
        recorder.phase = "predict"
        with torch.autocast("cpu", dtype=amp or torch.bfloat16, enabled=amp is not None):
            network(batch, recycles)


def _train(
    network: nn.Module,
    batch: Batch,
    recorder: Recorder,
    amp: torch.dtype | None,
    recycles: int,
    loss: LossConfig,
    device: Device,
) -> None:
    """One micro batch and the update after it, with optimizer state and moving average in place."""
    network.train()
    trained = [p for p in network.parameters() if p.requires_grad]
    matrices = [p for p in trained if p.dim() > 1]
    rest = [p for p in trained if p.dim() <= 1]
    on_cpu = device == "cpu"  # as training.learner chooses
    optimizer = torch.optim.AdamW([{"params": matrices}, {"params": rest}], fused=on_cpu, foreach=not on_cpu)
    averages = [torch.zeros_like(p) for p in network.parameters()]
    for average in averages:
        recorder.add(average, "average")
    for parameter in trained:
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for values in optimizer.state.values():
        for tensor in values.values():
            recorder.add(tensor, "optimizer")
    optimizer.zero_grad(set_to_none=True)
    with recorder:
        for field in dataclasses.fields(batch):
            recorder.add(getattr(batch, field.name), "batch")
        recorder.phase = "forward"
        with torch.autocast("cpu", dtype=amp or torch.bfloat16, enabled=amp is not None):
            output = network(batch, recycles)
        recorder.phase = "loss"
        losses = compute_losses(output, batch, loss, 1.0)
        total = (losses.total * losses.residues).sum() / 1.0
        recorder.phase = "backward"
        total.backward()
        for parameter in trained:
            if parameter.grad is not None:
                recorder.retag(parameter.grad, "gradients")
        held = {f.name: getattr(output, f.name) for f in dataclasses.fields(output)}
        for tensor in held.values():
            if tensor is not None:
                recorder.retag(tensor, "output")
        recorder.phase = "update"
        for parameter in trained:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
                recorder.retag(parameter.grad, "gradients")
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(averages, list(network.parameters()), 0.1)


def _finish(key: TraceKey, recorder: Recorder, trained: int, frozen: int, ended: int) -> Trace:
    rows = sorted(recorder.operations)
    return Trace(
        key=key,
        num_parameters=trained,
        num_frozen=frozen,
        fixed_bytes=np.array(recorder.fixed, dtype=np.int64),
        example_bytes=np.array(recorder.scaled, dtype=np.int64),
        tags=np.array(recorder.tags, dtype=np.int8),
        owners=np.array(recorder.owners, dtype=np.str_),
        events=np.array(recorder.events[:ended], dtype=np.int32),
        event_phases=np.array(recorder.event_phases[:ended], dtype=np.int8),
        operations=np.array([(*row, recorder.operations[row]) for row in rows], dtype=np.float64).reshape(-1, 7),
    )
