"""Copies configs/ into the wheel as rnafold/_configs, where rnafold.config finds it without a checkout.

Everything else about the build stands in pyproject.toml.
"""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithConfigs(build_py):
    """An editable installation reads configs/ itself and gets no copy."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        target = Path(self.build_lib) / "rnafold" / "_configs"
        shutil.rmtree(target, ignore_errors=True)
        for source in sorted(Path("configs").rglob("*.yaml")):
            copy = target / source.relative_to("configs")
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, copy)


setup(cmdclass={"build_py": BuildWithConfigs})
