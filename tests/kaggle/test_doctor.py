"""`doctor`: every line asked as the kit itself would ask, a page even where things are broken."""

import importlib
import json
from pathlib import Path
from typing import Any

import pytest

from rnafold.cli.main import main
from rnafold.data.demo import write_demo_data
from rnafold.errors import EXTRAS
from rnafold.kaggle import doctor
from rnafold.kaggle.preflight import Card, Machine


def look(lines: list[doctor.Line]) -> dict[str, tuple[str, str]]:
    return {line.about: (line.level, line.text) for line in lines}


def test_the_page_says_what_is_here_and_what_works(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_demo_data(tmp_path / "data", num_train=2, num_test=1)
    arguments = ["doctor", "--data", str(tmp_path / "data"), "--cache", str(tmp_path / "none")]
    assert main([*arguments, "--json"]) == 0
    found = {line["about"]: line for line in json.loads(capsys.readouterr().out)}
    assert found["python"]["level"] == found["numpy"]["level"] == found["torch"]["level"] == "ok"
    assert "train_sequences.csv" in found["data"]["text"] and found["alignments"]["level"] == "missing"
    assert found["cache"]["level"] == "ok" and not (tmp_path / "none").exists()
    assert found["report, demo"]["text"] == "work here"
    assert found["precision fp32"]["level"] == found["attention math"]["level"] == "ok"
    assert main(arguments) == 0
    assert capsys.readouterr().out.startswith("ok  rnafold")


def test_a_light_installation_says_which_extra_brings_what(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    real_import, real_spec = importlib.import_module, importlib.util.find_spec

    def refuse(name: str, package: str | None = None) -> Any:
        if name.partition(".")[0] in EXTRAS or name in ("RNA", "SQUARNA", "loky"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real_import(name, package)

    monkeypatch.setattr(importlib, "import_module", refuse)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in EXTRAS else real_spec(name))
    found = look(doctor.examine(tmp_path))
    assert found["torch"] == ("missing", "not installed: pip install 'rnafold-kit[train]'")
    assert found["plotly"] == ("missing", "not installed: pip install 'rnafold-kit[report]'")
    assert found["viennarna"][0] == found["squarna"][0] == "missing" and "--gpu auto" not in found
    assert found["score, check, pick, quota, export, fold without the network"] == ("ok", "work here")
    assert found["report, demo"][1].startswith("do not work here without accelerate, plotly")
    assert not [line for line in doctor.examine(tmp_path) if line.level == "fault"]


def test_a_wheel_without_kernels_and_a_broken_library_are_faults(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    real_import = importlib.import_module

    def break_one(name: str, package: str | None = None) -> Any:
        if name == "gemmi":
            raise ImportError("libstdc++.so.6: version not found\nmore")
        return real_import(name, package)

    old = Card(name="Tesla P100", capability=(6, 0), total_gib=16.0, free_gib=15.5)
    dead = Card(name="Tesla T4", capability=(7, 5), total_gib=15.0, free_gib=14.0, failure="no kernel image")
    machine = Machine(python=(3, 11), torch="2.13", cards=(old, dead), arch_list=("sm_75", "sm_80"))
    monkeypatch.setattr(importlib, "import_module", break_one)
    monkeypatch.setattr("rnafold.kaggle.preflight.probe_machine", lambda working: machine)
    found = look(doctor.examine(tmp_path))
    assert found["gemmi"] == ("fault", "does not load: libstdc++.so.6: version not found")
    assert found["card 0"][0] == "fault" and "has no kernels for it, only for sm_75 sm_80" in found["card 0"][1]
    assert found["card 1"][0] == "fault" and "no kernel image" in found["card 1"][1]
    assert main(["doctor", "--cache", str(tmp_path)]) == 1
    assert "!!  gemmi" in capsys.readouterr().out


def test_a_question_that_fails_costs_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(doctor, "find_usalign", lambda: 1 / 0)
    found = look(doctor.examine(tmp_path))
    assert found["doctor"] == ("fault", "ZeroDivisionError: division by zero")
    assert found["cache"][0] == "ok"
