"""Runs killed at random moments, then gone on with: the end must be what it is without a kill."""

import random
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rnafold.data.demo import write_demo_data
from rnafold.files.run_folder import RunFolder
from rnafold.submission import check_submission, list_defects
from rnafold.submission.provenance import find_records
from rnafold.training.checkpoint import load_checkpoint
from tests.faults.malforming import cut, flip
from tests.faults.tally import Tally
from tests.faults.workshop import KILLED, Ended, Workshop, find_half_written, read_tree

# Small enough that hundreds of runs take minutes; a checkpoint after every step, two evaluations.
SETTINGS = (
    "model.width=16",
    "model.attention_heads=2",
    "model.feed_forward=32",
    "model.layers=1",
    "model.pair_channels=8",
    "model.pair_updates=1",
    "model.dropout=0.1",
    "train.epochs=2",
    "train.log_every_steps=1",
    "train.warmup_epochs=0",
    "train.patience=0",
    "train.checkpoint_every_epochs=1",
    "train.checkpoint_every_minutes=1e-9",
    "data.cutoff=2022-01-01",
    "data.validation=file",
    "data.jobs=1",
    "data.max_validation=1",
)
WEIGHTS = "best.safetensors"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """Demo data and the undisturbed runs on them, by which the disturbed are judged."""

    workshop: Workshop
    folder: Path
    trained: Ended
    train_changes: int
    largest_file: int
    predicted: Ended
    predict_changes: int

    @property
    def data(self) -> Path:
        """The competition's files."""
        return self.folder / "data"

    @property
    def run(self) -> Path:
        """The undisturbed run."""
        return self.folder / "whole" / "run"

    @property
    def submission(self) -> Path:
        """The undisturbed submission."""
        return self.folder / "whole" / "submission.csv"

    @property
    def sample(self) -> Path:
        """The sample of the test targets."""
        return self.data / "sample_submission.csv"

    def train(self, place: Path, *more: str) -> list[str]:
        """The arguments of a training whose run and cache lie below a place."""
        return train_arguments(self.data, place, *more)

    def predict(self, place: Path) -> list[str]:
        """The arguments of a prediction whose submission and cache lie below a place."""
        return predict_arguments(self.data, place, self.run / WEIGHTS)


def train_arguments(data: Path, place: Path, *more: str) -> list[str]:
    """The command of a training; `more` follows the settings or, from the first option on, the command."""
    settings = [f"data.cache={place / 'cache'}", *(text for text in more if not text.startswith("-"))]
    options = [text for text in more if text.startswith("-")]
    arguments = ["train", "--gpu", "cpu", "--model", "minimal", "--data", str(data), "--out", str(place / "run")]
    return [*arguments, *options, "--set", *SETTINGS, *settings]


def predict_arguments(data: Path, place: Path, weights: Path) -> list[str]:
    """The command of a prediction."""
    files = ["--test", str(data / "test_sequences.csv"), "--sample", str(data / "sample_submission.csv")]
    options = ["--weights", str(weights), "--templates", str(data), "--cache", str(place / "cache"), "--gpu", "cpu"]
    return ["predict", *files, "--out", str(place / "submission.csv"), *options, "--before", "2026-01-01"]


def set_up(workshop: Workshop, folder: Path) -> Bench:
    """Writes the demo data and makes the undisturbed runs."""
    data, whole = folder / "data", folder / "whole"
    write_demo_data(data, num_train=12, num_test=3)
    whole.mkdir()
    (folder / "warm").mkdir()
    workshop.warm_up(train_arguments(data, folder / "warm"))
    counting: dict[str, Any] = {"kill_before_change": -1, "below": str(whole)}
    trained = workshop.run(train_arguments(data, whole), **counting)
    assert trained.code == 0, trained.output
    train_changes = workshop.count_changes()
    largest = max(len(content) for content in read_tree(whole).values())
    predicted = workshop.run(predict_arguments(data, whole, whole / "run" / WEIGHTS), write_always=True, **counting)
    assert predicted.code == 0, predicted.output
    return Bench(
        workshop=workshop,
        folder=folder,
        trained=trained,
        train_changes=train_changes,
        largest_file=largest,
        predicted=predicted,
        predict_changes=workshop.count_changes(),
    )


