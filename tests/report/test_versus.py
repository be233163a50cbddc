"""Two runs or submissions beside each other, the winners of places, pairs of reference and prediction; in a browser."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from rnafold.cli.main import main
from rnafold.errors import InputError
from rnafold.report import write_report
from rnafold.report.structures import build_pairs, collect_results
from rnafold.report.versus import flatten, write_versus_submission, write_winners
from rnafold.structure import Score
from rnafold.submission import PredictionRecord
from tests.pieces.browser import CHROMIUM, open_page
from tests.report.test_page import CONFIG, full_records, write_run, write_submission

PRESS = """
const root = document.documentElement;
const tabs = [...document.querySelectorAll('[role="tab"]')];
tabs[0].focus();
tabs[0].dispatchEvent(new KeyboardEvent("keydown", {key: "ArrowRight"}));
root.dataset.tab = tabs.findIndex((tab) => tab.getAttribute("aria-selected") === "true");
root.dataset.focus = tabs.indexOf(document.activeElement);
root.dataset.pairs = [...document.querySelectorAll("[data-pairs]")].map((one) => Number(!one.hidden)).join("");
const scene = document.getElementById("view-3d"), eye = () => JSON.stringify(scene._fullLayout.scene.camera.eye);
const before = eye();
scene.dispatchEvent(new KeyboardEvent("keydown", {key: "ArrowLeft"}));
root.dataset.turned = eye() !== before;
root.dataset.named = [...document.querySelectorAll(".plot, svg.arcs")].every((one) => one.getAttribute("aria-label"));
"""


def read_rows(page: str, table: str) -> list[list[str]]:
    body = re.search(rf'id=["\']{table}["\']>.*?<tbody>(.*?)</tbody>', page, re.DOTALL)
    assert body
    rows = re.findall(r"<tr>(.*?)</tr>", body.group(1), re.DOTALL)
    return [[re.sub(r"<.*?>", "", cell) for cell in re.findall(r"<td.*?>(.*?)</td>", row)] for row in rows]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("versus")
    run = write_run(folder / "one", full_records())
    submission, labels = write_submission(folder)
    lines = submission.read_text().splitlines()
    worse = [",".join([*line.split(",")[:3], *line.split(",")[-3:] * 5]) for line in lines[1:]]
    (folder / "worse.csv").write_text("\n".join([lines[0], *worse]) + "\n")
    return write_report(run, folder / "report.html", submission, labels, versus=folder / "worse.csv")


def test_a_second_submission_stands_beside_the_first(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    rows = read_rows(text, "versus-table")
    assert [row[0] for row in rows] == ["T1", "T2", "T3"]
    for row in rows:  # columns are rounded, and so is their difference
        assert float(row[4].replace("−", "-")) == pytest.approx(float(row[3]) - float(row[2]), abs=0.0011)
        assert float(row[2]) > float(row[3])
    mean = np.mean([float(row[4].replace("−", "-")) for row in rows])
    heading = re.search(r'id="versus"><h2>(.*?)</h2>', text)
    assert heading and f"worse {mean:+.3f}".replace("-", "−")[:10] in heading.group(1)
    assert "worse on 3" in text.replace("<b>", "")


def test_a_second_run_shows_its_curves_and_the_settings_that_differ(tmp_path: Path) -> None:
    one = write_run(tmp_path / "one", full_records())
    two = write_run(tmp_path / "two", full_records(), config=CONFIG.replace("seed: 7", "seed: 8"))
    assert main(["report", str(one), "--versus", str(two), "--out", str(tmp_path / "page.html")]) == 0
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert read_rows(text, "versus-settings") == [["train.seed", "7", "8"]]
    found = re.search(r'id="report-data">(.*?)</script>', text, re.DOTALL)
    assert found
    figures = {figure["id"]: figure for figure in json.loads(found.group(1))["figures"]}
    assert [line["name"] for line in figures["plot-versus-tm_score"]["data"]] == ["one", "two"]


def test_a_second_submission_without_labels_is_refused_in_one_line(tmp_path: Path) -> None:
    run = write_run(tmp_path / "one", full_records())
    with pytest.raises(InputError, match=r"--versus other.csv: a second submission needs --submission and --labels"):
        write_report(run, tmp_path / "page.html", versus=Path("other.csv"))


def test_winners_are_counted_by_source() -> None:
    scores = [
        Score(target_id="A", length=20, tm=(0.2, 0.6), reference=1),
        Score(target_id="B", length=20, tm=(0.5, 0.4), reference=1),
    ]

    def record(target: str, place: int, source: str) -> PredictionRecord:
        return PredictionRecord(target_id=target, prediction=place, origin="template", confidence=0.5, source=source)

    records = {name: (record(name, 1, ""), record(name, 2, "boltz")) for name in "AB"}
    text = write_winners(scores, records)
    # by hand: each source fills one place of each target; boltz's is the best of A, the template of B
    assert sorted(read_rows(text, "winners-table")) == [["boltz", "–", "2", "2", "1"], ["template", "2", "–", "2", "1"]]
    assert write_winners(scores, None) == ""


def test_one_target_has_no_interval_and_other_targets_are_refused() -> None:
    one = [Score(target_id="A", length=20, tm=(0.2,), reference=1)]
    text, figures = write_versus_submission(one, [Score(target_id="A", length=20, tm=(0.3,), reference=1)], ("a", "b"))
    assert "b +0.100 against a, on one target" in text and len(figures) == 1
    with pytest.raises(InputError, match="score different targets"):
        write_versus_submission(one, [Score(target_id="B", length=20, tm=(0.3,), reference=1)], ("a", "b"))


def test_pairs_of_a_perfect_prediction_are_all_kept(tmp_path: Path) -> None:
    from rnafold.data.demo import write_demo_data

    write_demo_data(tmp_path, num_train=2, num_test=1)
    labels = (tmp_path / "test_labels.csv").read_text().splitlines()
    sample = (tmp_path / "sample_submission.csv").read_text().splitlines()
    filled = [",".join([*row.split(",")[:3], *known.split(",")[3:6] * 5]) for row, known in zip(sample[1:], labels[1:])]
    (tmp_path / "perfect.csv").write_text("\n".join([sample[0], *filled]) + "\n")
    (result,) = collect_results(tmp_path / "perfect.csv", tmp_path / "test_labels.csv")
    pairs = build_pairs(result, result.reference.c1)
    assert pairs["num_true"] == pairs["num_found"] == pairs["num_both"] > 3
    assert pairs["drawing"].count('class="kept"') == pairs["drawing"].count('class="correct"') == pairs["num_true"]
    nothing = build_pairs(result, np.zeros_like(result.reference.c1))
    assert nothing["num_found"] == 0 and nothing["drawing"].count('class="missed"') == nothing["num_true"]


def test_nested_settings_are_flattened() -> None:
    assert flatten({"a": {"b": 1, "c": {"d": None}}, "e": [1, 2]}) == {"a.b": "1", "a.c.d": "None", "e": "[1, 2]"}


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium here (Debian: apt-get install chromium)")
def test_a_browser_shows_the_comparison_and_keys_move_tabs_and_view(page: Path) -> None:
    opened = open_page(page, PRESS)
    found = opened.data
    assert opened.said == [] and "errors" not in found
    assert found["tab"] == found["focus"] == "1" and found["pairs"] == "010"
    assert found["turned"] == found["named"] == "true"
