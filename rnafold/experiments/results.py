"""What a run of an experiment left behind: whether it is finished, and what it measured on each development target."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Literal

from rnafold.config.settings import load_config
from rnafold.config.strict_yaml import to_mapping
from rnafold.errors import ConfigError, InputError
from rnafold.experiments.spec import PlannedRun
from rnafold.files.metrics import read_metrics
from rnafold.files.run_folder import RunFolder, read_object

Progress = Literal["new", "partial", "finished", "not_finite"]
# What a run's state calls an end after which nothing is left to do.
DONE = ("epochs", "patience")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """Figures of one finished run, by target at its best step: TM-scores reached, expected, of the start, confidence.

    `residues_per_second`: the median over the lines of its log; `hours`: all its sessions, preparation included.
    """

    tm: Mapping[str, float]
    expected_tm: Mapping[str, float]
    start_tm: Mapping[str, float]
    start_confidence: Mapping[str, float]
    residues_per_second: float
    step: int
    hours: float


def find_progress(run: PlannedRun) -> Progress:
    """How far a run is, from its folder.

    Raises:
        InputError: the folder holds a run with other settings.
    """
    saved = RunFolder(run.folder).config_file
    if not saved.is_file():
        return "new"
    try:
        config = load_config(saved)
    except ConfigError as error:
        raise InputError(f"{run.folder}: holds a run that cannot be read any more ({error}); move it away") from None
    if config != run.config:
        raise InputError(
            f"{run.folder}: holds a run with other settings ({find_difference(to_mapping(config), run.config)}); "
            "move it away or choose another --out"
        )
    state = read_state(run.folder)
    if state is None:
        return "new" if not RunFolder(run.folder).metrics_file.is_file() else "partial"
    finished = state.get("finished")
    return "finished" if finished in DONE else "not_finite" if finished == "not_finite" else "partial"


def find_difference(saved: Mapping[str, Any], config: Any) -> str:
    """The first setting that differs, as "key: saved there, wanted here"."""
    there, here = flatten(saved), flatten(to_mapping(config))
    key = next(k for k in here if not k.startswith("choices.") and there.get(k) != here[k])
    return f"{key}: {there.get(key)} there, {here[key]} here"


def flatten(mapping: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one of dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in mapping.items():
        name = f"{prefix}{key}"
        flat.update(flatten(value, f"{name}.") if isinstance(value, Mapping) and value else {name: value})
    return flat


def read_state(folder: Path) -> Mapping[str, Any] | None:
    """The position in a run's newest checkpoint (`TrainState`), None without one. Tensors are not read."""
    checkpoints = RunFolder(folder).checkpoints
    newest = checkpoints.newest()
    state = None if newest is None else checkpoints.state(newest).get("train")
    return state if isinstance(state, dict) else None


def read_result(folder: Path) -> RunResult:
    """The figures of a finished run.

    Raises:
        InputError: the folder lacks some, as one of an older version does, or none of them was ever evaluated.
    """
    records = read_metrics(RunFolder(folder).metrics_file)
    evaluations = [r for r in records if r.get("kind") == "evaluation"]
    speeds = [float(r["residues_per_second"]) for r in records if r.get("kind") == "train"]
    if not evaluations or not speeds:
        raise InputError(f"{folder}: the run was never evaluated, so there is nothing to compare")
    # the first of equals, as the training loop chooses the weights that it keeps
    best = max(evaluations, key=lambda r: (float(r["tm_score"]), -int(r["step"])))
    try:
        starts = read_object(RunFolder(folder).summary_file)["start_by_target"]
        return RunResult(
            tm=best["tm_by_target"],
            expected_tm=best["expected_tm_by_target"],
            start_tm={name: float(start["tm_score"]) for name, start in starts.items()},
            start_confidence={name: float(start["confidence"]) for name, start in starts.items()},
            # the first line holds what is computed once
            residues_per_second=median(speeds[1:] or speeds),
            step=int(best["step"]),
            hours=measure_hours(folder),
        )
    except KeyError as error:
        raise InputError(f"{folder}: the run lacks {error}; it is of an older version, move it away") from None


def measure_hours(folder: Path) -> float:
    """Hours that a run has taken so far, over all its sessions; 0 for one without a checkpoint."""
    state = read_state(folder)
    return 0.0 if state is None else float(state.get("seconds", 0.0)) / 3600.0


def read_preparation_seconds(folder: Path) -> float:
    """Seconds that the last start of a run took to its first step; 0 where that is not known."""
    try:
        return float(read_object(RunFolder(folder).summary_file)["preparation_seconds"])
    except (InputError, KeyError):
        return 0.0
