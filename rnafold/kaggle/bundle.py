"""The dataset that a kernel without internet lives on: wheels, weights, configs, a manifest; no secrets, no torch.

Everything lies flat in one folder, for Kaggle's client leaves subfolders out unless they are zipped.
"""

import hashlib
import json
import shutil
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from rnafold.errors import InputError
from rnafold.files.atomic import replace_folder
from rnafold.files.bounded import parse_json
from rnafold.files.mounts import hash_file
from rnafold.files.weights_header import read_weights_description
from rnafold.kaggle import wheels
from rnafold.kaggle.secret_scan import find_secrets
from rnafold.kaggle.staging import PLACEHOLDER
from rnafold.model.weights import find_shipped_weights

MANIFEST: Final = "manifest.json"
METADATA: Final = "dataset-metadata.json"
REQUIREMENTS: Final = "requirements.txt"
GIB: Final = 2**30


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What Kaggle takes as one dataset.

    Source: kaggle.com/docs/datasets, technical specifications (recalled, 2026-11): 200 GB a dataset, 50 files at the
    top level. A single file over 20 GiB would not fit the kernel's disk if it had to be unpacked.
    """

    file_gib: float = 20.0
    total_gib: float = 186.0
    num_files: int = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleOptions:
    """What to put into a bundle.

    Attributes:
        out: folder to write; an earlier bundle there is replaced.
        checkout: the project's folder.
        user: Kaggle user name.
        plan: wheels beside the project's own.
        weights: weights files; empty takes the shipped ones, if any.
        add: further files.
        limits: refused above.
    """

    out: Path
    checkout: Path
    user: str
    plan: wheels.WheelPlan
    weights: tuple[Path, ...] = ()
    add: tuple[Path, ...] = ()
    limits: Limits = field(default_factory=Limits)


def build_bundle(options: BundleOptions) -> Mapping[str, Any]:
    """Writes the bundle folder and returns its manifest.

    Raises:
        InputError: a secret, a file over the limits, no checkout, no wheel, weights that `train` did not write.
    """
    _refuse_secrets([*options.weights, *options.add], ())
    out = options.out
    if out.exists() and any(out.iterdir()) and not (out / MANIFEST).is_file():
        raise InputError(f"{out}: exists and is no bundle; choose another --out")
    with replace_folder(out) as temporary:
        project = wheels.build_project_wheel(options.checkout, temporary)
        configs = _read_configs(project, options.checkout)
        others = wheels.download_wheels(options.plan, temporary)
        shipped = find_shipped_weights()
        # the project's wheel has the shipped weights inside
        inside = shipped is not None and holds_file(project, shipped.name)
        weights = options.weights or ((shipped,) if shipped and not inside else ())
        for path in weights:
            _require_weights(path)
        for path in (*weights, *options.add):
            _copy_flat(path, temporary)
        _write_requirements(temporary, project, others, options.plan)
        _write_metadata(options, temporary)
        manifest = _build_manifest(temporary, options, [p.name for p in others], [p.name for p in weights], configs)
        (temporary / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
        check_bundle(temporary, options.limits)
    return manifest


def check_bundle(folder: Path, limits: Limits) -> Mapping[str, Any]:
    """The manifest of a bundle whose files match it, hold no secret and stay within the limits.

    Raises:
        InputError: naming the file at fault.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise InputError(f"{path}: no such file; make the bundle first: python -m rnafold kaggle bundle")
    manifest: dict[str, Any] = parse_json(path.read_text(encoding="utf-8"))
    present = {p.name: p for p in sorted(folder.iterdir())}
    folders = [name for name, p in present.items() if p.is_dir()]
    if folders:
        raise InputError(f"{folder / folders[0]}: a folder; Kaggle's client would leave it out")
    listed = {entry["name"]: entry for entry in manifest["files"]}
    strange = sorted(set(present) - set(listed) - {MANIFEST})
    absent = sorted(set(listed) - set(present))
    if strange or absent:
        raise InputError(f"{folder}: not in the manifest: {strange[:3]}, missing: {absent[:3]}; make the bundle anew")
    for name, entry in listed.items():
        if hash_file(present[name]) != entry["sha256"]:
            raise InputError(f"{present[name]}: does not match its sha256 in the manifest; make the bundle anew")
    _check_limits(list(present.values()), limits)
    _refuse_secrets([folder], [entry["name"] for entry in manifest["files"] if entry["kind"] == "wheel"])
    return manifest


