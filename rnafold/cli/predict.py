"""The command `predict`."""

import argparse
import datetime
import json
import math
import time
from dataclasses import asdict
from pathlib import Path

from rnafold.errors import ExitCode, InputError


def add_predict(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds `predict`."""
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
        "--candidates",
        action="append",
        default=[],
        metavar="[NAME[@DATE]=]PATH",
        help="models of other programs: the output folder of Protenix, RNAPro, Boltz, Chai, AlphaFold 3 and others, a "
        "folder of PDB or mmCIF files, or a submission; repeatable. DATE: the program's training cutoff",
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
    predict.add_argument(
        "--before",
        type=parse_cutoff,
        metavar="DATE",
        help="the cutoff of targets that state none (default: today), and the date before which structures without a "
        "release date count as released (default: only targets without a cutoff see them)",
    )
    predict.add_argument("--deadline-minutes", type=float, metavar="M", help="a valid file stands before M minutes")
    predict.add_argument("--msa", type=Path, action="append", default=[], metavar="DIR", help="folder with MSA files")
    predict.add_argument("--cache", type=Path, default=Path(".cache/rnafold"), metavar="DIR", help="computed features")
    predict.add_argument("--gpu", default="auto", metavar="NAME", help="a file in configs/gpu, or auto (default)")
    predict.add_argument("--seed", type=int, default=0, metavar="N", help="every random choice hangs on it")
    predict.set_defaults(call=_predict)


def parse_cutoff(text: str) -> datetime.date:
    """A date YYYY-MM-DD; argparse.ArgumentTypeError for anything else."""
    try:
        return datetime.date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected a date YYYY-MM-DD") from None


def add_pick(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds `pick`."""
    pick = commands.add_parser(
        "pick",
        help="submit the best five of other programs' models",
        description="Reads other programs' models, judges all on one scale and writes the five of each target whose "
        "best is expected to be highest; needs no templates and no network. Says which source won each place and why.",
    )
    pick.add_argument(
        "--candidates",
        action="append",
        required=True,
        metavar="[NAME[@DATE]=]PATH",
        help="models of other programs: the output folder of Protenix, RNAPro, Boltz, Chai, AlphaFold 3 and others, a "
        "folder of PDB or mmCIF files, or a submission; repeatable. DATE: the program's training cutoff",
    )
    pick.add_argument("--test", required=True, type=Path, metavar="CSV", help="test_sequences.csv")
    pick.add_argument("--sample", required=True, type=Path, metavar="CSV", help="sample_submission.csv")
    pick.add_argument("--out", required=True, type=Path, metavar="CSV", help="the submission to write")
    pick.add_argument("--slots", metavar="NAME_OR_FILE", help="how many places each source may fill (default: any)")
    pick.add_argument("--deadline-minutes", type=float, metavar="M", help="a valid file stands before M minutes")
    pick.add_argument("--msa", type=Path, action="append", default=[], metavar="DIR", help="folder with MSA files")
    pick.add_argument("--cache", type=Path, default=Path(".cache/rnafold"), metavar="DIR", help="computed features")
    pick.add_argument("--json", action="store_true", help="print JSON: a list of records a target")
    pick.add_argument("--seed", type=int, default=0, metavar="N", help="every random choice hangs on it")
    pick.set_defaults(call=_pick)


def _pick(arguments: argparse.Namespace) -> int:
    began = time.monotonic()
    from rnafold.prediction.pick_run import PickOptions, format_choices, pick_submission

    if arguments.deadline_minutes is not None and arguments.deadline_minutes <= 0:
        raise InputError(f"--deadline-minutes {arguments.deadline_minutes}: expected a number above 0")
    outcome = pick_submission(
        PickOptions(
            test=arguments.test,
            sample=arguments.sample,
            out=arguments.out,
            candidates=tuple(arguments.candidates),
            slots=arguments.slots,
            deadline_minutes=arguments.deadline_minutes,
            msa_folders=tuple(arguments.msa),
            cache=arguments.cache,
            seed=arguments.seed,
            began=began,
        )
    )
    if arguments.json:
        print(json.dumps({name: [asdict(record) for record in rows] for name, rows in outcome.records.items()}))
    else:
        print(format_choices(outcome))
    return ExitCode.LOSSES if outcome.failed else ExitCode.DONE


def _predict(arguments: argparse.Namespace) -> int:
    began = time.monotonic()
    from rnafold.prediction.run import GATE_CONFIRMATION, PredictOptions, predict_submission

    if arguments.deadline_minutes is not None and not 0 < arguments.deadline_minutes < math.inf:
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
            before=arguments.before,
            candidates=tuple(arguments.candidates),
            began=began,
            deadline_minutes=arguments.deadline_minutes,
            msa_folders=tuple(arguments.msa),
            cache=arguments.cache,
            gpu=arguments.gpu,
            seed=arguments.seed,
        )
    )
    return ExitCode.LOSSES if outcome.failed or outcome.skipped else ExitCode.DONE
