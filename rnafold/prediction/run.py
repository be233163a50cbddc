"""`predict`: what the user asked for put together, and one line about what came of it."""

import logging
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

from rnafold.config.hardware import load_gpu
from rnafold.config.settings import DataConfig
from rnafold.errors import InputError
from rnafold.features.source import FeatureSource
from rnafold.files.shipped import find_shipped_weights, find_slots
from rnafold.machine import keep_freed_memory, resolve_gpu
from rnafold.model.weights import choose_weights, load_network
from rnafold.prediction.deadline import Outcome, predict, seed_everything
from rnafold.prediction.slots import load_slots
from rnafold.prediction.solver import CandidateSolver
from rnafold.templates.library import TemplateLibrary
from rnafold.templates.reading import load_models, load_sources
from rnafold.templates.sources import Sources

log = logging.getLogger(__name__)
# What a user types to switch the date gate off.
GATE_CONFIRMATION = "scores-will-be-inflated"


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictOptions:
    """Files and choices of one `predict` call; see the command's help."""

    test: Path
    sample: Path
    out: Path
    weights: Path | None = None
    use_network: bool = True
    templates: tuple[Path, ...] = ()
    slots: str | None = None
    deadline_minutes: float | None = None
    msa_folders: tuple[Path, ...] = ()
    cache: Path = Path(".cache/rnafold")
    gpu: str = "auto"
    seed: int = 0
    recycles: int | None = None
    gated: bool = True
    began: float = field(default_factory=time.monotonic)


def build_solver(options: PredictOptions) -> CandidateSolver:
    """Sources, network and slots of a prediction.

    Raises:
        InputError: unreadable weights, slots or templates.
    """
    gpu, _ = resolve_gpu(options.gpu)
    keep_freed_memory()
    device = load_gpu(gpu).hardware.device_type
    slots = load_slots(find_slots(options.slots))
    given = (options.weights or find_shipped_weights()) if options.use_network else None
    weights = None if given is None else choose_weights(given)
    network, recycles = None, 0
    if weights is None:
        log.info("no usable network weights given or shipped: predicting from templates and assemblies")
    else:
        network = load_network(weights, device)
        recycles = network.max_recycles if options.recycles is None else options.recycles
        log.info("network weights: %s", weights)
    if options.templates:
        sources = load_sources(options.templates, options.cache)
    else:
        sources = Sources(TemplateLibrary.from_entries([]), *load_models())
    log.info("template library: %d chains", sources.library.num_chains)
    if not options.gated:
        log.warning("the date gate is OFF: scores on old targets mean nothing")
    features = FeatureSource(replace(DataConfig(), cache=str(options.cache), jobs=1), options.msa_folders)
    return CandidateSolver(features, sources, network, recycles, slots, options.seed, device, options.gated)


def predict_submission(options: PredictOptions) -> Outcome:
    """Predicts every target of the sample and writes the submission.

    Raises:
        InputError: malformed or mismatched files, unreadable weights, a folder that cannot be written.
    """
    if not options.out.parent.is_dir():
        raise InputError(f"{options.out}: the folder {options.out.parent} does not exist")
    seed_everything(options.seed)
    seconds = None if options.deadline_minutes is None else options.deadline_minutes * 60.0
    outcome, counts = predict(
        options.test, options.sample, options.out, lambda: build_solver(options), seconds, options.began
    )
    made = ", ".join(f"{count} {origin}" for origin, count in sorted(counts.items())) or "none"
    log.info("%s: %d targets in %.1f s; predictions: %s", options.out, len(outcome.origins), outcome.seconds, made)
    for names, what in ((list(outcome.failed), "failed and fell back"), (outcome.skipped, "were out of time")):
        if names:
            log.warning("%d targets %s: %s", len(names), what, ", ".join(names[:3]))
    return outcome