def _check_limits(files: Sequence[Path], limits: Limits) -> None:
    sizes = {path: path.stat().st_size / GIB for path in files}
    for path, size in sizes.items():
        if size > limits.file_gib:
            raise InputError(f"{path.name}: {size:.3g} GiB, the limit for a file is {limits.file_gib:.3g}")
    if sum(sizes.values()) > limits.total_gib:
        raise InputError(f"bundle: {sum(sizes.values()):.3g} GiB, the limit is {limits.total_gib:.3g}")
    if len(files) > limits.num_files:
        raise InputError(f"bundle: {len(files)} files, Kaggle takes {limits.num_files}")


def _refuse_secrets(paths: Sequence[Path], trusted: Sequence[str]) -> None:
    for path in paths:
        if not path.exists():
            raise InputError(f"{path}: no such file")
    secrets = find_secrets(paths, trusted)
    if secrets:
        more = f" and {len(secrets) - 3} more" if len(secrets) > 3 else ""
        raise InputError(f"not bundled, {len(secrets)} secrets found: {'; '.join(secrets[:3])}{more}")


def _require_weights(path: Path) -> None:
    if read_weights_description(path) is None:
        raise InputError(f"{path}: no weights that `train` wrote (a safetensors file that says its model)")


def _copy_flat(path: Path, folder: Path) -> None:
    if path.is_dir():
        raise InputError(f"{path}: a folder; add its files, or a zip of it (Kaggle unpacks it)")
    if (folder / path.name).exists():
        raise InputError(f"{path}: a second file of the name {path.name}; rename one")
    shutil.copyfile(path, folder / path.name)


def _read_configs(project: Path, checkout: Path) -> dict[str, str]:
    """Names and sha256 of the configs inside the project's wheel, all of which must be there."""
    with zipfile.ZipFile(project) as archive:
        names = set(archive.namelist())
        inside = {
            name.removeprefix("rnafold/_configs/"): hashlib.sha256(archive.read(name)).hexdigest()
            for name in archive.namelist()
            if name.startswith("rnafold/_configs/")
        }
    folder = checkout / "configs"
    wanted = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*.yaml"))]
    missing = [name for name in wanted if name not in inside]
    missing += [name for name in _list_package_data(checkout) if name not in names]
    if missing or not wanted:
        raise InputError(
            f"{project.name}: {len(missing)} configs or data files are not inside: {', '.join(missing[:3])}"
        )
    return inside


def holds_file(wheel: Path, name: str) -> bool:
    """Whether a wheel has a file of this name in any of its folders."""
    with zipfile.ZipFile(wheel) as archive:
        return any(member.rpartition("/")[2] == name for member in archive.namelist())


def _list_package_data(checkout: Path) -> list[str]:
    """Files of the package that are no Python, such as learned rankers."""
    files = (path for path in sorted((checkout / "rnafold").rglob("*")) if path.is_file())
    return [p.relative_to(checkout).as_posix() for p in files if p.suffix not in (".py", ".pyc") and p.name[0] != "."]


def _write_requirements(folder: Path, project: Path, others: Sequence[Path], plan: wheels.WheelPlan) -> None:
    """What the kernel's pip is told: the exact project, and of the rest whatever the image does not satisfy."""
    asked = {wheels.requirement_name(text): text for text in plan.requirements}
    version = project.name.split("-")[1]
    names = sorted(wheels.wheel_name(path) for path in others)
    lines = [f"{wheels.wheel_name(project)}=={version}", *(asked.get(name, name) for name in names)]
    (folder / REQUIREMENTS).write_text("\n".join(lines) + "\n", encoding="utf-8")


def _write_metadata(options: BundleOptions, folder: Path) -> None:
    if not options.user or "/" in options.user or options.user == PLACEHOLDER:
        raise InputError(f"--user: found {options.user!r}, expected your Kaggle user name")
    template = options.checkout / "submission" / METADATA
    if not template.is_file():
        raise InputError(f"{template}: no such file; bundles are made from a checkout of the project")
    text = template.read_text(encoding="utf-8").replace(PLACEHOLDER, options.user)
    (folder / METADATA).write_text(text, encoding="utf-8")


def _build_manifest(
    folder: Path, options: BundleOptions, others: Sequence[str], weights: Sequence[str], configs: Mapping[str, str]
) -> dict[str, Any]:
    kinds = {**dict.fromkeys(others, "wheel"), **dict.fromkeys(weights, "weights")}
    kinds |= {REQUIREMENTS: "requirements", METADATA: "metadata"}
    files = [
        {
            "name": path.name,
            "kind": kinds.get(path.name, "project" if path.suffix == ".whl" else "added"),
            "bytes": path.stat().st_size,
            "sha256": hash_file(path),
        }
        for path in sorted(folder.iterdir())
    ]
    text = json.dumps(files, sort_keys=True)
    return {
        "python": options.plan.python,
        "platforms": list(options.plan.platforms),
        "digest": hashlib.sha256(text.encode()).hexdigest(),
        "files": files,
        "configs_in_the_project_wheel": dict(configs),
    }
