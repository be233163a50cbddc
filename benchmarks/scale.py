"""The competition's real size, measured here: `python benchmarks/scale.py --work DIR [--data DIR] [STEP ..]`.

Steps: plan, clusters, leaks, reader, library, search, starts, train, ranks, kernel, predict; all if none is named.
`--data` is a folder with part-2-sized train_sequences.csv and train_labels.csv; without it a set of that size is made
in DIR: lengths of the published quartiles (43, 94, 2,584), families of near copies, one chain of 125,580 residues, all
of them ideal folds. Structures come from a generator of ribosome-like mmCIF files; `--targets` has the test sequences
and sample to predict, by default the youngest chains of the set. Every command is printed with its wall time, processor
time and peak memory (resident pages of its tree of processes, shared ones counted once); growth is from a quarter of
the set to all of it. `--quick` goes through every step with a small set in some four minutes; its figures say nothing.
"""

import argparse
import dataclasses
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from synthetic import LONGEST, write_part, write_set, write_structures, write_targets

from rnafold.config.settings import resolve_config
from rnafold.data.clusters import cluster_sequences, find_relatives
from rnafold.data.competition import read_targets
from rnafold.data.mmcif import read_structure_file
from rnafold.data.selection import choose_entries
from rnafold.features.pairing_cache import PairingCache
from rnafold.files.metrics import read_metrics
from rnafold.submission import check_submission, list_defects, records_path
from rnafold.templates.library import gate_for
from rnafold.templates.reading import load_sources
from rnafold.templates.search import search_chain
from rnafold.training.prepare import open_start_library

STEPS = ("plan", "clusters", "leaks", "reader", "library", "search", "starts", "train", "ranks", "kernel", "predict")
POLL_SECONDS = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much is measured: targets, longest chain, structure files and how many differ, hours and minutes of runs."""

    targets: int = 5716
    longest: int = LONGEST
    files: int = 500
    different: int = 50
    train_hours: float = 0.2
    again_hours: float = 0.05
    kernel_hours: float = 0.25
    deadline_minutes: float = 10.0
    queries: int = 20
    pieces: int = 24


QUICK = Size(
    targets=120,
    longest=400,
    files=8,
    different=4,
    train_hours=0.007,
    again_hours=0.005,
    kernel_hours=0.01,
    deadline_minutes=0.2,
    queries=4,
    pieces=3,
)


@dataclass(slots=True, kw_only=True)
class Bench:
    """Where a run of the benchmark works, what it measures, and what it found."""

    work: Path
    data: Path
    targets: Path
    size: Size
    records: list[dict[str, Any]] = field(default_factory=list)

    def say(self, name: str, value: float, unit: str, **more: Any) -> None:
        """Notes and prints one figure."""
        self.records.append({"name": name, "value": round(value, 4), "unit": unit, **more})
        rest = ", ".join(f"{key.replace('_', ' ')} {found}" for key, found in more.items())
        print(f"{name:<52} {value:10.2f} {unit:<8} {rest}", flush=True)

    def run(
        self,
        name: str,
        arguments: Sequence[str],
        environment: Mapping[str, str] | None = None,
        awaited: Path | None = None,
    ) -> float:
        """Runs a command, notes its figures and when the `awaited` file first held something; returns the seconds."""
        began = time.monotonic()
        with tempfile.TemporaryFile("w+") as said:
            process = subprocess.Popen(
                list(arguments), stdout=subprocess.DEVNULL, stderr=said, env={**os.environ, **(environment or {})}
            )
            stop = threading.Event()
            seen = Seen(process.pid, awaited)
            watcher = threading.Thread(target=seen.watch, args=(stop,), daemon=True)
            watcher.start()
            _, status, usage = os.wait4(process.pid, 0)
            stop.set()
            watcher.join()
            process.returncode = code = os.waitstatus_to_exitcode(status)
            seconds = time.monotonic() - began
            cpu, peak = usage.ru_utime + usage.ru_stime, max(seen.peak_gib, usage.ru_maxrss / 2**20)
            self.say(name, seconds, "s", cpu_seconds=round(cpu, 1), peak_gib=round(peak, 2), exit=code)
            if awaited is not None:
                self.say(f"  first line of {awaited.name} after", seen.moment - began, "s")
            if code not in (0, 3):
                said.seek(0)
                print("\n".join(said.read().strip().splitlines()[-3:]), file=sys.stderr)
        return seconds

    def part(self, share: int) -> Path:
        """The folder of every `share`-th target of the set."""
        folder = self.data if share == 1 else self.work / f"part{share}"
        if not (folder / "train_labels.csv").is_file():
            write_part(self.data, folder, share)
        return folder

    def library(self, share: int) -> Path:
        """The library of a part, made when first asked for."""
        out = self.work / f"library{share}"
        if not out.exists():
            self.run(f"library of 1/{share} of the set", kit("library", "--from", self.part(share), "--out", out))
        return out

    def structures(self) -> Path:
        """The folder of structure files, made when first asked for."""
        folder = self.work / "structures"
        if len(list(folder.glob("*.cif"))) < self.size.files:
            write_structures(folder, self.size.files, self.size.different)
        return folder

    def fresh(self, name: str) -> Path:
        """A folder name of which nothing is there."""
        shutil.rmtree(self.work / name, ignore_errors=True)
        return self.work / name


@dataclass(slots=True)
class Seen:
    """Of a command while it runs: the highest memory of its processes, and when a file first held something."""

    process: int
    awaited: Path | None
    peak_gib: float = 0.0
    moment: float = math.nan

    def watch(self, stop: threading.Event) -> None:
        """Looks until told to stop, and once more then."""
        over = False
        while not over:
            over = stop.wait(POLL_SECONDS)
            self.peak_gib = max(self.peak_gib, sum(map(_proportional_gib, _list_tree(self.process))))
            file = self.awaited
            if file is not None and math.isnan(self.moment) and file.is_file() and file.stat().st_size:
                self.moment = time.monotonic()


def _list_tree(process: int) -> list[int]:
    """A process and its descendants; itself alone where the system does not tell."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            continue
        children.setdefault(parent, []).append(int(path.parent.name))
    found = [process]
    for one in found:
        found += children.get(one, [])
    return found


