"""The demo: the whole job on embedded data, from CSVs to a scored, checked submission."""

import logging
import shutil
import time
from pathlib import Path

import numpy as np

from rnafold.config.settings import resolve_config
from rnafold.data.competition import read_entries
from rnafold.data.demo import write_demo_data
from rnafold.errors import ExitCode, InputError
from rnafold.files.run_folder import RunFolder
from rnafold.prediction.run import PredictOptions, predict_submission
from rnafold.report import report_finished_run, write_report
from rnafold.scoring import scorecard
from rnafold.scoring.files import score_submission
from rnafold.submission import check_submission, find_records, format_findings, list_defects
from rnafold.training.evaluate import average_baselines, score_baselines
from rnafold.training.run import train_model

log = logging.getLogger(__name__)
# Chosen so that the demo takes under three minutes on two cores.
SETTINGS = (
    "train.epochs=20",
    "train.patience=0",
    "train.warmup_epochs=1",
    "train.evaluate_every_epochs=5",
    "train.checkpoint_every_epochs=10",
    "train.log_every_steps=5",
    "train.learning_rate=3e-3",
    "train.lr_rule=fixed",
    "data.cutoff=2022-01-01",
    "data.validation=file",
    "data.start_noise=0.2",
)


def run_demo(out: Path, seed: int) -> int:
    """Writes data, trains, predicts, checks, scores; prints the TM-score and the path of the submission.

    Raises:
        InputError: `out` holds something that is not a demo.
    """
    began = time.monotonic()
    if out.exists() and any(out.iterdir()) and not (out / "data" / "train_sequences.csv").is_file():
        raise InputError(f"{out}: exists and is no demo folder; choose another --out")
    data, run, submission = out / "data", out / "run", out / "submission.csv"
    shutil.rmtree(run, ignore_errors=True)
    print(f"1/5 data: ideal A-form folds in competition format -> {data}")
    write_demo_data(data, seed)
    print(f"2/5 train: minimal network, CPU -> {run}")
    overrides = [*SETTINGS, f"train.seed={seed}", f"data.cache={out / 'cache'}"]
    train_model(resolve_config("cpu", "minimal", overrides), data, run)
    report_finished_run(run)
    print(f"3/5 predict: five conformations a target -> {submission}")
    predict_submission(
        PredictOptions(
            test=data / "test_sequences.csv",
            sample=data / "sample_submission.csv",
            out=submission,
            weights=RunFolder(run).weights_file,
            templates=(data,),
            cache=out / "cache",
            gpu="cpu",
            seed=seed,
        )
    )
    print("4/5 check")
    findings = check_submission(submission, data / "sample_submission.csv")
    if list_defects(findings):
        print(format_findings(findings))
        return ExitCode.FAULT
    print(f"{submission}: valid")
    print("5/5 score (part-2 metric, best of five)")
    scores = score_submission(submission, data / "test_labels.csv")
    print(scorecard.format_table(scores, records=find_records(submission)[0]))
    entries = read_entries(data / "test_sequences.csv", data / "test_labels.csv")
    trivial = average_baselines(score_baselines(entries, [np.zeros((e.target.length, 3)) for e in entries]))
    mean = scorecard.average_scores(scores)
    print(f"TM-score {mean:.3f}; all zeros {trivial['zeros']:.3f}, straight lines {trivial['straight_line']:.3f}")
    report = write_report(run, RunFolder(out).report_file, submission, data / "test_labels.csv")
    print(f"report: {report} (open it in a browser: curves, targets, structures in 3D, expected scores)")
    print(f"submission: {submission.resolve()} (checked); {time.monotonic() - began:.0f} s in all")
    return ExitCode.DONE
