"""Multiple sequence alignments: read, weighted profile, covariation of columns, cached on disk."""

import itertools
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from rnafold.errors import InputError
from rnafold.features.alignment_files import Record, find_msa, iter_records
from rnafold.features.cache import compute_all, digest, load_arrays, save_arrays
from rnafold.files.atomic import write_text
from rnafold.files.budget import Budget
from rnafold.files.mounts import find_made, sample_digest
from rnafold.rna import UNKNOWN, UNKNOWN_TOKEN
from rnafold.structure import IntArray, Msa, Target

logger = logging.getLogger(__name__)

NUM_SYMBOLS: Final = 6
MAX_ROWS: Final = 20_000
# Letters held of one alignment (200 MB), and the rows that the longest chains keep all the same.
MAX_CELLS: Final = 200_000_000
LEAST_ROWS: Final = 500
MAX_COVARIATION_ROWS: Final = 2_000
MAX_COVARIATION_LENGTH: Final = 6_000
PROFILE_VERSION: Final = 1
_PSEUDOCOUNT: Final = 0.5

_CODES = np.full(256, UNKNOWN_TOKEN, dtype=np.int8)
for _index, _letters in enumerate(("Aa", "Cc", "Gg", "UuTt", "", "-.")):
    for _letter in _letters:
        _CODES[ord(_letter)] = _index
# In an a3m lower-case letters are insertions against the query, and a dot is the gap opposite to one.
_DROP_GAPS = str.maketrans("", "", "-.")
_DROP_INSERTIONS = str.maketrans("", "", "abcdefghijklmnopqrstuvwxyz.")


