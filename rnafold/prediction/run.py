"""`predict`: what the user asked for put together, and one line about what came of it."""

import datetime
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from rnafold.candidates.source import parse_source
from rnafold.config.hardware import load_gpu
from rnafold.config.settings import DataConfig
from rnafold.errors import InputError
from rnafold.features.alignment_files import find_msa
from rnafold.files.budget import Budget
from rnafold.files.shipped import find_shipped_weights, find_slots
from rnafold.machine import keep_freed_memory, resolve_gpu
from rnafold.model.network import PairNetwork, PlainNetwork
from rnafold.model.weights import choose_weights, load_network
from rnafold.prediction.deadline import Outcome, list_following, predict
from rnafold.prediction.features import TolerantFeatures
from rnafold.prediction.losses import StepLosses
from rnafold.prediction.pick import OutsideModels, open_sources
from rnafold.prediction.slots import load_slots
from rnafold.prediction.solver import CandidateSolver
from rnafold.prediction.team import join_team
from rnafold.structure import Target
from rnafold.templates.library import TemplateLibrary
from rnafold.templates.reading import load_models, load_sources
from rnafold.templates.sources import Sources

log = logging.getLogger(__name__)
# What a user types to switch the date gate off.
GATE_CONFIRMATION = "scores-will-be-inflated"
# Part of the time until the deadline that reading a library of files may take.
LIBRARY_SHARE = 0.4


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
    before: datetime.date | None = None
    candidates: tuple[str, ...] = ()
    began: float = field(default_factory=time.monotonic)
    clock: Callable[[], float] = time.monotonic

    @property
    def budget(self) -> Budget:
        """What is left of the time until the deadline; without end where there is none."""
        if self.deadline_minutes is None:
            return Budget()
        return Budget(max(0.0, self.deadline_minutes * 60.0 - (self.clock() - self.began)), self.clock)


def build_solver(
    options: PredictOptions, losses: StepLosses | None = None, outside: OutsideModels | None = None
) -> CandidateSolver:
    """Sources, network and slots of a prediction; what of them fails for another reason than the user's is noted.

    `outside` are other programs' models, to be judged beside ours.

    Raises:
        InputError: unreadable weights or slots, a template folder that is not there or holds nothing.
    """
    losses = StepLosses() if losses is None else losses
    gpu, _ = resolve_gpu(options.gpu)
    keep_freed_memory()
    device: str = load_gpu(gpu).hardware.device_type
    slots = load_slots(find_slots(options.slots))
    given = (options.weights or find_shipped_weights()) if options.use_network else None
    weights = None if given is None else choose_weights(given)
    network, recycles = None, 0
    if weights is None:
        log.info("no usable network weights given or shipped: predicting from templates and assemblies")
    else:
        network, device = load_somewhere(weights, device, losses)
    if network is not None:
        recycles = network.max_recycles if options.recycles is None else options.recycles
        log.info("network weights: %s", weights)
    sources = load_all_sources(options, losses)
    before = options.before or datetime.datetime.now(tz=datetime.UTC).date()
    log.info("template library: %d chains", sources.library.num_chains)
    _log_dates(options, sources.library, before)
    features = TolerantFeatures(replace(DataConfig(), cache=str(options.cache), jobs=1), options.msa_folders, losses)
    return CandidateSolver(
        features,
        sources,
        network,
        recycles,
        slots,
        options.seed,
        device,
        options.gated,
        before=before,
        undated=options.before is not None,
        losses=losses,
        outside=outside,
    )


def load_somewhere(weights: Path, device: str, losses: StepLosses) -> tuple[PairNetwork | PlainNetwork | None, str]:
    """The network and where it runs: on the CPU if the card does not take it, None where nothing does.

    Raises:
        InputError: the file holds no network of ours.
    """
    for place in dict.fromkeys((device, "cpu")):
        try:
            return load_network(weights, place), place
        except InputError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a card's driver raises, the rest goes on
            losses.note("network" if place == "cpu" else "card", str(weights), error)
    return None, "cpu"


