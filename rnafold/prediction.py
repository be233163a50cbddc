"""`predict`: what the user asked for put together, and one line about what came of it."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path

from rnafold.errors import InputError
from rnafold.hardware import load_gpu
from rnafold.predict import NetworkSolver, Outcome, predict, seed_everything
from rnafold.settings import DataConfig
from rnafold.training.dataset import FeatureSource
from rnafold.training.machine import resolve_gpu
from rnafold.weights import find_shipped_weights, load_network

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictOptions:
    """Files and choices of one `predict` call; see the command's help."""

    test: Path
    sample: Path
    out: Path
    weights: Path | None = None
    deadline_minutes: float | None = None
    msa_folders: tuple[Path, ...] = ()
    cache: Path = Path(".cache/rnafold")
    gpu: str = "auto"
    seed: int = 0
    recycles: int | None = None


def predict_submission(options: PredictOptions) -> Outcome:
    """Predicts every target of the sample and writes the submission.

    Raises:
        InputError: malformed or mismatched files, unreadable weights, a folder that cannot be written.
    """
    if not options.out.parent.is_dir():
        raise InputError(f"{options.out}: the folder {options.out.parent} does not exist")
    seed_everything(options.seed)
    gpu, _ = resolve_gpu(options.gpu)
    device = load_gpu(gpu).hardware.device_type
    weights = options.weights or find_shipped_weights()
    network, recycles = None, 0
    if weights is None:
        log.info("no network weights given and none shipped: predicting from the other sources")
    else:
        network = load_network(weights, device)
        log.info("network weights: %s", weights)
        recycles = network.max_recycles if options.recycles is None else options.recycles
    features = FeatureSource(replace(DataConfig(), cache=str(options.cache), jobs=1), options.msa_folders)
    solver = NetworkSolver(features, network, recycles, options.seed, device)
    seconds = None if options.deadline_minutes is None else options.deadline_minutes * 60.0
    outcome, counts = predict(options.test, options.sample, options.out, solver, seconds)
    made = ", ".join(f"{count} {origin}" for origin, count in sorted(counts.items())) or "none"
    log.info("%s: %d targets in %.1f s; predictions: %s", options.out, len(outcome.origins), outcome.seconds, made)
    for names, what in ((list(outcome.failed), "failed and fell back"), (outcome.skipped, "were out of time")):
        if names:
            log.warning("%d targets %s: %s", len(names), what, ", ".join(names[:3]))
    return outcome
