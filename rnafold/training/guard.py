"""What training asks of the planner: may this run start, how long will it take, and what it really took."""

import datetime
import json
import logging
import os
import platform
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rnafold.config.launch import is_first_rank
from rnafold.config.machine_use import count_accumulation
from rnafold.config.settings import Config
from rnafold.errors import InputError
from rnafold.features.build import padded_length
from rnafold.files.atomic import write_text
from rnafold.files.mounts import find_mounted
from rnafold.files.run_folder import RunFolder
from rnafold.planner.memory.estimate import MemoryEstimate, TraceStore, largest_micro_batch, trace_key
from rnafold.planner.memory.records import PLANNER_FOLDER, load_trace
from rnafold.planner.plan import (
    MOST_MICRO_BATCH,
    Plan,
    Request,
    build_plan,
    estimate_step_memory,
    first_checkpoint_hours,
    suggest_change,
)
from rnafold.planner.quota.ledger import LEDGER_FILE, LedgerSession, read_sessions
from rnafold.planner.quota.rules import load_rules, state_of_ledger
from rnafold.planner.show import format_hours, plan_to_json
from rnafold.planner.time.hours import default_machine
from rnafold.planner.time.load import TrainingLoad, assume_load
from rnafold.planner.time.measurements import append_measurements, measurements_of_run, read_measurements

log = logging.getLogger(__name__)
# Below this many weights a CPU run is a trial: tracing it would take longer than its first epochs.
SMALL_PARAMETERS = 1_000_000
# Of the public weights; smaller encoders take less.
ENCODER_PAIR_CHANNELS = 64
LEDGER_SECONDS = 600.0
# Kaggle sets this in every kernel; elsewhere a card is the user's own and under no quota.
KERNEL_VARIABLE = "KAGGLE_KERNEL_RUN_TYPE"