def load_all_sources(options: PredictOptions, losses: StepLosses) -> Sources:
    """The template library and the learned models; without the library where it cannot be made.

    Raises:
        InputError: a template folder that is not there or holds nothing.
    """
    if options.templates:
        try:
            return load_sources(options.templates, options.cache, options.budget.part(LIBRARY_SHARE))
        except InputError:
            raise
        except Exception as error:  # noqa: BLE001 - the targets go on without templates
            losses.note("templates", ", ".join(map(str, options.templates)), error)
    return Sources(TemplateLibrary.from_entries([]), *load_models())


def _log_dates(options: PredictOptions, library: TemplateLibrary, before: datetime.date) -> None:
    """What the date gate makes of targets without a cutoff and of structures without a release date."""
    if not library.num_chains:
        return
    if not options.gated:
        log.warning("the date gate is OFF: scores on old targets mean nothing")
        return
    why = "--before" if options.before else "today; --before states another date"
    log.info("targets without a temporal_cutoff see structures released before %s (%s)", before, why)
    if library.num_undated and options.before is None:
        log.warning(
            "%d of %d structures have no release date: targets with a temporal_cutoff do without them; --before DATE "
            "vouches for them",
            library.num_undated,
            library.num_entries,
        )


def check_alignments(folders: Sequence[Path], targets: Sequence[Target]) -> str:
    """How many of the targets have an alignment in the folders."""
    found = sum(find_msa(folders, target.target_id) is not None for target in targets)
    hint = "" if found else "; expected TARGET_ID.MSA.fasta, .a3m, .sto, .afa or .aln there or in its MSA or MSA_v2"
    return f"alignments of {found} of {len(targets)} targets in {', '.join(map(str, folders))}{hint}"


def predict_submission(options: PredictOptions) -> Outcome:
    """Predicts every target of the sample and writes the submission.

    Raises:
        InputError: malformed or mismatched files, unreadable weights, a folder that cannot be written.
    """
    missing = [str(folder) for folder in options.msa_folders if not folder.is_dir()]
    if missing:
        raise InputError(f"--msa {missing[0]}: no such folder")
    if not 0 <= options.seed < 1 << 63:
        raise InputError(f"--seed {options.seed}: expected a whole number from 0 on")
    if not options.out.parent.is_dir():
        raise InputError(f"{options.out}: the folder {options.out.parent} does not exist")
    torch.manual_seed(options.seed)  # numpy generators take their seeds explicitly
    seconds = None if options.deadline_minutes is None else options.deadline_minutes * 60.0
    losses = StepLosses()
    specs = [parse_source(text) for text in options.candidates]
    opened: list[OutsideModels] = []

    def start(targets: Sequence[Target]) -> CandidateSolver:
        if options.msa_folders:
            log.info("%s", check_alignments(options.msa_folders, targets))
        outside = None
        with losses.allow("candidates of other programs", f"{len(specs)} sources"):
            outside = open_sources(specs, targets) if specs else None
        opened.extend([outside] if outside is not None else [])
        solver = build_solver(options, losses, outside)
        if team.count == 1:  # of several each does not know what it will claim next
            solver.following = list_following(targets)
        return solver

    on_cpu = load_gpu(resolve_gpu(options.gpu)[0]).hardware.device_type == "cpu"
    with join_team(options.out, on_cpu) as team:
        outcome, counts = predict(options.test, options.sample, options.out, start, seconds, options.began, team)
    for outside in opened if team.is_main else []:
        outside.write_pool(options.out)
    losses.log_summary()
    made = ", ".join(f"{count} {origin}" for origin, count in sorted(counts.items())) or "none"
    log.info("%s: %d targets in %.1f s; predictions: %s", options.out, len(outcome.origins), outcome.seconds, made)
    for names, what in ((list(outcome.failed), "failed and fell back"), (outcome.skipped, "were out of time")):
        if names:
            log.warning("%d targets %s: %s", len(names), what, ", ".join(names[:3]))
    return outcome
