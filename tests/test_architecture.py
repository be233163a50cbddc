"""Imports only go down the floors, and each library has its door."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "rnafold"
# The rooms from the ground up: a room imports only from floors strictly below its own. ARCHITECTURE.md has the picture.
FLOORS = (
    ("errors", "rna"),
    ("forest", "geometry", "structure"),
    ("config",),
    ("files", "machine"),
    ("data",),
    ("features", "submission", "assembly"),
    ("scoring",),
    ("templates",),
    ("candidates",),
    ("model",),
    ("prediction", "planner"),
    ("training",),
    ("report",),
    ("experiments",),
    ("kaggle",),
    ("api",),
    ("cli",),
    ("__main__",),
)
DOORS = {
    "pandas": ["data.competition", "submission"],
    "Bio": ["templates.search", "features.alignment_files"],
    "gemmi": ["data.structures", "candidates.traces"],
    "sklearn": ["data.splits", "templates.loop_training", "templates.ranker"],
    "edlib": ["data.identity"],
    "accelerate": ["training.ranks", "prediction.team"],
    "plotly": ["report"],
    "yaml": ["config.strict_yaml"],
    "RNA": ["features.secondary"],
    "SQUARNA": ["features.squarna"],
    "loky": ["features.squarna"],
}
# torch takes a second to load: `check`, `score` and `quota` answer at once because nothing on their way imports it.
TORCH_ROOMS = ("machine", "model", "prediction", "planner", "training", "kaggle", "experiments", "features.batch")
MODULES = sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module: str) -> str:
    return module.split(".")[0]


def floor_of(module: str) -> int:
    for floor, rooms in enumerate(FLOORS):
        if room_of(module) in rooms:
            return floor
    raise AssertionError(f"rnafold.{module} has no floor: give its room one in ARCHITECTURE.md and here")


def _names_of(node: ast.AST) -> set[str]:
    """What one statement imports: `from a import b` names a.b if that is a module of the package, else a."""
    if isinstance(node, ast.Import):
        return {alias.name for alias in node.names}
    if isinstance(node, ast.ImportFrom) and node.module:
        inner = {f"{node.module}.{alias.name}" for alias in node.names}
        return {name if is_module(name) else node.module for name in inner}
    return set()


def imports_of(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert not any(isinstance(n, ast.ImportFrom) and n.level for n in ast.walk(tree)), f"{path}: relative import"
    return {name for node in ast.walk(tree) for name in _names_of(node)}


def is_module(name: str) -> bool:
    path = PACKAGE.parent / Path(*name.split("."))
    if not name.startswith("rnafold."):
        return False
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def imported_modules(path: Path) -> set[str]:
    """The modules of the package that a file imports, without the `rnafold.` in front."""
    return {t.removeprefix("rnafold.") for t in imports_of(path) if t.startswith("rnafold.") and is_module(t)}


@pytest.mark.parametrize("path", [p for p in MODULES if p.parent != PACKAGE or p.stem != "__init__"], ids=name_of)
def test_imports_only_go_down(path: Path) -> None:
    own = name_of(path)
    for other in imported_modules(path):
        if room_of(other) != room_of(own):
            assert floor_of(other) < floor_of(own), f"rnafold.{own} (floor {floor_of(own)}) imports rnafold.{other}"


def test_every_floor_is_inhabited_and_the_top_is_small() -> None:
    rooms = {room_of(name_of(path)) for path in MODULES} - {""}
    assert rooms == {room for floor in FLOORS for room in floor}
    assert len([p for p in PACKAGE.glob("*.py") if p.stem not in ("__init__", "__main__")]) <= 8


def find_deepest_chain(imports: dict[str, set[str]]) -> tuple[str, ...]:
    """The longest chain of imports, first importer first.

    Raises:
        AssertionError: modules import each other in a circle.
    """
    longest: dict[str, tuple[str, ...]] = {}

    def follow(module: str, above: tuple[str, ...]) -> tuple[str, ...]:
        assert module not in above, f"circle of imports: {' -> '.join([*above, module])}"
        if module not in longest:
            below = [follow(other, (*above, module)) for other in sorted(imports[module] - {module})]
            longest[module] = (module, *max(below, key=len, default=()))
        return longest[module]

    return max((follow(module, ()) for module in sorted(imports)), key=len)


def module_level_imports(path: Path) -> set[str]:
    """What a file imports as it is loaded: not inside functions, and not for type checkers alone."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = {name for node in tree.body for name in _names_of(node)}
    return {t.removeprefix("rnafold.") for t in found if t.startswith("rnafold.") and is_module(t)}


def test_imports_run_in_no_circle_and_at_most_sixteen_deep() -> None:
    chain = find_deepest_chain({name_of(path): module_level_imports(path) for path in MODULES})
    assert len(chain) <= 16, " -> ".join(chain)


def test_a_circle_of_imports_is_seen() -> None:
    with pytest.raises(AssertionError, match="circle of imports: a -> b -> a"):
        find_deepest_chain({"a": {"b"}, "b": {"a"}})


def test_no_module_is_there_for_tests_alone() -> None:
    used = {other for path in MODULES for other in imported_modules(path)}
    outside = [p for folder in ("kernels", "benchmarks", "scripts") for p in (PACKAGE.parent / folder).rglob("*.*")]
    text = "\n".join(p.read_text(encoding="utf-8") for p in outside if p.suffix in (".py", ".ipynb"))
    started = {"__main__", "planner.memory.worker"}  # by `python -m`
    started |= {name_of(p) for p in MODULES if f"from rnafold.{name_of(p)} import" in text}
    lonely = [name_of(p) for p in MODULES if p.stem != "__init__" and name_of(p) not in used | started]
    assert not lonely


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
            assert room_of(own) in TORCH_ROOMS or own in TORCH_ROOMS, f"rnafold.{own} imports torch"


def test_model_and_scoring_know_nothing_of_training() -> None:
    for path in MODULES:
        own = name_of(path)
        if own.startswith("model"):
            assert not any(t.startswith(("rnafold.data", "rnafold.training")) for t in imports_of(path))
        if own.startswith("scoring"):
            assert "rnafold.model.losses" not in imports_of(path)


@pytest.mark.parametrize(
    "arguments",
    [
        ["check", "none.csv", "--sample", "none.csv"],
        ["score", "none.csv", "none.csv"],
        ["quota", "--json"],
        ["pick", "--candidates", ".", "--test", "none.csv", "--sample", "none.csv", "--out", "none.csv"],
    ],
    ids=["check", "score", "quota", "pick"],
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


def test_no_test_reads_a_clock_but_to_compare_two_pieces_of_work() -> None:
    tests = PACKAGE.parent / "tests"
    clock = re.compile(r"\btime\.(perf_counter|monotonic|process_time|time)\(")
    readers = {str(p.relative_to(tests)) for p in tests.rglob("*.py") if clock.search(p.read_text(encoding="utf-8"))}
    assert readers == set(), "tests.pieces.timing.measure_growth compares; seconds fail on a busy machine"


def test_pages_that_are_cited_are_there() -> None:
    root = PACKAGE.parent
    files = [
        p
        for folder in ("rnafold", "configs", "benchmarks", "scripts", "experiments")
        for p in (root / folder).rglob("*")
    ]
    text = "\n".join(p.read_text(encoding="utf-8") for p in files if p.suffix in (".py", ".yaml"))
    cited = set(re.findall(r"\bdocs/[\w/]+\.md\b", text))
    assert "docs/studies/templates.md" in cited
    assert not [name for name in cited if not (root / name).is_file()]
    assert not re.findall(r"(?:template|network) study\b", text)
