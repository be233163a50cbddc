"""`fold`: five models of an RNA from its sequence, with what is expected of each residue. Needs no torch: without it,
or without weights, the models are templates' hybrids and assemblies alone.
"""

import datetime
import importlib.util
import logging
import shutil
import tempfile
import time
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from rnafold import rna
from rnafold.assembly.pairs import pairs_from_coords
from rnafold.candidates.source import parse_source
from rnafold.config.settings import DataConfig
from rnafold.errors import InputError
from rnafold.features.alignment_files import find_msa
from rnafold.features.alternatives import add_alternatives
from rnafold.features.msa import read_msa
from rnafold.features.secondary import predict_pairing
from rnafold.features.wishes import PairWishes
from rnafold.files.shipped import find_shipped_weights, find_slots
from rnafold.prediction.expected_error import expect_errors
from rnafold.prediction.features import TolerantFeatures
from rnafold.prediction.losses import StepLosses
from rnafold.prediction.obedience import keep_obedient, list_unmet, meet_wishes
from rnafold.prediction.pick import OutsideModels, open_sources
from rnafold.prediction.slots import SlotsConfig, load_slots, pick_five
from rnafold.structure import Candidate, FloatArray, IntArray, Pairing, Target
from rnafold.templates.library import TemplateLibrary, gate_for
from rnafold.templates.pipeline import apply_jury, build_candidates
from rnafold.templates.reading import load_models, load_sources
from rnafold.templates.sources import ModellingTask, Sources

if TYPE_CHECKING:
    from rnafold.prediction.solver import CandidateSolver

log = logging.getLogger(__name__)
# Of a target's seconds: what another program's base pairs may take; templates and assemblies are started before the
# second share is gone, the network's passes before the third.
_ALTERNATIVES_SHARE: Final = 0.05
_BUILDING_SHARE: Final = 0.5
_REFINED_BY: Final = 0.8
DEFAULT_SECONDS: Final = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldOptions:
    """Choices of one `fold` call.

    Attributes:
        templates: folders with known structures or the competition's train files.
        candidates: other programs' models, as `predict --candidates` takes them.
        msa_folders: folders with alignments named by target (TARGET_ID.MSA.fasta, .a3m, .sto, .afa, .aln, also .gz).
        before: templates released before this date are seen; None: today.
        use_network: False leaves the network out; True uses it where torch and weights are there.
        weights: of the network; None: the shipped ones.
        gpu: a file in configs/gpu, or auto.
        cache: folder for the template library and computed features; None: nothing is kept.
        seconds: about how long one RNA may take.
        seed: every random choice hangs on it.
    """

    templates: tuple[Path, ...] = ()
    candidates: tuple[str, ...] = ()
    msa_folders: tuple[Path, ...] = ()
    before: datetime.date | None = None
    use_network: bool = True
    weights: Path | None = None
    gpu: str = "auto"
    cache: Path | None = None
    seconds: float = DEFAULT_SECONDS
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Folded:
    """Five models of one RNA.

    Attributes:
        target: sequence and chains.
        models: the five, surest first; `confidence` is the expected TM-score.
        errors: (5, L) expected distance in Å of each residue from its true place.
        pairing: the predicted pairs that the models were built from.
        partners: (5, L) pairs that each model forms in space, -1 where none; pseudoknots included.
        wishes: pairs that were asked for.
        unmet: for each model, the wishes that it does not meet, in words.
        seconds: that it took.
    """

    target: Target
    models: tuple[Candidate, ...]
    errors: FloatArray
    pairing: Pairing
    partners: IntArray
    wishes: PairWishes
    unmet: tuple[tuple[str, ...], ...]
    seconds: float


