"""The competition's real size, measured here: `python benchmarks/scale.py --work DIR [--data DIR] [STEP ..]`.

Steps: plan, clusters, leaks, reader, library, search, train, ranks, predict; all of them without a name. `--data` is a
folder with part-2-sized train_sequences.csv and train_labels.csv; without it a set of that size is made in DIR: lengths
of the published quartiles (43, 94, 2,584), families of near copies, one chain of 125,580 residues, all of them ideal
folds. Structures come from a generator of ribosome-like mmCIF files. Every figure is printed with its own wall time,
processor time and peak memory (of the largest process of its tree); growth is from a quarter of the set to all of it.
"""

import argparse
import csv
import datetime
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from rnafold.data.clusters import cluster_sequences, find_relatives
from rnafold.data.competition import read_targets
from rnafold.data.demo import build_fold
from rnafold.data.mmcif import read_structure_file
from rnafold.files.metrics import read_metrics
from rnafold.structure import FloatArray
from rnafold.submission import check_submission, list_defects, records_path
from rnafold.templates.library import gate_for
from rnafold.templates.reading import load_sources
from rnafold.templates.search import search_chain

NUM_TARGETS, NUM_FAMILIES, LONGEST = 5716, 12, 125_580
# Structure files, how many of them differ, and the lengths of their RNA chains.
NUM_FILES, NUM_DIFFERENT, RNA_LENGTHS = 500, 50, (1500, 120)
BASE_ATOMS = {
    "A": "N9 C8 N7 C5 C6 N6 N1 C2 N3 C4",
    "C": "N1 C2 O2 N3 C4 N4 C5 C6",
    "G": "N9 C8 N7 C5 C6 O6 N1 C2 N2 N3 C4",
    "U": "N1 C2 O2 N3 C4 O4 C5 C6",
}
BACKBONE = "P OP1 OP2 O5' C5' C4' O4' C3' O3' C2' O2' C1'"
ATOM_COLUMNS = (
    "group_PDB",
    "id",
    "type_symbol",
    "label_atom_id",
    "label_alt_id",
    "label_comp_id",
    "label_asym_id",
    "label_entity_id",
    "label_seq_id",
    "pdbx_PDB_ins_code",
    "Cartn_x",
    "Cartn_y",
    "Cartn_z",
    "occupancy",
    "B_iso_or_equiv",
    "pdbx_formal_charge",
    "auth_seq_id",
    "auth_comp_id",
    "auth_asym_id",
    "auth_atom_id",
    "pdbx_PDB_model_num",
)
STEPS = ("plan", "clusters", "leaks", "reader", "library", "search", "train", "ranks", "predict")


def build_long(rng: np.random.Generator, length: int) -> tuple[str, FloatArray]:
    """Letters and C1' (L, 3) of a chain of ideal folds, side by side."""
    letters = ""
    points: list[FloatArray] = []
    while len(letters) < length:
        sequence, coords, _ = build_fold(rng, 3)
        points.append(coords + [60.0 * len(points), 0.0, 0.0])
        letters += sequence
    return letters[:length], np.concatenate(points)[:length]


def draw_lengths(rng: np.random.Generator, count: int) -> list[int]:
    """Lengths whose quartiles are those of the competition's part 2."""
    ranges = ((10, 43), (43, 95), (95, 2584), (2584, 4600))
    drawn = [int(np.exp(rng.uniform(*np.log(ranges[int(rng.integers(4))])))) for _ in range(count)]
    return [min(LONGEST, length) for length in (LONGEST, *drawn[1:])]


def write_set(folder: Path, count: int = NUM_TARGETS) -> None:
    """A training set of `count` targets in competition format."""
    rng = np.random.default_rng(0)
    families = [build_long(rng, 4700) for _ in range(NUM_FAMILIES)]
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "train_sequences.csv").open("w") as sequences, (folder / "train_labels.csv").open("w") as labels:
        sequences.write("target_id,sequence,temporal_cutoff,description,all_sequences\n")
        labels.write("ID,resname,resid,x_1,y_1,z_1\n")
        for number, length in enumerate(tqdm(draw_lengths(rng, count), desc="synthetic set", disable=None)):
            whole = families[int(rng.integers(NUM_FAMILIES))] if 2000 < length < 5000 else build_long(rng, length)
            letters = np.array(list(whole[0][:length]))
            changed = rng.random(length) < 0.05
            letters[changed] = rng.choice(list("ACGU"), int(changed.sum()))
            points = whole[1][:length] + rng.normal(0.0, 0.3, (length, 3))
            name = f"{number % 9 + 1}{number:05d}S"
            date = datetime.date(1995, 1, 1) + datetime.timedelta(days=int(rng.integers(10_000)))
            sequences.write(f"{name},{''.join(letters)},{date},synthetic,\n")
            for i, (x, point) in enumerate(zip(letters, points), start=1):
                cells = ",".join(f"{value:.3f}" for value in point)
                labels.write(f"{name}_{i},{x},{i},{cells}\n")


