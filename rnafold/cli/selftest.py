"""The command `selftest`: does this machine compute what it should, and as planned?"""

import argparse
import dataclasses
import json
import logging
from pathlib import Path

from rnafold.errors import ExitCode


def add_selftest(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds `selftest`."""
    selftest = commands.add_parser(
        "selftest",
        help="precisions, attention, compile, ranks, memory and speed of this machine against what was planned",
        description="Runs the trainer's own steps on random chains; exits with 1 if a check fails.",
    )
    selftest.add_argument("--gpu", default="auto", metavar="NAME", help="a file in configs/gpu, or auto (default)")
    selftest.add_argument("--short", action="store_true", help="device, precisions and attention alone (seconds)")
    selftest.add_argument("--cache", type=Path, default=Path(".cache/rnafold/planner"), metavar="DIR", help="of traces")
    selftest.add_argument("--json", action="store_true", help="print JSON")
    selftest.set_defaults(call=run_command)


def run_command(arguments: argparse.Namespace) -> int:
    """Runs `selftest`; returns the exit code."""
    from rnafold.machine import describe_machine, resolve_gpu
    from rnafold.training.selftest import run_selftest

    gpu, _ = resolve_gpu(arguments.gpu)
    logging.getLogger("rnafold.training").setLevel(logging.ERROR)
    checks = []
    for check in run_selftest(gpu, arguments.cache, short=arguments.short):
        checks.append(check)
        if not arguments.json:
            print(f"{check.status:<8} {check.name}: {check.detail}", flush=True)
    if arguments.json:
        device = describe_machine()[0] or "CPU"
        print(json.dumps({"gpu": gpu, "device": device, "checks": [dataclasses.asdict(c) for c in checks]}))
    return ExitCode.FAULT if any(c.status == "failed" for c in checks) else ExitCode.DONE