def draw_kill(rng: random.Random, undisturbed: Ended, changes: int, largest: int, place: Path) -> tuple[str, Any]:
    """A kind of kill and what the zygote is told of it: at a moment, before a change on the disk, amid a write."""
    kind = rng.choice(("moment", "moment", "change", "write"))
    if kind == "moment":
        return kind, {"signals": {rng.randrange(undisturbed.polls): "SIGKILL"}}
    if kind == "change":
        return kind, {"kill_before_change": rng.randrange(changes), "below": str(place)}
    return kind, {"largest_file": int(largest ** rng.random()), "kill_in_write": True}


def kill_trainings(bench: Bench, count: int, seed: int) -> Tally:
    """Trainings killed at random moments and resumed, some killed again while they resume."""
    tally = Tally("a training killed and resumed: weights and last checkpoint bit for bit those without a kill")
    rng, place = random.Random(seed), bench.folder / "killed"
    while tally.tried < count:
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        told, kills = [], 0
        for _ in range(1 + rng.randrange(2)):
            kind, fault = draw_kill(rng, bench.trained, bench.train_changes, bench.largest_file, place)
            ended = bench.workshop.run(bench.train(place, "--resume"), **fault)
            told.append(f"{kind} {fault} -> {ended.code}")
            kills += ended.code < 0
        if not kills:
            continue  # it was done before the kill came: no trial
        ended = bench.workshop.run(bench.train(place, "--resume"))
        tally.add(judge_training(bench, place, ended, told), kills=kills)
    return tally


def judge_training(bench: Bench, place: Path, ended: Ended, told: list[str]) -> str:
    """What is wrong with a run that was killed and has gone on to its end, "" for nothing."""
    how = "; ".join(told)
    if ended.code != 0 or ended.has_traceback:
        return f"{how}: the resumed run ended with {ended.code}: {ended.output[-400:]}"
    for name in (WEIGHTS, "config.yaml"):
        expected = (bench.run / name).read_bytes().replace(b"/whole/", b"/killed/")
        if (place / "run" / name).read_bytes() != expected:
            return f"{how}: {name} differs"
    last = sorted((bench.run / "checkpoints").glob("step_*"))[-1]
    for file in sorted(last.glob("*.safetensors")):
        if (place / "run" / "checkpoints" / last.name / file.name).read_bytes() != file.read_bytes():
            return f"{how}: {last.name}/{file.name} differs"
    half = find_half_written(place / "run" / "checkpoints")
    return f"{how}: left behind: {half[0]}" if half else ""


def kill_predictions(bench: Bench, count: int, seed: int) -> Tally:
    """Predictions killed at random moments: a valid file at every moment, and in the end the same bytes."""
    tally = Tally("a prediction killed: the submission valid at every moment, and after a rerun the same bytes")
    rng, place = random.Random(seed), bench.folder / "killed"
    watching: dict[str, Any] = {
        "watch": str(place / "submission.csv"),
        "sample": str(bench.sample),
        "write_always": True,
    }
    while tally.tried < count:
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        if rng.random() < 0.5:  # an earlier submission in its place
            shutil.copy(bench.sample, place / "submission.csv")
        size = bench.submission.stat().st_size
        kind, fault = draw_kill(rng, bench.predicted, bench.predict_changes, size, place)
        killed = bench.workshop.run(bench.predict(place), **fault, **watching)
        if killed.code >= 0:
            continue
        found = judge_submission(bench, place, killed)
        again = bench.workshop.run(bench.predict(place), **watching)
        found = found or judge_submission(bench, place, again) or compare_submission(bench, place, again)
        how = f"{kind} {fault} -> {killed.code}"
        tally.add(found and f"{how}: {found}", versions_checked=killed.versions + again.versions)
    return tally


