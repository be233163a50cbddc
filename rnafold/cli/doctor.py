"""The command `doctor`: what is installed here, and what of the kit works with it."""

import argparse
import json
from pathlib import Path

from rnafold.errors import ExitCode


def add_doctor(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds `doctor`."""
    doctor = commands.add_parser(
        "doctor",
        help="one page on this machine: what is here, what works, what to install",
        description="Versions, cards and whether they compute, ViennaRNA, US-align, Chromium, caches and data; then "
        "which commands work here. Nothing is changed or sent; the page can be pasted into a report of a bug.",
    )
    doctor.add_argument("--data", type=Path, metavar="DIR", help="also look for the competition's files below DIR")
    doctor.add_argument("--cache", type=Path, default=Path(".cache/rnafold"), metavar="DIR", help="computed features")
    doctor.add_argument("--json", action="store_true", help="print JSON")
    doctor.set_defaults(call=_doctor)


def _doctor(arguments: argparse.Namespace) -> int:
    from rnafold.kaggle.doctor import examine, format_diagnosis

    lines = examine(arguments.cache, arguments.data)
    if arguments.json:
        print(json.dumps([{"about": one.about, "level": one.level, "text": one.text} for one in lines]))
    else:
        print(format_diagnosis(lines))
    return ExitCode.FAULT if any(one.level == "fault" for one in lines) else ExitCode.DONE
