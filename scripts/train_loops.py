"""Trains the loop judge that ships, `rnafold/assembly/loops.json` (about ten minutes on one core).

    python scripts/train_loops.py --data DIRECTORY [--out rnafold/assembly/loops.json] [--seed 0]

DIRECTORY holds train_sequences.csv and train_labels.csv. Every loop of these chains is a query against the loops of
other sequence groups; how well the judge does on groups that it did not see is what benchmarks/loops.py prints. Run it
before scripts/train_ranker.py, whose models read what the judge expects.
"""

import argparse
import datetime
import logging
from pathlib import Path

from rnafold.assembly.loop_judge import JUDGE_PATH, LOOP_KINDS
from rnafold.data.competition import find_file, read_entries
from rnafold.templates.library import TemplateLibrary
from rnafold.templates.loop_training import cluster_chains, gather_rows, train_judge
from rnafold.templates.loops import build_fragments

log = logging.getLogger(__name__)


def main() -> None:
    """Parse the command line, train, write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with train_sequences.csv, train_labels.csv")
    parser.add_argument("--out", type=Path, default=JUDGE_PATH)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    files = (find_file(arguments.data, name) for name in ("train_sequences.csv", "train_labels.csv"))
    library = TemplateLibrary.from_entries(read_entries(*files))
    before = datetime.date.fromordinal(int(library.released.max()) + 1)
    fragments = build_fragments(library)
    clusters = cluster_chains(fragments)
    rows = {kind: gather_rows(fragments, kind, clusters, arguments.seed, with_coords=True) for kind in LOOP_KINDS}
    judge = train_judge(rows, before, arguments.seed)
    for kind, model in judge.models.items():
        log.info("%s: %d queries, certainty %g", kind, len(rows[kind].ranges), model.certainty)
    judge.save(arguments.out)
    log.info("%s, for targets that may see structures from before %s", arguments.out, before)


if __name__ == "__main__":
    main()
