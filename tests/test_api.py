"""What `import rnafold` promises: loaded lazily, documented with an example each, and nothing else."""

import ast
import doctest
import inspect
import runpy
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

import rnafold
from rnafold import api
from rnafold.errors import EXTRAS, InputError, name_missing_extra

ROOT = Path(__file__).resolve().parents[1]
FUNCTIONS = [name for name in rnafold.__all__ if inspect.isfunction(getattr(rnafold, name))]


def test_importing_the_package_loads_nothing_and_scoring_no_torch() -> None:
    heavy = ("numpy", "pandas", "torch", "plotly", "sklearn", "Bio")
    code = f"import sys, rnafold\nsys.exit(' '.join(n for n in {heavy!r} if n in sys.modules) or 0)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    code = "import sys, rnafold\nrnafold.tm_score([[0, 0, 0.0]] * 5, [[0, 0, 1.0]] * 5)\nrnafold.check_submission\n"
    code += "rnafold.fold, rnafold.pick, rnafold.Folded\nsys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_nothing_but_what_is_listed_is_promised() -> None:
    tree = ast.parse((ROOT / "rnafold" / "__init__.py").read_text(encoding="utf-8"))
    typed = {alias.asname for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert typed - {None, "Any", "Final", "TYPE_CHECKING"} == set(rnafold.__all__)
    defined = {
        name for name, value in vars(api).items() if inspect.isfunction(value) and value.__module__ == api.__name__
    }
    assert defined == set(FUNCTIONS)
    with pytest.raises(AttributeError, match="no attribute 'train'"):
        _ = rnafold.train
    assert set(rnafold.__all__) <= set(dir(rnafold))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_each_function_says_what_it_takes_gives_raises_where_it_is_from_and_shows_it(name: str) -> None:
    function = getattr(rnafold, name)
    text = inspect.getdoc(function) or ""
    for part in ("Args:\n", "Returns:\n", "Raises:\n", "Source: ", ">>> import"):
        assert part in text.replace("numpy as np, rnafold", "rnafold"), f"{name} lacks {part!r}"
    for parameter in inspect.signature(function).parameters:
        assert f"    {parameter}: " in text, f"{name}: {parameter} is not explained"


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_examples_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (example,) = doctest.DocTestFinder(recurse=False).find(getattr(rnafold, name), name, globs={})
    result = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL).run(example)
    assert result.attempted > 1 and result.failed == 0


def test_the_page_is_what_the_docstrings_say() -> None:
    made = runpy.run_path(str(ROOT / "scripts" / "make_api_page.py"))
    page = made["PAGE"].read_text(encoding="utf-8")
    assert page == made["build_page"](), "docs/api.md is old: python scripts/make_api_page.py"


def test_shapes_that_do_not_fit_and_files_for_sequences_are_one_line() -> None:
    with pytest.raises(InputError, match=r"model of shape \(3, 3\)"):
        rnafold.tm_score(np.zeros((3, 3)), np.zeros((4, 3)))
    with pytest.raises(InputError, match=r"model of shape \(4, 3\)"):
        rnafold.tm_score(np.zeros((4, 3)), np.zeros(4))
    with pytest.raises(InputError, match="looks like a file"):
        rnafold.fold("some.fasta")


def test_a_missing_library_is_one_line_that_names_its_extra() -> None:
    with (
        pytest.raises(InputError, match=r"torch is not installed: pip install 'rnafold-kit\[train\]'"),
        name_missing_extra(),
    ):
        raise ModuleNotFoundError("No module named 'torch.nn'", name="torch.nn")
    with pytest.raises(ModuleNotFoundError), name_missing_extra():
        raise ModuleNotFoundError("No module named 'rnafold.typo'", name="rnafold.typo")


def test_the_extras_of_the_code_are_those_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    for module, extra in EXTRAS.items():
        assert any(line.startswith(module) for line in extras[extra]), f"{module} is not in [{extra}]"
        assert not any(line.startswith(module) for line in project["dependencies"])
    assert extras["all"] == [f"{project['name']}[fold,report,train,zst]"]
    assert extras["test"][0] == f"{project['name']}[all]"
