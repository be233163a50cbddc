"""The commands `check` and `score`: what a submission is worth. They answer at once and load no torch."""

import argparse
import json
import logging
import os
from dataclasses import asdict
from pathlib import Path

from rnafold.errors import ExitCode, InputError


def add_check(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds `check`."""
    check = commands.add_parser("check", help="name every defect of a submission, or mend it")
    check.add_argument("submission", type=Path, metavar="SUBMISSION")
    check.add_argument("--sample", required=True, type=Path, metavar="CSV", help="sample_submission.csv")
    check.add_argument("--repair", type=Path, metavar="OUT", help="write a mended copy and say what changed")
    check.add_argument("--json", action="store_true", help="print JSON instead of lines")
    check.set_defaults(call=_check)


def add_score(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds `score`."""
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


def _check(arguments: argparse.Namespace) -> int:
    from rnafold.submission import check_submission, format_findings, list_defects, repair_submission

    if arguments.repair is not None:
        changes = repair_submission(arguments.submission, arguments.sample, arguments.repair)
        print("\n".join(changes) if changes else "nothing to mend")
        print(f"{arguments.repair}: written")
        return ExitCode.DONE
    findings = check_submission(arguments.submission, arguments.sample)
    if arguments.json:
        print(json.dumps([asdict(finding) for finding in findings]))
    elif findings:
        print(format_findings(findings))
    defects = list_defects(findings)
    if defects:
        raise InputError(f"{arguments.submission}: not valid, {len(defects)} defects; --repair OUT mends what can be")
    if not arguments.json:
        print(f"{arguments.submission}: valid against {arguments.sample}")
    return ExitCode.DONE


def _score(arguments: argparse.Namespace) -> int:
    # the scorer's many small products run slower on several threads than on one; must stand before numpy is loaded
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    from rnafold.scoring import scorecard
    from rnafold.scoring.choice import build_choices_json, format_choices, measure_choices
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
        choices = measure_choices(arguments.submission, arguments.labels, records)
        if arguments.json:
            table = scorecard.build_json(scores, arguments.metric, records=records)
            print(json.dumps(table | ({"choice": build_choices_json(choices)} if choices else {})))
        else:
            print(scorecard.format_table(scores, arguments.metric, records=records))
            if choices:
                print(format_choices(choices))
        return ExitCode.DONE
    others = score_submission(arguments.versus, arguments.labels, **options)
    comparison = scorecard.compare(scores, others)
    if arguments.json:
        print(json.dumps(scorecard.build_comparison_json(comparison)))
    else:
        print(scorecard.format_comparison(comparison, str(arguments.submission), str(arguments.versus)))
    return ExitCode.DONE