def _proportional_gib(process: int) -> float:
    """Resident pages of a process in GiB, shared ones by their share; 0 where the system does not tell."""
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 2**20


def kit(*arguments: object) -> list[str]:
    """A command of the kit."""
    return [sys.executable, "-m", "rnafold", *map(str, arguments)]


def measure_plan(bench: Bench) -> None:
    cache = bench.fresh("plan-cache")
    command = kit("plan", "--gpu", "t4x2", "--data", bench.data, "--offline", "--set", f"data.cache={cache}")
    bench.run("plan, cold", command)
    bench.run("plan, cached", command)


def measure_clusters(bench: Bench) -> None:
    sequences = [target.sequence for target in read_targets(bench.data / "train_sequences.csv")]
    taken = []
    for share in (4, 2, 1):
        began = time.process_time()
        found = cluster_sequences(sequences[::share])
        taken.append(time.process_time() - began)
        chains, clusters = len(sequences[::share]), len(set(found))
        bench.say(f"clusters of 1/{share}", taken[-1], "CPU s", chains=chains, clusters=clusters)
    bench.say("clusters, growth from 1/4 to 1", taken[2] / taken[0], "times")


def measure_leaks(bench: Bench) -> None:
    targets = sorted(read_targets(bench.data / "train_sequences.csv"), key=lambda t: str(t.cutoff))
    young, old = targets[-len(targets) // 12 :], targets[: -len(targets) // 12]
    began = time.process_time()
    found = find_relatives([t.sequence for t in young], [t.sequence for t in old])
    taken = time.process_time() - began
    bench.say("leak report", taken, "CPU s", young=len(young), old=len(old), pairs=sum(map(len, found)))


def measure_reader(bench: Bench) -> None:
    everything = sorted(bench.structures().glob("*.cif"))
    paths = everything[: bench.size.different]
    size = sum(path.stat().st_size for path in paths) / 1e6
    began = time.process_time()
    for path in paths:
        read_structure_file(path)
    spent = time.process_time() - began
    bench.say("reading ribosome-like mmCIF, one core", size / spent, "MB/CPU s")
    few = bench.fresh("few")
    few.mkdir()
    for path in everything[: 4 * bench.size.different]:
        shutil.copyfile(path, few / path.name)
    taken = []
    for jobs in (1, 2):
        command = kit("library", "--from", few, "--out", bench.fresh(f"few{jobs}"), "--jobs", jobs)
        taken.append(bench.run(f"library of {len(list(few.iterdir()))} files, {jobs} processes", command))
    bench.say("library, two processes against one", taken[0] / taken[1], "times")


def measure_library(bench: Bench) -> None:
    taken = {}
    for share in (4, 2, 1):
        command = kit("library", "--from", bench.part(share), "--out", bench.fresh(f"library{share}"))
        taken[share] = bench.run(f"library of 1/{share} of the set", command)
    bench.say("library, growth from 1/4 to 1", taken[1] / taken[4], "times")
    out = bench.fresh("library")
    command = kit("library", "--from", bench.data, "--from", bench.structures(), "--out", out)
    bench.run(f"library of set and {bench.size.files} files", command)
    moved = bench.fresh("moved") / "library"
    moved.parent.mkdir()
    shutil.copytree(out, moved)
    for path in (*moved.iterdir(), moved):
        path.chmod(0o555 if path.is_dir() else 0o444)
    code = f"from rnafold.templates.reading import load_sources; load_sources([{str(moved)!r}])"
    bench.run("loading it, moved and read-only", [sys.executable, "-c", code])
    moved.chmod(0o755)


def measure_search(bench: Bench) -> None:
    targets = sorted(read_targets(bench.data / "train_sequences.csv"), key=lambda t: str(t.cutoff))[-400:]
    chosen = [t for t in targets if 30 <= t.length <= 400][: bench.size.queries]
    taken = []
    for share in (4, 2, 1):
        sources = load_sources([bench.library(share)])
        spent = []
        for target in chosen:
            flat = np.zeros((target.length, target.length), np.float32)
            began = time.process_time()
            search_chain(sources.index, target.sequence, flat, gate_for(target))
            spent.append(time.process_time() - began)
        taken.append(float(np.mean(spent[1:] or spent)))
        chains = sources.library.num_chains
        bench.say(f"search of a target in the library of 1/{share}", taken[-1], "CPU s", chains=chains)
    bench.say("search, growth from 1/4 to 1", taken[2] / taken[0], "times")


def measure_starts(bench: Bench) -> None:
    """CPU hours that all start structures would take, and what a sample of pieces took against it."""
    settings = [f"data.cache={bench.work / 'starts-cache'}", "data.start=candidates", "data.jobs=1"]
    config = resolve_config("cpu", "base", settings)
    entries = choose_entries(bench.data, config.data)
    library = open_start_library(config, entries)
    jobs = library.list_jobs(entries.train)
    bench.say("start structures, estimated", library.estimate_seconds(jobs) / 3600.0, "CPU h", pieces=len(jobs))
    order = np.random.default_rng(0).permutation(len(jobs))[: bench.size.pieces]
    sample = [jobs[int(k)] for k in order]
    pairings = PairingCache(Path(config.data.cache), config.data.pairing_samples)
    for job in sample:
        pairings.window(job.entry.target, *job.piece)
    _ = library.sources
    began = time.process_time()
    for job in sample:
        library.build_one(job, pairings)
    spent, estimated = time.process_time() - began, library.estimate_seconds(sample)
    bench.say("start structures of a sample", spent, "CPU s", estimated=round(estimated, 1), pieces=len(sample))


def train_command(bench: Bench, launcher: Sequence[str], out: Path, hours: float, *more: str) -> list[str]:
    """A training of the minimal network on the set; the caches of all of them are one."""
    command = [*launcher, "train", "--gpu", "cpu", "--model", "minimal", "--data", str(bench.data), *more]
    command += ["--max-hours", f"{hours:g}", "--out", str(out)]
    settings = [f"data.cache={bench.work / 'train-cache'}", "train.log_every_steps=1", "train.epochs=1000"]
    return [*command, "--set", *settings, "train.evaluate_every_epochs=1000"]


def read_steps(run: Path) -> list[dict[str, Any]]:
    """The lines of metrics of a run's steps."""
    return [dict(record) for record in read_metrics(run / "metrics.jsonl") if record["kind"] == "train"]


def say_first_step(bench: Bench, run: Path) -> None:
    """When a run's first step was done, after the start of its command's own work, and how many there were."""
    steps = read_steps(run)
    bench.say("  first step", steps[0]["elapsed_seconds"] if steps else math.nan, "s", steps=len(steps))


def compare_runs(bench: Bench, name: str, run: Path, other: Path) -> None:
    """Whether two runs made the same steps, as far as both went."""
    pairs = list(zip(read_steps(run), read_steps(other)))
    same = sum((a["loss"], a["grad_norm"]) == (b["loss"], b["grad_norm"]) for a, b in pairs)
    bench.say(name, same, "steps", equal_to_the_bit_of=len(pairs))


def measure_train(bench: Bench) -> None:
    launcher = [sys.executable, "-m", "rnafold"]
    bench.fresh("train-cache")
    whole, stopped = bench.fresh("run-cold"), bench.fresh("run-stopped")
    bench.run("training, cold", train_command(bench, launcher, whole, bench.size.train_hours))
    say_first_step(bench, whole)
    bench.run("training, cached", train_command(bench, launcher, stopped, bench.size.again_hours))
    say_first_step(bench, stopped)
    bench.run("training, resumed", train_command(bench, launcher, stopped, bench.size.again_hours, "--resume"))
    compare_runs(bench, "  stopped and resumed against not stopped", stopped, whole)


def measure_ranks(bench: Bench) -> None:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "rnafold"]
    on_cpu = {"ACCELERATE_USE_CPU": "1"}
    whole, stopped = bench.fresh("run-ranks"), bench.fresh("run-ranks-stopped")
    bench.run("training, two ranks", train_command(bench, launcher, whole, bench.size.train_hours), on_cpu)
    say_first_step(bench, whole)
    bench.run("training, two ranks, stopped", train_command(bench, launcher, stopped, bench.size.again_hours), on_cpu)
    more = train_command(bench, launcher, stopped, bench.size.again_hours, "--resume")
    bench.run("training, two ranks, resumed", more, on_cpu)
    compare_runs(bench, "  stopped and resumed against not stopped", stopped, whole)


