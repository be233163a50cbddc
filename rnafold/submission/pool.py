"""All candidates that were judged for a submission, beside it, so that the choice itself can be measured.

An .npz of plain arrays: of each target coordinates (P, L, 3), expected TM-scores (P,) and sources (P,). It holds the
submission's sha256 and is left out where that is another's.
"""

import io
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from rnafold.errors import InputError
from rnafold.files.atomic import write_bytes
from rnafold.files.mounts import hash_file
from rnafold.structure import Candidate, FloatArray

SUFFIX: Final = ".candidates.npz"
_DIGEST: Final = "submission_sha256"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class JudgedPool:
    """The candidates of one target: coords (P, L, 3) in Å, expected TM-scores (P,), and each one's source."""

    coords: FloatArray
    expected: FloatArray
    sources: tuple[str, ...]


def pool_path(submission: Path) -> Path:
    """`submission.candidates.npz` for `submission.csv`."""
    return submission.with_suffix(SUFFIX)


def write_pool(submission: Path, pools: Mapping[str, Sequence[Candidate]]) -> Path:
    """Writes the candidates of all targets beside a submission that is complete on disk.

    Raises:
        InputError: the submission cannot be read, or the folder not written to.
    """
    arrays: dict[str, npt.NDArray[Any]] = {_DIGEST: np.array(hash_file(submission))}
    for target_id, candidates in pools.items():
        arrays[f"{target_id}/coords"] = np.stack([c.coords for c in candidates]).astype(np.float32)
        arrays[f"{target_id}/expected"] = np.array([c.confidence for c in candidates])
        arrays[f"{target_id}/source"] = np.array([c.source or c.origin for c in candidates])
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)  # type: ignore[arg-type]
    path = pool_path(submission)
    write_bytes(path, content.getvalue())
    return path


def find_pool(submission: Path) -> dict[str, JudgedPool]:
    """The candidates that lie beside a submission, by target; none where there are none, or another submission's."""
    path = pool_path(submission)
    if not path.is_file():
        return {}
    try:
        with np.load(path, allow_pickle=False) as content:
            if str(content[_DIGEST]) != hash_file(submission):
                return {}
            names = [key.removesuffix("/coords") for key in content.files if key.endswith("/coords")]
            return {name: _read(content, name) for name in names}
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: not a record of candidates ({' '.join(str(error).split())})") from None


def _read(content: Mapping[str, npt.NDArray[Any]], name: str) -> JudgedPool:
    return JudgedPool(
        coords=content[f"{name}/coords"].astype(np.float64),
        expected=content[f"{name}/expected"].astype(np.float64),
        sources=tuple(str(source) for source in content[f"{name}/source"]),
    )
