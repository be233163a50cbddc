"""The command `train`."""

import argparse
import logging
import math
from pathlib import Path
from typing import TYPE_CHECKING

from rnafold.errors import ConfigError, ExitCode, InputError

if TYPE_CHECKING:
    from rnafold.config.settings import Config


def add_train(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds `train`."""
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
    train.add_argument(
        "--force",
        action="store_true",
        help="start although the planner says that it does not fit, or the run to resume saw other data",
    )
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


def _train(arguments: argparse.Namespace) -> int:
    from rnafold.config.launch import count_launched, name_launched
    from rnafold.config.settings import resolve_config
    from rnafold.machine import resolve_gpu
    from rnafold.report import report_finished_run
    from rnafold.training.run import train_model
    from rnafold.training.schedule import TimeBudget

    if arguments.max_hours is not None and not 0 < arguments.max_hours < math.inf:
        raise InputError(f"--max-hours {arguments.max_hours}: expected a number above 0")
    gpu, note = resolve_gpu(arguments.gpu)
    if note:
        logging.info("--gpu auto: %s (%s)", gpu, note)
    overrides = list(arguments.set) + ([] if arguments.seed is None else [f"train.seed={arguments.seed}"])
    config = resolve_config(gpu, arguments.model, name_launched(gpu, overrides))
    require_batch(config, count_launched())
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
    return ExitCode.FAULT if state.finished == "not_finite" else ExitCode.DONE


def require_batch(config: "Config", num_processes: int) -> None:
    """Refuses, before any data are read, a batch that the processes cannot share.

    Raises:
        ConfigError: saying what would come out even.
    """
    from rnafold.config.machine_use import count_accumulation

    try:
        count_accumulation(config.train, num_processes)
    except ValueError as error:
        raise ConfigError(str(error)) from None
