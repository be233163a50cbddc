"""Hours of a run, part by part and as an interval: the roofline corrected by what was measured, and the paid rest."""

import dataclasses
import math
from collections.abc import Callable, Sequence

from rnafold.config.settings import Config
from rnafold.features.build import MAX_WHOLE, padded_length
from rnafold.planner.memory.records import Trace
from rnafold.planner.time.load import EpochWork, TrainingLoad
from rnafold.planner.time.measurements import (
    ENOUGH,
    Correction,
    Measurement,
    machine_name,
    model_name,
    settings_name,
    weighted_mean,
)
from rnafold.planner.time.roofline import StepSeconds, estimate_step, interpolate

# Without any measurement of the machine the roofline is taken to be right within these factors.
UNMEASURED_LOW, UNMEASURED_HIGH = 0.6, 2.0
# Measured on this machine, but another model or setting.
RELATED_SPREAD = 0.35
# Even measured steps do not tell the next run's exactly: other load, other draws of the sampler.
LEAST_SPREAD = 0.08
# Assumptions in seconds, until measured. Kaggle: mounting, wheels, imports; writing and collecting the output.
START_UP_SECONDS = {"cuda": 120.0, "mps": 15.0, "cpu": 8.0}
OUTPUT_SECONDS = {"cuda": 90.0, "mps": 0.0, "cpu": 0.0}
# Reading, clustering and folding one training entry with a cold cache, on one core; a median chain folds in a blink,
# the long ones in minutes.
PREPARATION_SECONDS_PER_ENTRY = 0.25
LOADING_SECONDS = 0.01
FIRST_LOADING_SECONDS = 0.06
# The parts that preparation ahead spares, but for the reading of what it left.
SPARED, PREPARED_SHARE = ("preparation", "folding", "starts"), 0.1
CHECKPOINT_BYTES_PER_SECOND = 150e6
SCORING_SECONDS = 0.2


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class HoursEstimate:
    """Hours of one run. `parts` sum to `expected`; `source` says what the step times rest on.

    `ahead_cpu_hours` is what `rnafold prepare` takes on one core to spare the run the parts of SPARED.
    """

    expected: float
    low: float
    high: float
    parts: dict[str, float]
    source: str
    seconds_per_epoch: float
    steps_per_epoch: float
    is_calibrated: bool
    ahead_cpu_hours: float = 0.0

    @property
    def expected_prepared(self) -> float:
        """Hours of the run where the preparation kernel's output is attached."""
        return self.expected - (1.0 - PREPARED_SHARE) * sum(self.parts.get(name, 0.0) for name in SPARED)

    @property
    def hours_to_first_checkpoint(self) -> float:
        """Not counting training: what must pass before there is anything worth keeping."""
        return self.parts["start_up"] + self.parts["preparation"] + self.parts.get("starts", 0.0)


