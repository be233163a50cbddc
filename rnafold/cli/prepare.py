"""The command `prepare`: what training would wait for, computed ahead."""

import argparse
from pathlib import Path

from rnafold.errors import ExitCode, InputError


def add_prepare(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds `prepare`."""
    prepare = commands.add_parser(
        "prepare",
        help="compute ahead what training would wait for, on CPU hours",
        description="Fills data.cache with clusters, base pairs, profiles and start structures; goes on where stopped.",
    )
    add = prepare.add_argument
    add("--data", required=True, type=Path, metavar="DIR", help="folder with train_sequences.csv etc.")
    add("--gpu", default="cpu", metavar="NAME", help="of the run to come: a file in configs/gpu (default: cpu)")
    add("--model", default="base", metavar="NAME", help="of the run to come (default: base)")
    add("--max-hours", type=float, metavar="H", help="begin nothing new after H hours")
    add(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        help="data.cache, data.jobs, data.start ..",
    )
    prepare.set_defaults(call=run_prepare)


def run_prepare(arguments: argparse.Namespace) -> int:
    """Runs `prepare`; returns the exit code."""
    from rnafold.config.settings import resolve_config
    from rnafold.training.ahead import make_ahead
    from rnafold.training.schedule import TimeBudget

    if arguments.max_hours is not None and arguments.max_hours <= 0:
        raise InputError(f"--max-hours {arguments.max_hours}: expected a number above 0")
    config = resolve_config(arguments.gpu, arguments.model, arguments.set)
    print(make_ahead(config, arguments.data, TimeBudget(arguments.max_hours)).describe())
    return ExitCode.DONE
