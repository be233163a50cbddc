"""Imports only go down the floors, and each library has its door."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "rnafold"
FLOORS = {
    0: ["errors", "rna", "geometry"],
    1: [
        "structure",
        "config.strict_yaml",
        "config.building",
        "config.hardware",
        "config.machine_use",
        "config.detection",
        "config.settings",
        "files.shipped",
    ]
    + ["config.encoder", "files.mounts", "config", "files"],
    2: ["data", "features.msa", "features.secondary", "features.cache", "features.stem_energy"]
    + [
        "features.pair_choice",
        "scoring",
        "scoring.scorecard",
        "scoring.reliability",
        "submission",
        "scoring.files",
        "report.export",
        "config.reproduction",
    ],
    3: ["prediction.slots", "templates", "assembly", "features.build", "features.batch"],
    4: ["model", "model.folding", "model.weights"],
    5: [
        "training",
        "prediction",
        "machine",
        "files.metrics",
        "files.run_folder",
        "data.sampler",
        "prediction.deadline",
        "prediction.solver",
        "prediction.run",
        "planner",
        "report",
        "kaggle",
        "experiments",
    ]
    + ["report.model_card", "report.card_text"],
    6: ["cli", "cli.main", "cli.report", "cli.plan", "cli.kaggle", "cli.experiment", "cli.demo", "__main__", ""],
}
DOORS = {
    "pandas": ["data.competition", "submission"],
    "Bio": ["data.mmcif", "templates.search"],
    "sklearn": ["data.splits", "templates.ranker"],
    "accelerate": ["training.loop"],
    "plotly": ["report"],
    "yaml": ["config.strict_yaml"],
    "RNA": ["features.secondary"],
}
FIRST_TORCH_FLOOR = 3  # features.batch is the one module of floor 3 with torch
MODULES = sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def floor_of(module: str) -> int:
    while True:
        for floor, names in FLOORS.items():
            if module in names:
                return floor
        if "." not in module:
            raise AssertionError(f"rnafold.{module} has no floor: give it one in ARCHITECTURE.md and here")
        module = module.rpartition(".")[0]


def imports_of(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def is_module(name: str) -> bool:
    path = PACKAGE.parent / Path(*name.split("."))
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_only_go_down(path: Path) -> None:
    own = name_of(path)
    if own in ("data", "features", "model", "training", "templates", "planner"):
        assert path.read_text().count("import ") == 0 or floor_of(f"{own}") >= 0
    for target in imports_of(path):
        if target.startswith("rnafold.") and is_module(target):
            other = target.removeprefix("rnafold.")
            if other in ("data", "features"):
                continue
            assert floor_of(other) <= floor_of(own), f"rnafold.{own} (floor {floor_of(own)}) imports rnafold.{other}"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_each_library_comes_in_by_its_door(path: Path) -> None:
    own = name_of(path)
    for target in imports_of(path):
        library = target.split(".")[0]
        for door in DOORS.get(library, [own]):
            if own == door or own.startswith(f"{door}."):
                break
        else:
            raise AssertionError(f"rnafold.{own} imports {library}; its doors are {DOORS[library]}")
        if library == "torch":
            assert floor_of(own) > FIRST_TORCH_FLOOR or own == "features.batch", f"rnafold.{own} imports torch"


def test_model_and_scoring_know_nothing_of_training() -> None:
    for path in MODULES:
        own = name_of(path)
        if own.startswith("model"):
            assert not any(t.startswith(("rnafold.data", "rnafold.training")) for t in imports_of(path))
        if own.startswith("scoring"):
            assert "rnafold.model.losses" not in imports_of(path)


@pytest.mark.parametrize(
    "arguments",
    [["check", "none.csv", "--sample", "none.csv"], ["score", "none.csv", "none.csv"], ["quota", "--json"]],
    ids=["check", "score", "quota"],
)
def test_commands_without_a_network_never_load_torch(arguments: list[str]) -> None:
    code = f"import sys\nfrom rnafold.cli.main import main\nmain({arguments!r})\nsys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_sources_hold_no_pickle_star_imports_or_machine_paths() -> None:
    for path in MODULES:
        text = path.read_text(encoding="utf-8")
        assert "import pickle" not in text, path
        assert "import *" not in text, path
        assert "/work/" not in text, path
        assert "weights_only=False" not in text, path