def correct_steps(
    found: Sequence[Measurement], config: Config, machine: str, prior: Callable[[int, float], float]
) -> Correction:
    """Factors of measured micro batches over the roofline: of this model and settings, else of any on the machine."""
    here = [m for m in found if m.machine == machine and m.kind == "micro_batch" and m.seconds > 0 and m.batch > 0]
    exact = [m for m in here if m.model == model_name(config) and m.settings == settings_name(config)]
    if exact:
        by_length = {}
        for length in sorted({m.length for m in exact}):
            group = [m for m in exact if m.length == length]
            count = sum(m.count for m in group)
            by_length[length] = sum(m.seconds * m.count for m in group) / sum(
                prior(m.length, m.batch) * m.count for m in group
            )
            if count < 3 and len({m.length for m in exact}) > 3:
                del by_length[length]
        total = sum(m.count for m in exact)
        spread = LEAST_SPREAD * (1 if total >= ENOUGH else 2)
        return Correction(by_length=by_length, spread=spread, source=f"{total} measured micro batches on {machine}")
    if here:
        ratios = sorted(m.seconds / prior(m.length, m.batch) for m in here)
        middle = ratios[len(ratios) // 2]
        return Correction(
            by_length={config.data.crop_length: middle},
            spread=RELATED_SPREAD,
            source=f"the roofline, corrected by other models' steps on {machine}",
        )
    return Correction(by_length={}, spread=math.nan, source="the roofline alone: nothing was measured on this machine")


class HoursModel:
    """Seconds of every piece of a run on one machine, from traces at a few lengths and from measurements."""

    def __init__(
        self,
        config: Config,
        traces: dict[int, Trace],
        measurements: Sequence[Measurement] = (),
        machine: str | None = None,
    ) -> None:
        self.config = config
        self.traces = traces
        self.machine = machine or default_machine(config)
        self.found = [m for m in measurements if m.machine == self.machine]
        self._steps: dict[tuple[int, int], StepSeconds] = {}
        self.correction = correct_steps(self.found, config, self.machine, self.prior_micro)

    def prior_micro(self, length: int, batch: float) -> float:
        """Roofline seconds of a micro batch."""
        low, high = math.floor(batch), math.ceil(batch)
        known = {n: self._prior(length, n).micro_batch for n in {max(low, 1), max(high, 1)}}
        return known[low] if low == high else known[max(low, 1)] * (high - batch) + known[high] * (batch - low)

    def _prior(self, length: int, batch: int) -> StepSeconds:
        key = (length, batch)
        if key not in self._steps:
            hardware, run = self.config.hardware, self.config.train
            at = {
                known: estimate_step(trace, hardware, run.precision, batch, self.config.model.max_recycles)
                for known, trace in self.traces.items()
            }
            self._steps[key] = StepSeconds(
                micro_batch=interpolate(length, {k: s.micro_batch for k, s in at.items()}),
                update=max(s.update for s in at.values()),
                forward=interpolate(length, {k: s.forward for k, s in at.items()}),
            )
        return self._steps[key]

    def micro_batch(self, length: int, batch: int) -> float:
        """Corrected seconds of a micro batch."""
        return self.prior_micro(length, batch) * self.correction.at(length)

    def update(self, batch: int) -> float:
        """Seconds of an optimizer step beside its micro batches."""
        measured = self._measured("update")
        factor = self.correction.at(self.config.data.crop_length)
        return measured if measured is not None else self._prior(max(self.traces), batch).update * factor

    def evaluation(self, lengths: Sequence[int]) -> float:
        """Seconds of one evaluation."""
        measured = self._measured("evaluation")
        if measured is not None:
            return measured * len(lengths)
        passes = self.config.model.max_recycles + 1
        total = 0.0
        for length in lengths:
            size = min(padded_length(length), MAX_WHOLE)
            total += passes * self._prior(size, 1).forward * self.correction.at(size) * math.ceil(length / MAX_WHOLE)
        return total + SCORING_SECONDS * len(lengths)

    def loading(self, examples: float, first: float) -> float:
        """Seconds that the loop waits for examples, `first` of which are built for the first time."""
        again, new = self._measured("loading"), self._measured("first_loading")
        again = LOADING_SECONDS if again is None else again
        new = FIRST_LOADING_SECONDS if new is None else new
        return (examples - first) * again + first * max(new, again)

    def preparation(self, entries: int) -> float:
        """Seconds from the start of the command to the first step."""
        measured = self._measured("preparation")
        if measured is not None:
            return measured * entries
        return PREPARATION_SECONDS_PER_ENTRY * entries / self.config.data.jobs

    def folding(self, seconds: float) -> float:
        """Of `seconds` of folding on one core, what the loop waits for; none where warm runs have been measured."""
        processes = max(self.config.train.loader_workers, 1)
        return 0.0 if self._measured("preparation") is not None else seconds / processes

    def starts(self, seconds: float) -> float:
        """Of `seconds` of start structures on one core, what a run waits for before its first step, at most its budget.

        None where warm runs have been measured.
        """
        data = self.config.data
        wanted = 0.0 if self._measured("preparation") is not None else seconds / data.jobs
        return min(wanted, 3600.0 * data.start_hours) if data.start_hours else wanted

    def start_up(self) -> float:
        """Seconds before the command does anything of its own."""
        measured = self._measured("start_up")
        return START_UP_SECONDS[self.config.hardware.device_type] if measured is None else measured

    def _measured(self, kind: str) -> float | None:
        same = [m for m in self.found if m.kind == kind]
        exact = [m for m in same if m.model == model_name(self.config) and m.settings == settings_name(self.config)]
        chosen = exact if kind in ("update", "evaluation") else same
        # the latest few: data and code change
        return weighted_mean(chosen[-3:]) if chosen else None


def estimate_hours(model: HoursModel, load: TrainingLoad, work: EpochWork, *, num_ranks: int = 1) -> HoursEstimate:
    """Hours of a whole run to its last epoch.

    Args:
        model: of the machine and configuration.
        load: the data.
        work: a mean epoch, of the effective batch of all ranks.
        num_ranks: cards that share the micro batches of a step.
    """
    config, train = model.config, model.config.train
    batch = max((size for _, size in work.micro_batches), default=1)
    micro = sum(count * model.micro_batch(length, size) for (length, size), count in work.micro_batches.items())
    update = work.steps * model.update(batch)
    evaluations = math.ceil(train.epochs / train.evaluate_every_epochs)
    first = first_builds(load, work, train.epochs, config.data.start_variants)
    waiting = model.loading(work.examples * train.epochs, first)
    if train.loader_workers:
        # workers load while the card computes; what they cannot hide is waited for
        waiting = max(0.0, waiting / train.loader_workers - (micro * train.epochs)) / num_ranks
    checkpoint = 16.0 * next(iter(model.traces.values())).num_parameters / CHECKPOINT_BYTES_PER_SECOND + 0.3
    training = train.epochs * (micro / num_ranks + update)
    saves = train.epochs / train.checkpoint_every_epochs + training / 60.0 / train.checkpoint_every_minutes + 1
    seconds = {
        "start_up": model.start_up(),
        "preparation": model.preparation(len(load.lengths)),
        "folding": model.folding(load.folding_seconds),
        "starts": model.starts(load.start_seconds),
        "training": training,
        "loading": waiting,
        "evaluation": evaluations * model.evaluation(load.validation_lengths),
        "checkpoints": saves * checkpoint,
        "output": OUTPUT_SECONDS[config.hardware.device_type],
    }
    expected = sum(seconds.values()) / 3600.0
    scaled = (seconds["training"] + seconds["evaluation"] + seconds["loading"]) / 3600.0
    spread = model.correction.spread
    measured = not math.isnan(spread)
    low = expected - scaled * (1 - UNMEASURED_LOW if not measured else spread)
    high = expected + scaled * (UNMEASURED_HIGH - 1 if not measured else spread)
    fixed = expected - scaled
    return HoursEstimate(
        expected=expected,
        low=low - 0.3 * fixed,
        high=high + 0.5 * fixed,
        parts={name: value / 3600.0 for name, value in seconds.items()},
        source=model.correction.source,
        seconds_per_epoch=training / max(train.epochs, 1),
        steps_per_epoch=work.steps,
        is_calibrated=measured,
        ahead_cpu_hours=(load.folding_seconds + load.start_seconds + PREPARATION_SECONDS_PER_ENTRY * len(load.lengths))
        / 3600.0,
    )


def first_builds(load: TrainingLoad, work: EpochWork, epochs: int, variants: int) -> float:
    """Expected number of (entry, start variant) pairs that are built during a run.

    A cluster of n entries draws one of n x variants pairs an epoch: n v (1 - (1 - 1 / (n v))^epochs) different ones.
    """
    sizes: dict[str, int] = {}
    for group in load.groups:
        sizes[group] = sizes.get(group, 0) + 1
    return sum(n * variants * (1 - (1 - 1 / (n * variants)) ** epochs) for n in sizes.values())


def default_machine(config: Config) -> str:
    """The machine that measurements of a configuration are looked up for: this CPU, or the card of the file."""
    if config.hardware.device_type == "cpu":
        return machine_name("cpu")
    # the name in the GPU's file, so that what a kernel measured is found by a plan made at home
    return config.hardware.name
