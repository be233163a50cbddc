"""What a run can be told: model, loss, data and training settings, beside the hardware facts of rnafold.config.

Every field is a key of the YAML files and of `--set group.key=value`. Units are in the names; lengths in Å.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from rnafold.config.encoder import EncoderConfig
from rnafold.config.hardware import GpuConfig, HardwareConfig, RunConfig, check_use, read_gpu
from rnafold.config.machine_use import settle_batch
from rnafold.config.strict_yaml import Section, apply_overrides, build, list_names, load_named, load_yaml, merge
from rnafold.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """The network. `kind: plain` is the brief's transformer (docs/studies/gpu.md) without pair track; `pair` refines a
    start structure.

    `pair_channels`, `pair_updates`, `relax_steps` and `max_recycles` are read by `kind: pair` only and must be 0
    for `plain`. `attention_heads` divides `width`; `dropout` acts on residual and feed-forward paths, never on the
    attention map (that would force it into memory). `encoder` puts a pretrained encoder in front of `kind: pair`.
    """

    name: str
    kind: Literal["pair", "plain"]
    width: int
    layers: int
    attention_heads: int
    feed_forward: int
    dropout: float = 0.1
    pair_channels: int = 0
    pair_updates: int = 0
    relax_steps: int = 0
    max_recycles: int = 0
    encoder: EncoderConfig | None = None

    def __post_init__(self) -> None:
        if self.width % (2 * self.attention_heads):
            raise ValueError(f"width {self.width} must be a multiple of twice attention_heads {self.attention_heads}")
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"dropout {self.dropout} must lie in 0-1")
        pair = (self.pair_channels, self.pair_updates, self.relax_steps, self.max_recycles)
        if self.kind == "plain" and any(pair):
            raise ValueError("kind plain has no pair track: pair_channels .. max_recycles must be 0")
        if self.kind == "plain" and self.encoder is not None:
            raise ValueError("encoder: kind plain takes none")
        if self.kind == "pair" and (self.pair_channels < 1 or self.relax_steps < 1 or min(pair) < 0):
            raise ValueError("kind pair needs pair_channels and relax_steps of 1 or more")
        if self.pair_updates > self.layers:
            raise ValueError(f"pair_updates {self.pair_updates} is more than layers {self.layers}")


@dataclass(frozen=True, slots=True, kw_only=True)
class TermConfig:
    """Weight of one loss term and the epochs (fractions allowed) over which it ramps from 0; 0 = from the start."""

    weight: float
    ramp_epochs: float = 0.0

    def __post_init__(self) -> None:
        if self.weight < 0 or self.ramp_epochs < 0:
            raise ValueError(f"weight {self.weight} and ramp_epochs {self.ramp_epochs} must not be negative")


@dataclass(frozen=True, slots=True, kw_only=True)
class LossConfig:
    """Weights and ramps of the terms, and the width of the flat bottoms of the physics terms.

    The superposed and distance terms saturate: `superposed_scale` in units of the metric's d0, `distance_scale` in Å;
    `tail` is the weight of a logarithm that keeps far residues alive. The distance term looks at pairs nearer than
    `distance_cutoff` in the reference, its error clamped at `distance_clamp`; a short cutoff draws structures together,
    since pairs that are near by chance in the prediction do not count. `pairs_per_residue` distances a residue
    are sampled for the distance term. `arrangement`, off unless asked for, looks at how neighbouring stems lie to each
    other (experiments/helix_frames.yaml: it did not help).
    """

    superposed: TermConfig = field(default_factory=lambda: TermConfig(weight=2.0))
    distance: TermConfig = field(default_factory=lambda: TermConfig(weight=0.5))
    distogram: TermConfig = field(default_factory=lambda: TermConfig(weight=0.3))
    pairs: TermConfig = field(default_factory=lambda: TermConfig(weight=0.1))
    bond: TermConfig = field(default_factory=lambda: TermConfig(weight=0.1, ramp_epochs=1.0))
    angle: TermConfig = field(default_factory=lambda: TermConfig(weight=0.05, ramp_epochs=1.0))
    clash: TermConfig = field(default_factory=lambda: TermConfig(weight=0.2, ramp_epochs=1.0))
    watson_crick: TermConfig = field(default_factory=lambda: TermConfig(weight=0.1, ramp_epochs=1.0))
    confidence: TermConfig = field(default_factory=lambda: TermConfig(weight=0.1))
    expected_tm: TermConfig = field(default_factory=lambda: TermConfig(weight=3.0))
    arrangement: TermConfig = field(default_factory=lambda: TermConfig(weight=0.0))
    superposed_scale: float = 1.5
    distance_scale: float = 2.0
    distance_cutoff: float = 1000.0
    distance_clamp: float = 15.0
    tail: float = 0.1
    pairs_per_residue: int = 48
    pair_tolerance_deviations: float = 2.0

    def __post_init__(self) -> None:
        for name in ("superposed_scale", "distance_scale", "distance_cutoff", "distance_clamp", "tail"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name}: found {getattr(self, name)}, expected a number above 0")
        if self.pair_tolerance_deviations <= 0:
            raise ValueError(f"pair_tolerance_deviations: found {self.pair_tolerance_deviations}, expected above 0")
        if self.pairs_per_residue < 1:
            raise ValueError(f"pairs_per_residue {self.pairs_per_residue} must be 1 or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class DataConfig:
    """Which entries train and which validate, and how an entry becomes an example.

    `cutoff`: only entries released before this date train (ISO date); the rest of the date gate is the validation
    set's own. `validation` is `development` (the latest `development_fraction` of the training entries, by date and
    sequence cluster) or `file` (validation_sequences.csv / validation_labels.csv of the data directory).
    Entries of fewer than `min_length` or more than `max_length` residues (0: no limit) are left out. Of longer chains
    than `crop_length` an epoch trains on one stretch of so many residues; validation, which takes targets whole, leaves
    out those beyond `max_validation_length` (0: none) and keeps `max_validation` of all lengths. Clusters shorter than
    `balance_length` are drawn less often, in proportion to their length (0: one chain of every cluster in every epoch).
    `start` says what the network refines: `ideal` assemblies of the predicted pairs (`start_variants` of them), or
    `candidates` as prediction makes them, up to `start_templates` hybrids and `start_assemblies` assemblies a chain,
    from entries that are older and of other sequence groups, rated by the fold models in the folder `start_models`
    (scripts/train_ranker.py --folds; empty: by the shipped models). Candidates are made for at most `start_hours`
    hours before training (0: until all are there); chains without any start ideal.
    Most training starts are assemblies, and validation starts at each target's surest one, as prediction refines them.
    `start_noise` (Å) is added to each residue.
    """

    cutoff: str = "2022-05-27"
    validation: Literal["development", "file"] = "development"
    development_fraction: float = 0.08
    cluster_identity: float = 0.8
    min_length: int = 8
    max_length: int = 0
    crop_length: int = 256
    balance_length: int = 0
    max_entries: int = 0
    max_validation: int = 24
    max_validation_length: int = 2200
    start: Literal["ideal", "candidates"] = "ideal"
    start_noise: float = 0.2
    start_variants: int = 2
    start_templates: int = 8
    start_assemblies: int = 8
    start_models: str = ""
    start_hours: float = 2.0
    msa: bool = True
    pairing_samples: int = 4
    cache: str = ".cache/rnafold"
    jobs: int = 2

    def __post_init__(self) -> None:
        if not 0.0 < self.development_fraction < 0.5:
            raise ValueError(f"development_fraction {self.development_fraction} must lie between 0 and 0.5")
        if self.crop_length < 16 or self.min_length < 3:
            raise ValueError("crop_length must be 16 or more and min_length 3 or more")
        if self.max_length and self.max_length < self.min_length:
            raise ValueError(f"max_length {self.max_length} must be 0 (no limit) or at least min_length")
        for name in (
            "max_entries",
            "max_validation",
            "max_validation_length",
            "balance_length",
            "start_templates",
            "start_noise",
            "start_hours",
        ):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: found {getattr(self, name)}, expected 0 or more")
        if min(self.start_variants, self.start_assemblies, self.jobs) < 1:
            raise ValueError("start_variants, start_assemblies and jobs must be 1 or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig(RunConfig):
    """The choices of the GPU's YAML (RunConfig) and what holds on every machine.

    Attributes:
        epochs: passes over the training clusters.
        seed: every random choice hangs on it.
        patience: evaluations without a better validation TM-score before stopping; 0 never stops early.
        evaluate_every_epochs: how often the validation TM-score is measured.
        clip_norm: largest norm of the gradient.
        weight_decay: AdamW's, on weight matrices alone.
        final_rate_share: learning rate at the last step, as a share of the peak (cosine decay).
        ema_decay: decay of the moving average of the weights that is evaluated and shipped; 0 switches it off.
        log_every_steps: optimizer steps between two lines of metrics.jsonl.
        empty_cache_every_steps: CUDA allocator clean-up; 0 never.
        max_bad_steps: optimizer steps in a row with a loss or gradient that is not finite before the run stops.
        keep_checkpoints: how many checkpoints stay on disk.
    """

    epochs: int = 40
    seed: int = 0
    patience: int = 10
    evaluate_every_epochs: int = 1
    clip_norm: float = 1.0
    weight_decay: float = 0.01
    final_rate_share: float = 0.05
    ema_decay: float = 0.995
    log_every_steps: int = 10
    empty_cache_every_steps: int = 100
    max_bad_steps: int = 10
    keep_checkpoints: int = 2

    def __post_init__(self) -> None:
        RunConfig.__post_init__(self)
        for name in ("epochs", "evaluate_every_epochs", "log_every_steps", "max_bad_steps", "keep_checkpoints"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: found {getattr(self, name)}, expected 1 or more")
        for name in ("seed", "patience", "weight_decay", "empty_cache_every_steps"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: found {getattr(self, name)}, expected 0 or more")
        if self.clip_norm <= 0 or not 0 <= self.ema_decay < 1 or not 0 <= self.final_rate_share <= 1:
            raise ValueError("clip_norm must be positive, ema_decay in [0, 1) and final_rate_share in 0-1")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainChoices:
    """`--gpu`, `--model` and `--set` of a training run, as the user named them."""

    gpu: str
    model: str
    overrides: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Everything a run is told; saved beside it as config.yaml.

    `choices` says by which names it came about; two configurations that say the same are equal however they were
    named. None in a configuration that was put together by hand or saved before the names were kept.
    """

    choices: TrainChoices | None = field(default=None, compare=False)
    hardware: HardwareConfig
    train: TrainConfig
    model: ModelConfig
    loss: LossConfig = field(default_factory=LossConfig)
    data: DataConfig = field(default_factory=DataConfig)

    def __post_init__(self) -> None:
        check_use(self.hardware, self.train)

    @property
    def gpu(self) -> str:
        """The name by which the user chose the hardware, "" where it is not known."""
        return "" if self.choices is None else self.choices.gpu


