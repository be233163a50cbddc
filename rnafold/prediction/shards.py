"""One submission from several processes, one a card: the targets are dealt out, the parts merged as they come.

Each process is a stock `predict` on a test and a sample file of its own targets, and writes its part atomically. The
parent owns the file that counts: valid from the first second, and taken over part by part. A process that dies takes
nothing with it: its targets are halved and tried again, down to the one that cannot be done, which keeps its fallback.
"""

import csv
import io
import logging
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from rnafold.data.competition import read_targets
from rnafold.errors import ExitCode, InputError
from rnafold.files.atomic import write_text
from rnafold.prediction.deadline import build_fallback, match_targets, measure_effort
from rnafold.structure import Target
from rnafold.submission import (
    PredictionRecord,
    Sample,
    find_records,
    read_sample,
    records_path,
    write_records,
    write_submission,
)
from rnafold.submission.provenance import describe_fallback
from rnafold.submission.rows import parse_coordinates

log = logging.getLogger(__name__)
# A part that changed is merged this often, and processes are looked at that often.
MERGE_EVERY_SECONDS, POLL_SECONDS = 30.0, 0.2
# Kept for the parent's last merge: a share of the deadline, and the least of it.
RESERVE_SHARE, RESERVE_SECONDS = 0.01, 2.0
# Below this a process would not even have loaded torch.
LEAST_SECONDS = 5.0
# Loading torch and the weights is not part of a process's own deadline: so much is held back, or this share of it.
STARTUP_SECONDS, STARTUP_SHARE = 15.0, 0.3
# What `predict` exits with where it wrote a file: all done, or some targets on their fallback.
DONE_CODES = (ExitCode.DONE, ExitCode.LOSSES)
PREDICT = (sys.executable, "-m", "rnafold", "predict")


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """Where a process runs: its card ("" for the CPU), the value of --gpu it gets, and its number among the workers."""

    card: str
    gpu: str
    index: int = 0

    def environment(self, workers: int) -> dict[str, str]:
        """The parent's environment with one visible card and a fair share of the processors."""
        threads = max(1, (os.cpu_count() or 1) // max(workers, 1))
        return {**os.environ, "CUDA_VISIBLE_DEVICES": self.card, "OMP_NUM_THREADS": str(threads)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Targets for one process, the second of the parent's clock at which its part must be there, and earlier tries."""

    targets: tuple[Target, ...]
    deadline: float | None
    tries: int = 0


@dataclass(slots=True)
class Running:
    """A process at work; `merged` tells which file of its part was merged last, `merged_at` when by the clock."""

    job: Job
    worker: Worker
    process: "subprocess.Popen[bytes]"
    out: Path
    merged: tuple[int, int] | None = None
    merged_at: float = -math.inf


@dataclass(slots=True)
class ShardOutcome:
    """Targets that are better than their fallback, those that kept it, how many processes died, and the seconds."""

    improved: tuple[str, ...] = ()
    fallback: tuple[str, ...] = ()
    deaths: int = 0
    seconds: float = 0.0


def deal_targets(targets: Sequence[Target], count: int) -> list[tuple[Target, ...]]:
    """At most `count` groups of about the same effort: the longest first, each to the group with the least so far."""
    groups: list[list[Target]] = [[] for _ in range(min(count, len(targets)))]
    efforts = [0.0] * len(groups)
    for target in sorted(targets, key=lambda t: (-t.length, t.target_id)):
        least = efforts.index(min(efforts))
        groups[least].append(target)
        efforts[least] += measure_effort([target])
    return [tuple(group) for group in groups]


class Merger:
    """The submission as rows of text by ID: first fallbacks, then whatever complete parts there are; and its record."""

    def __init__(self, out: Path, sample: Sample, targets: Sequence[Target]) -> None:
        """Writes the file of fallback structures at once."""
        write_submission(out, sample, {t.target_id: build_fallback(t) for t in targets})
        self.out, self.sample = out, sample
        self.header, rows = _read_csv(out)
        self.fallback = {row[0]: row for row in rows}
        self.rows = dict(self.fallback)
        self.records: dict[str, tuple[PredictionRecord, ...]] = {}

    def take(self, part: Path, targets: Sequence[Target]) -> bool:
        """Takes over the targets of a part that are better than their fallback; False if the part is not complete."""
        try:
            header, rows = _read_csv(part)
        except (OSError, csv.Error, UnicodeDecodeError, StopIteration):
            return False
        by_id = {row[0]: row for row in rows}
        expected = {self.sample.ids[i] for t in targets for i in self.sample.groups[t.target_id]}
        whole = header == self.header and all(len(row) == len(header) for row in rows)
        same = set(by_id) == expected and len(rows) == len(expected)
        if not whole or not same or not np.isfinite(parse_coordinates(header, rows)).all():
            log.warning("%s: not a complete part, left alone", part)
            return False
        records = find_records(part)[0] or {}
        for target in targets:
            ids = [self.sample.ids[i] for i in self.sample.groups[target.target_id]]
            # a process begins with fallbacks too: they must not replace what an earlier one found
            if any(by_id[i] != self.fallback[i] for i in ids):
                self.rows.update((i, by_id[i]) for i in ids)
                # a record that is not of this very part says nothing of these rows
                self.records.pop(target.target_id, None)
                if target.target_id in records:
                    self.records[target.target_id] = records[target.target_id]
        return True

    def is_improved(self, target_id: str) -> bool:
        """Whether any row of a target differs from its fallback."""
        ids = (self.sample.ids[i] for i in self.sample.groups[target_id])
        return any(self.rows[i] is not self.fallback[i] for i in ids)

    def write(self) -> None:
        """Writes the merged file in the sample's order, atomically, then what is known of where its rows come from."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(self.header)
        writer.writerows(self.rows[i] for i in self.sample.ids)
        write_text(self.out, text.getvalue())
        self._write_records()

    def _write_records(self) -> None:
        """The record of where the rows come from; none where a part came without one."""
        unknown = [name for name in self.sample.groups if self.is_improved(name) and name not in self.records]
        if unknown:
            records_path(self.out).unlink(missing_ok=True)
            return
        try:
            known = {name: self.records.get(name) or describe_fallback(name) for name in self.sample.groups}
            write_records(self.out, known)
        except (InputError, OSError) as error:
            log.warning("no record of expected scores beside the submission: %s", error)


def _read_csv(path: Path) -> tuple[list[str], list[list[str]]]:
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.reader(file, strict=True)
        header = next(reader)
        return header, [row for row in reader if row]


def split_rows(path: Path, targets: Sequence[Target], out: Path, of_row: Callable[[str], str]) -> None:
    """Copies the rows of `path` that belong to the targets; `of_row` gives the target_id of a row's first cell."""
    wanted = {target.target_id for target in targets}
    header, rows = _read_csv(path)
    with out.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(row for row in rows if of_row(row[0]) in wanted)


def _identify(path: Path) -> tuple[int, int] | None:
    """Inode and time of change of a file, None where there is none."""
    status = path.stat() if path.is_file() else None
    return None if status is None else (status.st_ino, status.st_mtime_ns)


class ShardedPrediction:
    """Runs `predict` processes, one a worker, until all targets are done or the deadline is near."""

    def __init__(
        self,
        test: Path,
        sample: Path,
        out: Path,
        folder: Path,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Reads the inputs and writes a valid file of fallback structures.

        Args:
            test: test_sequences.csv.
            sample: sample_submission.csv.
            out: the submission.
            folder: for the parts and logs of the processes.
            clock: seconds.

        Raises:
            InputError: the files are malformed or do not match.
        """
        self.test, self.sample_path, self.folder, self.clock = test, sample, folder, clock
        self.began = clock()
        self.sample = read_sample(sample)
        self.targets = match_targets(read_targets(test), self.sample, test, sample)
        if not self.targets:
            raise InputError(f"{test}: no test rows; an empty submission would score nothing")
        self.merger = Merger(out, self.sample, self.targets)
        self.started, self.deaths, self.reason = 0, 0, ""
        self.options: tuple[str, ...] = ()
        folder.mkdir(parents=True, exist_ok=True)

    def run(
        self, workers: Sequence[Worker], deadline_seconds: float | None, options: Sequence[str] = ()
    ) -> ShardOutcome:
        """Predicts with one process a worker; the file is complete and valid at any moment.

        Args:
            workers: where processes run.
            deadline_seconds: from the construction of this object; None means no limit.
            options: further arguments of `predict`.

        Raises:
            InputError: every process refused its input, such as an option that `predict` does not know.
        """
        self.options, self.started, self.deaths, self.reason = tuple(options), 0, 0, ""
        end = None
        if deadline_seconds is not None:
            end = self.began + deadline_seconds - max(RESERVE_SECONDS, RESERVE_SHARE * deadline_seconds)
        waiting = [Job(targets=group, deadline=end) for group in deal_targets(self.targets, len(workers))]
        idle = list(workers)
        running: list[Running] = []
        try:
            while waiting or running:
                while waiting and idle:
                    job = waiting.pop(0)
                    if job.deadline is not None and job.deadline - self.clock() < LEAST_SECONDS:
                        log.warning("out of time: %d targets keep their fallback", len(job.targets))
                        continue
                    running.append(self._start(job, idle.pop(0), len(workers)))
                time.sleep(POLL_SECONDS)
                for item in list(running):
                    if self._watch(item):
                        running.remove(item)
                        idle.append(item.worker)
                        waiting += self._finish(item)
        finally:
            for item in running:
                stop_process(item.process)
        if self.deaths and self.deaths == self.started and self.reason:
            raise InputError(f"every process failed; the first said: {self.reason}")
        improved = [t.target_id for t in self.targets if self.merger.is_improved(t.target_id)]
        return ShardOutcome(
            improved=tuple(improved),
            fallback=tuple(t.target_id for t in self.targets if t.target_id not in set(improved)),
            deaths=self.deaths,
            seconds=self.clock() - self.began,
        )

    def _start(self, job: Job, worker: Worker, workers: int) -> Running:
        self.started += 1
        folder = self.folder / f"part_{self.started:03d}"
        folder.mkdir(parents=True, exist_ok=True)
        test, sample, out = folder / self.test.name, folder / self.sample_path.name, folder / "part.csv"
        out.unlink(missing_ok=True)
        split_rows(self.test, job.targets, test, lambda cell: cell.strip())
        split_rows(self.sample_path, job.targets, sample, lambda cell: cell.rpartition("_")[0])
        # a cache of its own: two processes that build the same template library would get in each other's way
        command = [*PREDICT, "--gpu", worker.gpu, "--cache", str(self.folder / f"cache_{worker.index}"), *self.options]
        command += ["--test", str(test), "--sample", str(sample), "--out", str(out)]
        if job.deadline is not None:
            left = job.deadline - self.clock()
            left -= min(STARTUP_SECONDS, STARTUP_SHARE * left)
            command += ["--deadline-minutes", f"{left / 60.0:.4f}"]
        where = f"card {worker.card}" if worker.card else "the CPU"
        log.info("process %d on %s: %d targets; log in %s", self.started, where, len(job.targets), folder / "log.txt")
        with (folder / "log.txt").open("wb") as file:
            process = subprocess.Popen(
                command, stdout=file, stderr=subprocess.STDOUT, env=worker.environment(workers), start_new_session=True
            )
        return Running(job=job, worker=worker, process=process, out=out)

    def _watch(self, item: Running) -> bool:
        """Whether the process is over; merges its part now and then, and stops it if it overruns its deadline."""
        over = item.process.poll() is not None
        if not over and item.job.deadline is not None and self.clock() > item.job.deadline:
            log.warning("a process overran its deadline and is stopped; what it wrote is kept")
            stop_process(item.process)
            over = True
        part = _identify(item.out)
        # another file, not a later one: the clock of the files may be set back
        if part not in (None, item.merged) and (over or self.clock() - item.merged_at > MERGE_EVERY_SECONDS):
            item.merged, item.merged_at = part, self.clock()
            if self.merger.take(item.out, item.job.targets):
                self.merger.write()
        return over

    def _finish(self, item: Running) -> list[Job]:
        """What is to be done again after a process is over: nothing, or the halves of a group whose process died."""
        code = item.process.returncode
        targets, deadline = item.job.targets, item.job.deadline
        late = deadline is not None and self.clock() > deadline - LEAST_SECONDS
        if code in DONE_CODES or late:
            return []
        self.deaths += 1
        if code == ExitCode.INPUT:
            # smaller groups would say the same
            self.reason = self.reason or read_last_line(item.out.with_name("log.txt"))
            return [] if item.job.tries else [replace(item.job, tries=1)]
        log.warning("a process died (exit code %d) on %d targets; see %s", code, len(targets), item.out.parent)
        if len(targets) == 1:
            return []
        ordered = tuple(sorted(targets, key=lambda t: (t.length, t.target_id)))
        middle = (len(ordered) + 1) // 2
        short, long = Job(targets=ordered[:middle], deadline=None), Job(targets=ordered[middle:], deadline=None)
        if deadline is None:
            return [short, long]
        share = measure_effort(short.targets) / measure_effort(ordered)
        now = self.clock()
        return [replace(short, deadline=now + share * (deadline - now)), replace(long, deadline=deadline)]


def read_last_line(path: Path) -> str:
    """The last line of a log, empty where it has none."""
    lines = path.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else ""


def stop_process(process: "subprocess.Popen[bytes]", grace_seconds: float = 5.0) -> None:
    """Ends a process that leads its own session, and its children: politely, then for good."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is not None:
            return
        try:
            os.killpg(process.pid, number)
            process.wait(timeout=grace_seconds)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue
