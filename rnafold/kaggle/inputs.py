"""What a kernel finds among its inputs, by searching: mount points differ between Kaggle's two schemes.

Competitions lie in `/kaggle/input/SLUG` or `/kaggle/input/competitions/SLUG`, datasets in `/kaggle/input/SLUG` or
`/kaggle/input/datasets/OWNER/SLUG`; nothing here depends on which.
"""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rnafold.config.settings import load_config
from rnafold.data.files import CompetitionFiles, find_competition_files
from rnafold.errors import InputError
from rnafold.files.atomic import replace_folder
from rnafold.files.run_folder import RunFolder
from rnafold.files.weights_header import read_weights_description


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlierRun:
    """The run folder that an earlier version of the kernel left, and the optimizer steps its newest checkpoint has."""

    folder: Path
    step: int


def find_competition(root: Path, needed: tuple[str, str], prefer: str = "") -> CompetitionFiles:
    """The files of the one mounted competition that has the pair of files `needed`.

    Args:
        root: where inputs are mounted, /kaggle/input on Kaggle.
        needed: field names of CompetitionFiles, such as ("test_sequences", "sample_submission").
        prefer: a folder name (the competition's slug) that must be part of the path; "" takes the only one there is.

    Raises:
        InputError: nothing is mounted, no folder has the files, or several have.
    """
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; on Kaggle attach the competition's data to the kernel")
    folders = sorted(_folders_with(root, needed[0]))
    matching = [folder for folder in folders if not prefer or prefer in folder.relative_to(root).parts]
    if not matching:
        looked = f"{needed[0]}*.csv" + (f" in a folder {prefer}" if prefer else "")
        seen = f"; seen only in {_name_three(root, folders)}" if folders else ""
        raise InputError(f"{root}: found no {looked} there or below{seen}; attach the competition's data to the kernel")
    # a competition may hold copies of a file in its subfolders: the top one is meant
    tops = [f for f in matching if not any(other != f and other in f.parents for other in matching)]
    if len(tops) > 1:
        raise InputError(
            f"{root}: {needed[0]} found in {len(tops)} folders: {_name_three(root, tops)}; name the one meant "
            "(COMPETITION in the notebook, --competition on the command line)"
        )
    return find_competition_files(tops[0], required=needed)


def _folders_with(root: Path, kind: str) -> Iterator[Path]:
    for folder, below, names in os.walk(root, followlinks=True):
        below[:] = sorted(name for name in below if not name.startswith("."))
        if any(name.startswith(kind) and name.endswith((".csv", ".csv.gz")) for name in names):
            yield Path(folder)


def _name_three(root: Path, folders: list[Path]) -> str:
    more = f" and {len(folders) - 3} more" if len(folders) > 3 else ""
    return ", ".join(str(folder.relative_to(root)) for folder in folders[:3]) + more


def find_earlier_run(root: Path, model: str = "") -> EarlierRun | None:
    """The run below `root` with the most steps in a complete checkpoint; None where there is none.

    Args:
        root: where inputs are mounted.
        model: only runs of the model of this name; "" takes any.
    """
    best: EarlierRun | None = None
    for folder, below, _ in os.walk(root, followlinks=True):
        below.sort()
        run = RunFolder(Path(folder))
        if not run.holds_run or (model and load_config(run.config_file).model.name != model):
            continue
        step = run.checkpoints.newest()
        if step is not None and (best is None or step > best.step):
            best = EarlierRun(folder=run.path, step=step)
    return best


def copy_earlier_run(earlier: EarlierRun, out: Path) -> None:
    """Copies a run to the working folder, writable, whatever the mount's permissions are; once only.

    Raises:
        InputError: `out` exists already.
    """
    if out.exists():
        raise InputError(f"{out}: exists already; an earlier run is copied into a fresh folder only")
    with replace_folder(out) as temporary:
        # copyfile leaves the mode of the read-only mount behind
        ignored = shutil.ignore_patterns(".*")
        shutil.copytree(earlier.folder, temporary, copy_function=shutil.copyfile, ignore=ignored, dirs_exist_ok=True)
        for folder, below, names in os.walk(temporary):
            Path(folder).chmod(0o755)
            for name in (*below, *names):
                (Path(folder) / name).chmod(0o755 if name in below else 0o644)


def find_weights(root: Path) -> Path | None:
    """The weights below `root` that `train` wrote and that validated best; None where there are none.

    Weights without a validation score come last; checkpoints, which hold tensors without saying whose, are left out.
    """
    found: list[tuple[float, str, Path]] = []
    for folder, below, names in os.walk(root, followlinks=True):
        below[:] = sorted(name for name in below if not name.startswith("."))
        for name in names:
            if not name.endswith(".safetensors"):
                continue
            path = Path(folder) / name
            described = read_weights_description(path)
            if described is not None:
                # an encoder that did not beat the network without it is switched off: any other weights come first
                refused = described.get("encoder_accepted") is False
                score = None if refused else described.get("validation_tm_score")
                found.append((-float(score) if isinstance(score, (int, float)) else 1.0, str(path), path))
    return min(found)[2] if found else None
