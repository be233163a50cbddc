"""Candidates from all sources behind the gate, the choice of five, and the starts that training sees."""

import datetime
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rnafold.cli.main import main
from rnafold.config.settings import DataConfig, resolve_config
from rnafold.data.competition import read_entries
from rnafold.data.demo import write_demo_data
from rnafold.errors import InputError
from rnafold.features import alternatives
from rnafold.features.pairing_cache import PairingCache
from rnafold.features.source import FeatureSource
from rnafold.files.shipped import find_slots
from rnafold.model.network import PairNetwork, build_network
from rnafold.prediction.features import TolerantFeatures
from rnafold.prediction.losses import StepLosses
from rnafold.prediction.slots import load_slots
from rnafold.prediction.solver import CandidateSolver, turns_stems
from rnafold.structure import Candidate, Entry, Origin
from rnafold.templates.library import TemplateLibrary
from rnafold.templates.pipeline import build_candidates
from rnafold.templates.sources import ModellingTask, Sources
from rnafold.training.start_library import StartLibrary


@pytest.fixture(scope="module")
def entries(tmp_path_factory: pytest.TempPathFactory) -> list[Entry]:
    folder = tmp_path_factory.mktemp("demo")
    write_demo_data(folder, num_train=9, num_test=3)
    return read_entries(folder / "train_sequences.csv", folder / "train_labels.csv")


def make_solver(entries: list[Entry], tmp_path: Path, slots: str = "default", network: bool = True) -> CandidateSolver:
    torch.manual_seed(0)
    return CandidateSolver(
        TolerantFeatures(DataConfig(cache=str(tmp_path), jobs=1), [], StepLosses()),
        Sources(TemplateLibrary.from_entries(entries), None),
        build_network(resolve_config("cpu", "minimal").model).eval() if network else None,
        0,
        load_slots(find_slots(slots)),
        seed=0,
    )


@pytest.mark.parametrize("slots", ["network", "template", "assembly"])
def test_a_slots_name_decides_where_the_five_come_from(entries: list[Entry], tmp_path: Path, slots: str) -> None:
    # the youngest entry may see the eight older ones
    target = entries[-1].target
    picked = make_solver(entries, tmp_path, slots)(target, 60.0)
    assert len(picked) == 5
    assert all(c.coords.shape == (target.length, 3) and np.isfinite(c.coords).all() for c in picked)
    assert {c.origin for c in picked} == {slots}


