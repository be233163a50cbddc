"""Targets dealt over processes, parts merged into one valid file, and nothing lost when a process dies."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from rnafold.data.demo import write_demo_data
from rnafold.errors import InputError
from rnafold.prediction import shards
from rnafold.prediction.shards import ShardedPrediction, Worker, deal_targets, split_rows
from rnafold.structure import Candidate, Chain, Target
from rnafold.submission import (
    check_submission,
    list_defects,
    read_records,
    read_sample,
    read_submission,
    records_path,
    write_records,
    write_submission,
)
from rnafold.submission.provenance import describe_candidates

CPU = Worker(card="", gpu="cpu")
# Stands in for `predict`: writes 1.0 everywhere, after a body that may end it first.
FAKE = """
import csv, os, signal, sys, time
arguments = dict(zip(sys.argv[1::2], sys.argv[2::2]))
rows = list(csv.reader(open(arguments["--sample"])))
names = {row[0].rpartition("_")[0] for row in rows[1:]}
def write(value):
    with open(arguments["--out"] + ".tmp", "w") as file:
        writer = csv.writer(file, lineterminator="\\n")
        writer.writerow(rows[0])
        writer.writerows(row[:3] + [value] * 15 for row in rows[1:])
    os.replace(arguments["--out"] + ".tmp", arguments["--out"])
