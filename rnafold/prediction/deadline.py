"""From test sequences to a valid submission.csv before a deadline, whatever happens to a single target.

A valid file of fallback structures is written first; then targets from short to long get candidates from every source
there is, each within its share of the time left, and the file is replaced atomically as they improve.
"""

import logging
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from rnafold.assembly import assemble
from rnafold.data.competition import read_targets
from rnafold.errors import InputError, OutOfTime
from rnafold.prediction.team import Alone, Team
from rnafold.structure import Candidate, Target
from rnafold.submission import Sample, read_sample, write_submission
from rnafold.submission.provenance import PredictionRecord, describe_candidates, describe_fallback, write_records
from rnafold.submission.rows import NUM_CONFORMATIONS

log = logging.getLogger(__name__)
FloatArray = npt.NDArray[np.float64]
# The file is rewritten after a target if the last writing is older than this.
WRITE_EVERY_SECONDS = 20.0
# What a target costs besides its length, in residues: short ones need their searches too.
EFFORT_OF_ANY_TARGET = 100
# How often the main process of several looks for the others' results when it has nothing left to do.
POLL_SECONDS = 0.2
# Share of the deadline kept for the last writing, and the least of it.
RESERVE_SHARE, RESERVE_SECONDS = 0.03, 3.0


@dataclass(slots=True)
class Outcome:
    """What happened: records of the predictions, targets that fell back with the reason, and the seconds used."""

    records: dict[str, tuple[PredictionRecord, ...]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def origins(self) -> dict[str, tuple[str, ...]]:
        """Where the five predictions of each solved target come from."""
        return {target_id: tuple(record.origin for record in rows) for target_id, rows in self.records.items()}


def match_targets(targets: Sequence[Target], sample: Sample, test_path: Path, sample_path: Path) -> list[Target]:
    """The targets of the sample, each with the sample's number of rows.

    Raises:
        InputError: a target of the sample is not in the test file, or its length differs.
    """
    known = {t.target_id: t for t in targets}
    missing = [name for name in sample.groups if name not in known]
    if missing:
        raise InputError(f"{sample_path}: {len(missing)} targets are not in {test_path}: {', '.join(missing[:3])}")
    for name, rows in sample.groups.items():
        if len(rows) != known[name].length:
            raise InputError(
                f"{sample_path}: {name} has {len(rows)} rows, but {known[name].length} residues in {test_path}"
            )
    return [known[name] for name in sample.groups]


def build_fallback(target: Target) -> FloatArray:
    """(5, L, 3): one A-form strand for each chain, side by side; what a target keeps if nothing better is found."""
    coords = assemble(target.sequence, np.full(target.length, -1, dtype=np.int64), target.chains)
    return np.repeat(coords[None], NUM_CONFORMATIONS, axis=0)


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raises OutOfTime in the body after `seconds` (on platforms and threads that have alarms)."""

    def ring(_number: int, _frame: FrameType | None) -> None:
        raise OutOfTime(f"{seconds:.0f} s are used up")

    try:
        previous = signal.signal(signal.SIGALRM, ring)
    except (AttributeError, ValueError):
        yield
        return
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.01))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, previous)


Solver = Callable[[Target, float], Sequence[Candidate]]


def put_in_order(targets: Iterable[Target]) -> list[Target]:
    """The order in which targets are solved: from short to long."""
    return sorted(targets, key=lambda target: (target.length, target.target_id))


def list_following(targets: Iterable[Target], count: int = 2) -> dict[str, Sequence[Target]]:
    """The next `count` targets after each, by its target_id, in the order in which they are solved."""
    order = put_in_order(targets)
    return {target.target_id: order[k + 1 : k + 1 + count] for k, target in enumerate(order)}


def run_targets(
    targets: Sequence[Target],
    sample: Sample,
    out: Path,
    solve: Solver,
    *,
    deadline_seconds: float | None,
    clock: Callable[[], float] = time.monotonic,
    team: Team | None = None,
) -> Outcome:
    """Solves targets from short to long until the deadline; `out` is a valid file from the first second on.

    Beside it lies the record of where each prediction comes from (rnafold.submission.provenance).

    Args:
        targets: as in the sample.
        sample: rows and order of the file.
        out: the submission.
        solve: (target, seconds) -> the five candidates to submit; may raise anything.
        deadline_seconds: from now; None means no limit.
        clock: seconds.
        team: the processes that share the targets; its main one writes `out`. None: this one alone.
    """
    began = clock()
    team = team or Alone()
    outcome = Outcome()
    predictions = {t.target_id: build_fallback(t) for t in targets}
    _write(out, sample, predictions, outcome, team)
    written = clock()
    log.info("%s: a valid file of fallback structures is written; now improving %d targets", out, len(targets))
    usable = None
    if deadline_seconds is not None:
        writing = written - began
        usable = deadline_seconds - max(RESERVE_SECONDS, RESERVE_SHARE * deadline_seconds, 2 * writing)
    order = put_in_order(targets)
    dirty = False
    for position, target in enumerate(tqdm(order, unit="target", disable=None)):
        # all processes' time for all that is left: a target that another has claimed takes its share as well
        budget = _share(order[position:], None if usable is None else team.count * (usable - (clock() - began)))
        if budget is not None and budget < 0.05:
            outcome.skipped.append(target.target_id)
            continue
        if not team.claim(target.target_id):
            continue
        try:
            # the limit is hard: twice the share, but never beyond what is left
            left = None if usable is None else usable - (clock() - began)
            with time_limit(1e7 if budget is None or left is None else min(2.0 * budget + 1.0, left)):
                picked = solve(target, 1e7 if budget is None else budget)
            coords = np.stack([candidate.coords for candidate in picked])
            _require_valid(coords, target)
            predictions[target.target_id] = coords
            dirty = True
            outcome.records[target.target_id] = describe_candidates(target.target_id, picked)
            team.put(target.target_id, coords, outcome.records[target.target_id])
        except Exception as error:
            outcome.failed[target.target_id] = f"{type(error).__name__}: {error}"
            log.warning("%s: falls back to a plain strand", target.target_id, exc_info=True)
        if clock() - written > WRITE_EVERY_SECONDS:
            dirty = _take_over(team, targets, predictions, outcome) or dirty
        if dirty and clock() - written > WRITE_EVERY_SECONDS:
            try:
                _write(out, sample, predictions, outcome, team)
                dirty = False
            except (InputError, OSError) as error:  # a disk may have room again before the last writing
                log.warning("the submission stays as it was for now: %s", error)
            written = clock()
    while team.is_main and team.is_waiting() and (usable is None or clock() - began < usable):
        time.sleep(POLL_SECONDS)
    if _take_over(team, targets, predictions, outcome) or dirty:
        _write(out, sample, predictions, outcome, team)
    outcome.seconds = clock() - began
    return outcome


def _take_over(team: Team, targets: Sequence[Target], predictions: dict[str, FloatArray], outcome: Outcome) -> bool:
    """In the main process: what the others have done since; whether there was anything."""
    known = {target.target_id: target for target in targets}
    fresh = False
    for target_id, coords, records in team.collect() if team.is_main else ():
        if target_id in known:
            _require_valid(coords, known[target_id])
            predictions[target_id], outcome.records[target_id], fresh = coords, records, True
            if target_id in outcome.skipped:
                outcome.skipped.remove(target_id)
    return fresh


def _write(out: Path, sample: Sample, predictions: Mapping[str, FloatArray], outcome: Outcome, team: Team) -> None:
    """The submission, then its record; a record that cannot be written costs a line in the log, never the file."""
    if not team.is_main:
        return
    write_submission(out, sample, predictions)
    records = {name: outcome.records.get(name) or describe_fallback(name) for name in sample.groups}
    try:
        write_records(out, records)
    except (InputError, OSError) as error:
        log.warning("no record of expected scores beside the submission: %s", error)


def _share(waiting: Sequence[Target], left: float | None) -> float | None:
    """Seconds for the first of the waiting targets: its part of the time left, by length and a constant."""
    if left is None:
        return None
    return max(left, 0.0) * measure_effort(waiting[:1]) / measure_effort(waiting)


def measure_effort(targets: Iterable[Target]) -> float:
    """Expected work on targets, by which time and targets are dealt out: their residues, and a constant for each."""
    return float(sum(target.length + EFFORT_OF_ANY_TARGET for target in targets))


def _require_valid(coords: FloatArray, target: Target) -> None:
    if coords.shape != (NUM_CONFORMATIONS, target.length, 3) or not np.isfinite(coords).all():
        raise ValueError(f"predictions of shape {coords.shape}, finite: {bool(np.isfinite(coords).all())}")


def predict(
    test: Path,
    sample_path: Path,
    out: Path,
    build_solver: Callable[[Sequence[Target]], Solver],
    deadline_seconds: float | None,
    began: float,
    team: Team | None = None,
) -> tuple[Outcome, Mapping[str, int]]:
    """Reads targets and sample, solves them and writes `out`; returns what happened and counts of origins.

    `build_solver` is called with the targets after the first valid file is written, and its time counts. `began` is the
    time.monotonic() from which the deadline runs: the start of the command, so that loading libraries counts too.

    Raises:
        InputError: the test or sample file is malformed or they do not match; what `build_solver` refuses.
    """
    sample = read_sample(sample_path)
    targets = match_targets(read_targets(test), sample, test, sample_path)
    team = team or Alone()
    if team.is_main:
        write_submission(out, sample, {t.target_id: build_fallback(t) for t in targets})
    solve = build_solver(targets)
    left = None if deadline_seconds is None else deadline_seconds - (time.monotonic() - began)
    outcome = run_targets(targets, sample, out, solve, deadline_seconds=left, team=team)
    counts: dict[str, int] = {}
    for origins in outcome.origins.values():
        for origin in origins:
            counts[origin] = counts.get(origin, 0) + 1
    return outcome, counts