@dataclass(slots=True, kw_only=True, weakref_slot=True)
class Folder:
    """What folds RNAs: opened once for all of them; see `open_folder`."""

    options: FoldOptions
    sources: Sources
    features: TolerantFeatures
    slots: SlotsConfig
    before: datetime.date
    network: "CandidateSolver | None" = None
    outside: OutsideModels | None = None
    losses: StepLosses = field(default_factory=StepLosses)

    def fold(self, target: Target, wishes: PairWishes | None = None) -> Folded:
        """Five models of one RNA; the same seed gives the same models as long as the time is enough."""
        began = time.monotonic()
        wishes = wishes or PairWishes()
        task = self._prepare(target, wishes)
        candidates = apply_jury(task, build_candidates(task, budget_seconds=_BUILDING_SHARE * self.options.seconds))
        if self.network is not None:
            rated, refined = self.network.refine(task, candidates, began + _REFINED_BY * self.options.seconds)
            candidates = [*rated, *refined]
        wanted = keep_obedient(target, meet_wishes(target, candidates, wishes), wishes)
        five = pick_five(target, wanted, self.slots, pairing=task.pairing, seed=self.options.seed)
        if self.outside is not None:
            with self.losses.allow("candidates of other programs", target.target_id):
                five = self.outside.choose(target, five, task.pairing, self.slots, seed=self.options.seed)
        pool = [*wanted, *self._judged(target)]
        tokens = rna.encode_sequence(target.sequence)
        return Folded(
            target=target,
            models=tuple(five),
            errors=np.stack([expect_errors(model, pool) for model in five]),
            pairing=task.pairing,
            partners=np.stack([pairs_from_coords(tokens, model.coords) for model in five]),
            wishes=wishes,
            unmet=tuple(tuple(list_unmet(target, model.coords, wishes)) for model in five),
            seconds=time.monotonic() - began,
        )

    def _judged(self, target: Target) -> Sequence[Candidate]:
        return () if self.outside is None else self.outside.pools.get(target.target_id, ())

    def _prepare(self, target: Target, wishes: PairWishes) -> ModellingTask:
        """The target with predicted pairs that obey the wishes, behind its gate."""
        self.features.prepare([target])
        pairing = self.features.pairings[target.target_id]
        if wishes:
            path = find_msa(self.options.msa_folders, target.target_id)
            msa = None if path is None else read_msa(path, target)
            count = len(pairing.samples)
            pairing = predict_pairing(target.sequence, target.chains, count, self.options.seed, msa, wishes)
        with self.losses.allow("alternative base pairs", target.target_id):
            time_for_it = _ALTERNATIVES_SHARE * self.options.seconds
            pairing = add_alternatives(pairing, target.sequence, target.chains, time_for_it, wishes)
        library = bool(self.sources.library.num_chains)
        return ModellingTask(
            target=target,
            pairing=pairing,
            sources=self.sources,
            gate=gate_for(target, self.before, undated=True) if library else None,
            seed=self.options.seed,
            wishes=wishes or None,
        )


def open_folder(options: FoldOptions, targets: Sequence[Target]) -> Folder:
    """Template library, learned models, network and other programs' models, ready to fold these targets.

    Raises:
        InputError: a folder that is not there or holds nothing, unreadable weights, a model of another length.
    """
    missing = [str(folder) for folder in options.msa_folders if not folder.is_dir()]
    if missing:
        raise InputError(f"--msa {missing[0]}: no such folder")
    if not 0 <= options.seed < 1 << 63:
        raise InputError(f"--seed {options.seed}: expected a whole number from 0 on")
    if not options.seconds > 0:
        raise InputError(f"--seconds {options.seconds:g}: expected a number above 0")
    losses = StepLosses()
    cache = options.cache or Path(tempfile.mkdtemp(prefix="rnafold-cache-"))
    if options.templates:
        sources = load_sources(options.templates, options.cache)
    else:
        sources = Sources(TemplateLibrary.from_entries([]), *load_models())
    before = options.before or datetime.datetime.now(tz=datetime.UTC).date()
    features = TolerantFeatures(replace(DataConfig(), cache=str(cache), jobs=1), options.msa_folders, losses)
    slots = load_slots(find_slots(None))
    specs = [parse_source(text) for text in options.candidates]
    folder = Folder(
        options=options,
        sources=sources,
        features=features,
        slots=slots,
        before=before,
        outside=open_sources(specs, targets) if specs else None,
        losses=losses,
    )
    if options.cache is None:
        weakref.finalize(folder, shutil.rmtree, cache, ignore_errors=True)
    folder.network = _open_network(folder)
    return folder


def _open_network(folder: Folder) -> "CandidateSolver | None":
    """What rates and refines candidates; None without torch, weights or the wish for it."""
    options = folder.options
    weights = options.weights or find_shipped_weights()
    if not options.use_network or weights is None:
        return None
    if importlib.util.find_spec("torch") is None:
        if options.weights is not None:
            raise InputError("--weights: torch is not installed; pip install 'rnafold-kit[train]'")
        log.info("torch is not installed: folding without the network (pip install 'rnafold-kit[train]')")
        return None
    from rnafold.config.hardware import load_gpu
    from rnafold.machine import keep_freed_memory, resolve_gpu
    from rnafold.model.weights import choose_weights
    from rnafold.prediction.run import load_somewhere
    from rnafold.prediction.solver import CandidateSolver

    chosen = choose_weights(weights)
    keep_freed_memory()
    gpu, _ = resolve_gpu(options.gpu)
    if chosen is None:
        return None
    network, device = load_somewhere(chosen, load_gpu(gpu).hardware.device_type, folder.losses)
    if network is None:
        return None
    return CandidateSolver(
        folder.features,
        folder.sources,
        network,
        network.max_recycles,
        folder.slots,
        options.seed,
        device,
        before=folder.before,
        losses=folder.losses,
    )
