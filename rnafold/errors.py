"""The two errors that a user can mend. The command line prints them on one line and exits with 2."""


class InputError(ValueError):
    """A file or value from the user is wrong.

    The message names the place (file, line or row, column), what was found, what was expected, and for many faults
    of one kind their count and the first three.
    """


class OutOfTime(Exception):  # noqa: N818 - raised by an alarm, not a fault
    """A piece of work used up its time."""


class ConfigError(InputError):
    """A configuration key or value is wrong; the message names file, key and, for a near miss, the key meant."""
