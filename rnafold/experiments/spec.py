"""What an experiment is: a strict YAML file with a question, an expectation and variants, resolved into runs."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from rnafold.config.settings import Config, TrainChoices, resolve_config
from rnafold.config.strict_yaml import build, load_yaml
from rnafold.errors import ConfigError

Measure = Literal["tm_score", "gain_over_start", "expected_tm_r", "residues_per_second"]
Scalar = bool | int | float | str | None
# The baseline of this name is no run: it is the start structure that each run refines, and its confidence.
START: Final = "start"
# What decides which development targets there are: one split for all variants, or nothing could be paired.
SPLIT_KEYS: Final = tuple(
    f"data.{name}"
    for name in (
        "cutoff",
        "validation",
        "development_fraction",
        "cluster_identity",
        "min_length",
        "max_length",
        "max_validation_length",
        "max_entries",
        "max_validation",
    )
)
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One way to train: what it changes beside the common settings, and another model if it has one."""

    model: str | None = None
    settings: dict[str, Scalar] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """A file of experiments/.

    Attributes:
        name: the file's stem.
        question: one line; what the experiment is to tell.
        expected: one line; what is expected to come out, written down before.
        measure: what is compared, on the development targets. `tm_score`: the TM-score of the network's one prediction;
            `gain_over_start`: that minus the start structure's; `expected_tm_r`: correlation over the targets of the
            expected with the reached TM-score; `residues_per_second`: of training.
        minimum_gain: by how much the baseline must be beaten to matter; in the units of the measure, and as a share
            of the baseline's speed for `residues_per_second`.
        seeds: each variant is trained with each of them.
        gpu: a file of configs/gpu, or auto.
        model: a file of configs/model, for variants without their own.
        common: settings of all variants, dotted keys as for `--set`.
        baseline: the variant that the others are compared with; `start` is the start structure (with `expected_tm_r`
            its confidence).
        variants: by name.
    """

    name: str
    question: str
    expected: str
    measure: Measure
    minimum_gain: float
    seeds: tuple[int, ...]
    gpu: str = "cpu"
    model: str = "base"
    common: dict[str, Scalar] = field(default_factory=dict)
    baseline: str
    variants: dict[str, Variant]

    def __post_init__(self) -> None:
        for name, text in (("question", self.question), ("expected", self.expected)):
            if not text.strip() or "\n" in text.strip():
                raise ValueError(f"{name}: found {len(text.splitlines())} lines, expected one")
        if not 0 <= self.minimum_gain < float("inf"):
            raise ValueError(f"minimum_gain: found {self.minimum_gain}, expected 0 or more")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds) or min(self.seeds) < 0:
            raise ValueError(f"seeds: found {list(self.seeds)}, expected different whole numbers of 0 or more")
        for name in (self.name, *self.variants):
            key = "name" if name == self.name else "variants"
            if not _NAME.fullmatch(name):
                raise ValueError(f"{key}: found {name!r}, expected lower-case letters, digits, _ and -")
        self._check_baseline()
        self._check_settings()

    def _check_baseline(self) -> None:
        if START in self.variants:
            raise ValueError(f"variants: {START} is the name of the start structures, choose another")
        if self.baseline == START and self.measure == "residues_per_second":
            raise ValueError("baseline: the start structures have no residues_per_second, expected a variant")
        if self.baseline not in (START, *self.variants):
            raise ValueError(f"baseline: found {self.baseline}, expected one of {', '.join((START, *self.variants))}")
        if len(self.variants) < (1 if self.baseline == START else 2):
            raise ValueError(f"variants: found {len(self.variants)}, expected one to compare with the baseline")

    def _check_settings(self) -> None:
        if self.common.get("data.validation", "development") != "development":
            raise ValueError("common: data.validation must be development: nothing is tuned on the validation set")
        for place, settings in (
            ("common", self.common),
            *((f"variants.{name}.settings", variant.settings) for name, variant in self.variants.items()),
        ):
            if "train.seed" in settings:
                raise ValueError(f"{place}: train.seed is set by seeds")
            split = [key for key in settings if key in SPLIT_KEYS and place != "common"]
            if split:
                raise ValueError(f"{place}: {split[0]} changes the split, which all variants share: put it in common")


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedRun:
    """One training run: variant, seed, its resolved configuration (it keeps its names), and its folder."""

    experiment: str
    variant: str
    seed: int
    config: Config
    folder: Path

    @property
    def gpu(self) -> str:
        """The file of configs/gpu that it runs on."""
        return self.choices.gpu

    @property
    def choices(self) -> TrainChoices:
        """`--gpu`, `--model` and `--set` that lead to its configuration."""
        assert self.config.choices is not None, "resolve_config keeps the names"
        return self.config.choices

    @property
    def label(self) -> str:
        """How messages call the run."""
        return f"{self.experiment}: {self.variant}, seed {self.seed}"