def write_part(data: Path, out: Path, step: int) -> None:
    """Every `step`-th target of a set."""
    csv.field_size_limit(1 << 30)
    out.mkdir(parents=True, exist_ok=True)
    with (data / "train_sequences.csv").open() as source, (out / "train_sequences.csv").open("w") as target:
        rows = list(csv.reader(source))
        kept = {row[0] for row in rows[1::step]}
        csv.writer(target, lineterminator="\n").writerows([rows[0], *rows[1::step]])
    with (data / "train_labels.csv").open() as source, (out / "train_labels.csv").open("w") as target:
        target.write(next(source))
        target.writelines(line for line in source if line.partition(",")[0].rpartition("_")[0] in kept)


def build_structure(code: str, seed: int, num_proteins: int = 20, protein_length: int = 130) -> str:
    """A ribosome-like mmCIF file: two RNA chains with all heavy atoms, and proteins."""
    rng = np.random.default_rng(seed)
    released = datetime.date(1995, 1, 1) + datetime.timedelta(days=int(rng.integers(10_000)))
    entities: list[str] = []
    scheme: list[str] = []
    atoms: list[str] = []

    def add(asym: str, entity: int, place: int, residue: str, names: Sequence[str], points: FloatArray) -> None:
        scheme.append(f"{asym} {entity} {place} {residue} {place} {place} {place} {residue} {residue} {asym} .")
        for name, (x, y, z) in zip(names, points):
            quoted = f'"{name}"' if "'" in name else name
            atoms.append(
                f"ATOM {len(atoms) + 1} {name[0]} {quoted} . {residue} {asym} {entity} {place} ? "
                f"{x:.3f} {y:.3f} {z:.3f} 1.00 50.00 ? {place} {residue} {asym} {quoted} 1"
            )

    for entity, length in enumerate(RNA_LENGTHS, start=1):
        entities.append(f"{entity} polyribonucleotide")
        for place, (letter, centre) in enumerate(zip(*build_long(rng, length)), start=1):
            names = f"{BACKBONE} {BASE_ATOMS[letter]}".split()
            offsets = rng.normal(scale=2.0, size=(len(names), 3))
            offsets[names.index("C1'")] = 0.0
            add(chr(64 + entity), entity, place, letter, names, centre + offsets)
    for number in range(num_proteins):
        entity = len(RNA_LENGTHS) + 1 + number
        entities.append(f"{entity} 'polypeptide(L)'")
        for place in range(1, protein_length + 1):
            points = rng.normal(scale=60.0, size=(8, 3))
            add(f"P{chr(65 + number)}", entity, place, "LYS", ["N", "CA", "C", "O", "CB", "CG", "CD", "CE"], points)
    columns = (
        "asym_id entity_id seq_id mon_id ndb_seq_num pdb_seq_num auth_seq_num pdb_mon_id auth_mon_id pdb_strand_id"
    )
    lines = [
        f"data_{code}",
        "#",
        f"_entry.id {code}",
        "#",
        f"_pdbx_audit_revision_history.revision_date {released}",
        "#",
    ]
    lines += ["loop_", "_entity_poly.entity_id", "_entity_poly.type", *entities, "#", "loop_"]
    lines += [f"_pdbx_poly_seq_scheme.{name}" for name in (*columns.split(), "pdb_ins_code")] + scheme + ["#", "loop_"]
    return "\n".join([*lines, *(f"_atom_site.{name}" for name in ATOM_COLUMNS), *atoms, "#", ""])


