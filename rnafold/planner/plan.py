"""The plan of a run: does it fit, what does it take, in which sessions, how many of them, and the lines to start it."""

import dataclasses
import math
from collections.abc import Sequence

from rnafold.config.hardware import find_single_card, load_gpus
from rnafold.config.machine_use import Checkpointing, count_accumulation
from rnafold.config.settings import Config, resolve_config
from rnafold.errors import ConfigError
from rnafold.features.build import padded_length
from rnafold.features.passes import pass_rule
from rnafold.planner.memory.estimate import (
    MemoryEstimate,
    TraceStore,
    choose_micro_batch,
    estimate_memory,
    largest_micro_batch,
    trace_key,
)
from rnafold.planner.memory.records import Trace, TraceKey
from rnafold.planner.quota.rules import PlannedSession, QuotaRules, QuotaState, count_runs, cut_sessions, schedule_runs
from rnafold.planner.time.hours import HoursEstimate, HoursModel, estimate_hours
from rnafold.planner.time.load import TrainingLoad, deal_epochs
from rnafold.planner.time.measurements import Measurement

# Micro batches beyond this are not looked for.
MOST_MICRO_BATCH = 256
# Gradients travel between cards over PCIe, there and back.
PCIE_BYTES_PER_SECOND = 6e9


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One way to use a machine: `runs` at once in one session, each on `cards` cards."""

    name: str
    runs: int
    cards: int
    micro_batch: int
    accumulation: int
    hours: HoursEstimate
    memory: MemoryEstimate

    @property
    def hours_per_run(self) -> float:
        """Hours of the machine that one run costs."""
        return self.hours.expected / self.runs


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything that `plan` prints; None where a run does not fit."""

    gpu: str
    model: str
    num_parameters: int
    num_frozen: int
    length: int
    load: str
    fits: bool
    reasons: tuple[str, ...]
    suggestion: str
    chosen: Choice
    alternatives: tuple[Choice, ...]
    largest_micro_batch: int
    sessions: tuple[PlannedSession, ...]
    schedule: tuple[PlannedSession, ...]
    runs_possible: int
    runs_recommended: int
    usd: float | None
    launch: tuple[str, ...]
    kernel: dict[str, object]
    state: QuotaState | None
    notes: tuple[str, ...]
    prediction: dict[str, float]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a plan is asked for. `state` None: the machine is under no quota. `data`: for the launch line alone."""

    gpu: str
    model: str
    config: Config
    load: TrainingLoad
    rules: QuotaRules
    state: QuotaState | None
    measurements: tuple[Measurement, ...] = ()
    machine: str | None = None
    overrides: tuple[str, ...] = ()
    data: str = "DIR"
    predict_length: int = 0


def trace_lengths(longest: int) -> tuple[int, ...]:
    """Lengths that are traced for a run: the longest for memory, a quarter of it for how time grows."""
    quarter = max(padded_length(longest // 4), 16)
    return (longest,) if quarter >= longest else (quarter, longest)


def needed_traces(config: Config, longest: int, predict_length: int = 0) -> list[TraceKey]:
    """The traces of a plan, to be requested before anything else is done."""
    keys = [trace_key(config, length) for length in trace_lengths(longest)]
    if predict_length:
        keys.append(trace_key(config, padded_length(predict_length), "predict"))
    return keys


def build_plan(request: Request, store: TraceStore) -> Plan:
    """Plans a run: memory, hours, sessions, runs of the week, launch line."""
    config, load = request.config, request.load
    store.request(needed_traces(config, load.longest, request.predict_length))
    trace = store.get(trace_key(config, load.longest))
    model = HoursModel(
        config,
        {length: store.get(trace_key(config, length)) for length in trace_lengths(load.longest)},
        request.measurements,
        request.machine,
    )
    choices = [_choose(name, request, model, runs, cards) for name, runs, cards in _ways(config)]
    fitting = [c for c in choices if c.memory.fits]
    chosen = _favoured(fitting or choices, request.state)
    largest = largest_micro_batch(trace, _one_card(config, chosen.cards).hardware, config.train, MOST_MICRO_BATCH)
    reasons, suggestion = [], ""
    if not chosen.memory.fits:
        reasons.append(
            f"a micro batch of {chosen.micro_batch} x {load.longest} residues needs "
            f"{chosen.memory.peak_gib:.2f} GiB, {chosen.memory.limit_gib:.2f} GiB of a card may be used"
        )
        suggestion = suggest_change(request, store, largest)
    overhead = chosen.hours.hours_to_first_checkpoint
    sessions = tuple(cut_sessions(chosen.hours.expected, overhead, request.rules, float(config.train.epochs)))
    reasons += _quota_reasons(request, chosen)
    if len(reasons) > (not chosen.memory.fits) and not suggestion:
        suggestion = "wait for the weekly reset, or take fewer epochs: --set train.epochs=N"
    possible, advised = (0, 0)
    if request.state is not None and chosen.memory.fits:
        total = sum(s.hours for s in sessions) / chosen.runs
        possible, advised = count_runs(request.state, total, request.rules)
    prediction = {}
    if request.predict_length:
        key = trace_key(config, padded_length(request.predict_length), "predict")
        estimate = estimate_memory(store.get(key), _one_card(config, 1).hardware, config.train, 1, 1)
        prediction = {"length": request.predict_length, "peak_gib": estimate.peak_gib, "limit_gib": estimate.limit_gib}
    price = config.hardware.price.usd_per_hour
    batches = max(1, math.ceil(advised / chosen.runs))
    return Plan(
        gpu=request.gpu,
        model=config.model.name,
        num_parameters=trace.num_parameters,
        num_frozen=trace.num_frozen,
        length=load.longest,
        load=load.source,
        fits=not reasons,
        reasons=tuple(reasons),
        suggestion=suggestion,
        chosen=chosen,
        alternatives=tuple(c for c in choices if c is not chosen),
        largest_micro_batch=largest,
        sessions=sessions,
        schedule=tuple(schedule_runs(sessions, batches, request.rules)) if advised else (),
        runs_possible=possible,
        runs_recommended=advised,
        usd=None if price is None else price * chosen.hours_per_run,
        launch=launch_lines(request, chosen, len(sessions)),
        kernel=kernel_settings(config),
        state=request.state,
        notes=tuple(_notes(request, chosen)),
        prediction=prediction,
    )


def _favoured(choices: Sequence[Choice], state: QuotaState | None) -> Choice:
    """The way with the fewest hours a run, among those that the hours left can pay; else the shortest."""
    payable = [c for c in choices if state is None or c.hours.expected <= state.left]
    if payable:
        return min(payable, key=lambda c: c.hours_per_run)
    return min(choices, key=lambda c: c.hours.expected)


def _ways(config: Config) -> list[tuple[str, int, int]]:
    cards = config.hardware.num_gpus
    if cards == 1:
        return [("one run", 1, 1)]
    return [(f"one run on {cards} cards", 1, cards), (f"{cards} runs at once, one on each card", cards, 1)]


def _one_card(config: Config, cards: int) -> Config:
    """The configuration on so many of the machine's cards, at the same effective batch."""
    hardware = dataclasses.replace(config.hardware, num_gpus=cards)
    if cards == config.hardware.num_gpus:
        return config
    return dataclasses.replace(config, hardware=hardware, train=dataclasses.replace(config.train, accumulation="auto"))


