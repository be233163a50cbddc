"""Targets that are odd in one place: the run finishes without that place, and names the target."""

import csv
import logging
from pathlib import Path

import numpy as np
import pytest

from rnafold.cli.main import main
from rnafold.data.demo import write_demo_data
from rnafold.files.metrics import read_metrics
from rnafold.files.run_folder import RunFolder
from tests.faults.kills import train_arguments

# More than are folded in one piece; `make faults` takes 200,000.
LONG = 20_100


def spoil(data: Path, length: int) -> None:
    """A NaN in DT001, a -1e18 beside two real axes in DT002, and a chain DTLONG of `length` residues."""
    path = data / "train_labels.csv"
    with path.open(encoding="utf-8") as file:
        rows = list(csv.reader(file))
    cells = {row[0]: row for row in rows}
    cells["DT001_5"][4], cells["DT002_6"][5] = "nan", "-1e18"
    rng = np.random.default_rng(0)
    letters = "".join(rng.choice(list("ACGU"), length))
    points = np.cumsum(rng.normal(scale=3.0, size=(length, 3)), axis=0)
    rows += [
        [f"DTLONG_{index + 1}", letter, str(index + 1), *(f"{value:.3f}" for value in point)]
        for index, (letter, point) in enumerate(zip(letters, points))
    ]
    with path.open("w", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
    with (data / "train_sequences.csv").open("a", encoding="utf-8") as file:
        file.write(f"DTLONG,{letters},2020-02-02,long,\n")


@pytest.mark.slow
def test_a_run_with_three_odd_targets_finishes_and_names_them(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = tmp_path / "data"
    write_demo_data(data, num_train=6, num_test=1)
    spoil(data, LONG)
    with caplog.at_level(logging.INFO):
        assert main(train_arguments(data, tmp_path, "train.epochs=1")) == 0
    assert "DT001 (row 5), DT002 (row" in caplog.text
    assert "read as unresolved" in caplog.text
    assert f"DTLONG ({LONG:,})" in caplog.text
    records = read_metrics(RunFolder(tmp_path / "run").metrics_file)
    assert all(record["skipped_steps"] == 0 for record in records if record["kind"] == "train")
