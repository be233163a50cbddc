"""Small bundles for the tests: wheels of a few lines, made in a moment."""

import zipfile
from pathlib import Path

import pytest

from rnafold.kaggle import wheels
from rnafold.kaggle.bundle import BundleOptions
from rnafold.kaggle.wheels import WheelPlan

CHECKOUT = Path(__file__).resolve().parents[2]


def write_wheel(folder: Path, name: str, version: str = "1.0", needs: tuple[str, ...] = (), **members: str) -> Path:
    """A wheel with metadata that pip accepts, and further members by name."""
    path = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
        archive.writestr(f"{info}/METADATA", "\n".join([*lines, *(f"Requires-Dist: {need}" for need in needs), ""]))
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
        for member, text in members.items():
            archive.writestr(member, text)
    return path


def use_small_project_wheel(monkeypatch: pytest.MonkeyPatch, **members: str) -> None:
    """Replaces the building of the project's wheel, which takes seconds, by a wheel that holds the configs alone."""

    def build(checkout: Path, out: Path) -> Path:
        configs = checkout / "configs"
        texts = {f"rnafold/_configs/{p.relative_to(configs)}": p.read_text() for p in sorted(configs.rglob("*.yaml"))}
        for path in sorted((checkout / "rnafold").rglob("*.json")):
            texts[str(path.relative_to(checkout))] = "{}"
        texts["rnafold/py.typed"] = ""
        return write_wheel(out, "rnafold_kit", "0.1.0", (), **texts, **members)

    monkeypatch.setattr(wheels, "build_project_wheel", build)


def bundle_options(out: Path, **changes: object) -> BundleOptions:
    """A bundle without further wheels."""
    plan = WheelPlan(requirements=(), image=frozenset({"torch", "numpy"}), platforms=())
    values = {"out": out, "checkout": CHECKOUT, "user": "someone", "plan": plan, **changes}
    return BundleOptions(**values)  # type: ignore[arg-type]
