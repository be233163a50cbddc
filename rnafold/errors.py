"""The two errors that a user can mend, and what the command line tells its caller: exit codes and the error's line."""

import contextlib
import enum
from collections.abc import Iterator
from typing import Final

# How the command line begins the one line about an InputError; a parent process finds the reason by it.
_ERROR_LINE: Final = "error: "
_MOST_LETTERS: Final = 1000


# What a light installation lacks, by the name of the module, and the extra that brings it.
EXTRAS: Final = {
    "torch": "train",
    "accelerate": "train",
    "safetensors": "train",
    "tensorboard": "train",
    "plotly": "report",
}


class ExitCode(enum.IntEnum):
    """What every command exits with."""

    DONE = 0
    # a bug, a loss that was not finite, or a plan that does not fit
    FAULT = 1
    # the user's input; one line says where
    INPUT = 2
    # a valid file was written but some targets fell back to a plain strand, or a run of an experiment failed
    LOSSES = 3
    # whoever read the output (`| head`) has had enough: 128 + SIGPIPE, as the shell says it
    CLOSED_PIPE = 141


class InputError(ValueError):
    """A file or value from the user is wrong.

    The message names the place (file, line or row, column), what was found, what was expected, and for many faults
    of one kind their count and the first three. It is one line, whatever a file holds: line breaks in what was found
    are blanks, and of a very long message the middle is left out.
    """

    def __init__(self, message: str) -> None:
        line = " ".join(message.splitlines())
        half = _MOST_LETTERS // 2
        super().__init__(line if len(line) <= _MOST_LETTERS else f"{line[:half]} ... {line[-half:]}")


class OutOfTime(Exception):  # noqa: N818 - raised by an alarm, not a fault
    """A piece of work used up its time."""


class ConfigError(InputError):
    """A configuration key or value is wrong; the message names file, key and, for a near miss, the key meant."""


def format_error(error: InputError) -> str:
    """The line about an error on standard error."""
    return f"{_ERROR_LINE}{error}"


def parse_error(line: str) -> str | None:
    """The message of a line that `format_error` made, None for any other line."""
    return line.removeprefix(_ERROR_LINE) if line.startswith(_ERROR_LINE) else None


@contextlib.contextmanager
def name_missing_extra() -> Iterator[None]:
    """Turns the import of a library that a light installation lacks into one line that names the extra to install.

    Raises:
        InputError: in place of the ModuleNotFoundError.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        module = (error.name or "").partition(".")[0]
        if module not in EXTRAS:
            raise
        raise InputError(f"{module} is not installed: pip install 'rnafold-kit[{EXTRAS[module]}]'") from error