def _choose(name: str, request: Request, model: HoursModel, runs: int, cards: int) -> Choice:
    config = _one_card(request.config, cards)
    trace = model.traces[request.load.longest]
    micro = config.train.micro_batch
    accumulation = count_accumulation(config.train, cards)
    memory = estimate_step_memory(trace, config, request.load.longest, micro, accumulation)
    if not memory.fits and config.train.accumulation == "auto":
        largest = largest_micro_batch(trace, config.hardware, config.train, micro)
        smaller = choose_micro_batch(largest, config.train.effective_batch, cards)
        if smaller:
            micro, accumulation = smaller, count_accumulation(config.train, cards, smaller)
            memory = estimate_step_memory(trace, config, request.load.longest, micro, accumulation)
    work = deal_epochs(request.load, config, micro, micro * accumulation * cards, cards)
    hours = estimate_hours(model, request.load, work, num_ranks=cards)
    if cards > 1:
        hours = _with_reduction(hours, 8.0 * trace.num_parameters / PCIE_BYTES_PER_SECOND * work.steps, config)
    if runs > 1:
        hours = _with_crowd(hours, runs)
    return Choice(
        name=name,
        runs=runs,
        cards=cards,
        micro_batch=micro,
        accumulation=accumulation,
        hours=hours,
        memory=memory,
    )


