"""Which program wrote a folder: models and the files with their confidences, recognised by names, table by table.

The table follows what the programs write today; what it does not know is read as a plain folder of structures.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from rnafold.data.tables import open_binary
from rnafold.files.mounts import walk_files

STRUCTURE: Final = re.compile(r"\.(pdb|ent|cif|mmcif)(\.gz|\.zst)?$", re.IGNORECASE)
TABLE: Final = re.compile(r"\.csv(\.gz)?$", re.IGNORECASE)
PLAIN: Final = "structures"
SUBMISSION: Final = "submission"


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How one program names its models and what lies beside them.

    Attributes:
        program: its name, and the source's where the user gives none.
        model: of a model's path below the folder, with `/`; its groups may be used in `beside`.
        beside: names (below the model's folder, `..` allowed) of files with its confidence, the first that is there.
        replaced_by: pattern of paths; where one is there too, a model of this layout is an earlier stage, left out.
    """

    program: str
    model: re.Pattern[str]
    beside: tuple[str, ...] = ()
    replaced_by: re.Pattern[str] | None = None


def _layout(program: str, model: str, *beside: str, replaced_by: str = "") -> Layout:
    return Layout(
        program=program,
        model=re.compile(model + r"(?:\.gz|\.zst)?$", re.IGNORECASE),
        beside=beside,
        replaced_by=re.compile(replaced_by, re.IGNORECASE) if replaced_by else None,
    )


# In order: the first that fits a path counts. Sources: each program's documentation of its output.
LAYOUTS: Final = (
    _layout(
        "RNAPro",
        r"(?:^|/)(?P<job>[^/]+?)_sample_(?P<rank>\d+)_new\.(?:cif|pdb)",
        "{job}_summary_confidence_sample_{rank}.json",
    ),
    _layout(
        "Protenix",
        r"(?:^|/)(?:seed_(?P<seed>\d+)/predictions/)?(?P<job>[^/]+?)_sample_(?P<rank>\d+)\.(?:cif|pdb)",
        "{job}_summary_confidence_sample_{rank}.json",
        "{job}_sample_{rank}_summary_confidence.json",
        "summary_confidence_sample_{rank}.json",
        replaced_by=r"(?:^|/)(?:seed_\d+/predictions/)?[^/]+_sample_\d+_new\.(?:cif|pdb)",
    ),
    _layout(
        "Boltz",
        r"(?:^|/)(?:boltz_results_[^/]+/)?predictions/(?P<job>[^/]+)/(?P=job)_model_(?P<rank>\d+)\.(?:cif|pdb)",
        "confidence_{job}_model_{rank}.json",
        "plddt_{job}_model_{rank}.npz",
    ),
    _layout("Chai-1", r"(?:^|/)pred\.model_idx_(?P<rank>\d+)\.(?:cif|pdb)", "scores.model_idx_{rank}.npz"),
    _layout("Chai-1", r"(?:^|/)pred\.rank_(?P<rank>\d+)\.(?:cif|pdb)", "scores.rank_{rank}.json"),
    _layout(
        "OpenFold3",
        r"(?:^|/)(?P<job>[^/]+)_seed_(?P<seed>\d+)_sample_(?P<rank>\d+)_model\.(?:cif|pdb)",
        "{job}_seed_{seed}_sample_{rank}_confidences_aggregated.json",
    ),
    _layout(
        "AlphaFold 3",
        r"(?:^|/)fold_(?P<job>[^/]+)_model_(?P<rank>\d+)\.(?:cif|pdb)",
        "fold_{job}_summary_confidences_{rank}.json",
    ),
    _layout(
        "AlphaFold 3",
        r"(?:^|/)(?P<job>[^/]+)_seed-(?P<seed>\d+)_sample-(?P<rank>\d+)_model\.(?:cif|pdb)",
        "{job}_seed-{seed}_sample-{rank}_summary_confidences.json",
    ),
    _layout(
        "AlphaFold 3",
        r"(?:^|/)seed-(?P<seed>\d+)_sample-(?P<rank>\d+)/model\.(?:cif|pdb)",
        "summary_confidences.json",
    ),
    _layout("DRfold2", r"(?:^|/)relax/model_(?P<rank>\d+)\.(?:cif|pdb)", "../folds/opt_{rank}_from_*.pdb"),
    _layout(
        "DRfold2",
        r"(?:^|/)folds/opt_(?P<rank>\d+)(?:_from_[^/]*)?\.(?:cif|pdb)",
        replaced_by=r"(?:^|/)relax/model_\d+\.",
    ),
    _layout("DRfold2", r"(?:^|/)rets_dir/[^/]+\.(?:cif|pdb)"),
    _layout(
        "RhoFold",
        r"(?:^|/)(?P<job>[^/]*?)_?(?:un)?relaxed(?:_\d+)?_model\.(?:cif|pdb)",
        "results.npz",
        "{job}_unrelaxed_model.pdb",
        "unrelaxed_model.pdb",
    ),
    _layout(
        "trRosettaRNA",
        r"(?:^|/)model_(?P<rank>\d+)_(?:un)?relaxed\d*\.(?:cif|pdb)",
        "plddt.csv",
    ),
    _layout("NuFold", r"(?:^|/)(?P<job>[^/]+)_rank_(?P<rank>\d+)\.(?:cif|pdb)"),
    _layout("RoseTTAFold2NA", r"(?:^|/)models/model_(?P<rank>\d+)\.(?:cif|pdb)"),
    _layout("FARFAR2", r"(?:^|/)(?:[^/]*\.)?S_(?P<rank>\d{6}(?:_\d+)?)\.(?:cif|pdb)"),
    _layout("SimRNA", r"(?:^|/)(?P<job>[^/]+)_clust(?P<cluster>\d+)-(?P<rank>\d+)(?:_AA)?\.(?:cif|pdb)"),
    _layout("Vfold", r"(?:^|/)(?P<job>[^/]+)_vfold(?:3d)?(?:_?(?P<rank>\d+))?\.(?:cif|pdb)"),
    _layout("3dRNA", r"(?:^|/)(?P<job>[^/]*?)[._]?(?:pred(?P<rank>\d+)(?:\.min)?|3drna(?:_\d+)?)\.(?:cif|pdb)"),
    _layout("AlphaFold 3", r"(?:^|/)(?P<job>[^/]+)_model\.cif", "{job}_summary_confidences.json"),
    _layout("RNAComposer", r"(?:^|/)(?P<job>[^/]*?)_?rnacomposer[^/]*?(?P<rank>\d*)\.(?:cif|pdb)"),
)
# What RoseTTAFold 3's summary of confidences holds and AlphaFold 3's does not.
_RF3_KEYS: Final = ("overall_plddt", "overall_pae", "overall_pde")
_PACKED: Final = ("", ".gz", ".zst")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFile:
    """A file with one or more models.

    Attributes:
        path: where it lies.
        program: what wrote it, PLAIN where unknown, SUBMISSION for a CSV.
        job: what the program calls the target, "" where the name says nothing.
        beside: the file with its confidence, if there is one.
        order: sorts the files as the program ranks them.
    """

    path: Path
    program: str
    job: str = ""
    beside: Path | None = None
    order: tuple[object, ...] = field(default=(), compare=False)