def measure_kernel(bench: Bench) -> None:
    """The prepare kernel's function, then the train kernel's with its output attached."""
    inputs = bench.fresh("inputs")
    (inputs / "competition").mkdir(parents=True)
    for name in ("train_sequences.csv", "train_labels.csv"):
        (inputs / "competition" / name).symlink_to((bench.data / name).resolve())
    prepared, trained = bench.fresh("kernel-prepare"), bench.fresh("kernel-train")
    for folder in (prepared, trained):
        folder.mkdir()
    hours = bench.size.kernel_hours
    common = f"gpu='cpu', model='minimal', hours={hours}, inputs=Path({str(inputs)!r})"
    code = "from pathlib import Path\nfrom rnafold.kaggle.prepare_session import PrepareSession, run_prepare\n"
    code += f"run_prepare(PrepareSession({common}, working=Path({str(prepared)!r})))"
    bench.run("prepare kernel", [sys.executable, "-c", code])
    packed = (prepared / "cache.zip").stat().st_size / 1e6
    bench.say("  prepared cache", packed, "MB", library_mb=round(_count_bytes(prepared / "library") / 1e6, 1))
    shutil.move(prepared, inputs / "rnafold-prepare")
    settings = "settings=('train.log_every_steps=1',), least_disk_gib=0.0"
    code = "from pathlib import Path\nfrom rnafold.kaggle.train_session import TrainSession, run_train\n"
    code += f"run_train(TrainSession({common}, working=Path({str(trained)!r}), {settings}))"
    steps = trained / "run" / "metrics.jsonl"
    bench.run("train kernel with its output", [sys.executable, "-c", code], awaited=steps)