def read_experiment(path: Path) -> Experiment:
    """Reads one file.

    Raises:
        ConfigError: unknown, missing or mistyped keys, or a name that is not the file's.
    """
    section = load_yaml(path)
    experiment = build(Experiment, section, str(path))
    if experiment.name != path.stem:
        place = section.origins.get("name", str(path))
        raise ConfigError(f"{place}: name: found {experiment.name}, expected the file's own, {path.stem}")
    return experiment


def plan_runs(experiment: Experiment, gpu: str, out: Path) -> tuple[PlannedRun, ...]:
    """All runs of an experiment below `out`, seed by seed, so that a half of them is a fair half.

    Raises:
        ConfigError: settings that no run can have, that are the same in two variants, or that leave nothing to measure.
    """
    runs = []
    for seed in experiment.seeds:
        for name, variant in experiment.variants.items():
            model = variant.model or experiment.model
            settings = {"data.validation": "development", **experiment.common, **variant.settings, "train.seed": seed}
            overrides = tuple(f"{key}={_write(value)}" for key, value in settings.items())
            try:
                config = resolve_config(gpu, model, overrides)
            except ConfigError as error:
                raise ConfigError(f"{experiment.name}: variants.{name}: {error}") from None
            folder = out / experiment.name / f"{name}-seed{seed}"
            runs.append(
                PlannedRun(
                    experiment=experiment.name,
                    variant=name,
                    seed=seed,
                    config=config,
                    folder=folder,
                )
            )
    _check_runs(experiment, runs[: len(experiment.variants)])
    return tuple(runs)


def _check_runs(experiment: Experiment, runs: Sequence[PlannedRun]) -> None:
    """`runs`: those of one seed."""
    for index, run in enumerate(runs):
        twin = next((other for other in runs[:index] if other.config == run.config), None)
        if twin is not None:
            raise ConfigError(f"{experiment.name}: variants {twin.variant} and {run.variant} have the same settings")
        if experiment.measure != "expected_tm_r":
            continue
        if run.config.model.kind == "plain":
            raise ConfigError(
                f"{experiment.name}: variants.{run.variant}: model {run.config.model.name} expects no TM-score"
            )
        if experiment.baseline == START and run.config.data.start == "ideal":
            raise ConfigError(
                f"{experiment.name}: variants.{run.variant}: data.start=ideal has no confidence to compare with; "
                "take data.start=candidates"
            )


def _write(value: Scalar) -> str:
    """A scalar as YAML text that reads back as the same."""
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return repr(value)


def index_by_name(paths: Sequence[Path]) -> Mapping[str, tuple[Path, Experiment]]:
    """The experiments of several files by name.

    Raises:
        ConfigError: a file is at fault, or two have one name.
    """
    found: dict[str, tuple[Path, Experiment]] = {}
    for path in paths:
        experiment = read_experiment(path)
        if experiment.name in found:
            raise ConfigError(f"{path}: the experiment {experiment.name} is given twice ({found[experiment.name][0]})")
        found[experiment.name] = (path, experiment)
    return found
