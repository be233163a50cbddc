"""An optional step that fails costs itself: the target is predicted from what is left, and one line says so."""

import datetime
import logging
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rnafold.cli.main import main
from rnafold.config.settings import DataConfig, resolve_config
from rnafold.data.competition import read_entries, read_targets
from rnafold.data.demo import write_demo_data
from rnafold.errors import OutOfTime
from rnafold.features.source import FeatureSource
from rnafold.files.budget import Budget
from rnafold.files.shipped import find_slots
from rnafold.model.folding import fold_examples
from rnafold.model.network import build_network
from rnafold.prediction import run as run_module
from rnafold.prediction import solver as solver_module
from rnafold.prediction.features import TolerantFeatures
from rnafold.prediction.losses import StepLosses
from rnafold.prediction.slots import load_slots
from rnafold.prediction.solver import CandidateSolver
from rnafold.structure import Candidate, Entry, Target, whole_chain
from rnafold.submission import read_submission
from rnafold.templates.library import Gate, TemplateLibrary
from rnafold.templates.sources import ModellingTask, Ranked, Sources


@pytest.fixture(scope="module")
def entries(tmp_path_factory: pytest.TempPathFactory) -> list[Entry]:
    folder = tmp_path_factory.mktemp("demo")
    write_demo_data(folder, num_train=5, num_test=2)
    return read_entries(folder / "train_sequences.csv", folder / "train_labels.csv")


def make_solver(entries: list[Entry], cache: Path, msa: tuple[Path, ...] = ()) -> CandidateSolver:
    torch.manual_seed(0)
    losses = StepLosses()
    return CandidateSolver(
        TolerantFeatures(DataConfig(cache=str(cache), jobs=1), msa, losses),
        Sources(TemplateLibrary.from_entries(entries), None),
        build_network(resolve_config("cpu", "minimal").model).eval(),
        0,
        load_slots(find_slots("default")),
        seed=0,
        losses=losses,
    )


def origins(picked: tuple[Candidate, ...]) -> set[str]:
    assert len(picked) == 5 and all(np.isfinite(c.coords).all() for c in picked)
    return {c.origin for c in picked}


def boom(*_: Any, **__: Any) -> Any:
    raise RuntimeError("planted")


@pytest.mark.parametrize(
    ("place", "step", "left"),
    [
        ("build_example", "network", {"template", "assembly"}),
        ("fold_examples", "network", {"template", "assembly"}),
        ("apply_jury", "jury", {"template", "assembly", "network"}),
        ("pick_five", "choice of five", {"template", "assembly", "network"}),
    ],
)
def test_a_step_that_fails_is_left_out(
    entries: list[Entry], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, step: str, left: set[str]
) -> None:
    solver = make_solver(entries, tmp_path)
    monkeypatch.setattr(solver_module, place, boom)
    assert origins(solver(entries[-1].target, 60.0)) <= left
    target_id = entries[-1].target.target_id
    assert solver.losses.causes == {step: [f"{target_id}: planted"]}


