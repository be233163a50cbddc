"""The command line: parse, call, exit code (`errors.ExitCode`).

Modules that import torch are loaded inside the commands that need them, so that `check` and `score` answer at once.
"""

import argparse
import contextlib
import io
import logging
import os
import select
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from rnafold import __version__
from rnafold.cli.doctor import add_doctor
from rnafold.cli.experiment import add_experiment
from rnafold.cli.fold import add_fold
from rnafold.cli.kaggle import add_kaggle
from rnafold.cli.library import add_library
from rnafold.cli.plan import add_plan, add_quota
from rnafold.cli.predict import add_pick, add_predict
from rnafold.cli.prepare import add_prepare
from rnafold.cli.report import add_report
from rnafold.cli.score import add_check, add_score
from rnafold.cli.selftest import add_selftest
from rnafold.cli.train import add_train
from rnafold.errors import ExitCode, InputError, format_error, name_missing_extra

_EPILOG = """\
typical use:
  python -m rnafold fold GGGAAACUUCGGUUUCCC --out models       one RNA: five models and a page to look at
  python -m rnafold demo                                        everything once, on embedded data, in three minutes
  python -m rnafold train --gpu auto --data DIR                 train on the competition's files below DIR
  python -m rnafold predict --test test_sequences.csv --sample sample_submission.csv --out submission.csv
  python -m rnafold pick --candidates DIR --test test_sequences.csv --sample sample_submission.csv --out submission.csv
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
    parser.add_argument("--version", action="version", version=f"rnafold-kit {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    add_fold(commands)
    add_train(commands)
    add_predict(commands)
    add_pick(commands)
    add_check(commands)
    add_score(commands)
    _add_demo(commands)
    add_report(commands)
    add_kaggle(commands)
    add_library(commands)
    add_prepare(commands)
    add_plan(commands)
    add_quota(commands)
    add_selftest(commands)
    add_experiment(commands)
    add_doctor(commands)
    for command in commands.choices.values():
        _add_quiet(command)
    return parser


def _add_quiet(command: argparse.ArgumentParser) -> None:
    """--quiet for a command, and for its actions where it has some: before and after them."""
    text = "no progress and no notes, only results and warnings"
    command.add_argument("--quiet", action="store_true", help=text)
    for part in command._actions:
        if isinstance(part, argparse._SubParsersAction):
            for action in part.choices.values():  # silent where not given: what stands before the action counts
                action.add_argument("--quiet", action="store_true", default=argparse.SUPPRESS, help=text)


def _add_demo(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    demo = commands.add_parser("demo", help="train, predict, check and score on embedded ideal folds")
    demo.add_argument("--out", type=Path, default=Path("demo"), metavar="DIR", help="default: demo")
    demo.add_argument("--seed", type=int, default=0, metavar="N")
    demo.set_defaults(call=_demo)


def _demo(arguments: argparse.Namespace) -> int:
    from rnafold.cli.demo import run_demo

    return run_demo(arguments.out, arguments.seed)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code; what the user can mend is one line on standard error.

    A reader that closes the pipe (`... | head`) ends the command quietly.
    """
    try:
        try:
            return _run(argv)
        finally:  # what is buffered meets a closed pipe here, not while the interpreter shuts down
            sys.stdout.flush()
    except BrokenPipeError:
        if not _drop_closed_streams():
            raise  # some other pipe: a bug
        return ExitCode.CLOSED_PIPE


def _run(argv: Sequence[str] | None) -> int:
    _spare_consoles()
    arguments = build_parser().parse_args(argv)
    quiet = bool(arguments.quiet)
    logging.basicConfig(level=logging.WARNING if quiet else logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        with name_missing_extra(), _hide_bars(quiet):
            return int(arguments.call(arguments))
    except InputError as error:
        print(format_error(error), file=sys.stderr)
        return ExitCode.INPUT
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return ExitCode.FAULT


def _spare_consoles() -> None:
    """A console whose encoding lacks a letter (Å on gbk, cp932, cp1251, ascii) shows ? in its place."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="replace")


@contextlib.contextmanager
def _hide_bars(hidden: bool) -> Iterator[None]:
    """Progress bars that show nothing, for as long as the block runs."""
    if not hidden:
        yield
        return
    from tqdm import tqdm

    shown: Any = tqdm.__init__
    name, kept = "__init__", vars(tqdm)["__init__"]

    def hide(bar: Any, *values: Any, **options: Any) -> None:
        shown(bar, *values, **(options | {"disable": True}))

    setattr(tqdm, name, hide)
    try:
        yield
    finally:
        setattr(tqdm, name, kept)


def _drop_closed_streams() -> bool:
    """Sends what is left for a closed stream to nowhere, so that shutting down says nothing; whether there was one."""
    closed = [stream for stream in (sys.stdout, sys.stderr) if _is_unread(stream)]
    for stream in closed:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
    return bool(closed)


def _is_unread(stream: TextIO) -> bool:
    """Whether a stream is a pipe whose reader has gone. What was buffered for it does not tell: it may be nothing."""
    try:
        poll = select.poll()
        poll.register(stream.fileno(), 0)
    except (OSError, ValueError, AttributeError):  # no file below it, or a system without poll
        return False
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def entry() -> None:
    """Console script."""
    sys.exit(main())