def estimate_step_memory(
    trace: Trace, config: Config, longest: int, micro_batch: int, accumulation: int
) -> MemoryEstimate:
    """Memory of a step whose passes hold as many of the longest examples as the training lets them."""
    examples = pass_rule(config, longest, micro_batch).most_examples(padded_length(longest))
    passes = accumulation if examples >= micro_batch else 2
    return estimate_memory(trace, config.hardware, config.train, min(examples, micro_batch), passes)


def _with_reduction(hours: HoursEstimate, seconds_per_epoch: float, config: Config) -> HoursEstimate:
    more = seconds_per_epoch * config.train.epochs / 3600.0
    parts = {**hours.parts, "training": hours.parts["training"] + more}
    return dataclasses.replace(
        hours,
        parts=parts,
        expected=hours.expected + more,
        low=hours.low + more,
        high=hours.high + 2 * more,
        seconds_per_epoch=hours.seconds_per_epoch + seconds_per_epoch,
    )


def _with_crowd(hours: HoursEstimate, runs: int) -> HoursEstimate:
    """Several runs share the CPU cores for what they do there: preparation and loading take as many times longer."""
    more = (runs - 1) * (hours.parts["preparation"] + hours.parts["loading"])
    factors = {"preparation": runs, "loading": runs}
    return dataclasses.replace(
        hours,
        parts={k: v * factors.get(k, 1) for k, v in hours.parts.items()},
        expected=hours.expected + more,
        low=hours.low + 0.5 * more,
        high=hours.high + 1.5 * more,
    )


def _quota_reasons(request: Request, chosen: Choice) -> list[str]:
    if request.state is None:
        return []
    left, needed = request.state.left, first_checkpoint_hours(chosen.hours, request.config)
    if left < needed:
        return [
            f"{left:.1f} h are left this week and the first checkpoint comes after {needed:.1f} h "
            f"(reset {request.state.resets_at:%a %d %b %H:%M} UTC)"
        ]
    return []


def first_checkpoint_hours(hours: HoursEstimate, config: Config) -> float:
    """Hours until something is saved: start-up, preparation, and the earlier of the two checkpoint rules."""
    by_epochs = hours.seconds_per_epoch * config.train.checkpoint_every_epochs
    wait = min(by_epochs, config.train.checkpoint_every_minutes * 60.0)
    return hours.hours_to_first_checkpoint + min(wait / 3600.0, hours.parts["training"])