def write_structures(folder: Path, count: int = NUM_FILES) -> None:
    """Structure files, of which NUM_DIFFERENT differ; each has a name of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = [build_structure(f"{k % 9 + 1}{k:03d}", k) for k in tqdm(range(min(count, NUM_DIFFERENT)), disable=None)]
    for number in range(count):
        (folder / f"{number % 9 + 1}{number:03d}.cif").write_text(texts[number % len(texts)])


def run(arguments: Sequence[str], name: str, environment: dict[str, str] | None = None) -> float:
    """Runs a command and prints its figures; returns the wall seconds."""
    began = time.monotonic()
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(
            list(arguments), stdout=subprocess.DEVNULL, stderr=said, env={**os.environ, **(environment or {})}
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = code = os.waitstatus_to_exitcode(status)
        seconds = time.monotonic() - began
        cpu, peak = usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 2**20
        print(f"{name:<44} {seconds:8.1f} s   {cpu:8.1f} s CPU   peak {peak:.2f} GiB   exit {code}", flush=True)
        if code not in (0, 3):
            said.seek(0)
            print("\n".join(said.read().strip().splitlines()[-3:]))
    return seconds


def kit(*arguments: object) -> list[str]:
    """A command of the kit."""
    return [sys.executable, "-m", "rnafold", *map(str, arguments)]


def say(name: str, seconds: float, rest: str = "") -> None:
    """One line of figures taken in this process."""
    print(f"{name:<44} {seconds:8.2f} s   {rest}", flush=True)


def measure_plan(work: Path, data: Path) -> None:
    cache = work / "plan-cache"
    shutil.rmtree(cache, ignore_errors=True)
    command = kit("plan", "--gpu", "t4x2", "--data", data, "--offline", "--set", f"data.cache={cache}")
    run(command, "plan, cold")
    run(command, "plan, cached")


def measure_clusters(work: Path, data: Path) -> None:
    sequences = [target.sequence for target in read_targets(data / "train_sequences.csv")]
    taken = []
    for share in (4, 2, 1):
        began = time.process_time()
        found = cluster_sequences(sequences[::share])
        taken.append(time.process_time() - began)
        say(f"clusters of 1/{share}", taken[-1], f"CPU   {len(sequences[::share])} chains, {len(set(found))} clusters")
    say("clusters, growth from 1/4 to 1", taken[2] / taken[0], "times")


def measure_leaks(work: Path, data: Path) -> None:
    targets = sorted(read_targets(data / "train_sequences.csv"), key=lambda t: str(t.cutoff))
    young, old = targets[-len(targets) // 12 :], targets[: -len(targets) // 12]
    began = time.process_time()
    found = find_relatives([t.sequence for t in young], [t.sequence for t in old])
    pairs = sum(map(len, found))
    say("leak report", time.process_time() - began, f"CPU   {len(young)} against {len(old)}, {pairs} pairs")


def measure_reader(work: Path, data: Path) -> None:
    paths = sorted(structures(work).glob("*.cif"))[:NUM_DIFFERENT]
    size = sum(path.stat().st_size for path in paths) / 1e6
    began = time.process_time()
    for path in paths:
        read_structure_file(path)
    spent = time.process_time() - began
    say("reading ribosome-like mmCIF, one core", spent, f"CPU   {size / spent:.0f} MB/s")
    few = work / "few"
    shutil.rmtree(few, ignore_errors=True)
    few.mkdir()
    for path in sorted(structures(work).glob("*.cif"))[: 4 * NUM_DIFFERENT]:
        os.link(path, few / path.name)
    taken = []
    for jobs in (1, 2):
        command = kit("library", "--from", few, "--out", work / f"few{jobs}", "--jobs", jobs)
        taken.append(run(command, f"library of 200 files, {jobs} processes"))
    say("library, two processes against one", taken[0] / taken[1], "times")


def structures(work: Path) -> Path:
    """The folder of structure files, made when first asked for."""
    folder = work / "structures"
    if len(list(folder.glob("*.cif"))) < NUM_FILES:
        write_structures(folder)
    return folder


def measure_library(work: Path, data: Path) -> None:
    taken = {}
    for share in (4, 2, 1):
        source, out = (data if share == 1 else work / f"part{share}"), work / f"library{share}"
        if share > 1 and not (source / "train_labels.csv").is_file():
            write_part(data, source, share)
        shutil.rmtree(out, ignore_errors=True)
        taken[share] = run(kit("library", "--from", source, "--out", out), f"library of 1/{share} of the set")
    say("library, growth from 1/4 to 1", taken[1] / taken[4], "times")
    shutil.rmtree(work / "library", ignore_errors=True)
    command = kit("library", "--from", data, "--from", structures(work), "--out", work / "library")
    run(command, "library of set and 500 files")
    moved = work / "moved" / "library"
    shutil.rmtree(moved.parent, ignore_errors=True)
    moved.parent.mkdir()
    shutil.copytree(work / "library", moved)
    for path in (*moved.iterdir(), moved):
        path.chmod(0o555 if path.is_dir() else 0o444)
    code = f"from rnafold.templates.reading import load_sources; load_sources([{str(moved)!r}])"
    run([sys.executable, "-c", code], "loading it, moved and read-only")
    moved.chmod(0o755)


def measure_search(work: Path, data: Path) -> None:
    targets = sorted(read_targets(data / "train_sequences.csv"), key=lambda t: str(t.cutoff))[-400:]
    chosen = [t for t in targets if 30 <= t.length <= 400][:20]
    taken = []
    for share in (4, 1):
        sources = load_sources([work / f"library{share}"])
        began = time.process_time()
        for target in chosen:
            flat = np.zeros((target.length, target.length), np.float32)
            search_chain(sources.index, target.sequence, flat, gate_for(target))
        taken.append((time.process_time() - began) / len(chosen))
        say(f"search of a target in the library of 1/{share}", taken[-1], "CPU")
    say("search, growth from 1/4 to 1", taken[1] / taken[0], "times")


def measure_train(work: Path, data: Path) -> None:
    cache = work / "train-cache"
    shutil.rmtree(cache, ignore_errors=True)
    settings = ["--set", f"data.cache={cache}", "train.log_every_steps=1", "train.evaluate_every_epochs=1000"]
    common = kit("train", "--gpu", "cpu", "--model", "minimal", "--data", data)
    for name, hours in (("cold", 0.2), ("cached", 0.05)):
        out = work / f"run-{name}"
        shutil.rmtree(out, ignore_errors=True)
        run([*common, "--max-hours", str(hours), "--out", str(out), *settings], f"training, {name}, {hours:g} h")
        first = read_metrics(out / "metrics.jsonl")[0]
        say(f"  first step, {name}", first["elapsed_seconds"])
    resumed = work / "run-cached"
    run([*common, "--max-hours", "0.05", "--resume", "--out", str(resumed), *settings], "training, resumed")
    steps = [record for record in read_metrics(resumed / "metrics.jsonl") if record["kind"] == "train"]
    once = [record for record in read_metrics(work / "run-cold" / "metrics.jsonl") if record["kind"] == "train"]
    both = min(len(steps), len(once))
    same = all(one["loss"] == other["loss"] for one, other in zip(steps[:both], once[:both]))
    say("  resumed run against one without a stop", both, f"steps, losses {'equal to the bit' if same else 'DIFFER'}")


def measure_ranks(work: Path, data: Path) -> None:
    out = work / "run-ranks"
    shutil.rmtree(out, ignore_errors=True)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "rnafold"]
    command = [*launcher, "train", "--gpu", "cpu", "--model", "minimal", "--data", str(data), "--max-hours", "0.06"]
    command += ["--out", str(out), "--set", f"data.cache={work / 'train-cache'}", "train.log_every_steps=1"]
    run(command, "training, two ranks (peak of each)", {"ACCELERATE_USE_CPU": "1"})


def measure_predict(work: Path, data: Path) -> None:
    pack = work / "targets"
    if not (pack / "test_sequences.csv").is_file():
        print(f"predict: left out, {pack} has no test_sequences.csv and sample_submission.csv (--targets DIR)")
        return
    out = work / "submission.csv"
    test, sample = pack / "test_sequences.csv", pack / "sample_submission.csv"
    command = kit("predict", "--gpu", "cpu", "--test", test, "--sample", sample, "--out", out, "--deadline-minutes", 10)
    run([*command, "--templates", str(work / "library"), "--cache", str(work / "predict-cache")], "predict, 10 minutes")
    records = json.loads(records_path(out).read_text())["predictions"]
    plain = {row["target_id"] for row in records if row["origin"] == "fallback"}
    say("  targets on their plain strand", len(plain), f"defects {len(list_defects(check_submission(out, sample)))}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, metavar="DIR", help="for all that is made; 10 GB")
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="a part-2-sized training set (default: made in --work)"
    )
    parser.add_argument("--targets", type=Path, metavar="DIR", help="test_sequences.csv and sample_submission.csv")
    parser.add_argument("steps", nargs="*", metavar="STEP", help=", ".join(STEPS))
    arguments = parser.parse_args()
    unknown = [step for step in arguments.steps if step not in STEPS]
    if unknown:
        parser.error(f"step {unknown[0]}: expected one of {', '.join(STEPS)}")
    work: Path = arguments.work
    work.mkdir(parents=True, exist_ok=True)
    if arguments.targets is not None and not (work / "targets").exists():
        (work / "targets").symlink_to(arguments.targets.resolve())
    data = arguments.data or work / "set"
    if not (data / "train_labels.csv").is_file():
        write_set(data)
    entries = len(read_targets(data / "train_sequences.csv"))
    load = os.getloadavg()[0]
    print(f"{data}: {entries} targets; {os.cpu_count()} cores, load {load:.1f} before the first step", flush=True)
    measures = {name: globals()[f"measure_{name}"] for name in STEPS}
    for step in arguments.steps or STEPS:
        measures[step](work, data)


if __name__ == "__main__":
    main()