def test_alternatives_are_assembled_and_the_next_target_is_begun_with(
    entries: list[Entry], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, third = (entry.target for entry in entries[:3])
    flat = np.full(first.length, -1, np.int64)
    begun: list[tuple[str, float]] = []
    monkeypatch.setattr(alternatives, "fold_with_squarna", lambda strands, seconds: (flat,))
    monkeypatch.setattr(alternatives, "begin_with_squarna", lambda strands, seconds: begun.append((strands, seconds)))
    solver = make_solver([], tmp_path, network=False)
    solver.following = {first.target_id: (second, third)}
    task = solver.prepare(first, 60.0)
    notes = [one.note for one in build_candidates(task, num_templates=0)]
    assert any(note.startswith("SQUARNA 1, ") for note in notes) and not begun
    assert {c.origin for c in solver(first, 60.0)} == {"assembly"}
    assert begun == [(second.sequence, 9.0), (third.sequence, 9.0)]


def test_without_a_network_and_a_library_assemblies_remain(entries: list[Entry], tmp_path: Path) -> None:
    picked = make_solver([], tmp_path, network=False)(entries[0].target, 60.0)
    assert {c.origin for c in picked} == {"assembly"}


def test_the_gate_follows_the_targets_cutoff_and_can_be_switched_off(entries: list[Entry], tmp_path: Path) -> None:
    solver = make_solver(entries, tmp_path)
    gate = solver.gate(entries[3].target)
    assert gate is not None and gate.before == datetime.date(2020, 1, 4)
    # three demo entries are older than the fourth
    assert solver.sources.library.allowed(gate).sum() == 3
    with pytest.raises(InputError, match="temporal_cutoff"):
        solver.gate(replace(entries[3].target, cutoff=None))
    solver.gated = False
    assert solver.gate(entries[3].target) is None


def test_no_date_gate_wants_its_typed_confirmation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_demo_data(tmp_path, num_train=3, num_test=1)
    files = ["--test", str(tmp_path / "test_sequences.csv"), "--sample", str(tmp_path / "sample_submission.csv")]
    code = main(["predict", *files, "--out", str(tmp_path / "out.csv"), "--no-date-gate", "yes"])
    assert code == 2 and "scores-will-be-inflated" in capsys.readouterr().err
    assert not (tmp_path / "out.csv").exists()


def test_an_unknown_slots_name_lists_the_known_ones() -> None:
    with pytest.raises(InputError, match="known: default, assembly, network, template"):
        find_slots("networks")


def test_training_starts_never_come_from_the_chains_own_group_or_future(
    entries: list[Entry], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rnafold.training import start_library

    seen = []
    original = build_candidates

    def spy(task: ModellingTask, **options: Any) -> list[Candidate]:
        assert task.gate is not None
        library = task.sources.library
        dates = [library.chain_date(int(k)) for k in np.flatnonzero(library.allowed(task.gate))]
        seen.append((task.target, task.gate, dates))
        return original(task, **options)

    monkeypatch.setattr(start_library, "build_candidates", spy)
    grouped = [replace(e, group="twins" if k in (1, 5) else f"g{k}") for k, e in enumerate(entries)]
    library = StartLibrary(grouped, tmp_path, num_templates=1, num_assemblies=2, seed=0)
    pairings = PairingCache(tmp_path / "pairs")
    made = library.build(grouped, pairings)
    assert made.count_ready() == len(made) == len(grouped)
    for target, gate, dates in seen:
        assert gate.groups and target.cutoff is not None and all(date < target.cutoff for date in dates)
    assert next(gate for target, gate, _ in seen if target.target_id == "DT006").groups == {"twins"}
    again = StartLibrary(grouped, tmp_path, num_templates=1, num_assemblies=2, seed=0).build(grouped, pairings)
    assert len(seen) == len({e.target.sequence for e in grouped}), "the second time everything came from the cache"
    for entry in grouped:
        one, other = (store.window(entry.target, 0, entry.target.length) for store in (made, again))
        assert one is not None and other is not None
        assert np.array_equal(one.coords, other.coords) and (np.diff(one.confidence) <= 0).all()


def test_alignments_give_profiles_from_the_cache_and_covariation(entries: list[Entry], tmp_path: Path) -> None:
    target = entries[0].target
    (tmp_path / "MSA").mkdir()
    rows = [target.sequence, "G" + target.sequence[1:], "-" + target.sequence[1:]]
    text = "".join(f">{k}\n{row}\n" for k, row in enumerate(rows))
    (tmp_path / "MSA" / f"{target.target_id}.MSA.fasta").write_text(text)
    features = FeatureSource(DataConfig(cache=str(tmp_path / "cache"), jobs=1), [tmp_path])
    features.prepare([target, entries[1].target])
    profile, scores = features.alignment(target)
    assert profile is not None and scores is not None
    # a column without variation is all one letter; the gap of row 3 takes weight from the first column alone
    assert profile[1].max() == pytest.approx(1.0) and profile[0, 5] > 0.1
    assert scores.shape == (target.length, target.length)
    assert list((tmp_path / "cache").glob("*.profile.npz"))
    assert features.alignment(entries[1].target) == (None, None)


def candidates_of(solver: CandidateSolver, entry: Entry) -> tuple[ModellingTask, list[Candidate]]:
    task = solver.prepare(entry.target)
    return task, build_candidates(task, num_templates=2, num_assemblies=3)


def test_the_network_weighs_in_on_every_candidate_that_it_refines(entries: list[Entry], tmp_path: Path) -> None:
    solver = make_solver(entries, tmp_path)
    task, made = candidates_of(solver, entries[-1])
    rated, refined = solver.refine(task, made, np.inf)
    assert len(rated) == len(made)
    assert len(refined) == sum(c.origin == "assembly" for c in made), "templates are rated but not refined"
    assert all(np.array_equal(a.coords, b.coords) for a, b in zip(made, rated))
    # a fresh confidence head repeats the confidence that the start came with, give or take its noise
    assert all(0 < abs(a.confidence - b.confidence) < 0.05 for a, b in zip(made, rated))
    assert all(c.origin == "network" and "from " in c.note for c in refined)
    # in turns: the most confident assembly, the most confident template
    assert [c.origin for c in solver.choose_starts(made)[:2]] == ["assembly", "template"]


def test_a_template_goes_through_without_recycle(entries: list[Entry], tmp_path: Path) -> None:
    solver = make_solver(entries, tmp_path)
    task, made = candidates_of(solver, entries[-1])
    seen: list[tuple[int, int]] = []
    network = solver.network
    assert isinstance(network, PairNetwork)
    handle = network.register_forward_pre_hook(lambda _, arguments: seen.append((len(arguments[0].mask), arguments[1])))
    solver.recycles = 2
    solver.refine(task, made, np.inf)
    handle.remove()
    kinds = [c.origin for c in made]
    assert sum(count for count, recycles in seen if recycles == 0) == kinds.count("template")
    assert sum(count for count, recycles in seen if recycles == 2) == kinds.count("assembly")


def test_the_time_of_a_refinement_is_foretold_by_its_passes(
    entries: list[Entry], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock that counts passes x pairs of residues: what fits before `stop` is done, and not one more."""
    solver = make_solver(entries, tmp_path)
    task, made = candidates_of(solver, entries[-1])
    pairs = task.target.length**2
    clock = [0.0]
    fold = CandidateSolver._fold

    def slow(self: CandidateSolver, task: ModellingTask, starts: Any, candidates: Any) -> Any:
        clock[0] += pairs * sum(1 + self.count_recycles(start) for start in starts)
        return fold(self, task, starts, candidates)

    monkeypatch.setattr(CandidateSolver, "_fold", slow)
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    solver.pairs_at_once = 1  # one candidate at a time
    solver.recycles = 3
    kinds = [c.origin for c in solver.choose_starts(made)]
    assert kinds[:3] == ["assembly", "template", "assembly"], "4, 1 and 4 passes"
    solver.refine(task, made, np.inf)
    assert solver.seconds_per_effort == pytest.approx(1.0)
    clock[0] = 0.0
    rated, refined = solver.refine(task, made, 8.5 * pairs)
    assert clock[0] == 5 * pairs, "the second assembly would end at 9"
    assert len(refined) == 1 and sum(a.confidence != b.confidence for a, b in zip(made, rated)) == 2


def test_out_of_time_the_candidates_keep_their_confidence(entries: list[Entry], tmp_path: Path) -> None:
    solver = make_solver(entries, tmp_path)
    task, made = candidates_of(solver, entries[-1])
    rated, refined = solver.refine(task, made, 0.0)
    assert refined == [] and [c.confidence for c in rated] == [c.confidence for c in made]


def test_a_long_target_gets_fewer_passes_but_never_fewer_than_two(entries: list[Entry], tmp_path: Path) -> None:
    solver = make_solver(entries, tmp_path)
    origins: tuple[Origin, ...] = ("assembly", "template")
    made = [
        Candidate(coords=np.zeros((length, 3)), origin=origin, confidence=0.5)
        for length in (150, 300, 4000)
        for origin in origins
        for _ in range(30)
    ]
    # 16 passes at 150 residues, a quarter of that at twice the length
    passes = [len(solver.choose_starts(made[first : first + 60])) for first in (0, 60, 120)]
    assert passes == [16, 4, 2]


def test_a_refinement_that_mirrors_a_stem_is_noticed(entries: list[Entry], tmp_path: Path) -> None:
    solver = make_solver(entries, tmp_path)
    task, made = candidates_of(solver, entries[-1])
    start = next(c for c in made if c.origin == "assembly").coords
    assert not turns_stems(task, start, start + 5.0)
    assert turns_stems(task, start, start * np.array([1.0, 1.0, -1.0]))
    # mending a mirrored start is welcome
    assert not turns_stems(task, start * np.array([1.0, 1.0, -1.0]), start)