class RunGuard:
    """Stands beside one training run on its main process; on the others every method does nothing."""

    def __init__(self, config: Config, out: Path, *, force: bool = False) -> None:
        self.config, self.out, self.force = config, out, force
        self.is_main = is_first_rank()
        self.cache = Path(config.data.cache) / PLANNER_FOLDER
        self.store = TraceStore(self.cache)
        self.rules = load_rules()
        self.ledger_path = out.parent / LEDGER_FILE
        self.counts = config.hardware.device_type == "cuda" and KERNEL_VARIABLE in os.environ
        self.plan: Plan | None = None
        self.session: LedgerSession | None = None
        self._stopped = threading.Event()

    @property
    def is_trial(self) -> bool:
        """Whether the run is a small one on a CPU that no trace is worth, unless the cache has it."""
        model = self.config.model
        weights = 12 * model.layers * model.width**2
        if model.encoder is not None:
            weights += find_mounted(model.encoder.path, "model.encoder.path").stat().st_size // 4
        small = weights < SMALL_PARAMETERS and bound_gib(self.config) < 2.0
        key = trace_key(self.config, self.config.data.crop_length)
        return self.config.hardware.device_type == "cpu" and small and load_trace(key, self.cache) is None

    def check_memory(self) -> None:
        """Refuses, before any data are read, a micro batch that cannot fit at the crop length.

        On a CPU with memory to spare the trace is only begun, beside the reading of the data.

        Raises:
            InputError: it does not fit; the message names the nearest change that does.
        """
        if not self.is_main or self.is_trial:
            return
        key = trace_key(self.config, self.config.data.crop_length)
        self.store.request([key])
        if self.config.hardware.device_type == "cpu" and bound_gib(self.config) < 2.0:
            return
        estimate = self._estimate()
        if estimate.fits:
            return
        run = self.config.train
        request = self._request(assume_load(self.config, 1))
        largest = largest_micro_batch(self.store.get(key), self.config.hardware, run, MOST_MICRO_BATCH)
        self._refuse(
            f"a micro batch of {run.micro_batch} x {self.config.data.crop_length} residues needs "
            f"{estimate.peak_gib:.1f} GiB, {estimate.limit_gib:.1f} GiB of {self.config.hardware.name} may be used; "
            f"nearest change that fits: {suggest_change(request, self.store, largest)}"
        )

    def _estimate(self) -> MemoryEstimate:
        config = self.config
        trace = self.store.get(trace_key(config, config.data.crop_length))
        accumulation = count_accumulation(config.train, config.hardware.num_gpus)
        return estimate_step_memory(trace, config, config.data.crop_length, config.train.micro_batch, accumulation)

    def _refuse(self, reason: str) -> None:
        if not self.force:
            raise InputError(f"{reason}; --force starts it all the same")
        log.warning("--force: %s", reason)

    def begin(self, load: TrainingLoad, preparation_seconds: float) -> None:
        """Plans the run on its real data: writes plan.json, says when it ends, opens its session in the ledger.

        Raises:
            InputError: the hours left of the week do not reach to a checkpoint.
        """
        if not self.is_main:
            return
        if not self.is_trial or self._has_traces(load):
            self.plan = build_plan(self._request(load), self.store)
            self._require_hours(self.plan)
            write_text(RunFolder(self.out).plan_file, json.dumps(plan_to_json(self.plan), indent=1))
            self._log_arrival(self.plan, preparation_seconds)
        hours = None if self.plan is None else self.plan.chosen.hours.expected
        self.session = LedgerSession(
            self.ledger_path,
            self.out.name,
            self.config.gpu,
            counts=self.counts,
            planned_hours=hours,
            predicted_hours=hours,
            predicted_peak_gib=None if self.plan is None else self.plan.chosen.memory.peak_gib,
        )
        threading.Thread(target=self._report_progress, daemon=True).start()

    def _has_traces(self, load: TrainingLoad) -> bool:
        return load_trace(trace_key(self.config, load.longest), self.cache) is not None

    def _request(self, load: TrainingLoad) -> Request:
        return Request(
            gpu=self.config.gpu,
            model=self.config.model.name,
            config=self.config,
            overrides=() if self.config.choices is None else self.config.choices.overrides,
            load=load,
            rules=self.rules,
            state=None,
            measurements=tuple(read_measurements(self.cache)),
        )

    def _require_hours(self, plan: Plan) -> None:
        if not self.counts:
            return
        now = datetime.datetime.now(datetime.UTC)
        state = state_of_ledger(read_sessions(self.ledger_path), self.rules, now, own_host=platform.node())
        needed = first_checkpoint_hours(plan.chosen.hours, self.config)
        if state.left < needed:
            self._refuse(
                f"{state.left:.2f} h of the weekly quota are left until {state.resets_at:%a %d %b %H:%M} UTC and the "
                f"first checkpoint comes after {needed:.2f} h"
            )

    def _log_arrival(self, plan: Plan, preparation_seconds: float) -> None:
        hours = plan.chosen.hours
        rest = {k: v for k, v in hours.parts.items() if k not in ("start_up", "preparation", "output")}
        left = sum(rest.values())
        end = datetime.datetime.now() + datetime.timedelta(hours=left)
        log.info(
            "plan: %s to go, until about %s (%s - %s; %s), unless it stops early; peak memory about %.1f GiB; "
            "preparation took %.0f s",
            format_hours(left),
            end.strftime("%a %H:%M"),
            format_hours(hours.low),
            format_hours(hours.high),
            hours.source,
            plan.chosen.memory.peak_gib,
            preparation_seconds,
        )

    def _report_progress(self) -> None:
        while not self._stopped.wait(LEDGER_SECONDS):
            if self.session is not None:
                self.session.progress()

    def finish(self, outcome: str, records: Sequence[Mapping[str, Any]]) -> None:
        """Notes hours and memory in the ledger, and the step times for later plans.

        Args:
            outcome: why the run stopped.
            records: lines of metrics.jsonl that this session wrote.
        """
        self._stopped.set()
        if self.session is None:
            return
        peaks = [float(r["peak_memory_gib"]) for r in records if "peak_memory_gib" in r]
        self.session.end(outcome, max(peaks, default=None))
        machine = default_machine(self.config)
        append_measurements(self.cache, measurements_of_run([dict(r) for r in records], self.config, machine))


def bound_gib(config: Config) -> float:
    """A generous bound on the activations of a step in GiB from the shapes alone, for CPUs with memory to spare."""
    model, length = config.model, padded_length(config.data.crop_length)
    pair = model.pair_channels * (24 + 14 * model.pair_updates) + 80 * (model.relax_steps + 1)
    pair += 5 * model.attention_heads * model.layers
    single = model.layers * (28 * model.width + 8 * model.feed_forward)
    if model.encoder is not None:  # frozen layers hold some 16 arrays of pairs at a time, trained ones some 60 each
        pair += ENCODER_PAIR_CHANNELS * (16 + 60 * model.encoder.unfreeze_last)
    return 4.0 * config.train.micro_batch * (length**2 * pair + length * single) / 2**30
