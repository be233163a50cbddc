"""What of the kit works on this machine: libraries, cards, programs, folders, and the commands that need them.

Each question is asked in the way the kit itself would ask it (a wheel imported, a card made to compute), so that "is
there" means "works". What is missing costs a line, never the page.
"""

import importlib
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Final, Literal

from rnafold import __version__
from rnafold.data.files import find_competition_files
from rnafold.errors import EXTRAS, InputError
from rnafold.files.shipped import find_shipped_weights, find_slots
from rnafold.scoring.usalign import find_usalign

Level = Literal["ok", "missing", "fault"]
# Distribution and module of what every installation has.
_BASE: Final = {
    "numpy": "numpy", "pandas": "pandas", "biopython": "Bio.Align", "gemmi": "gemmi", "edlib": "edlib",
    "scikit-learn": "sklearn.ensemble", "pyyaml": "yaml",
}  # fmt: skip
# Commands by the extras without which they do nothing.
_COMMANDS: Final = {
    "score, check, pick, quota, export, fold without the network": (),
    "fold and predict with the network, train, plan, experiment": ("train",),
    "report, demo": ("train", "report"),
}
_GIB: Final = 2**30


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One thing looked at. `fault`: it is here and does not work; `missing`: something does without it."""

    about: str
    level: Level
    text: str


def examine(cache: Path, data: Path | None = None) -> list[Line]:
    """Everything that is looked at, in the order of the page."""
    questions: list[Callable[[], Iterator[Line]]] = [
        _look_at_system,
        _look_at_base,
        _look_at_extras,
        _look_at_cards,
        _look_at_programs,
        lambda: _look_at_folders(cache, data),
        _look_at_commands,
        lambda: _compute(cache),
    ]
    return [line for ask in questions for line in _ask(ask)]


def _ask(question: Callable[[], Iterator[Line]]) -> list[Line]:
    try:
        return list(question())
    except Exception as error:  # noqa: BLE001 - a page about what is broken must not break on it
        return [Line(about="doctor", level="fault", text=f"{type(error).__name__}: {_first_line(error)}")]


def _look_at_system() -> Iterator[Line]:
    yield Line(about="rnafold", level="ok", text=f"{__version__} from {Path(__file__).resolve().parents[1]}")
    fine = sys.version_info >= (3, 11)
    text = f"{platform.python_version()} on {platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    yield Line(
        about="python", level="ok" if fine else "fault", text=text + ("" if fine else ", expected 3.11 or later")
    )


def _look_at_base() -> Iterator[Line]:
    for distribution, module in _BASE.items():
        yield _import(distribution, module, f"pip install {distribution}", needed=True)


def _look_at_extras() -> Iterator[Line]:
    vienna = _import("viennarna", "RNA", "pip install 'rnafold-kit[fold]'; a slower built-in folding stands in")
    yield vienna
    hint = "pip install 'rnafold-kit[fold]'; assemblies then start from ViennaRNA's structures alone"
    yield _import("squarna", "SQUARNA", hint)
    yield _import("loky", "loky", "pip install 'rnafold-kit[fold]'; SQUARNA is not asked without it")
    for module, extra in EXTRAS.items():
        yield _import(module, module, f"pip install 'rnafold-kit[{extra}]'")


def _import(distribution: str, module: str, hint: str, needed: bool = False) -> Line:
    try:
        importlib.import_module(module)
    except ModuleNotFoundError:
        return Line(about=distribution, level="fault" if needed else "missing", text=f"not installed: {hint}")
    except Exception as error:  # noqa: BLE001 - a wheel for another machine raises whatever its loader does
        return Line(about=distribution, level="fault", text=f"does not load: {_first_line(error)}")
    try:
        return Line(about=distribution, level="ok", text=metadata.version(distribution))
    except metadata.PackageNotFoundError:
        return Line(about=distribution, level="ok", text="of an unknown version")


def _look_at_cards() -> Iterator[Line]:
    if importlib.util.find_spec("torch") is None:
        return
    from rnafold.kaggle.preflight import has_kernels, probe_machine
    from rnafold.machine import resolve_gpu

    machine = probe_machine(Path())
    name, note = resolve_gpu("auto")
    yield Line(about="--gpu auto", level="ok", text=name + (f" ({note})" if note else ""))
    if not machine.cards:
        yield Line(about="cards", level="missing", text="no CUDA device: everything runs on the CPU")
    for number, card in enumerate(machine.cards):
        text = f"{card.name}, capability {card.capability[0]}.{card.capability[1]}, {card.free_gib:.1f} GiB free"
        fault = card.failure and f"the first operation failed: {card.failure}"
        if not has_kernels(card.capability, machine.arch_list):
            fault = f"torch {machine.torch} has no kernels for it, only for {' '.join(machine.arch_list)}"
        yield Line(about=f"card {number}", level="fault" if fault else "ok", text=f"{text}: {fault}" if fault else text)


def find_chromium() -> str | None:
    """The browser that the tests of the pages and `make pictures` use, by the names that systems give it."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return next((path for name in names if (path := shutil.which(name))), None)