def _count_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def measure_predict(bench: Bench) -> None:
    out = bench.work / "submission.csv"
    test, sample = bench.targets / "test_sequences.csv", bench.targets / "sample_submission.csv"
    library = bench.work / "library"
    command = kit("predict", "--gpu", "cpu", "--test", test, "--sample", sample, "--out", out)
    command += ["--templates", str(library if library.exists() else bench.library(1))]
    command += ["--deadline-minutes", f"{bench.size.deadline_minutes:g}", "--cache", str(bench.fresh("predict-cache"))]
    bench.run(f"predict, {bench.size.deadline_minutes:g} minutes", command)
    rows = json.loads(records_path(out).read_text())["predictions"]
    origins: dict[str, set[str]] = {}
    for row in rows:
        origins.setdefault(row["target_id"], set()).add(row["origin"])
    improved = sum(found != {"fallback"} for found in origins.values())
    strands = sum(row["origin"] == "fallback" for row in rows)
    defects = len(list_defects(check_submission(out, sample)))
    more = {"of": len(origins), "places_on_a_plain_strand": strands, "of_places": len(rows), "defects": defects}
    bench.say("  improved targets", improved, "targets", **more)


MEASURES: dict[str, Callable[[Bench], None]] = {name: globals()[f"measure_{name}"] for name in STEPS}


