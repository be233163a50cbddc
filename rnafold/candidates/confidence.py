"""What a program says of its own model: read from JSON, npz, CSV, REMARK or the B-factors, by program.

Direction and scale are known for each program; a figure that is constant over a model, out of its scale, or of a
program that is not known is left out: of published files two thirds have a constant B-factor column, one runs the other
way (1 to 7, low is good) and one reaches 260.
"""

import csv
import io
import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from rnafold.candidates.layouts import ModelFile
from rnafold.candidates.traces import Model, read_models
from rnafold.candidates.unpack import read_packed
from rnafold.files.bounded import parse_json
from rnafold.structure import FloatArray

# Programs whose B-factor is the pLDDT of a residue or atom, 0 to 100 or 0 to 1.
_PLDDT_IN_BFACTOR: Final = frozenset(
    {
        "Protenix", "RNAPro", "Boltz", "Chai-1", "AlphaFold 3", "OpenFold3", "RoseTTAFold 3", "RhoFold", "NuFold",
        "RoseTTAFoldNA", "RoseTTAFold2NA", "trRosettaRNA",
    }
)  # fmt: skip
# Of each program's JSON, in order of use: key and what its best value is. pLDDT comes before pTM and the ranking
# scores: the programs' pTM is built on the d0 of proteins, and a single chain's ranking score is a fifth of it.
_JSON_KEYS: Final[Mapping[str, tuple[tuple[str, float], ...]]] = {
    "Protenix": (("plddt", 100.0), ("ptm", 1.0)),
    "RNAPro": (("plddt", 100.0), ("ptm", 1.0)),
    "Boltz": (("complex_plddt", 1.0), ("confidence_score", 1.0), ("ptm", 1.0)),
    "Chai-1": (("ptm", 1.0), ("aggregate_score", 1.0)),
    "AlphaFold 3": (("ptm", 1.0), ("ranking_score", 1.0)),
    "OpenFold3": (("avg_plddt", 100.0), ("ptm", 1.0), ("sample_ranking_score", 1.0)),
    "RoseTTAFold 3": (("overall_plddt", 1.0), ("ptm", 1.0), ("ranking_score", 1.0)),
}
_NPZ_KEYS: Final[Mapping[str, tuple[tuple[str, float], ...]]] = {
    "RhoFold": (("plddt", 1.0),),
    "Boltz": (("plddt", 1.0),),
    "Chai-1": (("ptm", 1.0), ("aggregate_score", 1.0)),
}
_REMARK_LDDT: Final = re.compile(r"^REMARK.*ESTIMATED GLOBAL ACCURACY.*=\s*([0-9.]+)", re.MULTILINE)
_REMARK_ENERGY: Final = re.compile(r"^REMARK\b.*?(-?\d+\.?\d*(?:[eE][-+]?\d+)?)\s*$", re.MULTILINE)
_LEAST_SPREAD: Final = 1e-3
# Names by which a source is taken for a program's; the longer ones first.
KNOWN_PROGRAMS: Final = (
    "RoseTTAFold2NA", "RoseTTAFold 3", "RoseTTAFoldNA", "trRosettaRNA", "AlphaFold 3", "OpenFold3", "Protenix",
    "RNAPro", "Boltz", "Chai-1", "DRfold2", "RhoFold", "NuFold",
)  # fmt: skip


Table = Mapping[str, tuple[tuple[str, float], ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnConfidence:
    """A program's own figure of a model: what it is, and its value, the higher the better.

    `scaled` is True for one between 0 and 1; False for an energy, of which only differences within a source count.
    """

    name: str
    value: float
    scaled: bool = True


def recognise_program(name: str) -> str:
    """The program that a source's name speaks of ("my-boltz2-run": Boltz), "" for none."""
    plain = _plain(name)
    return next((program for program in KNOWN_PROGRAMS if _plain(program) in plain), "")


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower()).replace("chai1", "chai").replace("alphafold3", "af3")


def read_confidence(file: ModelFile, program: str, text: str, model: Model) -> OwnConfidence | None:
    """What `program` says of one model of a file; None where it says nothing that can be used.

    Args:
        file: the file, with what lies beside it.
        program: recognised by layout or by the source's name.
        text: the file's content.
        model: one of its models.
    """
    for read in (_read_beside, _read_remark, _read_bfactors):
        found = read(file, program, text, model)
        if found is not None:
            return found
    return None


def _read_beside(file: ModelFile, program: str, text: str, model: Model) -> OwnConfidence | None:
    """The figure of the file beside the model; a pLDDT in the B-factors goes before a pTM."""
    if file.beside is None:
        return None
    readers: dict[str, Callable[[str, Path], OwnConfidence | None]] = {
        ".json": _read_json, ".npz": _read_npz, ".csv": _read_csv, ".pdb": _read_structure,
    }  # fmt: skip
    kind = next((suffix for suffix in file.beside.suffixes[::-1] if suffix in readers), "")
    try:
        found = readers[kind](program, file.beside) if kind else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError, zipfile.BadZipFile):
        return None  # a figure that cannot be read is none: the model counts without it
    if found is None or "plddt" in found.name or not found.scaled:
        return found
    return _read_bfactors(file, program, text, model) or found


