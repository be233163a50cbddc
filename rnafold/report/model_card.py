"""A model card: what a run's weights are, how they were made, what they reach and what they cannot do.

Also the results file that the card's figures come from: a JSON list of {set, row, mean, standard_error, by_target}.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Final

import numpy as np

from rnafold.config.reproduction import derive_choices
from rnafold.config.settings import Config, load_config
from rnafold.errors import InputError
from rnafold.files.atomic import write_text
from rnafold.files.bounded import parse_json
from rnafold.files.mounts import hash_file
from rnafold.files.run_folder import RunFolder, RunRecord, read_number, read_run
from rnafold.files.weights_header import read_weights_description
from rnafold.model.network import count_parameters
from rnafold.model.weights import load_network
from rnafold.report import card_text

_SUMMARY: Final = ("train", "validation", "baselines_tm_score", "versions")
# A mean that was rounded for print may differ from its targets' by so much.
_MEAN_TOLERANCE: Final = 5e-4


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One line of a benchmark.

    Attributes:
        set: the targets it was measured on ("validation", "recent", ...).
        row: what was measured ("kit with network, five", ...).
        mean: over the targets.
        standard_error: of the mean; None where it is not known (a single target).
        by_target: the value of each target; may be empty where only the mean is known.
    """

    set: str
    row: str
    mean: float
    standard_error: float | None = None
    by_target: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, text in (("set", self.set), ("row", self.row)):
            if not isinstance(text, str) or not text.strip():
                raise ValueError(f"{name}: found {text!r}, expected text")
        if read_number(self.mean) is None:
            raise ValueError(f"mean: found {self.mean!r}, expected a number")
        error = self.standard_error
        if error is not None and (read_number(error) is None or error < 0):
            raise ValueError(f"standard_error: found {error!r}, expected 0 or more, or null")
        if not isinstance(self.by_target, Mapping):
            raise ValueError(f"by_target: found {self.by_target!r}, expected values by target")
        for target_id, value in self.by_target.items():
            if read_number(value) is None:
                raise ValueError(f"by_target: {target_id}: found {value!r}, expected a number")
        if self.by_target and abs(np.mean(list(self.by_target.values())) - self.mean) > _MEAN_TOLERANCE:
            found = np.mean(list(self.by_target.values()))
            raise ValueError(f"mean: found {self.mean:.5f}, but by_target has the mean {found:.5f}")


def summarize_result(set: str, row: str, by_target: Mapping[str, float]) -> Result:
    """A result with mean and standard error over at least one target."""
    values = np.array(list(by_target.values()), dtype=np.float64)
    error = float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else None
    return Result(set=set, row=row, mean=float(values.mean()), standard_error=error, by_target=dict(by_target))


def write_results(path: Path, results: Sequence[Result]) -> None:
    """Writes a results file.

    Raises:
        InputError: the folder cannot be written to.
    """
    write_text(path, json.dumps([asdict(result) for result in results], indent=1, allow_nan=False) + "\n")


def read_results(path: Path) -> list[Result]:
    """Reads a results file.

    Raises:
        InputError: no such file, no JSON list of results, none in it, or the same set and row twice.
    """
    try:
        content = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not readable JSON ({str(error).splitlines()[0]})") from None
    if not isinstance(content, list) or not content:
        raise InputError(f"{path}: expected a list of results with at least one")
    results = [_parse_result(item, f"{path}: result {place}") for place, item in enumerate(content, start=1)]
    names = [(result.set, result.row) for result in results]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"{path}: set {twice[0]!r}, row {twice[1]!r} is there more than once")
    return results


def _parse_result(item: Any, place: str) -> Result:
    names = {entry.name for entry in fields(Result)}
    if not isinstance(item, dict) or set(item) != names:
        raise InputError(f"{place}: expected the keys set, row, mean, standard_error and by_target")
    try:
        return Result(**item)
    except ValueError as error:
        raise InputError(f"{place}: {error}") from None


def write_card(run: Path, results: Path, out: Path | None = None) -> Path:
    """Writes the card of a run's best weights and returns its path.

    Args:
        run: run folder with config.yaml, run.json, metrics.jsonl and best.safetensors.
        results: results file of the benchmark.
        out: the card (default: best.md in the run folder). A .safetensors file of the same name beside it must be the
            run's best weights; the card then calls them by that name.

    Raises:
        InputError: one of the files is missing, malformed or does not belong to the others.
    """
    measured = read_results(results)
    path = RunFolder(run).card_file if out is None else out
    facts = read_facts(run, path)
    write_text(path, card_text.build_card(facts, measured))
    return path


def read_facts(run: Path, out: Path) -> card_text.CardFacts:
    """What the run folder says about its best weights.

    Raises:
        InputError: a file is missing or malformed, or the weights are another run's.
    """
    folder = RunFolder(run)
    needed = (folder.config_file, folder.summary_file, folder.metrics_file, folder.weights_file)
    if missing := [path.name for path in needed if not path.is_file()]:
        raise InputError(f"{run}: lacks {', '.join(missing)}, expected a run folder with weights")
    record, config, weights = read_run(run), load_config(folder.config_file), folder.weights_file
    lacking = [name for name in _SUMMARY if not isinstance(record.summary.get(name), Mapping)]
    if lacking:
        raise InputError(f"{folder.summary_file}: lacks {', '.join(lacking)}")
    if not record.train or not record.evaluations:
        raise InputError(f"{folder.metrics_file}: expected at least one training record and one evaluation")
    described = read_weights_description(weights)
    if described is None:
        raise InputError(f"{weights}: not written by `train`")
    digest = hash_file(weights)
    _require_same_run(weights, described, config, record)
    return card_text.CardFacts(
        run=record,
        run_folder=run.resolve().name,
        config=config,
        choices=derive_choices(config),
        description=described,
        weights_name=_name_weights(weights, digest, out),
        num_parameters=count_parameters(load_network(weights)),
        num_bytes=weights.stat().st_size,
        sha256=digest,
    )


def _require_same_run(weights: Path, described: Mapping[str, Any], config: Config, record: RunRecord) -> None:
    """Refuses weights whose own description contradicts the run folder."""
    expected = {"model": asdict(config.model), "cutoff": config.data.cutoff, "seed": config.train.seed}
    for name, value in expected.items():
        if described.get(name) != value:
            raise InputError(f"{weights}: its {name} is not that of config.yaml beside it; weights of another run?")
    step, last = read_number(described.get("step")), max(float(entry["step"]) for entry in record.train)
    if step is None or step > last:
        raise InputError(f"{weights}: of step {described.get('step')}, but metrics.jsonl ends at step {last:.0f}")


def _name_weights(weights: Path, digest: str, out: Path) -> str:
    """The name that the card calls the weights by: of their copy beside the card where there is one."""
    beside = out.with_suffix(weights.suffix)
    if not beside.is_file():
        return weights.name
    if hash_file(beside) != digest:
        raise InputError(f"{beside}: lies beside the card but is not {weights} (sha256 differs)")
    return beside.name
