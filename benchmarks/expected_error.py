"""Expected error of residues (`fold`) against the error reached, on training chains released after a date.

    OMP_NUM_THREADS=1 python benchmarks/expected_error.py --data DIR [--chains 24]

Of each chain the first model is taken, folded without a library and without the network, so that nothing of the chain
is known beforehand; it is superposed as the scorer superposes it. Nothing was fitted to these chains.
"""

import argparse
import datetime
import itertools
from pathlib import Path

import numpy as np

from rnafold.data.competition import read_entries
from rnafold.data.files import find_competition_files
from rnafold.errors import InputError
from rnafold.geometry import transform
from rnafold.prediction.fold import Folder, FoldOptions, open_folder
from rnafold.scoring.tm import match_residues, superpose_pairs
from rnafold.structure import Entry, FloatArray

RELEASED_AFTER = datetime.date(2021, 6, 1)
LENGTHS = (30, 150)
SEED = 3
BINS = 5


def choose_chains(data: Path, count: int) -> list[Entry]:
    """`count` chains of the lengths and dates looked at, drawn with one seed."""
    files = find_competition_files(data)
    if files.train_sequences is None or files.train_labels is None:
        raise InputError(f"{data}: no train_sequences and train_labels")
    entries = read_entries(files.train_sequences, files.train_labels)
    late = [entry for entry in entries if (entry.target.cutoff or datetime.date.min) > RELEASED_AFTER]
    fit = [entry for entry in late if LENGTHS[0] <= entry.target.length <= LENGTHS[1]]
    return [fit[k] for k in np.random.default_rng(SEED).permutation(len(fit))[:count]]


def compare_errors(folder: Folder, entry: Entry) -> tuple[FloatArray, FloatArray]:
    """(n,) expected and reached errors in Å of the resolved residues of a chain's first model."""
    folded = folder.fold(entry.target)
    coords, reference = folded.models[0].coords, entry.references[0]
    pair = match_residues(coords, reference)
    if pair is None:
        return np.zeros(0), np.zeros(0)
    found = superpose_pairs([pair], "exact")[0]
    reached = np.linalg.norm(transform(coords, found.rotation, found.translation) - reference.c1, axis=1)
    known = np.isfinite(reached)
    return folded.errors[0][known], reached[known]


def main() -> None:
    """Prints correlations within and across chains, and a line a fifth of the residues."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, type=Path, metavar="DIR")
    parser.add_argument("--chains", type=int, default=24, metavar="N")
    arguments = parser.parse_args()
    entries = choose_chains(arguments.data, arguments.chains)
    folder = open_folder(FoldOptions(use_network=False), [entry.target for entry in entries])
    pairs = [compare_errors(folder, entry) for entry in entries]
    within = [float(np.corrcoef(np.log(e), np.log(r + 0.1))[0, 1]) for e, r in pairs if len(e) > 3]
    expected, reached = (np.concatenate([pair[k] for pair in pairs]) for k in (0, 1))
    across = float(np.corrcoef(np.log(expected), np.log(reached + 0.1))[0, 1])
    positive = sum(r > 0 for r in within)
    print(f"{len(within)} chains, {len(expected):,} residues; r of the logarithms: {across:.2f} over all residues,")
    print(f"{np.mean(within):.2f} on average within a chain (above 0 in {positive})")
    edges = np.quantile(expected, np.linspace(0, 1, BINS + 1))
    for low, high in itertools.pairwise(edges):
        rows = (expected >= low) & (expected <= high)
        print(f"expected {expected[rows].mean():5.1f} Å: reached {np.median(reached[rows]):5.1f} Å (median)")


if __name__ == "__main__":
    main()
