"""Dates as structure files write them."""

import datetime
from typing import Final

_MONTHS: Final = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
# The PDB began in 1971: two digits from 71 on are of the last century.
_FIRST_YEAR: Final = 71


def parse_date(text: str) -> datetime.date | None:
    """The date of `2004-12-28` or `28-DEC-04`, None for anything else."""
    parts = text.strip().upper().split("-")
    if len(parts) != 3 or not all(part.isascii() for part in parts):
        return None
    try:
        if parts[1] in _MONTHS:
            year = int(parts[2])
            century = (1900 if year >= _FIRST_YEAR else 2000) if len(parts[2]) == 2 else 0
            return datetime.date(century + year, _MONTHS.index(parts[1]) + 1, int(parts[0]))
        return datetime.date(int(parts[0]), int(parts[1]), int(parts[2]))
    except ValueError:
        return None