"""


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    def install(body: str) -> None:
        script = tmp_path / "fake.py"
        script.write_text(FAKE + body)
        monkeypatch.setattr(shards, "PREDICT", (sys.executable, "-S", str(script)))

    return install


def prepare(tmp_path: Path, num_test: int = 4) -> ShardedPrediction:
    data = tmp_path / "data"
    write_demo_data(data, num_train=1, num_test=num_test)
    test, sample = data / "test_sequences.csv", data / "sample_submission.csv"
    return ShardedPrediction(test, sample, tmp_path / "submission.csv", tmp_path / "parts")


def assert_valid(tmp_path: Path) -> None:
    assert (
        list_defects(check_submission(tmp_path / "submission.csv", tmp_path / "data" / "sample_submission.csv")) == []
    )


def is_ones(tmp_path: Path, target_id: str) -> bool:
    return bool(np.all(read_submission(tmp_path / "submission.csv").predictions(target_id) == 1.0))


def make_target(name: str, length: int) -> Target:
    chain = Chain(chain_id="A", start=0, stop=length, copy=1)
    return Target(target_id=name, sequence="A" * length, chains=(chain,))


def test_targets_are_dealt_so_that_no_group_has_much_more_work() -> None:
    # efforts are 500 + 100, 220 + 100, 60 + 100 and 40 + 100: 600 against 320 + 160 + 140 = 620
    targets = [make_target(f"T{n}", n) for n in (40, 500, 60, 220)]
    groups = deal_targets(targets, 2)
    assert [[t.target_id for t in group] for group in groups] == [["T500"], ["T220", "T60", "T40"]]
    assert [len(g) for g in deal_targets(targets, 9)] == [1, 1, 1, 1]


def test_a_valid_file_stands_before_any_process_began(tmp_path: Path) -> None:
    prepare(tmp_path)
    assert_valid(tmp_path)


def test_parts_of_two_processes_are_merged_in_the_order_of_the_sample(
    tmp_path: Path, fake: Callable[[str], None]
) -> None:
    fake("write(1.0)")
    outcome = prepare(tmp_path).run([CPU, CPU], None)
    assert_valid(tmp_path)
    assert outcome.improved == ("DX001", "DX002", "DX003", "DX004")
    assert outcome.deaths == 0
    assert all(is_ones(tmp_path, name) for name in outcome.improved)
    assert len(list((tmp_path / "parts").glob("part_*"))) == 2


def test_a_target_that_kills_its_process_costs_itself_alone(tmp_path: Path, fake: Callable[[str], None]) -> None:
    fake("if 'DX003' in names: os.kill(os.getpid(), signal.SIGKILL)\nwrite(1.0)")
    outcome = prepare(tmp_path, num_test=6).run([CPU, CPU], None)
    assert_valid(tmp_path)
    assert outcome.fallback == ("DX003",)
    assert outcome.improved == ("DX001", "DX002", "DX004", "DX005", "DX006")
    # three targets a process: the group of three dies, then a half of two or one, down to the one
    assert 2 <= outcome.deaths <= 3


def test_a_process_that_refuses_its_input_once_is_tried_once_more(tmp_path: Path, fake: Callable[[str], None]) -> None:
    fake(
        "mark = arguments['--cache'] + '.tried'\nif not os.path.exists(mark): open(mark, 'w'); sys.exit(2)\nwrite(1.0)"
    )
    outcome = prepare(tmp_path).run([CPU], None)
    assert (outcome.deaths, len(outcome.improved)) == (1, 4)


def test_what_a_process_wrote_before_it_died_is_kept_when_the_second_try_finds_less(
    tmp_path: Path, fake: Callable[[str], None]
) -> None:
    # the first process improves everything and dies; later ones die at once
    fake("if len(names) == 4: write(1.0)\nos.kill(os.getpid(), signal.SIGKILL)")
    outcome = prepare(tmp_path).run([CPU], None)
    assert_valid(tmp_path)
    assert len(outcome.improved) == 4
    assert outcome.fallback == ()


def test_a_process_that_overruns_its_deadline_is_stopped_and_its_part_kept(
    tmp_path: Path, fake: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "LEAST_SECONDS", 0.5)
    fake("write(1.0)\ntime.sleep(600)")
    # both processes sleep ten minutes, longer than a test may take
    outcome = prepare(tmp_path).run([CPU, CPU], 4.0)
    assert len(outcome.improved) == 4
    assert_valid(tmp_path)


def test_without_time_nothing_is_started_and_the_file_stays_valid(tmp_path: Path, fake: Callable[[str], None]) -> None:
    fake("write(1.0)")
    outcome = prepare(tmp_path).run([CPU], 3.0)
    assert outcome.improved == ()
    assert_valid(tmp_path)


def test_the_records_of_parts_become_one_and_a_part_without_one_leaves_none(tmp_path: Path) -> None:
    sharded = prepare(tmp_path)
    merger, targets = sharded.merger, sharded.targets
    for number, group in enumerate((targets[:2], targets[2:])):
        part, sample_path = tmp_path / f"part{number}.csv", tmp_path / f"sample{number}.csv"
        names = {target.target_id for target in group}
        split_rows(sharded.sample_path, group, sample_path, lambda cell: cell.rpartition("_")[0])
        write_submission(part, read_sample(sample_path), {t.target_id: np.ones((5, t.length, 3)) for t in group})
        if number == 0:
            made = [Candidate(coords=np.ones((1, 3)), origin="other", confidence=0.4, source="Boltz")] * 5
            write_records(part, {name: describe_candidates(name, made) for name in names})
        assert merger.take(part, group)
        merger.write()
        if number == 0:
            records = read_records(records_path(merger.out), merger.out)
            sources = {name: {row.source for row in rows} for name, rows in records.items()}
            assert sources == {t.target_id: {"Boltz"} if t in group else {""} for t in targets}
    assert not records_path(merger.out).exists()


def test_half_a_part_or_one_with_strange_rows_is_left_alone(tmp_path: Path) -> None:
    sharded = prepare(tmp_path)
    part = tmp_path / "part.csv"
    lines = (tmp_path / "submission.csv").read_text().splitlines()
    for content in ("", lines[0], "\n".join(lines[:-1]), "\n".join([*lines, lines[-1]]), "\n".join(lines)[:-4] + '"'):
        part.write_text(content)
        assert sharded.merger.take(part, sharded.targets) is False
    part.write_text("\n".join(lines))
    assert sharded.merger.take(part, sharded.targets) is True


def test_an_option_that_predict_refuses_is_told_in_one_line(tmp_path: Path) -> None:
    sharded = prepare(tmp_path, num_test=1)
    with pytest.raises(InputError, match="no such weights file"):
        sharded.run([CPU], None, ["--weights", str(tmp_path / "absent.safetensors")])
    assert_valid(tmp_path)


def test_a_worker_sees_its_own_card_and_its_share_of_the_processors() -> None:
    environment = Worker(card="1", gpu="auto").environment(2)
    assert environment["CUDA_VISIBLE_DEVICES"] == "1"
    assert environment["OMP_NUM_THREADS"] == str(max(1, (os.cpu_count() or 1) // 2))


def test_test_rows_with_quoted_line_breaks_are_copied_whole(tmp_path: Path) -> None:
    source, out = tmp_path / "test.csv", tmp_path / "out.csv"
    source.write_text('target_id,sequence,all_sequences\nA,ACGU,">x\nACGU"\nB,GG,">y\nGG"\n')
    shards.split_rows(source, [make_target("B", 2)], out, lambda cell: cell)
    assert out.read_text() == 'target_id,sequence,all_sequences\nB,GG,">y\nGG"\n'


def test_no_test_rows_are_an_error(tmp_path: Path) -> None:
    data = tmp_path / "data"
    write_demo_data(data, num_train=1, num_test=1)
    for name in ("test_sequences.csv", "sample_submission.csv"):
        (data / name).write_text((data / name).read_text().splitlines()[0] + "\n")
    with pytest.raises(InputError):
        ShardedPrediction(
            data / "test_sequences.csv", data / "sample_submission.csv", tmp_path / "s.csv", tmp_path / "p"
        )


@pytest.mark.slow
def test_two_real_processes_share_the_targets_of_the_demo(tmp_path: Path) -> None:
    sharded = prepare(tmp_path, num_test=3)
    outcome = sharded.run([CPU, CPU], 120.0)
    assert_valid(tmp_path)
    assert len(outcome.improved) == 3
    logs = [path.read_text() for path in sorted((tmp_path / "parts").glob("*/log.txt"))]
    assert len(logs) == 2 and all("predictions:" in text for text in logs)
