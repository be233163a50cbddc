"""`make faults`: the long form of the suite. Prints the table of docs/reliability.md; 1 if anything was lost."""

import argparse
import logging
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.faults import kills, kinds
from tests.faults.tally import Tally, format_table
from tests.faults.workshop import open_workshop


def disturb(folder: Path, share: float) -> Iterator[Tally]:
    """Killed, starved and damaged runs; `share` of the full counts."""

    def count(full: int) -> int:
        return max(round(full * share), 1)

    with open_workshop(folder) as workshop:
        bench = kills.set_up(workshop, folder)
        yield kills.damage_checkpoints(bench, count(100), seed=1, resumed=count(10))
        yield kills.starve_trainings(bench, count(20), seed=1)
        yield kills.kill_predictions(bench, count(50), seed=1)
        yield kills.kill_trainings(bench, count(200), seed=1)


def malform(folder: Path, share: float) -> Iterator[Tally]:
    """Malformed files for every reader, 2,800 at the full count."""
    yield from kinds.malform(folder, max(round(100 * share), 1))


def main() -> int:
    """Makes the trials, a line each as they are done, then the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--share", type=float, default=1.0, metavar="S", help="this part of the trials (default: all)")
    parser.add_argument("--only", choices=("files", "runs"), help="malformed files, or disturbed runs")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    tallies: list[Tally] = []
    with tempfile.TemporaryDirectory() as folder:
        places = {"files": malform, "runs": disturb}
        for kind, trials in places.items():
            if arguments.only in (None, kind):
                for tally in trials(Path(folder), arguments.share):
                    print(f"{tally.survived} of {tally.tried}  {tally.what}", flush=True)
                    print("".join(f"  {fault[:600]}\n" for fault in tally.faults[:3]), end="", flush=True)
                    tallies.append(tally)
    print(f"\n{format_table(tallies)}")
    return int(any(tally.faults for tally in tallies))


if __name__ == "__main__":
    sys.exit(main())
