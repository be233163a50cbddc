"""The report: from run folders of every age, self-contained, with figures that agree with the scorer; in a browser."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest

from rnafold.cli.main import main
from rnafold.data.mmcif import read_structure_file
from rnafold.errors import InputError
from rnafold.files.run_folder import read_run, thin_curve
from rnafold.report import write_report
from rnafold.report.curves import describe_change
from rnafold.report.run_sections import write_plan
from rnafold.report.structures import (
    TargetResult,
    build_view,
    choose_targets,
    collect_results,
    find_contact_map,
    measure_quality,
    superpose_result,
)
from rnafold.structure import Candidate, Chain, Score, structure_from_points, whole_chain
from rnafold.submission import COLUMNS, PredictionRecord, read_submission, write_records
from rnafold.submission.pool import write_pool
from tests.pieces.browser import CHROMIUM, open_page

CONFIG = "model:\n  name: minimal\ntrain:\n  seed: 7\nhardware:\n  name: any CPU\n  memory:\n    total_gib: 8.0\n"
TERMS = {"superposed": 2.0, "bond": 0.5}


def build_walk(length: int, seed: int) -> np.ndarray:
    """A chain (L, 3) of 5.5 Å steps that keep their direction for a while."""
    steps = np.random.default_rng(seed).normal(size=(length, 3))
    for index in range(1, length):
        steps[index] += 0.8 * steps[index - 1]
    return np.cumsum(5.5 * steps / np.linalg.norm(steps, axis=1, keepdims=True), axis=0)


def train_record(step: int, **changes: Any) -> dict[str, Any]:
    record = {
        "kind": "train", "step": step, "epoch": step / 10, "loss": 5.0 - step / 100,
        **{name: value * (1 - step / 400) for name, value in TERMS.items()},
        "learning_rate": 1e-3, "grad_norm": 3.0, "residues_per_second": 1500.0, "peak_memory_gib": 0.4,
        "step_seconds": 0.2, "elapsed_seconds": 18.0 * step, "micro_batch": 2, "skipped_steps": 0,
        "micro_batch_seconds_by_length": {"32": [2, 0.4, 4], "64": [1, 0.5, 2]},
    }  # fmt: skip
    return record | changes


def write_run(
    folder: Path, records: list[dict[str, Any]], plan: dict[str, Any] | None = None, config: str = CONFIG
) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(config)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    baselines = {"zeros": 0.03, "straight_line": 0.07, "start": 0.3}
    (folder / "run.json").write_text(json.dumps({"train": {"entries": 72}, "baselines_tm_score": baselines}))
    if plan is not None:
        (folder / "plan.json").write_text(json.dumps(plan))
    return folder


def full_records() -> list[dict[str, Any]]:
    evaluation = {"kind": "evaluation", "validation_bond": 0.1, "tm_by_target": {"V1": 0.5, "V<2>": 0.3}}
    records = [train_record(step) for step in range(5, 205, 5)]
    records.append(train_record(205, loss=float("nan"), grad_norm=float("inf"), skipped_steps=2))
    return [*records, *({**evaluation, "step": s, "tm_score": s / 500} for s in (50, 100, 200))]


def write_submission(folder: Path, num_targets: int = 3) -> tuple[Path, Path]:
    """Targets of 20, 25, 30 .. residues; prediction k is the turned reference with noise that grows with k."""
    folder.mkdir(parents=True, exist_ok=True)
    turn = np.linalg.qr(np.random.default_rng(5).normal(size=(3, 3)))[0]
    turn *= np.sign(np.linalg.det(turn))
    labels, rows = ["ID,resname,resid,x_1,y_1,z_1"], [",".join(COLUMNS)]
    for number in range(1, num_targets + 1):
        reference = build_walk(15 + 5 * number, number)
        noise = np.random.default_rng(number).normal(size=(5, *reference.shape))
        models = (reference + noise * np.arange(5)[:, None, None] * 1.5) @ turn.T + 9.0
        for i, point in enumerate(reference):
            shown = ",,," if number == 1 and i == 3 else "," + ",".join(f"{v:.3f}" for v in point)
            labels.append(f"T{number}_{i + 1},{'GACU'[i % 4]},{i + 1}{shown}")
            rows.append(f"T{number}_{i + 1},{'GACU'[i % 4]},{i + 1}," + ",".join(f"{v:.3f}" for v in models[:, i].flat))
    paths = folder / "submission.csv", folder / "labels.csv"
    paths[0].write_text("\n".join(rows) + "\n")
    paths[1].write_text("\n".join(labels) + "\n")
    return paths


def read_data(page: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="report-data">(.*?)</script>', page, re.DOTALL)
    assert found
    content: dict[str, Any] = json.loads(found.group(1))
    return content


def read_headings(page: str) -> list[str]:
    return re.findall(r"<h2>(.*?)</h2>", page)


class Loads(HTMLParser):
    """Everything that a browser would fetch, and the ids of the plots."""

    def __init__(self) -> None:
        super().__init__()
        self.urls: list[str] = []
        self.plots: list[str] = []
        self.styles = ""
        self.in_style = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.in_style = tag == "style"
        self.urls += [str(found[name]) for name in ("src", "href", "srcset", "data", "action") if found.get(name)]
        if found.get("class") == "plot":
            self.plots.append(str(found["id"]))

    def handle_endtag(self, tag: str) -> None:
        self.in_style = False

    def handle_data(self, data: str) -> None:
        if self.in_style:
            self.styles += data


@pytest.fixture(scope="module")
def full_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    plan = {"hours": {"expected": 1.0, "low": 0.8, "high": 1.3, "parts": {"steps": 0.9}}, "memory": {"peak_gib": 0.5}}
    run = write_run(folder / "long", full_records(), plan)
    submission, labels = write_submission(folder)
    write_expectations(submission, [[0.9, 0.7, 0.5, 0.3, 0.1]] * 3)
    return write_report(run, folder / "report.html", submission, labels)


def test_the_page_holds_plotly_once_and_loads_nothing(full_page: Path) -> None:
    text = full_page.read_text(encoding="utf-8")
    loads = Loads()
    loads.feed(text)
    assert text.count("Copyright 2012-") == text.count("* plotly.js v") == 1
    assert loads.urls == ["data:,"]  # the empty icon, so that no browser asks for one
    assert "url(" not in loads.styles and "@import" not in loads.styles
    assert full_page.stat().st_size < 6 * 2**20


def test_every_plot_container_has_a_figure_that_plotly_accepts(full_page: Path) -> None:
    text = full_page.read_text(encoding="utf-8")
    loads = Loads()
    loads.feed(text)
    data = read_data(text)
    names = [figure["id"] for figure in data["figures"]]
    assert sorted([*names, "view-3d", "view-map", "view-errors"]) == sorted(loads.plots)
    for figure in data["figures"]:
        checked = json.loads(json.dumps(figure).replace('"var(--soft)"', '"#777"').replace('"var(--faint)"', '"#bbb"'))
        go.Figure(data=checked["data"], layout=checked["layout"])  # raises on an unknown key
        for axis in ("xaxis", "yaxis"):
            assert figure["layout"][axis]["title"]["text"], figure["id"]


def test_the_pages_scores_are_the_scorers(full_page: Path, tmp_path: Path) -> None:
    submission, labels = write_submission(tmp_path)
    data = read_data(full_page.read_text(encoding="utf-8"))
    by_id = {view["id"]: view for view in data["views"]}
    for result in collect_results(submission, labels):
        view = by_id[result.score.target_id]
        assert view["tm"] == pytest.approx(result.score.tm, abs=1e-6)
        # prediction 1 is the reference, turned and moved
        assert view["best"] == 0 and view["tm"][0] == pytest.approx(1.0, abs=1e-4 if view["id"] != "T1" else 1e-3)
        assert max(error for error in view["errors"][0] if error is not None) == 0
        assert view["map"]["missed"] == view["map"]["wrong"] == []
        errors = [np.mean([e for e in row if e is not None]) for row in view["errors"]]
        assert errors[4] > errors[1] > errors[0]
    # residue 4 of T1 is not resolved: neither drawn nor given an error
    assert by_id["T1"]["reference"][9:12] == [None] * 3 and by_id["T1"]["errors"][0][3] is None


def test_headings_say_what_was_found(full_page: Path) -> None:
    headings = read_headings(full_page.read_text(encoding="utf-8"))
    assert headings[0].startswith("Mean TM-score 1.000 over 3 targets, from")
    assert headings[1] == "The best predictions keep 100 % of the contacts of these 3 targets"
    assert headings[2].startswith("Expected TM-scores are 0.") and headings[2].endswith(" over 15 predictions")
    assert headings.pop(3) == "template gives the best prediction of 3 of 3 targets"
    assert headings[3] == "Validation TM-score reached 0.400, above every baseline (start structures 0.300)"
    assert headings[4] == "2 of 2 loss terms fell"
    assert headings[5].endswith("2 steps skipped")
    # 205 steps x 18 s = 3690 s = 1.025 h
    assert headings[6] == "Took 1.02 h against 1 h planned: inside the planned range"


def write_expectations(submission: Path, expected: list[list[float | None]]) -> Path:
    """Records beside a submission, a list a target: the first two predictions templates, the others assemblies."""
    records = {
        f"T{k}": tuple(
            PredictionRecord(
                target_id=f"T{k}",
                prediction=number,
                origin="fallback" if value is None else "template" if number <= 2 else "assembly",
                confidence=value,
            )
            for number, value in enumerate(row, start=1)
        )
        for k, row in enumerate(expected, start=1)
    }
    return write_records(submission, records)


def read_reliability(page: str) -> tuple[str, str, dict[str, Any]]:
    found = re.search(r'<section id="reliability"><h2>(.*?)</h2>(.*?)</section>', page, re.DOTALL)
    assert found
    return found.group(1), found.group(2), {figure["id"]: figure for figure in read_data(page)["figures"]}


def test_expected_scores_stand_against_achieved_ones_with_r_error_and_bins(tmp_path: Path) -> None:
    submission, labels = write_submission(tmp_path)
    achieved = [result.score.tm for result in collect_results(submission, labels)]
    # expected 0.05 too high or too low in turns, so that the mean absolute error is 0.05 and the bias that of 7 of 13
    signs = iter([1, -1] * 7)
    expected = [
        [None if (k, n) in ((1, 4), (2, 4)) else tm for n, tm in enumerate(row)] for k, row in enumerate(achieved)
    ]
    shifted = [[None if tm is None else min(max(tm + 0.05 * next(signs), 0.01), 1.0) for tm in row] for row in expected]
    write_expectations(submission, shifted)
    page = write_report(write_run(tmp_path / "a", []), None, submission, labels).read_text(encoding="utf-8")
    pairs = [(e, a) for row, other in zip(shifted, achieved) for e, a in zip(row, other) if e is not None]
    r = np.corrcoef(np.array(pairs).T)[0, 1]
    error = np.mean([abs(e - a) for e, a in pairs])
    heading, body, figures = read_reliability(page)
    assert heading == f"Expected TM-scores are {error:.3f} off on average (r {r:.2f}) over 13 predictions"
    assert "2 predictions of which nothing was expected are left out" in body
    dots = figures["plot-reliability-predictions"]["data"]
    assert [(trace.get("name"), len(trace["x"])) for trace in dots[1:]] == [("assembly", 7), ("template", 6)]
    bins = figures["plot-reliability-bins"]["data"][1]
    tenths: dict[int, list[tuple[float, float]]] = {}
    for e, a in pairs:
        tenths.setdefault(min(int(e * 10), 9), []).append((e, a))
    assert bins["text"] == [str(len(tenths[k])) for k in sorted(tenths)]
    assert bins["x"] == pytest.approx([np.mean([e for e, _ in tenths[k]]) for k in sorted(tenths)], abs=1e-4)
    assert bins["y"] == pytest.approx([np.mean([a for _, a in tenths[k]]) for k in sorted(tenths)], abs=1e-4)
    rows = re.findall(r"<tr><td>(\w+)</td><td class='num'>(\d+)</td>", body)
    assert rows == [("assembly", "7"), ("template", "6"), ("all", "13")]


def test_the_choice_among_several_programs_has_a_table_of_its_own(tmp_path: Path) -> None:
    submission, labels = write_submission(tmp_path)
    write_expectations(submission, [[0.5] * 5 for _ in range(3)])
    points = read_submission(submission).predictions("T1")
    pool = [Candidate(coords=p, origin="other", confidence=0.1 * k, source=f"S{k}") for k, p in enumerate(points)]
    run = write_run(tmp_path / "a", [])
    assert "choice-table" not in write_report(run, None, submission, labels).read_text(encoding="utf-8")
    write_pool(submission, {"T1": pool})
    page = write_report(run, None, submission, labels).read_text(encoding="utf-8")
    assert '<section id="choice"><h2>The five stay 0.000 below the best candidate on average</h2>' in page
    # noise grows with the number, and so does what is expected: the wrong way round
    assert "<td>T1</td><td class='num'>5</td><td class='num'>−1.00</td>" in page


def test_a_missing_or_stale_record_is_one_line_in_the_report_and_refused_where_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    submission, labels = write_submission(tmp_path)
    run = write_run(tmp_path / "a", [])
    heading, body, _ = read_reliability(write_report(run, None, submission, labels).read_text(encoding="utf-8"))
    assert heading == "No expected TM-scores" and "submission.predictions.json: no such file" in body
    path = write_expectations(submission, [[0.5] * 5] * 3)
    submission.write_text(submission.read_text() + "\n")
    heading, body, figures = read_reliability(write_report(run, None, submission, labels).read_text(encoding="utf-8"))
    assert heading == "No expected TM-scores" and "changed or written again since" in body and body.count("<p") == 1
    assert "plot-reliability-bins" not in figures
    files = ["--submission", str(submission), "--labels", str(labels), "--predictions", str(path)]
    assert main(["report", str(run), *files]) == 2
    assert main(["report", str(run), "--predictions", str(path)]) == 2
    messages = capsys.readouterr().err.splitlines()
    assert len(messages) == 2
    assert "changed or written again" in messages[0] and "needs --submission and --labels" in messages[1]


def test_plain_strands_alone_give_no_reliability_plot(tmp_path: Path) -> None:
    submission, labels = write_submission(tmp_path)
    write_expectations(submission, [[None] * 5] * 3)
    page = write_report(write_run(tmp_path / "a", []), None, submission, labels).read_text(encoding="utf-8")
    assert "nothing was expected of any" in read_reliability(page)[1]


def test_a_run_without_a_plan_says_so_and_one_without_records_shows_the_plan(tmp_path: Path) -> None:
    assert "No plan recorded" in write_plan(read_run(write_run(tmp_path / "a", full_records())))
    plan = {"hours": {"expected": 2.0}}
    assert "Planned, not yet run" in write_plan(read_run(write_run(tmp_path / "b", [], plan)))
    late = write_plan(read_run(write_run(tmp_path / "c", full_records(), {"hours": {"expected": 0.5}})))
    assert "105 % more" in late  # 1.025 h against 0.5 h


@pytest.mark.parametrize(
    "records",
    [
        pytest.param([], id="no record"),
        pytest.param([train_record(1)], id="one step"),
        pytest.param([train_record(1, loss=float("nan"), grad_norm=float("nan"))], id="not finite"),
        pytest.param([{"kind": "train", "step": 3}], id="only a step"),
        pytest.param([{"kind": "evaluation", "step": 3, "tm_score": 0.2}], id="evaluation only"),
    ],
)
def test_a_young_run_gets_a_page(tmp_path: Path, records: list[dict[str, Any]]) -> None:
    page = write_report(write_run(tmp_path / "young", records)).read_text(encoding="utf-8")
    assert "<h1>young</h1>" in page
    assert "NaN" not in json.dumps(read_data(page))


def test_a_folder_with_a_cut_off_metrics_file_alone_gets_a_page(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text(json.dumps(train_record(5)) + "\n" + '{"kind": "tra')
    assert write_report(tmp_path) == tmp_path / "report.html"


def test_names_from_the_data_cannot_become_markup(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a", full_records(), config=CONFIG.replace("any CPU", "</script><b>"))
    page = write_report(run).read_text(encoding="utf-8")
    assert "<b>\n" not in page.replace("<figcaption><b>", "") and "V&lt;2&gt;" in page and "V<2>" not in page
    assert "&lt;/script&gt;&lt;b&gt;" in page


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        pytest.param("run.json", "{", "run.json: not valid JSON", id="cut JSON"),
        pytest.param("plan.json", "[1]", "expected a JSON object", id="a list"),
        pytest.param("config.yaml", "a: [", "config.yaml", id="cut YAML"),
    ],
)
def test_a_malformed_file_is_named_in_one_line(tmp_path: Path, name: str, content: str, words: str) -> None:
    run = write_run(tmp_path / "a", [])
    (run / name).write_text(content)
    with pytest.raises(InputError, match=words) as caught:
        write_report(run)
    assert "\n" not in str(caught.value)
    assert not (run / "report.html").exists()


def test_the_command_refuses_what_makes_no_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    submission, labels = write_submission(tmp_path)
    run = write_run(tmp_path / "a", full_records())
    assert main(["report", str(tmp_path / "none")]) == 2
    (tmp_path / "empty").mkdir()
    assert main(["report", str(tmp_path / "empty")]) == 2
    assert main(["report", str(run), "--labels", str(labels)]) == 2
    both = ["--submission", str(submission), "--labels", str(labels)]
    assert main(["report", str(run), *both, "--targets", "T9"]) == 2
    messages = capsys.readouterr().err.splitlines()
    assert len(messages) == 4
    assert ["no such folder" in messages[0], "holds no run" in messages[1], "go together" in messages[2]] == [True] * 3
    assert "1 not among the 3 scored targets: T9" in messages[3]


def test_the_command_draws_the_targets_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    submission, labels = write_submission(tmp_path)
    run = write_run(tmp_path / "a", full_records())
    files = ["--submission", str(submission), "--labels", str(labels)]
    assert main(["report", str(run), *files, "--targets", "T3", "T1", "--mode", "fast"]) == 0
    page = (run / "report.html").read_text(encoding="utf-8")
    assert [view["id"] for view in read_data(page)["views"]] == ["T3", "T1"]
    assert page.count('<tr><td data-value="T') == 3
    assert "report.html: written" in capsys.readouterr().out


def build_result(target_id: str, best: float, length: int = 10) -> TargetResult:
    points = build_walk(length, 4)
    return TargetResult(
        score=Score(target_id=target_id, length=length, tm=(best,), reference=1),
        sequence="G" * length,
        chains=whole_chain(length),
        predictions=points[None],
        reference=structure_from_points(points),
        num_references=1,
    )


def test_of_many_targets_the_best_the_quartiles_and_the_worst_are_drawn() -> None:
    results = [build_result(f"T{k}", k / 100) for k in range(21)]
    # ranks 0, 5, 10, 15, 20 of 21 from the best down
    assert [r.score.target_id for r in choose_targets(results)] == ["T20", "T15", "T10", "T5", "T0"]
    assert [r.score.target_id for r in choose_targets(results[:3])] == ["T2", "T1", "T0"]


def test_copies_are_superposed_in_each_others_places() -> None:
    copy = build_walk(24, 3)
    reference = np.concatenate([copy, copy @ np.diag([-1.0, -1.0, 1.0]) + 60.0])
    chains = (Chain(chain_id="A", copy=1, start=0, stop=24), Chain(chain_id="A", copy=2, start=24, stop=48))
    swapped = np.roll(reference, 24, axis=0)
    result = TargetResult(
        score=Score(target_id="C", length=48, tm=(1.0,), reference=1),
        sequence="GACU" * 12,
        chains=chains,
        predictions=swapped[None] + 5.0,
        reference=structure_from_points(reference),
        num_references=1,
    )
    overlay = superpose_result(result)
    assert np.nanmax(overlay.errors) < 1e-6
    assert overlay.order[0].tolist() == [*range(24, 48), *range(24)]
    assert measure_quality(result).lddt == pytest.approx(1.0)


def test_contacts_are_pairs_within_12_angstrom_that_are_no_neighbours() -> None:
    # residues every 5 Å on a line: i, i+1 at 5 and i, i+2 at 10 are neighbours, i, i+3 at 15 Å too far
    line = np.arange(6)[:, None] * np.array([5.0, 0, 0])
    assert not find_contact_map(line, whole_chain(6)).any()
    # with a chain break between 2 and 3, residues of different chains count from a separation of 1: 2-3, 2-4, 1-3
    chains = (Chain(chain_id="A", copy=1, start=0, stop=3), Chain(chain_id="B", copy=1, start=3, stop=6))
    assert np.argwhere(find_contact_map(line, chains)).tolist() == [[1, 3], [2, 3], [2, 4]]


def test_a_target_of_4640_residues_stays_small() -> None:
    reference = build_walk(4640, 2)
    result = TargetResult(
        score=Score(target_id="L", length=4640, tm=(0.9,) * 5, reference=1),
        sequence="GACU" * 1160,
        chains=whole_chain(4640),
        predictions=np.stack([reference + np.random.default_rng(k).normal(size=reference.shape) for k in range(5)]),
        reference=structure_from_points(reference),
        num_references=1,
    )
    view = build_view(result, measure_quality(result), "fast")
    # every 4th residue (4640 / 1200, rounded up) and the last one; 13 residues a cell of the map (4640 / 360)
    assert len(view["residues"]) == 1161 and view["residues"][-1] == 4639
    assert (view["map"]["size"], view["map"]["cells"]) == (13, 357)
    assert len(json.dumps(view)) < 1.2 * 2**20


def test_the_drawn_reference_is_no_mirror_image() -> None:
    result = build_result("T", 1.0, length=30)
    points = result.predictions[0]
    view = build_view(result, measure_quality(result))
    drawn = np.array(view["reference"]).reshape(-1, 3) / 10
    volume = [np.linalg.det(x[[1, 8, 20]] - x[0]) for x in (points, drawn)]
    assert volume[1] == pytest.approx(volume[0], rel=0.05)
    assert np.ptp(drawn[:, 0]) > 0.8 * max(np.ptp(drawn[:, 1]), np.ptp(drawn[:, 2]))


def test_long_curves_are_thinned_by_means() -> None:
    # 10 points in 4 runs that begin at 0, 2, 5, 7: means of (0,1), (2,3,4), (5,6), (7,8,9)
    steps, values = thin_curve(np.arange(10.0), 2 * np.arange(10.0), most=4)
    assert steps.tolist() == [0.5, 3.0, 5.5, 8.0] and values.tolist() == [1.0, 6.0, 11.0, 16.0]


def test_a_change_is_told_by_the_first_and_last_tenth() -> None:
    # first tenth of 20 values: mean of 4 and 4; last: mean of 1 and 3
    assert describe_change(np.array([4.0, 4.0, *[9.0] * 16, 1.0, 3.0])) == "4 to 2 (−50 %)"


@pytest.mark.parametrize(("kind", "suffix"), [("pdb", "pdb"), ("mmcif", "cif")])
def test_export_writes_five_superposed_models_a_target(
    tmp_path: Path, kind: str, suffix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    submission, labels = write_submission(tmp_path)
    sequences = ["target_id,sequence,temporal_cutoff,description,all_sequences"]
    sequences += [f"T{k},{('GACU' * 9)[: 15 + 5 * k]},2024-01-01,," for k in (1, 2, 3)]
    (tmp_path / "test.csv").write_text("\n".join(sequences) + "\n")
    arguments = ["export", str(submission), "--test", str(tmp_path / "test.csv"), "--format", kind, "--out"]
    assert main([*arguments, str(tmp_path / "plain")]) == 0
    (entry,) = read_structure_file(tmp_path / "plain" / f"T2.{suffix}", all_models=True)
    assert len(entry.references) == 5 and entry.target.length == 25
    assert main([*arguments, str(tmp_path / "on"), "--labels", str(labels)]) == 0
    (moved,) = read_structure_file(tmp_path / "on" / f"T2.{suffix}")
    (reference,) = read_structure_file(tmp_path / "on" / f"T2_reference.{suffix}")
    np.testing.assert_allclose(moved.references[0].coords, reference.references[0].coords, atol=0.01)
    (tmp_path / "test.csv").write_text("\n".join(sequences[:3]) + "\n")
    assert main([*arguments, str(tmp_path / "plain")]) == 2
    assert "target T3 is not in" in capsys.readouterr().err


# What the browser says about its own software renderer; anything else on the console is a fault of the page.
PRESS = """
const root = document.documentElement, image = new Image();
image.src = await Plotly.toImage("view-3d", {format: "png", width: 400, height: 400});
await image.decode();
const canvas = document.createElement("canvas");
canvas.width = canvas.height = 400;
const context = canvas.getContext("2d", {willReadFrequently: true});
context.drawImage(image, 0, 0);
const colors = new Set(), pixels = context.getImageData(0, 0, 320, 400).data;
let inked = 0;
for (let k = 0; k < pixels.length; k += 4) {
  if (pixels[k + 3] <= 200) continue;
  inked += 1;
  colors.add([0, 1, 2].map((channel) => pixels[k + channel] >> 4).join());
}
root.dataset.colors = colors.size;
root.dataset.inked = inked;
document.querySelector('#targets-table th button[data-column="1"]').click();
root.dataset.order = [...document.querySelectorAll("#targets-table tbody tr")].map((row) => row.cells[0].textContent);
document.querySelector(".tab:last-child").click();
document.querySelectorAll(".switch")[1].click();
root.dataset.visible = document.getElementById("view-3d").data.slice(0, 6).map((trace) => trace.visible);
"""


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium here (Debian: apt-get install chromium)")
def test_a_browser_draws_every_plot_without_a_word_on_the_console(full_page: Path) -> None:
    opened = open_page(full_page, PRESS)
    found = opened.data
    assert opened.said == [] and "errors" not in found
    loads = Loads()
    loads.feed(full_page.read_text(encoding="utf-8"))
    assert int(found["drawn"]) == len(loads.plots) > 12
    bodies = opened.html.split('<div class="plot js-plotly-plot"')[1:]
    assert ['class="main-svg"' in body for body in bodies] == [True] * len(loads.plots)
    assert sum("gl-container" in body and "<canvas" in body for body in bodies) >= 1
    # the 3D view shows tubes in many colours, not an empty frame
    assert int(found["inked"]) > 2000 and int(found["colors"]) > 30
    # one click on "length" sorts the longest first; a switch hides its prediction alone
    assert found["order"] == "T3,T2,T1"
    assert found["visible"] == "true,false,true,true,true,true"
