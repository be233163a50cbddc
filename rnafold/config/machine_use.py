"""How a training run uses a machine: batch, precision, learning rate, loading, checkpoints (config group `train`)."""

import dataclasses
import math
from collections.abc import Collection
from typing import Any, Final, Literal

from rnafold.config.building import Section
from rnafold.config.strict_yaml import merge

Precision = Literal["fp32", "fp16", "bf16"]
AttentionKernel = Literal["math", "memory_efficient", "flash"]
Checkpointing = bool | Literal["pairs"]
LrRule = Literal["linear", "sqrt", "fixed"]
LrBatch = Literal["micro", "effective"]
# Any two of them and the number of cards give the third.
BATCH_KEYS: Final = ("micro_batch", "accumulation", "effective_batch")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """How a training run uses the machine (of the config group `train` what a GPU's file says).

    Attributes:
        micro_batch: the longest targets that one pass on one card holds; short ones share one of as many residues
            (features.passes).
        accumulation: forward passes of an optimizer step on each card; "auto" fills up to effective_batch.
        effective_batch: targets of one optimizer step over all cards.
        precision: fp16 and bf16 mean mixed precision.
        attention: kernel asked of scaled_dot_product_attention; flash takes no pair bias on CUDA.
        compile: whether to torch.compile the network.
        gradient_checkpointing: recompute activations in the backward pass: "pairs" those of the pair updates alone,
            which hold most of the memory for a tenth more time; true also those of the layers, for a third.
        learning_rate: used as it is by the rule `fixed`.
        lr_rule: fixed, or base_learning_rate x (batch / base_batch), or x its square root.
        lr_rule_on: which batch the rule looks at: micro (one card) or effective.
        warmup_epochs: epochs of linear rise from warmup_start_learning_rate.
        loader_workers: processes that load data, for each card; 0 loads in the training process, in a thread of its
            own where there is a second core.
        prefetch_factor: steps that each worker, or that thread, holds ready.
        checkpoint_every_minutes: a checkpoint also in mid-epoch after so long.
        memory_share: fraction of the card's memory that a plan may fill.
    """

    micro_batch: int
    accumulation: int | Literal["auto"]
    effective_batch: int
    precision: Precision
    attention: AttentionKernel
    compile: bool = False
    gradient_checkpointing: Checkpointing = False
    learning_rate: float | None = None
    lr_rule: LrRule
    lr_rule_on: LrBatch
    base_learning_rate: float = 5e-4
    base_batch: int = 8
    warmup_epochs: int = 2
    warmup_start_learning_rate: float = 1e-6
    loader_workers: int
    pin_memory: bool
    prefetch_factor: int = 2
    checkpoint_every_epochs: int = 5
    checkpoint_every_minutes: float = 15.0
    memory_share: float = 0.9

    def __post_init__(self) -> None:
        check_positive(self, "micro_batch", "effective_batch", "learning_rate", "base_learning_rate", "base_batch")
        check_positive(self, "warmup_start_learning_rate", "prefetch_factor")
        check_positive(self, "checkpoint_every_epochs", "checkpoint_every_minutes", "memory_share")
        for name in ("warmup_epochs", "loader_workers"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: found {getattr(self, name)}, expected 0 or more")
        if self.accumulation != "auto":
            check_positive(self, "accumulation")
        if self.memory_share > 1:
            raise ValueError(f"memory_share: found {self.memory_share}, expected a fraction up to 1")
        if self.lr_rule == "fixed" and self.learning_rate is None:
            raise ValueError("learning_rate: found nothing, expected a number, for lr_rule is fixed")


def settle_batch(train: Section, named: Collection[str], num_gpus: Any) -> Section:
    """The section with micro_batch x accumulation x cards = effective_batch, by changing what the user did not name.

    A batch that the user named stays as it is. A micro batch alone keeps the effective batch as near as it gets; an
    effective batch alone keeps the micro batch where it divides. Three that are named and do not agree are left for
    `count_accumulation` to refuse, and so is a value of the wrong kind for the builder.

    Args:
        train: the section `train` of GPU file and overrides together.
        named: which of its keys the user named, and "num_gpus" if the cards.
        num_gpus: cards.
    """
    settled = merge(train)
    batch: list[Any] = [train.get(key) for key in BATCH_KEYS]
    micro, accumulation, effective = batch
    sizes = (micro, effective, num_gpus, 1 if accumulation == "auto" else accumulation)
    if not {*BATCH_KEYS, "num_gpus"} & set(named) or not all(type(n) is int and n > 0 for n in sizes):
        return settled
    keeps_micro, keeps_turns, keeps_effective = (key in named for key in BATCH_KEYS)
    if keeps_turns and accumulation != "auto":
        if not keeps_effective:
            settled["effective_batch"] = micro * accumulation * num_gpus
        elif not keeps_micro:
            settled["micro_batch"] = max(effective // (accumulation * num_gpus), 1)
        return settled
    if not keeps_micro:
        dividing = [n for n in range(1, micro + 1) if effective % (n * num_gpus) == 0]
        settled["micro_batch"] = micro = max(dividing, default=micro)
    turns = max(round(effective / (micro * num_gpus)), 1)
    if not keeps_effective:
        settled["effective_batch"] = effective = turns * micro * num_gpus
    if not keeps_turns:  # "auto" where it does not come out even: the message names a micro batch that does
        settled["accumulation"] = turns if turns * micro * num_gpus == effective else "auto"
    return settled


def count_accumulation(run: RunConfig, num_gpus: int, micro_batch: int | None = None) -> int:
    """Forward passes of one optimizer step on each card, so that the step sees exactly effective_batch targets.

    Args:
        run: its micro_batch and accumulation count, unless `micro_batch` is given.
        num_gpus: cards.
        micro_batch: in place of the run's, after running out of memory for example; accumulation is then recomputed.

    Raises:
        ValueError: the effective batch is not reached exactly; the message names a micro batch that does.
    """
    micro = run.micro_batch if micro_batch is None else micro_batch
    if run.accumulation != "auto" and micro_batch is None:
        product = micro * run.accumulation * num_gpus
        if product == run.effective_batch:
            return run.accumulation
        raise ValueError(
            f"train.effective_batch: found {run.effective_batch}, but train.micro_batch {micro} x train.accumulation "
            f"{run.accumulation} x {num_gpus} GPU = {product}; leave one of the three out and it follows"
        )
    accumulation, rest = divmod(run.effective_batch, micro * num_gpus)
    if rest == 0 and accumulation:
        return accumulation
    fits = [size for size in range(1, micro + 1) if run.effective_batch % (size * num_gpus) == 0]
    advice = f"the next smaller micro batch that does is {fits[-1]}" if fits else "no micro batch does"
    raise ValueError(
        f"train.effective_batch: {run.effective_batch} is no multiple of micro batch {micro} x {num_gpus} GPU; {advice}"
    )


def learning_rate(run: RunConfig, micro_batch: int, accumulation: int, num_gpus: int) -> float:
    """The peak learning rate by the run's rule, for the batch that is really used."""
    if run.lr_rule == "fixed":
        # RunConfig refuses a fixed rule without a rate.
        return run.learning_rate if run.learning_rate is not None else math.nan
    batch = micro_batch if run.lr_rule_on == "micro" else micro_batch * accumulation * num_gpus
    ratio = batch / run.base_batch
    return run.base_learning_rate * (ratio if run.lr_rule == "linear" else math.sqrt(ratio))


def describe_learning_rates(run: RunConfig, micro_batch: int, accumulation: int, num_gpus: int) -> str:
    """What each rule would give, one line each, the chosen one marked with `*`."""
    effective = micro_batch * accumulation * num_gpus
    lines = [
        f"learning rate by rule (base {run.base_learning_rate:.3g} at batch {run.base_batch}; "
        f"micro {micro_batch} x accumulation {accumulation} x {num_gpus} GPU = effective {effective})"
    ]
    choices: tuple[tuple[LrRule, LrBatch], ...] = (
        ("linear", "micro"),
        ("linear", "effective"),
        ("sqrt", "micro"),
        ("sqrt", "effective"),
    )
    for rule, on in choices:
        changed = dataclasses.replace(run, lr_rule=rule, lr_rule_on=on)
        chosen = "*" if (run.lr_rule, run.lr_rule_on) == (rule, on) else " "
        rate = learning_rate(changed, micro_batch, accumulation, num_gpus)
        lines.append(f"{chosen} {rule:<6} on {on:<9} {rate:.4g}")
    fixed = "not set" if run.learning_rate is None else f"{run.learning_rate:.4g}"
    lines.append(f"{'*' if run.lr_rule == 'fixed' else ' '} fixed               {fixed}")
    return "\n".join(lines)


def check_positive(config: object, *names: str) -> None:
    """Raises ValueError "field: message" for the first named field that is neither None nor a finite number above 0."""
    for name in names:
        value = getattr(config, name)
        if value is not None and not 0 < value < math.inf:
            raise ValueError(f"{name}: found {value}, expected more than 0")
