"""The folder that is pushed as a kernel: its metadata with the user's name in it, and its notebook with parameters."""

import ast
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from rnafold.errors import InputError
from rnafold.files.atomic import replace_folder, write_text
from rnafold.files.bounded import parse_json
from rnafold.kaggle.secret_scan import find_secrets

METADATA: Final = "kernel-metadata.json"
PLACEHOLDER: Final = "USERNAME"
# Every field of kernel-metadata.json that Kaggle's client reads, written out: its defaults (internet on) are a trap.
FIELDS: Final = (
    "id",
    "title",
    "code_file",
    "language",
    "kernel_type",
    "is_private",
    "enable_gpu",
    "enable_tpu",
    "enable_internet",
    "machine_shape",
    "keywords",
    "dataset_sources",
    "competition_sources",
    "kernel_sources",
    "model_sources",
    "docker_image_pinning_type",
)
# Kaggle refuses larger notebooks.
MAX_NOTEBOOK_BYTES: Final = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class StageOptions:
    """How a kernel differs from the one in the checkout.

    Attributes:
        user: Kaggle user name.
        competition: slug of the competition whose data are attached; "" keeps the checkout's.
        datasets: further datasets, OWNER/SLUG.
        fresh: leave out the kernel's own earlier output, which does not exist before its first version.
        absent: further kernels, OWNER/SLUG, whose output does not exist: they are left out.
        parameters: NAME=VALUE for the notebook's parameter cell.
    """

    user: str
    competition: str = ""
    datasets: tuple[str, ...] = ()
    fresh: bool = False
    absent: tuple[str, ...] = ()
    parameters: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedKernel:
    """A folder ready to be pushed, its metadata, and the values of its notebook's parameters."""

    folder: Path
    metadata: Mapping[str, Any]
    parameters: Mapping[str, Any]

    @property
    def id(self) -> str:
        """OWNER/SLUG."""
        return str(self.metadata["id"])


def stage_kernel(source: Path, out: Path, options: StageOptions) -> StagedKernel:
    """Copies a kernel's notebook and metadata to `out`, completed and checked.

    Args:
        source: kernels/train or kernels/predict of a checkout.
        out: folder to write; what it held is replaced.
        options: what to change.

    Raises:
        InputError: the metadata is incomplete or leaves internet on, an unknown parameter, or a secret in the notebook.
    """
    metadata = _complete(read_metadata(source), options)
    notebook = read_notebook(source / metadata["code_file"])
    set_parameters(notebook, options.parameters)
    text = json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"
    if (size := len(text.encode())) > MAX_NOTEBOOK_BYTES:
        raise InputError(f"{metadata['code_file']}: {size} bytes, Kaggle takes notebooks up to {MAX_NOTEBOOK_BYTES}")
    with replace_folder(out) as folder:
        write_text(folder / metadata["code_file"], text)
        write_text(folder / METADATA, json.dumps(metadata, indent=2) + "\n")
        if secrets := find_secrets([folder]):
            found = "; ".join(secrets[:3]).replace(str(folder), str(out))
            raise InputError(f"not pushed, {len(secrets)} secrets found: {found}")
    return StagedKernel(folder=out, metadata=metadata, parameters=read_parameters(notebook))


def read_metadata(folder: Path) -> dict[str, Any]:
    """kernel-metadata.json with every field there and internet off.

    Raises:
        InputError: no such file, no JSON, a field missing or unknown, or internet on.
    """
    path = folder / METADATA
    try:
        metadata: Any = parse_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; kernels are pushed from a checkout of the project") from None
    except ValueError as error:
        raise InputError(f"{path}: no JSON ({error})") from None
    missing = [name for name in FIELDS if name not in metadata]
    unknown = [name for name in metadata if name not in FIELDS]
    if missing or unknown:
        raise InputError(f"{path}: missing fields: {missing[:3]}, unknown fields: {unknown[:3]}")
    if metadata["enable_internet"] is not False:
        raise InputError(f"{path}: enable_internet: found {metadata['enable_internet']!r}, expected false")
    return dict(metadata)


def _complete(metadata: dict[str, Any], options: StageOptions) -> dict[str, Any]:
    if not options.user or "/" in options.user or options.user == PLACEHOLDER:
        raise InputError(f"--user: found {options.user!r}, expected your Kaggle user name")
    own = metadata["id"].replace(PLACEHOLDER, options.user)
    kernels = [name.replace(PLACEHOLDER, options.user) for name in metadata["kernel_sources"]]
    return {
        **metadata,
        "id": own,
        "dataset_sources": [
            *(name.replace(PLACEHOLDER, options.user) for name in metadata["dataset_sources"]),
            *options.datasets,
        ],
        "competition_sources": [options.competition] if options.competition else metadata["competition_sources"],
        "kernel_sources": [n for n in kernels if n not in options.absent and not (options.fresh and n == own)],
    }


def read_notebook(path: Path) -> dict[str, Any]:
    """A notebook as JSON.

    Raises:
        InputError: no such file or no JSON.
    """
    try:
        notebook: dict[str, Any] = parse_json(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError) as error:
        raise InputError(f"{path}: not a readable notebook ({error})") from None
    return notebook


def _parameter_cell(notebook: Mapping[str, Any]) -> dict[str, Any]:
    for cell in notebook["cells"]:
        if "parameters" in cell["metadata"].get("tags", []):
            return dict(cell)
    raise InputError("the notebook has no cell tagged `parameters`")


def read_parameters(notebook: Mapping[str, Any]) -> dict[str, Any]:
    """Names and literal values that the notebook's parameter cells assign; later ones win."""
    values: dict[str, Any] = {}
    for cell in notebook["cells"]:
        if not {"parameters", "injected-parameters"} & set(cell["metadata"].get("tags", [])):
            continue
        for statement in ast.parse("".join(cell["source"])).body:
            if isinstance(statement, ast.Assign):
                target, value = statement.targets[0], ast.literal_eval(statement.value)
                names = target.elts if isinstance(target, ast.Tuple) else [target]
                parts = value if isinstance(target, ast.Tuple) else [value]
                values.update((name.id, part) for name, part in zip(names, parts) if isinstance(name, ast.Name))
    return values


def set_parameters(notebook: dict[str, Any], parameters: Sequence[str]) -> None:
    """Puts a cell behind the parameter cell that assigns NAME=VALUE anew (papermill's way), in place.

    Raises:
        InputError: no NAME=VALUE, a name that is no parameter, or a value of another type.
    """
    if not parameters:
        return
    known, lines = read_parameters(notebook), []
    for text in parameters:
        name, equals, value = text.partition("=")
        if not equals or name not in known:
            raise InputError(f"--parameter {text}: expected NAME=VALUE with NAME one of {', '.join(known)}")
        lines.append(f"{name} = {_parse_value(text, value, known[name])!r}\n")
    index = notebook["cells"].index(_parameter_cell(notebook))
    cell = {
        "cell_type": "code",
        "execution_count": None,
        "id": "injected",
        "metadata": {"tags": ["injected-parameters"]},
        "outputs": [],
        "source": lines,
    }
    notebook["cells"].insert(index + 1, cell)


def _parse_value(text: str, value: str, before: Any) -> Any:
    if isinstance(before, str):
        return value
    try:
        parsed = ast.literal_eval(value)
    except (ValueError, SyntaxError):
        parsed = None
    if isinstance(before, float) and type(parsed) is int:
        parsed = float(parsed)
    if type(parsed) is not type(before):
        raise InputError(f"--parameter {text}: expected a {type(before).__name__} such as {before!r}")
    return parsed