def judge_submission(bench: Bench, place: Path, ended: Ended) -> str:
    """What was wrong with the submission at any moment, or is with what lies beside it now."""
    path = place / "submission.csv"
    if ended.defects:
        return f"not valid: {ended.defects[0]}"
    if ended.code not in (0, KILLED, -25) or ended.has_traceback:
        return f"ended with {ended.code}: {ended.output[-400:]}"
    if path.is_file():
        if defects := list_defects(check_submission(path, bench.sample)):
            return f"not valid at the end: {defects[0].message}"
        find_records(path)
    return ""


def compare_submission(bench: Bench, place: Path, ended: Ended) -> str:
    """Whether a submission made after a kill is the one made without."""
    if ended.code != 0:
        return f"the rerun ended with {ended.code}: {ended.output[-400:]}"
    same = (place / "submission.csv").read_bytes() == bench.submission.read_bytes()
    return "" if same else "the rerun's submission differs"


def starve_trainings(bench: Bench, count: int, seed: int) -> Tally:
    """Trainings whose disk takes no more from a random byte of a file on: one line, and a resume ends alike."""
    tally = Tally("a training out of disk space at a random byte, resumed with room: the same bytes")
    rng, place = random.Random(seed), bench.folder / "killed"
    while tally.tried < count:
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        size = int(bench.largest_file ** rng.random())
        ended = bench.workshop.run(bench.train(place, "--resume"), largest_file=size)
        fault = judge_starved(ended, place)
        again = bench.workshop.run(bench.train(place, "--resume"))
        fault = fault or judge_training(bench, place, again, [f"files of at most {size} bytes"])
        tally.add(fault and f"{size} bytes: {fault}", ended_in_one_line=ended.code == 2)
    return tally


def judge_starved(ended: Ended, place: Path) -> str:
    """What is wrong with a run that could not write, "" for nothing."""
    if ended.has_traceback or ended.code not in (0, 2):
        return f"ended with {ended.code}: {ended.output[-600:]}"
    lines = [line for line in ended.output.splitlines() if line.startswith("error: ")]
    if ended.code == 2 and (len(lines) != 1 or "cannot be written" not in lines[0]):
        return f"said {lines}"
    half = find_half_written(place)
    return f"left behind: {half[0]}" if half else ""


def damage_checkpoints(bench: Bench, count: int, seed: int, resumed: int) -> Tally:
    """One file of the newest checkpoint cut or flipped at a random place: the one before is taken.

    Args:
        bench: with the undisturbed run.
        count: trials.
        seed: of the places.
        resumed: of the first so many the whole run is resumed to its end and compared.
    """
    tally = Tally("the newest checkpoint cut or flipped at a random place: the one before it is taken")
    rng, place = random.Random(seed), bench.folder / "killed"
    while tally.tried < count:
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(bench.folder / "whole", place)
        checkpoints = RunFolder(place / "run").checkpoints
        newest, before = checkpoints.steps()[-1], checkpoints.steps()[-2]
        file = rng.choice(sorted(checkpoints.at(newest).iterdir()))
        way = rng.choice((cut, flip))
        damaged = way(file.read_bytes(), rng)
        if damaged == file.read_bytes():
            continue
        file.write_bytes(damaged)
        found = checkpoints.newest()
        loaded = load_checkpoint(checkpoints.path)
        fault = "" if found == before else f"step {found} is taken, expected {before}"
        if not fault and (loaded is None or loaded.state["train"]["step"] != before):
            fault = f"loaded {loaded and loaded.state}"
        if not fault and tally.tried < resumed:
            ended = bench.workshop.run(bench.train(place, "--resume"))
            fault = judge_training(bench, place, ended, [f"{file.name} after {way.__name__}"])
        tally.add(fault and f"{file.name} after {way.__name__}: {fault}")
    return tally