def _scale(name: str, value: Any, best: float) -> OwnConfidence | None:
    """A figure as a share of its best value; pLDDT is found on either scale, whatever the version."""
    values = np.asarray(value, dtype=np.float64)
    if not values.size or not np.isfinite(values).all():
        return None
    mean = float(values.mean())
    if "plddt" in name:
        best = 100.0 if values.max() > 1.0 else 1.0
    mean /= best
    return OwnConfidence(name=name, value=mean) if 0.0 < mean <= 1.0 else None


def _pick(program: str, table: Table, data: Mapping[str, Any]) -> OwnConfidence | None:
    """The first figure of a program's that is there and within its scale."""
    for key, best in table.get(program, ()):
        if key in data and data[key] is not None:
            found = _scale(key, data[key], best)
            if found is not None:
                return found
    return None


def _read_json(program: str, path: Path) -> OwnConfidence | None:
    data = parse_json(read_packed(path))
    data = data[0] if isinstance(data, list) and data else data
    return _pick(program, _JSON_KEYS, data) if isinstance(data, dict) else None


def _read_npz(program: str, path: Path) -> OwnConfidence | None:
    with np.load(path, allow_pickle=False) as data:
        known = {key for key, _ in _NPZ_KEYS.get(program, ())}
        return _pick(program, _NPZ_KEYS, {key: data[key] for key in data.files if key in known})


def _read_csv(program: str, path: Path) -> OwnConfidence | None:
    """The mean of the column that is named plddt, or of the last one with numbers."""
    rows = list(csv.reader(io.StringIO(read_packed(path))))
    if not rows:
        return None
    header = [name.strip().lower() for name in rows[0]]
    column = header.index("plddt") if "plddt" in header else len(header) - 1
    values = [float(row[column]) for row in rows if len(row) > column and _is_number(row[column])]
    return _scale("plddt", values, 100.0)


def _is_number(text: str) -> bool:
    return re.fullmatch(r"\s*-?\d+\.?\d*(?:[eE][-+]?\d+)?\s*", text) is not None


def _read_structure(program: str, path: Path) -> OwnConfidence | None:
    """Of another stage of the same model: the B-factors of RhoFold's unrelaxed one, the energy of DRfold2's folds."""
    text = read_packed(path)
    if program == "DRfold2":
        return _read_energy(text)
    models = read_models(text)
    return measure_plddt(models[0]) if models else None


def _read_energy(text: str) -> OwnConfidence | None:
    """The last number of the REMARK lines, an energy: the lower the better."""
    found = _REMARK_ENERGY.findall(text)
    return OwnConfidence(name="energy", value=-float(found[-1]), scaled=False) if found else None


def _read_remark(_file: ModelFile, program: str, text: str, _model: Model) -> OwnConfidence | None:
    if program == "trRosettaRNA" and (match := _REMARK_LDDT.search(text)):
        return _scale("estimated lDDT (plddt)", [float(match.group(1))], 100.0)
    return _read_energy(text) if program == "DRfold2" else None


def _read_bfactors(_file: ModelFile, program: str, _text: str, model: Model) -> OwnConfidence | None:
    return measure_plddt(model) if program in _PLDDT_IN_BFACTOR else None


def measure_plddt(model: Model) -> OwnConfidence | None:
    """The mean B-factor as pLDDT, where it varies and lies within 0 to 100."""
    values = _list_bfactors(model)
    if len(values) < 2 or values.std() < _LEAST_SPREAD or values.min() < 0.0 or values.max() > 100.0:
        return None
    return _scale("plddt (B-factors)", values, 100.0)


def _list_bfactors(model: Model) -> FloatArray:
    """The B-factors of a model's C1' atoms that are there."""
    parts: Sequence[FloatArray] = [trace.bfactors for trace in model.traces]
    values = np.concatenate(parts) if parts else np.zeros(0)
    return np.asarray(values[np.isfinite(values)], dtype=np.float64)