def suggest_change(request: Request, store: TraceStore, largest: int) -> str:
    """The nearest change that fits: micro batch, accumulation, checkpointing, length, model."""
    config, cards = request.config, request.config.hardware.num_gpus
    run = config.train
    smaller = choose_micro_batch(largest, run.effective_batch, cards)
    if smaller:
        accumulation = count_accumulation(run, cards, smaller)
        return f"--set train.micro_batch={smaller} train.accumulation={accumulation}"
    for recomputed in _more_checkpointing(run.gradient_checkpointing, config.model.kind):
        changed = dataclasses.replace(config, train=dataclasses.replace(run, gradient_checkpointing=recomputed))
        size = _largest(changed, store, request.load.longest)
        if size and (micro := choose_micro_batch(size, run.effective_batch, cards)):
            value = str(recomputed).lower()
            return (
                f"--set train.gradient_checkpointing={value} train.micro_batch={micro} "
                f"train.accumulation={count_accumulation(run, cards, micro)}"
            )
    length = request.load.longest
    while (length := padded_length(length * 3 // 4 - 4)) >= 32:
        if _largest(config, store, length):
            return f"--set data.crop_length={length} train.micro_batch=1 train.accumulation=auto"
    for name in ("base", "plain", "minimal"):
        try:
            other = resolve_config(request.gpu, name, request.overrides)
        except ConfigError:
            continue
        if other.model.name != config.model.name and _largest(other, store, request.load.longest):
            return f"--model {name}"
    return "a card with more memory"


def _more_checkpointing(now: Checkpointing, kind: str) -> list[Checkpointing]:
    """What recomputes more than now, the cheapest first."""
    steps: list[Checkpointing] = [False, "pairs", True] if kind == "pair" else [False, True]
    return steps[steps.index(now) + 1 :]


def _largest(config: Config, store: TraceStore, length: int) -> int:
    return largest_micro_batch(store.get(trace_key(config, length)), config.hardware, config.train, MOST_MICRO_BATCH)


def launch_lines(request: Request, chosen: Choice, num_sessions: int) -> tuple[str, ...]:
    """Shell lines that start the run (each later session: the same with its data, --resume goes on)."""
    config = request.config
    hours = request.rules.planned_session_hours - 0.1
    limit = f" --max-hours {hours:g}" if request.state is not None else ""
    again = " --resume" if num_sessions > 1 or request.state is not None else ""
    settings = list(request.overrides)
    if (chosen.micro_batch, chosen.cards) != (config.train.micro_batch, config.hardware.num_gpus):
        settings += [f"train.micro_batch={chosen.micro_batch}", f"train.accumulation={chosen.accumulation}"]
    gpu = request.gpu
    if chosen.runs > 1:
        gpus = load_gpus()
        gpu = find_single_card(gpus[gpu].hardware if gpu in gpus else config.hardware, gpus) or gpu
    change = f" --set {' '.join(settings)}" if settings else ""
    tail = f"train.py --gpu {gpu} --model {request.model} --data {request.data}{change}{limit}{again}"
    device = config.hardware.device_type
    flags = "--cpu " if device == "cpu" else "--multi_gpu " if chosen.cards > 1 else ""
    head = (
        f"accelerate launch {flags}--num_processes {chosen.cards} --num_machines 1 "
        f"--mixed_precision {'no' if config.train.precision == 'fp32' else config.train.precision} --dynamo_backend no"
    )
    if chosen.runs == 1:
        return (f"{head} {tail}",)
    lines = [
        f"CUDA_VISIBLE_DEVICES={k} {head} --main_process_port {29500 + k} {tail} --seed {k} "
        f"--out runs/{request.model}-seed{k} &"
        for k in range(chosen.runs)
    ]
    return (*lines, "wait")


def kernel_settings(config: Config) -> dict[str, object]:
    """Fields of kernel-metadata.json that ask Kaggle for the machine; empty where Kaggle does not offer it."""
    shape = config.hardware.kaggle.machine_shape
    if shape is None:
        return {}
    return {"enable_gpu": True, "machine_shape": shape, "enable_internet": False, "kernel_type": "notebook"}


def _notes(request: Request, chosen: Choice) -> Sequence[str]:
    config = request.config
    notes = [f"step times: {chosen.hours.source}"]
    if not chosen.hours.is_calibrated:
        notes.append("run `plan --calibrate` on the machine, or train once: measured steps replace the roofline")
    if config.train.compile:
        notes.append("torch.compile changes memory and time: not modelled")
    hardware, precision = config.hardware, config.train.precision
    if hardware.device_type == "cuda" and precision != "fp32" and not hardware.peak_tflops.tensor_cores:
        notes.append(f"no tensor cores: {precision} saves memory and traffic here more than arithmetic")
    if config.hardware.device_type == "cuda" and config.hardware.kaggle.machine_shape is None:
        notes.append(f"Kaggle: {config.hardware.kaggle.status}")
    if config.hardware.torch_wheel.last_release != "current":
        wheel = config.hardware.torch_wheel
        notes.append(f"the last torch with kernels for this card is {wheel.last_release} ({wheel.cuda})")
    return notes