def _look_at_programs() -> Iterator[Line]:
    try:
        yield Line(about="US-align", level="ok", text=str(find_usalign()))
    except InputError as error:
        text = _first_line(error).removeprefix("part 1's metric needs the US-align program, ")
        yield Line(about="US-align", level="missing", text=f"{text} (part 1's metric)")
    found = find_chromium()
    text = found or "not found: the tests of the pages and `make pictures` need it, the kit does not"
    yield Line(about="Chromium", level="ok" if found else "missing", text=text)


def _look_at_folders(cache: Path, data: Path | None) -> Iterator[Line]:
    weights = find_shipped_weights()
    text = "none shipped: predicting from templates and assemblies" if weights is None else str(weights)
    yield Line(about="weights", level="missing" if weights is None else "ok", text=text)
    yield Line(about="slots", level="ok" if find_slots(None).is_file() else "fault", text=str(find_slots(None)))
    place = cache if cache.is_dir() else next(p for p in (cache, *cache.absolute().parents) if p.is_dir())
    free = shutil.disk_usage(place).free / _GIB
    size = sum(path.stat().st_size for path in cache.rglob("*") if path.is_file()) / _GIB if cache.is_dir() else 0.0
    level: Level = "ok" if os.access(place, os.W_OK) else "fault"
    yield Line(
        about="cache",
        level=level,
        text=f"{cache}: {size:.2f} GiB, {free:.1f} GiB free" + ("" if level == "ok" else ", cannot be written to"),
    )
    if data is not None:
        try:
            files = find_competition_files(data)
        except InputError as error:
            yield Line(about="data", level="fault", text=_first_line(error))
            return
        named = [str(path) for path in (files.train_sequences, files.train_labels, files.test_sequences) if path]
        text = ", ".join(named) or f"{data}: none of the competition's files"
        yield Line(about="data", level="ok" if named else "missing", text=text)
        count = len(files.msa_folders)
        yield Line(about="alignments", level="ok" if count else "missing", text=f"{count} folders below {data}")


def _look_at_commands() -> Iterator[Line]:
    for commands, extras in _COMMANDS.items():
        lacking = sorted({m for m, extra in EXTRAS.items() if extra in extras and importlib.util.find_spec(m) is None})
        text = f"do not work here without {', '.join(lacking)}" if lacking else "work here"
        yield Line(about=commands, level="missing" if lacking else "ok", text=text)


def _compute(cache: Path) -> Iterator[Line]:
    """A few training steps in each precision, and the attention kernels, where training is installed."""
    if any(importlib.util.find_spec(module) is None for module, extra in EXTRAS.items() if extra == "train"):
        return
    from rnafold.machine import resolve_gpu
    from rnafold.training.selftest import run_selftest

    levels: dict[str, Level] = {"failed": "fault", "skipped": "missing"}
    for check in run_selftest(resolve_gpu("auto")[0], cache, short=True):
        yield Line(about=check.name, level=levels.get(check.status, "ok"), text=check.detail)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def format_diagnosis(lines: list[Line]) -> str:
    """The page: a mark, what was looked at, what was found."""
    marks = {"ok": "ok", "missing": "--", "fault": "!!"}
    width = min(max(len(line.about) for line in lines), 14)
    return "\n".join(f"{marks[line.level]}  {line.about:<{width}}  {line.text}" for line in lines)