def test_templates_that_fail_leave_assemblies(
    entries: list[Entry], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rnafold.templates import single

    solver = make_solver(entries, tmp_path)
    real = vars(single)["rank_hits"]

    def fail_with_a_library(task: ModellingTask, seconds: float = math.inf) -> list[Ranked]:
        if task.sources.library.num_chains:
            boom()
        found: list[Ranked] = real(task, seconds)
        return found

    monkeypatch.setattr(single, "rank_hits", fail_with_a_library)
    assert origins(solver(entries[-1].target, 60.0)) <= {"assembly", "network"}
    assert list(solver.losses.causes) == ["templates"]


def test_only_the_end_of_time_passes(entries: list[Entry], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def late(*_: Any, **__: Any) -> Any:
        raise OutOfTime("planted")

    solver = make_solver(entries, tmp_path)
    monkeypatch.setattr(solver_module, "build_candidates", late)
    with pytest.raises(OutOfTime):
        solver(entries[-1].target, 60.0)
    assert not solver.losses.causes


def plant_memory(monkeypatch: pytest.MonkeyPatch, most: Callable[[str], int]) -> list[tuple[int, str]]:
    """Passes of more candidates than `most` of the device run out of memory; gives the passes that did not."""
    real = fold_examples
    done: list[tuple[int, str]] = []

    def fold(network: Any, examples: Any, recycles: int, device: str) -> Any:
        if len(examples) > most(device):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        done.append((len(examples), device))
        return real(network, examples, recycles, "cpu")

    monkeypatch.setattr(solver_module, "fold_examples", fold)
    return done


def test_out_of_memory_the_next_pass_is_smaller(
    entries: list[Entry], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    solver = make_solver(entries, tmp_path)
    solver.device = "card"
    done = plant_memory(monkeypatch, lambda device: 2)
    assert "network" in origins(solver(entries[-1].target, 600.0))
    assert {device for _, device in done} == {"card"} and max(size for size, _ in done) <= 2
    before = len(solver.losses.causes["memory of the card"])
    solver(replace(entries[-1].target, target_id="again"), 600.0)
    assert len(solver.losses.causes["memory of the card"]) == before, "the next target begins where this one ended"


def test_where_one_candidate_is_too_much_the_cpu_goes_on(
    entries: list[Entry], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    solver = make_solver(entries, tmp_path)
    solver.device = "card"
    done = plant_memory(monkeypatch, lambda device: 0 if device == "card" else 99)
    assert "network" in origins(solver(entries[-1].target, 600.0))
    assert {device for _, device in done} == {"cpu"} == {solver.device}
    assert list(solver.losses.causes) == ["memory of the card"]


def test_where_the_cpu_fails_too_the_candidates_stand(
    entries: list[Entry], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    solver = make_solver(entries, tmp_path)
    plant_memory(monkeypatch, lambda device: 0)
    assert origins(solver(entries[-1].target, 600.0)) <= {"template", "assembly"}
    assert "out of memory" in solver.losses.causes["network"][0]


def test_a_card_without_float64_is_asked_for_none(
    entries: list[Entry], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # as on Apple's cards: a float32 tensor of the card cannot become float64; on its way to the CPU it may
    monkeypatch.setattr(torch.Tensor, "double", boom)
    solver = make_solver(entries, tmp_path)
    assert "network" in origins(solver(entries[-1].target, 600.0))
    assert not solver.losses.causes


ALIGNMENTS = {
    "empty": "",
    "stockholm": "# STOCKHOLM 1.0\nq {q}\nb ACG\n//\n",
    "cut": ">q\n{q}\n>b\nACG",
    "another query": ">q\nACGU\n",
    "binary": "\x00\x01\x02",
}


@pytest.mark.parametrize("fault", ALIGNMENTS)
def test_an_alignment_that_cannot_be_read_costs_itself(entries: list[Entry], tmp_path: Path, fault: str) -> None:
    target = entries[-1].target
    text = ALIGNMENTS[fault].replace("{q}", target.sequence)
    (tmp_path / f"{target.target_id}.MSA.fasta").write_text(text)
    losses = StepLosses()
    features = TolerantFeatures(DataConfig(cache=str(tmp_path / "cache"), jobs=1), [tmp_path], losses)
    features.prepare([target, entries[0].target])
    assert features.alignment(target) == (None, None)
    alone = FeatureSource(DataConfig(cache=str(tmp_path / "other"), jobs=1))
    alone.prepare([target])
    np.testing.assert_array_equal(
        features.pairings[target.target_id].probabilities, alone.pairings[target.target_id].probabilities
    )
    assert list(losses.causes) == ["alignment"] and len(losses.causes["alignment"]) == 1


def test_a_readable_alignment_is_used(entries: list[Entry], tmp_path: Path) -> None:
    target = entries[-1].target
    (tmp_path / f"{target.target_id}.MSA.fasta").write_text(f">q\n{target.sequence}\n>b\n{target.sequence}\n")
    losses = StepLosses()
    features = TolerantFeatures(DataConfig(cache=str(tmp_path / "cache"), jobs=1), [tmp_path], losses)
    features.prepare([target])
    profile, scores = features.alignment(target)
    assert profile is not None and profile.shape == (target.length, 6) and scores is not None
    assert not losses.causes


def test_a_library_gets_a_share_of_the_time_that_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[float] = []

    def load(_folders: Any, _cache: Any, budget: Budget) -> Sources:
        given.append(budget.seconds)
        return Sources(TemplateLibrary.from_entries([]), None)

    monkeypatch.setattr(run_module, "load_sources", load)
    options = run_module.PredictOptions(
        test=tmp_path,
        sample=tmp_path,
        out=tmp_path,
        templates=(tmp_path,),
        deadline_minutes=2.0,
        began=80.0,
        clock=lambda: 100.0,
    )
    for one in (options, replace(options, deadline_minutes=None), replace(options, deadline_minutes=0.1)):
        run_module.load_all_sources(one, StepLosses())
    # 40 % of the 100 s that are left of two minutes; no end without a deadline; nothing after it
    assert given == [40.0, math.inf, 0.0]


def test_an_alignment_that_takes_too_long_is_used_as_far_as_it_was_read(
    entries: list[Entry], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    target = entries[-1].target
    rng = np.random.default_rng(0)
    rows = [target.sequence, *("".join(rng.choice(list("ACGU-"), target.length)) for _ in range(40))]
    text = [f">{number}\n{row}\n" for number, row in enumerate(rows)]
    (tmp_path / f"{target.target_id}.MSA.fasta").write_text("".join(text))
    asked: list[float] = []

    def clock() -> float:  # a second goes by whenever it is asked
        asked.append(1.0)
        return float(len(asked))

    config = DataConfig(cache=str(tmp_path / "cache"), jobs=1)
    features = TolerantFeatures(config, [tmp_path], StepLosses(), clock)
    with caplog.at_level(logging.WARNING):
        # 8 s of 100 are the alignment's: nine rows, the last of which is read when they are over
        features.prepare([target], 100.0)
    read = int(caplog.text.partition("not read beyond row ")[2].partition(",")[0])
    assert 5 <= read <= 10
    (tmp_path / "short").mkdir()
    (tmp_path / "short" / f"{target.target_id}.MSA.fasta").write_text("".join(text[:read]))
    short = TolerantFeatures(DataConfig(cache=str(tmp_path / "other"), jobs=1), [tmp_path / "short"], StepLosses())
    short.prepare([target])
    for found, wanted in zip(features.alignment(target), short.alignment(target)):
        assert found is not None and wanted is not None
        np.testing.assert_array_equal(found, wanted)
    # what was not read to its end is not taken for the whole the next time
    whole = TolerantFeatures(config, [tmp_path], StepLosses())
    whole.prepare([target])
    profile, short_profile = whole.alignment(target)[0], short.alignment(target)[0]
    assert profile is not None and short_profile is not None and not np.array_equal(profile, short_profile)


def test_pairs_folded_in_a_hurry_are_not_kept_and_kept_ones_are_used_in_a_hurry(tmp_path: Path) -> None:
    pytest.importorskip("RNA")
    sequence = "GGGGAACUUCGGUUCCCC" + "A" * 400
    target = Target(target_id="long", sequence=sequence, chains=whole_chain(len(sequence)))

    def sources(seconds: float) -> str:
        features = TolerantFeatures(DataConfig(cache=str(tmp_path), jobs=1), (), StepLosses())
        features.prepare([target], seconds)
        return features.pairings["long"].source

    assert [sources(0.1), sources(60.0), sources(0.1)] == ["viennarna in short windows", "viennarna", "viennarna"]


@pytest.mark.parametrize("cache", ["a file", "no room"])
def test_a_cache_that_cannot_be_used_costs_itself(
    entries: list[Entry], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: str
) -> None:
    folder = tmp_path / "cache"
    if cache == "a file":
        folder.write_text("x")
    else:
        from rnafold.features import cache as module

        monkeypatch.setattr(module, "save_arrays", lambda *_: boom())
        monkeypatch.setattr("rnafold.features.pairing_cache.save_arrays", lambda *_: boom())
    losses = StepLosses()
    features = TolerantFeatures(DataConfig(cache=str(folder), jobs=1), (), losses)
    features.prepare([entry.target for entry in entries])
    assert (features.pairings[entries[0].target.target_id].partner >= 0).any()
    assert list(losses.causes) == (["cache"] if cache == "a file" else ["base pairs"])


def predict(folder: Path, *options: str) -> int:
    return main(
        ["predict", "--test", str(folder / "test_sequences.csv"), "--sample", str(folder / "sample_submission.csv"),
         "--out", str(folder / "out.csv"), "--gpu", "cpu", "--cache", str(folder / "cache"), *options]
    )  # fmt: skip


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_demo_data(tmp_path, num_train=4, num_test=2)
    return tmp_path


def test_one_warning_a_run_counts_what_was_left_out(data: Path, caplog: pytest.LogCaptureFixture) -> None:
    (data / "cache").write_text("x")
    with caplog.at_level(logging.WARNING):
        assert predict(data, "--no-network") == 0
    lines = [record.getMessage() for record in caplog.records if "left out" in record.getMessage()]
    assert len(lines) == 1 and lines[0].startswith("cache: left out 1 times, first: ")


def test_a_library_that_fails_leaves_the_targets_without_templates(
    data: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "load_sources", boom)
    assert predict(data, "--no-network", "--templates", str(data)) == 0
    assert "templates: left out 1 times" in caplog.text


def test_a_network_that_cannot_be_loaded_leaves_the_candidates(
    data: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "load_network", boom)
    assert predict(data) == 0
    assert "network: left out 1 times" in caplog.text


def test_targets_without_a_cutoff_are_dated_today_or_as_stated(
    data: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = data / "test_sequences.csv"
    rows = [line.split(",") for line in path.read_text().splitlines()]
    place = rows[0].index("temporal_cutoff")
    for row in rows[1:]:
        if len(row) > place and row[0].startswith("D"):
            row[place] = ""
    path.write_text("\n".join(",".join(row) for row in rows) + "\n")
    assert all(target.cutoff is None for target in read_targets(path))
    gates: list[Gate | None] = []
    real = CandidateSolver.gate

    def spy(solver: CandidateSolver, target: Target) -> Gate | None:
        gates.append(real(solver, target))
        return gates[-1]

    monkeypatch.setattr(CandidateSolver, "gate", spy)
    caplog.set_level(logging.INFO)
    assert predict(data, "--no-network", "--templates", str(data)) == 0
    today = datetime.datetime.now(tz=datetime.UTC).date()
    assert {(gate.before, gate.undated) for gate in gates if gate} == {(today, True)}
    assert "(today; --before states another date)" in caplog.text
    gates.clear()
    assert predict(data, "--no-network", "--templates", str(data), "--before", "2020-01-03") == 0
    assert {gate.before for gate in gates if gate} == {datetime.date(2020, 1, 3)}
    assert "before 2020-01-03 (--before)" in caplog.text


def test_structures_without_a_date_are_counted_unless_a_date_is_stated(
    data: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = data / "mine"
    folder.mkdir()
    target = read_targets(data / "test_sequences.csv")[0]
    rows = [
        f"ATOM  {i:>5}  C1'   {letter} A{i:>4}    {5.0 * i:8.3f}{0.0:8.3f}{0.0:8.3f}  1.00  0.00           C"
        for i, letter in enumerate(target.sequence, start=1)
    ]
    (folder / "mine.pdb").write_text("\n".join([*rows, "END", ""]))
    for options, counted in ((), True), (("--before", "2100-01-01"), False):
        caplog.clear()
        assert predict(data, "--no-network", "--templates", str(folder), *options) == 0
        assert ("1 of 1 structures have no release date" in caplog.text) == counted
        record = (data / "out.predictions.json").read_text()
        assert ("mine_A" in record) != counted


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--msa", "nowhere"), "--msa nowhere: no such folder"),
        (("--seed", "-1"), "--seed -1: expected a whole number from 0 on"),
        (("--deadline-minutes", "nan"), "--deadline-minutes nan"),
    ],
)
def test_options_that_cannot_be_meant_are_one_line(
    data: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], words: str
) -> None:
    assert predict(data, *options) == 2
    assert words in capsys.readouterr().err
    assert not (data / "out.csv").exists()


def test_alignments_that_match_no_target_are_counted(data: Path, caplog: pytest.LogCaptureFixture) -> None:
    (data / "msa").mkdir()
    caplog.set_level(logging.INFO)
    assert predict(data, "--no-network", "--msa", str(data / "msa")) == 0
    assert "alignments of 0 of 2 targets" in caplog.text


def test_out_of_time_with_plain_strands_is_told_by_the_exit_code(data: Path) -> None:
    assert predict(data, "--no-network", "--deadline-minutes", "0.0001") == 3
    assert len(read_submission(data / "out.csv").groups) == 2
