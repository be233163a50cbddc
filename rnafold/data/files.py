"""The competition's files under a folder or a Kaggle mount, found by searching: mount points vary."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from rnafold.errors import InputError
from rnafold.files.mounts import walk_files


@dataclass(frozen=True, slots=True, kw_only=True)
class CompetitionFiles:
    """Paths of the competition's files, None where one is absent; files of a pair lie in the same folder."""

    train_sequences: Path | None
    train_labels: Path | None
    validation_sequences: Path | None
    validation_labels: Path | None
    test_sequences: Path | None
    sample_submission: Path | None
    msa_folders: tuple[Path, ...] = ()


def find_file(directory: str | Path, *names: str) -> Path:
    """The first of `names` found in the directory or below it; the shallowest, then alphabetically first, wins.

    Raises:
        InputError: no such folder, or none of the names anywhere below it.
    """
    files = list(_walk(directory))
    for name in names:
        found = [path for path in files if path.name == name]
        if found:
            return min(found, key=_depth_order)
    raise InputError(f"{directory}: found none of {', '.join(names)} there or below ({len(files)} files looked at)")


def find_competition_files(directory: str | Path, required: Iterable[str] = ()) -> CompetitionFiles:
    """Sequences, labels, test and sample files below a folder; a higher version (train_sequences.v2.csv) is preferred.

    Args:
        directory: folder with the files, or a mount such as /kaggle/input.
        required: field names of CompetitionFiles that must be there.

    Raises:
        InputError: no such folder, or a required file is not below it; the message names what was looked for.
    """
    files = list(_walk(directory))
    pairs = {
        "train_sequences": "train_labels",
        "validation_sequences": "validation_labels",
        "test_sequences": "sample_submission",
    }
    found: dict[str, Path | None] = {}
    for first, second in pairs.items():
        found[first], found[second] = _find_pair(files, first, second)
    missing = [name for name in required if found.get(name) is None]
    if missing:
        looked = ", ".join(f"{name}*.csv" for name in missing)
        raise InputError(f"{directory}: found no {looked} there or below ({len(files)} files looked at)")
    folders = sorted({path.parent for path in files if path.name.endswith(".MSA.fasta")})
    return CompetitionFiles(**found, msa_folders=tuple(folders))


def _find_pair(files: list[Path], first: str, second: str) -> tuple[Path | None, Path | None]:
    """Files of two kinds; the second beside the first and of the same version where there is one."""
    ones, twos = _find_kind(files, first), _find_kind(files, second)
    for one in ones:
        beside = [two for two in twos if two.parent == one.parent]
        same = [two for two in beside if _version(two) == _version(one)] or beside
        if same:
            return one, same[0]
    return (ones[0] if ones else None), (twos[0] if twos else None)


def _find_kind(files: list[Path], kind: str) -> list[Path]:
    """Files named kind*.csv, the highest version first, then the shallowest."""
    pattern = re.compile(re.escape(kind) + r"(?:[._-]v?\d+)?\.csv(?:\.gz)?$")
    found = [path for path in files if pattern.match(path.name)]
    return sorted(found, key=lambda path: (-_version(path), _depth_order(path)))


def _version(path: Path) -> int:
    match = re.search(r"[._-]v?(\d+)\.csv", path.name)
    return int(match.group(1)) if match else 1


def _depth_order(path: Path) -> tuple[int, str]:
    return len(path.parts), str(path)


def _walk(directory: str | Path) -> Iterable[Path]:
    """The files below a folder that must be there."""
    if not Path(directory).is_dir():
        raise InputError(f"{directory}: no such folder")
    return walk_files(directory)