def resolve_config(
    gpu: str, model: str, overrides: Sequence[str] = (), base: Mapping[str, Any] | None = None
) -> Config:
    """The configuration of a GPU name, a model name and `key=value` overrides, all through one strict loader.

    Args:
        gpu: stem of a file in configs/gpu.
        model: stem of a file in configs/model.
        overrides: texts such as "train.epochs=3". A learning rate among them is used as it is: without a rule of its
            own it sets `train.lr_rule=fixed`.
        base: further sections between the files and the overrides, such as the demo's.

    Of micro_batch, accumulation and effective_batch what nobody named follows from what is (`settle_batch`).

    Raises:
        ConfigError: an unknown name or key, a missing key, a wrong type or value.
    """
    machine = read_gpu(gpu)
    build(GpuConfig, machine, f"GPU {gpu}")  # a file that is at fault itself is refused as such
    named = _list_named(base or {}, overrides)
    if "choices" in {key.partition(".")[0] for key in named}:
        raise ConfigError("--set choices: says how a run was started and cannot be set; use --gpu, --model and --set")
    extra = []
    if "train.learning_rate" in named and "train.lr_rule" not in named:
        extra = ["train.lr_rule=fixed"]  # or the rate that the user typed would be without effect
    sections = apply_overrides(
        merge(machine, Section({"model": load_named("model", model)}), base or {}), [*overrides, *extra]
    )
    chosen = {key.removeprefix("train.").removeprefix("hardware.") for key in named}
    if isinstance(sections["train"], Section) and isinstance(sections["hardware"], Section):
        sections["train"] = settle_batch(sections["train"], chosen, sections["hardware"].get("num_gpus"))
    sections["choices"] = Section({"gpu": gpu, "model": model, "overrides": list(overrides)})
    return build(Config, sections, f"--gpu {gpu} --model {model}")


def _list_named(base: Mapping[str, Any], overrides: Sequence[str]) -> set[str]:
    """The dotted keys, at most two deep, that stand in `base` or in the overrides."""
    typed = {text.partition("=")[0].strip() for text in overrides}
    below = {f"{group}.{key}" for group, keys in base.items() if isinstance(keys, Mapping) for key in keys}
    return typed | below


def load_config(path: Path) -> Config:
    """The configuration saved with a run (config.yaml); one that was saved without its names gets them by its facts."""
    config = build(Config, load_yaml(path), str(path))
    return config if config.choices is not None else replace(config, choices=_name_choices(config))


def _name_choices(config: Config) -> TrainChoices | None:
    """What an old configuration was started with: it holds the hardware's name, and the model's is its file's."""
    gpu = next((name for name in list_names("gpu") if read_gpu(name)["hardware"]["name"] == config.hardware.name), None)
    return None if gpu is None else TrainChoices(gpu=gpu, model=config.model.name)