def open_bench(arguments: argparse.Namespace) -> Bench:
    """The set to measure with, made where none is given."""
    size = QUICK if arguments.quick else Size()
    work: Path = arguments.work / "quick" if arguments.quick else arguments.work
    work.mkdir(parents=True, exist_ok=True)
    data = work / "set" if arguments.quick or arguments.data is None else arguments.data
    if not (data / "train_labels.csv").is_file():
        write_set(data, size.targets, size.longest)
    targets = work / "youngest" if arguments.quick or arguments.targets is None else arguments.targets
    if not (targets / "sample_submission.csv").is_file():
        write_targets(data, targets, 4 if arguments.quick else 28)
    return Bench(work=work.resolve(), data=data.resolve(), targets=targets.resolve(), size=size)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--work", type=Path, required=True, metavar="DIR", help="for all that is made; 10 GB")
    add("--data", type=Path, metavar="DIR", help="a part-2-sized training set (default: made in --work)")
    add("--targets", type=Path, metavar="DIR", help="test_sequences.csv and sample_submission.csv")
    add("--quick", action="store_true", help="a small set made in --work, minutes instead of an hour")
    add("--json", type=Path, metavar="FILE", help="write the figures there as well")
    add("steps", nargs="*", metavar="STEP", help=", ".join(STEPS))
    arguments = parser.parse_args()
    unknown = [step for step in arguments.steps if step not in STEPS]
    if unknown:
        parser.error(f"step {unknown[0]}: expected one of {', '.join(STEPS)}")
    bench = open_bench(arguments)
    entries, load = len(read_targets(bench.data / "train_sequences.csv")), os.getloadavg()[0]
    print(f"{bench.data}: {entries} targets; {os.cpu_count()} cores, load {load:.1f} before the first step", flush=True)
    for step in arguments.steps or STEPS:
        MEASURES[step](bench)
        if arguments.json is not None:
            found = {"size": dataclasses.asdict(bench.size), "load_before": load, "figures": bench.records}
            arguments.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
