"""Copies configs/ and submission/ into the wheel (rnafold/_configs, rnafold/_submission), for use without a checkout.

Everything else about the build stands in pyproject.toml.
"""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

COPIES = (
    ("configs", "_configs", ("*.yaml",)),
    ("submission", "_submission", ("*.yaml", "*.safetensors", "weights/*.md")),
)


class BuildWithConfigs(build_py):
    """An editable installation reads configs/ itself and gets no copy."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        for folder, name, patterns in COPIES:
            target = Path(self.build_lib) / "rnafold" / name
            shutil.rmtree(target, ignore_errors=True)
            for source in sorted(path for pattern in patterns for path in Path(folder).rglob(pattern)):
                copy = target / source.relative_to(folder)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, copy)


setup(cmdclass={"build_py": BuildWithConfigs})