def read_msa(
    path: str | Path,
    target: Target,
    max_rows: int = MAX_ROWS,
    columns: tuple[int, int] | None = None,
    budget: Budget | None = None,
) -> Msa:
    """Alignment of a target: the first row is the query, insertions against it are dropped, T reads as U.

    In an a3m, insertions are lower-case letters. Where the query itself has gaps (Stockholm, Clustal, aligned FASTA),
    they are the columns of those gaps; dots are gaps then, and case is nothing. The same holds for rows that have the
    query's length with their lower-case letters and dots. In a Stockholm or Clustal file, which programs sort as they
    like, the query may stand anywhere.

    Rows keep gaps where other chains of a multi-chain target stand. At most `max_rows` rows are kept, from the top
    (alignments are sorted by similarity), and no more than hold MAX_CELLS letters; what is below is not read.

    Args:
        path: a file that `iter_records` can read.
        target: whose alignment it is.
        max_rows: most rows.
        columns: residues first <= i < stop to keep; None keeps all.
        budget: the time for it; when it is spent, what was read is the alignment.

    Raises:
        InputError: no such file, empty, no alignment, the query is not the target's sequence, or a row of another
            length.
    """
    first, stop = columns or (0, target.length)
    most = min(max_rows, max(MAX_CELLS // max(target.length, 1), LEAST_ROWS))
    parts: list[bytes] = []
    aligned, width = None, 0
    for number, (header, letters) in enumerate(itertools.islice(_iter_from_query(path, target), most), start=1):
        if number == 1:
            aligned = _find_columns(letters, target.length)
            row = _take(letters, aligned).upper().replace("T", "U")
            _check_query(path, row, target)
            width = len(letters)
        elif aligned is not None and len(letters) == width:
            row = _take(letters, aligned)
        else:
            row = _fit_row(letters, target.length)
        if len(row) != target.length:
            raise InputError(
                f"{path}: record {number} ({header[:40]!r}) has {len(row)} columns, expected {target.length} (cut off?)"
            )
        parts.append(row[first:stop].encode("ascii", errors="replace"))
        if budget is not None and budget.spent:
            break
    letters_read = np.frombuffer(b"".join(parts), dtype=np.uint8)
    return Msa(tokens=_CODES[letters_read].reshape(len(parts), stop - first))


def _iter_from_query(path: str | Path, target: Target) -> Iterator[Record]:
    """Rows with the query first: it is looked for where the first row is not the target's sequence."""
    rows = iter_records(path)
    first = next(rows, None)
    if first is None:
        raise InputError(f"{path}: no rows, expected an alignment")
    if _is_query(first[1], target):
        return itertools.chain([first], rows)
    seen = [first]
    for row in itertools.islice(rows, MAX_ROWS):
        if _bare(row[1]) == target.sequence:
            return itertools.chain([row], seen, rows)
        seen.append(row)
    return itertools.chain(seen, rows)


def _is_query(row: str, target: Target) -> bool:
    """Whether a row is a target's sequence; letters that the row or the target does not know fit any."""
    bare = _bare(row)
    return len(bare) == target.length and all(
        found == expected or expected == UNKNOWN or found not in "ACGU"
        for found, expected in zip(bare, target.sequence)
    )


def _bare(row: str) -> str:
    """A row without its gaps, as a sequence is written."""
    return row.translate(_DROP_GAPS).upper().replace("T", "U")


def _find_columns(query: str, length: int) -> IntArray | None:
    """Columns (L,) of the query's letters where it has gaps between them; None where it stands as it is."""
    found = np.array([k for k, letter in enumerate(query) if letter not in "-."], dtype=np.int64)
    return found if len(query) != length == len(found) else None


def _take(row: str, columns: IntArray | None) -> str:
    return row if columns is None else "".join([row[k] for k in columns])


def write_msa(path: Path, msa: Msa, name: str) -> None:
    """An alignment as FASTA, the query first under `name`.

    Raises:
        InputError: it cannot be written.
    """
    letters = np.frombuffer(b"ACGUN-", dtype=np.uint8)[msa.tokens]
    rows = (row.tobytes().decode("ascii") for row in letters)
    write_text(path, "".join(f">{number or name}\n{row}\n" for number, row in enumerate(rows)))


def try_read_msa(path: Path, target: Target) -> Msa | None:
    """The alignment, None where it cannot be read: a target is better off without it than lost."""
    try:
        return read_msa(path, target)
    except (InputError, OSError):
        return None


def _fit_row(letters: str, length: int) -> str:
    """A row without its insertions; as it stands where that has the query's length: dots are gaps, case is nothing."""
    row = letters.translate(_DROP_INSERTIONS)
    return letters if len(row) != length == len(letters) else row


def _check_query(path: str | Path, query: str, target: Target) -> None:
    """Refuses an alignment whose first record is not the target's sequence."""
    if len(query) != target.length:
        raise InputError(
            f"{path}: record 1 (the query) has {len(query)} letters, expected {target.length} as in {target.target_id}"
        )
    if query == target.sequence:
        return
    for index, (found, expected) in enumerate(zip(query, target.sequence, strict=True)):
        if found != expected and expected != UNKNOWN and found in "ACGU-":
            raise InputError(
                f"{path}: record 1 (the query), column {index + 1}: {found!r}, expected {expected!r} "
                f"as in the sequence of {target.target_id}"
            )


def weigh_rows(msa: Msa) -> npt.NDArray[np.float64]:
    """Position-based weights (N,) that sum to 1: a row counts for its letters that few others share.

    Source: Henikoff & Henikoff, J. Mol. Biol. 243, 574 (1994); gaps and unknown letters count nothing.
    """
    tokens = msa.tokens
    weights = np.zeros(len(tokens))
    present = np.zeros(tokens.shape[1])
    shares = []
    for symbol in range(4):
        count = (tokens == symbol).sum(axis=0)
        present += count > 0
        shares.append(np.divide(1.0, count, out=np.zeros(len(count)), where=count > 0))
    for symbol in range(4):
        weights += (tokens == symbol) @ (shares[symbol] / np.maximum(present, 1))
    total = weights.sum()
    return weights / total if total > 0 else np.full(len(tokens), 1.0 / len(tokens))


def build_profile(msa: Msa) -> npt.NDArray[np.float32]:
    """Weighted frequencies (L, 6) of A, C, G, U, unknown and gap in each column; rows sum to 1."""
    weights = weigh_rows(msa)
    columns = [weights @ (msa.tokens == symbol) for symbol in range(NUM_SYMBOLS)]
    return np.stack(columns, axis=1).astype(np.float32)


def covariation(msa: Msa) -> npt.NDArray[np.float32]:
    """Mutual information of columns (L, L) in nats after the average product correction; symmetric, zero diagonal.

    Only letters count (no gaps), with a pseudocount. The top 2,000 rows are used; above 6,000 columns, or with fewer
    than two rows, all is zero: memory is four (L, L) float32 arrays.

    Source: Dunn, Wahl & Gloor, Bioinformatics 24, 333 (2008).
    """
    length = msa.tokens.shape[1]
    if length > MAX_COVARIATION_LENGTH:
        logger.warning("covariation: %d columns are more than %d; left at zero", length, MAX_COVARIATION_LENGTH)
    if length > MAX_COVARIATION_LENGTH or len(msa.tokens) < 2 or length < 2:
        return np.zeros((length, length), dtype=np.float32)
    used = Msa(tokens=msa.tokens[:MAX_COVARIATION_ROWS])
    # Weights scaled to the effective number of rows make the pseudocount count as rows.
    weights = weigh_rows(used)
    weights = weights / (weights**2).sum()
    letters = [(used.tokens == symbol).astype(np.float32) for symbol in range(4)]
    scale = np.float32(weights.sum() + 16 * _PSEUDOCOUNT)
    singles = [(weights @ one + 4 * _PSEUDOCOUNT) / scale for one in letters]
    information: npt.NDArray[np.float32] = np.zeros((length, length), dtype=np.float32)
    for first in range(4):
        weighted = letters[first] * weights.astype(np.float32)[:, None]
        for second in range(4):
            joint = (weighted.T @ letters[second] + np.float32(_PSEUDOCOUNT)) / scale
            expected = np.outer(singles[first], singles[second]).astype(np.float32)
            information += joint * np.log(joint / expected)
    np.fill_diagonal(information, 0.0)
    information = ((information + information.T) / 2).astype(np.float32)
    mean = information.sum(axis=0) / (length - 1)
    overall = float(mean.mean())
    if overall > 1e-12:
        information -= np.outer(mean, mean).astype(np.float32) / np.float32(overall)
    np.fill_diagonal(information, 0.0)
    return information


@dataclass(frozen=True, slots=True, kw_only=True)
class _ProfileJob:
    path: Path
    target: Target


class ProfileCache:
    """Profiles of alignments on disk, one .npz a target, keyed by sequence, file and method version."""

    def __init__(self, directory: str | Path, msa_folders: Sequence[str | Path]) -> None:
        self.directory = Path(directory)
        self.msa_folders = tuple(Path(folder) for folder in msa_folders)

    def compute(self, targets: Sequence[Target], jobs: int = 1) -> Mapping[str, npt.NDArray[np.float32]]:
        """Profiles (L, 6) of the targets that have an alignment, computed in `jobs` processes where not yet on disk.

        An alignment that cannot be read, or is not the target's, gives none, and a warning names it.

        Raises:
            InputError: the cache cannot be written to.
        """
        jobs_by_id = {
            target.target_id: _ProfileJob(path=path, target=target)
            for target in targets
            if (path := find_msa(self.msa_folders, target.target_id)) is not None
        }
        paths = {target_id: self._locate(job) for target_id, job in jobs_by_id.items()}
        todo = [(job, paths[target_id]) for target_id, job in jobs_by_id.items() if find_made(paths[target_id]) is None]
        todo.sort(key=lambda item: -item[0].path.stat().st_size)
        compute_all(_compute_profile, todo, jobs, "MSA profiles")
        profiles = {}
        for target_id, job in jobs_by_id.items():
            profile = self._load(job)
            if profile is None:
                fault = load_arrays(paths[target_id], ["fault"]) or {"fault": np.array(str(job.path))}
                logger.warning("an alignment is left out: %s", fault["fault"])
            else:
                profiles[target_id] = profile
        return profiles

    def get(self, target: Target, path: Path) -> npt.NDArray[np.float32] | None:
        """The profile (L, 6) of one target's alignment, computed where it is not yet on disk; None if unreadable."""
        return self._load(_ProfileJob(path=path, target=target))

    def _load(self, job: _ProfileJob) -> npt.NDArray[np.float32] | None:
        """A stored profile, made again where the file is absent or damaged; None of an unreadable alignment."""
        path = self._locate(job)
        if load_arrays(path, ["profile"]) is None and load_arrays(path, ["fault"]) is None:
            _compute_profile(job, path)
        return (load_arrays(path, ["profile"]) or {}).get("profile")

    def _locate(self, job: _ProfileJob) -> Path:
        key = digest(sequence=job.target.sequence, contents=sample_digest(job.path), version=PROFILE_VERSION)
        return self.directory / f"{key}.profile.npz"


def _compute_profile(job: _ProfileJob, path: Path) -> None:
    try:
        arrays: dict[str, npt.NDArray[Any]] = {"profile": build_profile(read_msa(job.path, job.target))}
    except (InputError, OSError) as error:
        arrays = {"fault": np.array(str(error))}
    save_arrays(path, arrays)
