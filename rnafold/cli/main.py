"""The command line: parse, call, exit code. 0 done, 2 the user's input, 1 anything else, 3 done with losses.

Modules that import torch are loaded inside the commands that need them, so that `check` and `score` answer at once.
"""

import argparse
import json
import logging
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rnafold import __version__
from rnafold.cli.experiment import add_experiment
from rnafold.cli.kaggle import add_kaggle
from rnafold.cli.plan import add_plan, add_quota
from rnafold.cli.report import add_report
from rnafold.errors import InputError

EXIT_DONE, EXIT_FAULT, EXIT_INPUT, EXIT_LOSSES = 0, 1, 2, 3

_EPILOG = """\
typical use:
  python -m rnafold demo                                        everything once, on embedded data, in three minutes
  python -m rnafold train --gpu auto --data DIR                 train on the competition's files below DIR
  python -m rnafold predict --test test_sequences.csv --sample sample_submission.csv --out submission.csv
  python -m rnafold check submission.csv --sample sample_submission.csv
  python -m rnafold score submission.csv validation_labels.csv

exit codes: 0 done; 2 your input is at fault (one line says where); 3 a valid file was written, but some targets fell
back to a plain strand, or a run of an experiment failed; 1 anything else (a bug: please report the traceback)
"""


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="python -m rnafold",
        description="RNA 3D structure prediction for the Stanford RNA 3D Folding competitions, and for your own RNA.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"rnafold {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    _add_train(commands)
    _add_predict(commands)
    _add_check(commands)
    _add_score(commands)
    _add_demo(commands)
    add_report(commands)
    add_kaggle(commands)
    add_plan(commands)
    add_quota(commands)
    add_experiment(commands)
    return parser


def _add_train(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    train = commands.add_parser(
        "train",
        help="train the network on the competition's files",
        description="Trains a network; leaves config.yaml, metrics.jsonl, checkpoints and best.safetensors in --out.",
    )
    train.add_argument("--gpu", default="auto", metavar="NAME", help="a file in configs/gpu, or auto (default)")
    train.add_argument("--data", required=True, type=Path, metavar="DIR", help="folder with train_sequences.csv etc.")
    train.add_argument("--model", default="base", metavar="NAME", help="a file in configs/model (default: base)")
    train.add_argument("--out", type=Path, metavar="DIR", help="run folder (default: runs/MODEL-GPU)")
    train.add_argument("--resume", action="store_true", help="go on from the newest checkpoint in --out, if any")
    train.add_argument("--max-hours", type=float, metavar="H", help="stop cleanly, with a checkpoint, before H hours")
    train.add_argument("--seed", type=int, metavar="N", help="the same as --set train.seed=N")
    train.add_argument("--force", action="store_true", help="start although the planner says that it does not fit")
    train.add_argument("--profile", action="store_true", help="write torch profiler traces of a few steps")
    train.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        help="change any configuration key: hardware. train. model. loss. data.",
    )
    train.set_defaults(call=_train)


def _add_predict(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    predict = commands.add_parser(
        "predict",
        help="predict five conformations of every test target",
        description="Writes a valid submission at once and improves it target by target until done or out of time.",
    )
    predict.add_argument("--test", required=True, type=Path, metavar="CSV", help="test_sequences.csv")
    predict.add_argument("--sample", required=True, type=Path, metavar="CSV", help="sample_submission.csv")
    predict.add_argument("--out", required=True, type=Path, metavar="CSV", help="the submission to write")
    predict.add_argument("--weights", type=Path, metavar="FILE", help="best.safetensors (default: the shipped weights)")
    predict.add_argument(
        "--templates",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="folder with labelled sequences (train_*.csv) or structure files to take templates and loops from",
    )
    predict.add_argument(
        "--slots",
        metavar="NAME_OR_FILE",
        help="which source fills the five: default, network, template, assembly, or a file",
    )
    predict.add_argument("--no-network", action="store_true", help="leave the network out")
    predict.add_argument(
        "--no-date-gate",
        metavar="CONFIRM",
        help="let targets see templates of any date; CONFIRM must read scores-will-be-inflated",
    )
    predict.add_argument("--deadline-minutes", type=float, metavar="M", help="a valid file stands before M minutes")
    predict.add_argument("--msa", type=Path, action="append", default=[], metavar="DIR", help="folder with MSA files")
    predict.add_argument("--cache", type=Path, default=Path(".cache/rnafold"), metavar="DIR", help="computed features")
    predict.add_argument("--gpu", default="auto", metavar="NAME", help="a file in configs/gpu, or auto (default)")
    predict.add_argument("--seed", type=int, default=0, metavar="N", help="every random choice hangs on it")
    predict.set_defaults(call=_predict)


def _add_check(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    check = commands.add_parser("check", help="name every defect of a submission, or mend it")
    check.add_argument("submission", type=Path, metavar="SUBMISSION")
    check.add_argument("--sample", required=True, type=Path, metavar="CSV", help="sample_submission.csv")
    check.add_argument("--repair", type=Path, metavar="OUT", help="write a mended copy and say what changed")
    check.set_defaults(call=_check)


def _add_score(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    score = commands.add_parser("score", help="score a submission against labels as Kaggle does")
    score.add_argument("submission", type=Path, metavar="SUBMISSION")
    score.add_argument("labels", type=Path, metavar="LABELS")
    score.add_argument("--metric", choices=("part2", "part1"), default="part2", help="default: part2")
    score.add_argument("--mode", choices=("exact", "fast"), default="exact", help="part2's search (default: exact)")
    score.add_argument("--usalign", type=Path, metavar="PATH", help="US-align, for part1 (default: $USALIGN)")
    score.add_argument("--versus", type=Path, metavar="CSV", help="a second submission, compared target by target")
    score.add_argument(
        "--predictions",
        type=Path,
        metavar="FILE",
        help="expected scores as `predict` wrote them (default: SUBMISSION.predictions.json, where it lies there)",
    )
    score.add_argument("--json", action="store_true", help="print JSON instead of a table")
    score.set_defaults(call=_score)


def _add_demo(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    demo = commands.add_parser("demo", help="train, predict, check and score on embedded ideal folds")
    demo.add_argument("--out", type=Path, default=Path("demo"), metavar="DIR", help="default: demo")
    demo.add_argument("--seed", type=int, default=0, metavar="N")
    demo.set_defaults(call=_demo)


def _train(arguments: argparse.Namespace) -> int:
    from rnafold.config.settings import resolve_config
    from rnafold.machine import resolve_gpu
    from rnafold.report import report_finished_run
    from rnafold.training.run import train_model
    from rnafold.training.schedule import TimeBudget

    if arguments.max_hours is not None and arguments.max_hours <= 0:
        raise InputError(f"--max-hours {arguments.max_hours}: expected a number above 0")
    gpu, note = resolve_gpu(arguments.gpu)
    if note:
        logging.info("--gpu auto: %s (%s)", gpu, note)
    overrides = list(arguments.set) + ([] if arguments.seed is None else [f"train.seed={arguments.seed}"])
    config = resolve_config(gpu, arguments.model, overrides)
    out = arguments.out or Path("runs") / f"{config.model.name}-{Path(gpu).stem}"
    state = train_model(
        config,
        arguments.data,
        out,
        resume=arguments.resume,
        budget=TimeBudget(arguments.max_hours),
        profile=arguments.profile,
        force=arguments.force,
    )
    report_finished_run(out)
    return EXIT_FAULT if state.finished == "not_finite" else EXIT_DONE


def _predict(arguments: argparse.Namespace) -> int:
    began = time.monotonic()
    from rnafold.prediction.run import GATE_CONFIRMATION, PredictOptions, predict_submission

    if arguments.deadline_minutes is not None and arguments.deadline_minutes <= 0:
        raise InputError(f"--deadline-minutes {arguments.deadline_minutes}: expected a number above 0")
    if arguments.no_date_gate is not None and arguments.no_date_gate != GATE_CONFIRMATION:
        raise InputError(f"--no-date-gate {arguments.no_date_gate}: type {GATE_CONFIRMATION} to confirm")
    outcome = predict_submission(
        PredictOptions(
            test=arguments.test,
            sample=arguments.sample,
            out=arguments.out,
            weights=arguments.weights,
            use_network=not arguments.no_network,
            templates=tuple(arguments.templates),
            slots=arguments.slots,
            gated=arguments.no_date_gate is None,
            began=began,
            deadline_minutes=arguments.deadline_minutes,
            msa_folders=tuple(arguments.msa),
            cache=arguments.cache,
            gpu=arguments.gpu,
            seed=arguments.seed,
        )
    )
    return EXIT_LOSSES if outcome.failed else EXIT_DONE


def _check(arguments: argparse.Namespace) -> int:
    from rnafold.submission import check_submission, format_findings, list_defects, repair_submission

    if arguments.repair is not None:
        changes = repair_submission(arguments.submission, arguments.sample, arguments.repair)
        print("\n".join(changes) if changes else "nothing to mend")
        print(f"{arguments.repair}: written")
        return EXIT_DONE
    findings = check_submission(arguments.submission, arguments.sample)
    if findings:
        print(format_findings(findings))
    defects = list_defects(findings)
    if defects:
        raise InputError(f"{arguments.submission}: not valid, {len(defects)} defects; --repair OUT mends what can be")
    print(f"{arguments.submission}: valid against {arguments.sample}")
    return EXIT_DONE


def _score(arguments: argparse.Namespace) -> int:
    # the scorer's many small products run slower on several threads than on one; must stand before numpy is loaded
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    from rnafold.scoring import scorecard
    from rnafold.scoring.files import score_submission
    from rnafold.submission import find_records, records_path

    if arguments.versus is not None and arguments.predictions is not None:
        raise InputError("--predictions: has no place in a comparison of two submissions (--versus)")
    options = {"metric": arguments.metric, "mode": arguments.mode, "usalign": arguments.usalign}
    records, why = (
        (None, "") if arguments.versus is not None else find_records(arguments.submission, arguments.predictions)
    )
    scores = score_submission(arguments.submission, arguments.labels, **options)
    if arguments.versus is None:
        if why and records_path(arguments.submission).is_file():
            logging.warning("left out: %s", why)
        if arguments.json:
            print(json.dumps(scorecard.build_json(scores, arguments.metric, records=records)))
        else:
            print(scorecard.format_table(scores, arguments.metric, records=records))
        return EXIT_DONE
    others = score_submission(arguments.versus, arguments.labels, **options)
    comparison = scorecard.compare(scores, others)
    if arguments.json:
        print(json.dumps(scorecard.build_comparison_json(comparison)))
    else:
        print(scorecard.format_comparison(comparison, str(arguments.submission), str(arguments.versus)))
    return EXIT_DONE


def _demo(arguments: argparse.Namespace) -> int:
    from rnafold.cli.demo import run_demo

    return run_demo(arguments.out, arguments.seed)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code; what the user can mend is one line on standard error."""
    arguments = build_parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        return int(arguments.call(arguments))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_INPUT
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return EXIT_FAULT


def entry() -> None:
    """Console script."""
    sys.exit(main())