def natural_key(text: str) -> tuple[object, ...]:
    """Sorts text with its numbers as numbers: model_2 before model_10."""
    return tuple((1, int(part)) if part.isdigit() else (0, part) for part in re.split(r"(\d+)", text.lower()) if part)


def list_model_files(root: Path) -> list[ModelFile]:
    """The files with models at or below a path, in natural order; earlier stages of a model are left out."""
    if root.is_file():
        return [_Folder(root.parent, [root]).describe(root)]
    files = list(walk_files(root))
    folder = _Folder(root, files)
    found = [folder.describe(path) for path in files if _holds_models(path)]
    return sorted((file for file in found if file.program), key=lambda file: file.order)


def _holds_models(path: Path) -> bool:
    """A structure file, or a CSV whose header is a submission's."""
    if STRUCTURE.search(path.name):
        return True
    if not TABLE.search(path.name):
        return False
    try:
        with open_binary(path) as handle:
            header = handle.readline(400).decode("utf-8", errors="replace").strip().split(",")
    except (OSError, EOFError):
        return False
    return {"ID", "resname", "resid", "x_1"} <= {name.strip('"') for name in header}


class _Folder:
    """All files below a folder, to tell what each is from what lies beside it."""

    def __init__(self, root: Path, files: Sequence[Path]) -> None:
        self.root, self.files = root, set(files)
        names = [path.relative_to(root).as_posix() for path in files]
        self.later_stages = {
            layout.replaced_by.pattern: {
                name[: match.start()] for name in names if (match := layout.replaced_by.search(name))
            }
            for layout in LAYOUTS
            if layout.replaced_by is not None
        }

    def describe(self, path: Path) -> ModelFile:
        """What a file is; one that a later stage replaces has no program."""
        name = path.relative_to(self.root).as_posix()
        order = natural_key(name)
        if TABLE.search(path.name):
            return ModelFile(path=path, program=SUBMISSION, order=order)
        for layout in LAYOUTS:
            match = layout.model.search(name)
            if match is None:
                continue
            stage = layout.replaced_by
            if stage is not None and name[: match.start()] in self.later_stages[stage.pattern]:
                return ModelFile(path=path, program="")
            groups = {key: value or "" for key, value in match.groupdict().items()}
            beside = self._find_beside(path, layout.beside, groups)
            program = layout.program
            if program == "AlphaFold 3" and beside is not None and _is_rf3(beside):
                program = "RoseTTAFold 3"
            return ModelFile(path=path, program=program, job=groups.get("job", ""), beside=beside, order=order)
        return ModelFile(path=path, program=PLAIN, job=STRUCTURE.sub("", path.name), order=order)

    def _find_beside(self, path: Path, patterns: Sequence[str], groups: dict[str, str]) -> Path | None:
        """The first of the files with confidences that is there."""
        for pattern in patterns:
            folder, wanted = path.parent, pattern.format(**{"job": "", "rank": "", "seed": "", **groups}).lstrip("_")
            while wanted.startswith("../"):
                folder, wanted = folder.parent, wanted[3:]
            names = sorted(folder.glob(wanted)) if "*" in wanted else [folder / f"{wanted}{e}" for e in _PACKED]
            found = next((name for name in names if name != path and name.is_file()), None)
            if found is not None:
                return found
        return None


def _is_rf3(beside: Path) -> bool:
    """Whether a summary of confidences is RoseTTAFold 3's, which names its files as AlphaFold 3 does."""
    if beside.suffix != ".json":
        return False
    with beside.open("r", encoding="utf-8", errors="replace") as handle:
        start = handle.read(20_000)
    return any(f'"{key}"' in start for key in _RF3_KEYS)
