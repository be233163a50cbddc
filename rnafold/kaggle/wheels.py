"""Wheels for a machine without network: the project's own, and what Kaggle's image lacks, with their needs.

Nothing that the image has is carried (a second torch would be a different one), and nothing at all of torch's family.
"""

import importlib.util
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from email.parser import Parser
from pathlib import Path
from typing import Final

from packaging.markers import default_environment
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from rnafold.errors import InputError

# What a wheel may be built for, newest first; Kaggle's image is an Ubuntu 22.04 with glibc 2.35.
PLATFORMS: Final = (
    "manylinux_2_34_x86_64",
    "manylinux_2_28_x86_64",
    "manylinux_2_24_x86_64",
    "manylinux_2_17_x86_64",
    "manylinux2014_x86_64",
)
# Never carried, whoever asks for them: they must fit the image's driver, so the image's own are used.
FORBIDDEN: Final = re.compile(r"^(torch|torchvision|torchaudio|triton|nvidia-.*|cuda-.*|pytorch-triton.*)$")
# Parts of a checkout that the project's wheel is built from.
SOURCES: Final = (
    "pyproject.toml",
    "setup.py",
    "MANIFEST.in",
    "README.md",
    "LICENSE",
    "rnafold",
    "configs",
    "submission",
)
# Whatever the checkout's own MANIFEST.in says, learned models and other data inside the package travel along.
PACKAGE_DATA: Final = "\nrecursive-include rnafold *.json *.yaml *.safetensors *.csv *.html *.js *.css\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class WheelPlan:
    """Which wheels a bundle carries.

    Attributes:
        requirements: asked for, in pip's notation: "biopython>=1.84".
        image: canonical names of what the image has; never downloaded, their needs never followed.
        python: version of Kaggle's Python, "3.12".
        platforms: pip's platform tags; empty takes the platform of this machine.
        source: a folder with wheels to take instead of asking the package index.
    """

    requirements: tuple[str, ...]
    image: frozenset[str]
    python: str = "3.12"
    platforms: tuple[str, ...] = PLATFORMS
    source: Path | None = None


def read_package_list(path: Path) -> tuple[str, ...]:
    """Requirements of a text file, one a line; what follows a # is a comment.

    Raises:
        InputError: no such file, or a line that is no requirement.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected the list of packages")
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        try:
            Requirement(text)
        except InvalidRequirement:
            raise InputError(f"{path}: line {number}: {text!r}, expected a package such as biopython>=1.84") from None
        found.append(text)
    return tuple(found)


def build_project_wheel(checkout: Path, out: Path) -> Path:
    """Builds the project's wheel from a checkout, without touching it; returns the wheel's path in `out`.

    Raises:
        InputError: the folder is no checkout, or the build failed.
    """
    if not (checkout / "pyproject.toml").is_file() or not (checkout / "rnafold").is_dir():
        raise InputError(f"{checkout}: no checkout of the project (no pyproject.toml and rnafold/); see --source")
    with tempfile.TemporaryDirectory(prefix="rnafold-wheel-") as folder:
        copy = Path(folder) / "source"
        copy.mkdir()
        for name in SOURCES:
            source = checkout / name
            if source.is_dir():
                shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__", ".*", "*.pyc"))
            elif source.is_file():
                shutil.copyfile(source, copy / name)
        with (copy / "MANIFEST.in").open("a", encoding="utf-8") as manifest:
            manifest.write(PACKAGE_DATA)
        # with setuptools at hand no network is needed
        offline = importlib.util.find_spec("setuptools") is not None
        command = ["wheel", "--quiet", "--no-deps", "--wheel-dir", folder]
        _run_pip([*command, *(["--no-build-isolation", "--no-index"] if offline else []), str(copy)], "the wheel")
        return _take_wheel(Path(folder), out, f"{checkout}: the build gave")


def _take_wheel(folder: Path, out: Path, what: str) -> Path:
    """Copies the one wheel of a folder to `out`.

    Raises:
        InputError: there is none, or several; the message begins with `what`.
    """
    wheels = sorted(folder.glob("*.whl"))
    if len(wheels) != 1:
        raise InputError(f"{what} {len(wheels)} wheels, expected 1")
    target = out / wheels[0].name
    shutil.copyfile(wheels[0], target)
    return target


def download_wheels(plan: WheelPlan, out: Path) -> list[Path]:
    """Downloads the planned wheels and, one by one, what they need and the image lacks; never torch.

    Raises:
        InputError: a forbidden package, or one for which there is no wheel for that Python and platform.
    """
    waiting = list(plan.requirements)
    done: dict[str, Path] = {}
    while waiting:
        text = waiting.pop(0)
        need = Requirement(text)
        name = canonicalize_name(need.name)
        if name in done or name in plan.image:
            continue
        if FORBIDDEN.match(name):
            raise InputError(f"{text}: never carried to Kaggle: the image's own fits its driver")
        done[name] = _download(plan, need, out)
        waiting += [str(n) for n in read_needs(done[name], plan.python) if canonicalize_name(n.name) not in plan.image]
    return list(done.values())


def _download(plan: WheelPlan, need: Requirement, out: Path) -> Path:
    with tempfile.TemporaryDirectory(prefix="rnafold-wheels-") as folder:
        command = ["download", "--quiet", "--no-deps", "--only-binary", ":all:", "--dest", folder]
        if plan.source is not None:
            command += ["--no-index", "--find-links", str(plan.source)]
        command += ["--python-version", plan.python, "--implementation", "cp"] if plan.platforms else []
        for platform in plan.platforms:
            command += ["--platform", platform]
        wanted = f"{need.name}{need.specifier}"
        _run_pip([*command, wanted], f"a wheel of {wanted} for Python {plan.python}")
        return _take_wheel(Path(folder), out, f"{wanted}: pip brought")


def _run_pip(arguments: Sequence[str], what: str) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines()
        raise InputError(f"no {what.removeprefix('a ')}: pip says: {' '.join(errors[-2:]).strip()[:400]}")


def read_needs(wheel: Path, python: str) -> list[Requirement]:
    """What a wheel requires on Kaggle's Python and Linux, extras left out.

    Raises:
        InputError: no wheel.
    """
    environment: dict[str, str] = {key: str(value) for key, value in default_environment().items()}
    environment |= {"extra": "", "python_version": python, "python_full_version": f"{python}.0"}
    environment |= {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix"}
    try:
        with zipfile.ZipFile(wheel) as archive:
            name = next(n for n in archive.namelist() if n.endswith(".dist-info/METADATA") and n.count("/") == 1)
            text = archive.read(name).decode("utf-8")
    except (OSError, zipfile.BadZipFile, StopIteration):
        raise InputError(f"{wheel}: not a readable wheel") from None
    needs = [Requirement(line) for line in Parser().parsestr(text).get_all("Requires-Dist", [])]
    return [n for n in needs if n.marker is None or n.marker.evaluate(environment)]


def wheel_name(wheel: Path) -> str:
    """Canonical name of the package in a wheel's file name."""
    return str(canonicalize_name(wheel.name.split("-")[0]))


def requirement_name(text: str) -> str:
    """Canonical name of the package in a requirement such as "biopython>=1.84"."""
    return str(canonicalize_name(Requirement(text).name))
