"""An encoder has to earn its place: both networks predict the same validation targets, and the better one is used."""

import logging
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import safe_open

from rnafold.config.settings import Config
from rnafold.errors import InputError
from rnafold.files.mounts import file_sha256, find_mounted
from rnafold.files.run_folder import RunFolder
from rnafold.files.weights_header import WeightsDescription, format_metadata, read_weights_description
from rnafold.model.weights import load_network, read_model_config
from rnafold.training.checkpoint import save_tensors
from rnafold.training.evaluate import Evaluation, ValidationTarget, evaluate
from rnafold.training.schedule import TimeBudget

log = logging.getLogger(__name__)


def find_plain_weights(compare_with: str) -> Path:
    """The weights file of a run folder, or the file itself.

    Raises:
        InputError: there is none, or it is of a network with an encoder.
    """
    folder = Path(compare_with)
    typed = RunFolder(folder).weights_file if folder.is_dir() else folder
    path = find_mounted(str(typed), "model.encoder.compare_with")
    if read_model_config(path).encoder is not None:
        raise InputError(f"model.encoder.compare_with {path}: has an encoder itself, expected a network without one")
    return path


def check_comparison(config: Config) -> None:
    """Refuses, before anything is trained, weights that a comparison could not use or would be unfair with.

    Raises:
        InputError: no such weights, weights with an encoder, or weights trained up to another date.
    """
    encoder = config.model.encoder
    if encoder is None:
        return
    if encoder.compare_with is None:
        log.warning(
            "model.encoder.compare_with is not set: without a network to beat the encoder's weights will be marked as "
            "not accepted, and predict leaves them alone"
        )
        return
    path = find_plain_weights(encoder.compare_with)
    cutoff = _describe(path).get("cutoff")
    if cutoff != config.data.cutoff:
        raise InputError(f"{path}: trained up to {cutoff}, this run up to {config.data.cutoff}: not comparable")


def judge_encoder(
    config: Config,
    weights: Path,
    validation: Sequence[ValidationTarget],
    device: torch.device | str,
    budget: TimeBudget,
) -> bool | None:
    """Compares the weights of a run with those of the network without encoder and writes the verdict into them.

    Returns:
        Whether the encoder is accepted; None if there was nothing to compare, no time, or the weights are gone.
    """
    encoder = config.model.encoder
    if encoder is None or encoder.compare_with is None or not validation or not weights.is_file():
        return None
    if not budget.allows("evaluation", "evaluation"):
        log.warning("no time left to compare the encoder: it stays switched off until --resume compares it")
        return None
    try:
        path = find_plain_weights(encoder.compare_with)
        ours, plain = (_score(file, validation, device) for file in (weights, path))
    except InputError as error:  # gone since training began: the run stands all the same
        log.warning("the encoder could not be compared (%s): it stays switched off", error)
        return None
    accepted = round(ours.tm_score, 6) > round(plain.tm_score, 6)  # as recorded, so that the record explains itself
    deviation = standard_error(ours.by_target, plain.by_target)
    verdict: WeightsDescription = {
        **_describe(weights),
        "encoder_accepted": accepted,
        "compared_tm_score": round(ours.tm_score, 6),
        "compared_with": {"file": str(path), "sha256": file_sha256(path), "tm_score": round(plain.tm_score, 6)},
        "compared_standard_error": deviation,
    }
    _mark(weights, verdict)
    gain = ours.tm_score - plain.tm_score
    spread = "one target" if deviation is None else f"± {deviation:.4f}, {len(ours.by_target)} targets"
    seen = f"TM-score {ours.tm_score:.4f}, {plain.tm_score:.4f} without it ({gain:+.4f}, {spread})"
    if accepted:
        log.info("encoder accepted: %s, compared with %s", seen, path)
    else:
        log.warning("encoder switched off: %s; predict will use %s", seen, path)
    if accepted and (deviation is None or gain < 2.0 * deviation):
        log.warning("the encoder's gain is within the noise of these targets: more of them (data.max_validation) tell")
    return accepted


def standard_error(ours: Mapping[str, float], plain: Mapping[str, float]) -> float | None:
    """Standard error of the mean difference over the targets, paired; None with fewer than two."""
    differences = [value - plain[name] for name, value in ours.items()]
    if len(differences) < 2:
        return None
    return round(statistics.stdev(differences) / math.sqrt(len(differences)), 6)


def _score(path: Path, validation: Sequence[ValidationTarget], device: torch.device | str) -> Evaluation:
    network = load_network(path, device)
    return evaluate(network, validation, network.max_recycles, device)


def _describe(path: Path) -> WeightsDescription:
    described = read_weights_description(path)
    if described is None:
        raise InputError(f"{path}: not written by `train`")
    return described


def _mark(path: Path, verdict: WeightsDescription) -> None:
    """Writes the verdict into the metadata of a weights file, atomically; the tensors stay as they are."""
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    save_tensors(path, tensors, format_metadata(verdict))
