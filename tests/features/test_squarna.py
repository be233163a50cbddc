"""SQUARNA's structures: what they are, when they are asked for, and that nothing of it can do harm."""

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from rnafold.features import squarna
from rnafold.features.squarna import begin_with_squarna, fold_with_squarna
from rnafold.rna import parse_dot_bracket

TRNA = "GCGGAUUUAGCUCAGUUGGGAGAGCGCCAGACUGAAGAUCUGGAGGUCCUGUGUUCGAUCCACAGAAUUCGCACCA"
HAIRPIN = "GGGGAACUUCGGUUCCCC"


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    squarna._FOUND.clear()
    squarna._STOPPED.clear()
    yield
    squarna._FOUND.clear()
    squarna._STOPPED.clear()
    squarna._stop_process()


def test_squarna_gives_five_structures_and_the_same_ones_each_time() -> None:
    pytest.importorskip("SQUARNA")
    first = fold_with_squarna(TRNA)
    squarna._FOUND.clear()
    second = fold_with_squarna(TRNA)
    assert len(first) == 5
    assert [a.tolist() for a in first] == [a.tolist() for a in second]
    cloverleaf = parse_dot_bracket("(((((((..((((........)))).(((((.......))))).....(((((.......))))))))))))....")
    assert any(((a == cloverleaf) & (cloverleaf >= 0)).sum() >= 40 for a in first)
    for partner in first:
        paired = np.flatnonzero(partner >= 0)
        assert (partner[partner[paired]] == paired).all() and (partner[paired] != paired).all()


def test_what_would_take_too_long_is_not_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(squarna, "find_squarna", lambda: "squarna 3")
    monkeypatch.setattr(squarna, "_ask", lambda strands, patience: (np.full(len(strands), -1),))
    assert not fold_with_squarna("G" * 600)  # 22 s, with no limit 10 s
    assert not fold_with_squarna("G" * 600, 20.0)
    assert fold_with_squarna("G" * 600, 60.0)
    assert not fold_with_squarna("G" * 1001, 1e6)


def test_what_was_begun_is_taken_over_and_two_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("loky")
    monkeypatch.setattr(squarna, "find_squarna", lambda: "squarna 3")
    monkeypatch.setattr(squarna, "run_squarna", _answer)
    for strands in ("GGGAAACCC", "GGGAAACCC", "GGGAAAACCC", "GGGGAAAACCCC"):
        begin_with_squarna(strands)
    assert list(squarna._BEGUN) == ["GGGAAACCC", "GGGAAAACCC"]
    begun = squarna._BEGUN["GGGAAACCC"]
    found = fold_with_squarna("GGGAAACCC", 60.0)
    assert begun.result() == ["(((...)))"] and found[0].tolist() == parse_dot_bracket("(((...)))").tolist()
    begin_with_squarna("GGGAAACCC")  # known by now
    assert list(squarna._BEGUN) == ["GGGAAAACCC"] and fold_with_squarna("GGGAAAACCC", 60.0)
    begin_with_squarna("GGGGAAAACCCC")
    assert fold_with_squarna("GGGGAAAACCCC", 0.0) == () and not squarna._BEGUN


def test_without_squarna_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(squarna, "find_squarna", lambda: None)
    assert not fold_with_squarna(HAIRPIN)


def _answer(strands: str) -> list[str]:
    return ["(" * 3 + "." * (len(strands) - 6) + ")" * 3]


def _hang(strands: str) -> list[str]:
    time.sleep(600)
    return []


def _break(strands: str) -> list[str]:
    os.kill(os.getpid(), signal.SIGKILL)
    return []


def _mislead(strands: str) -> list[str]:
    return ["(((("]


@pytest.mark.parametrize("fault", [_hang, _break, _mislead])
def test_a_program_that_hangs_dies_or_misleads_costs_its_structures_alone(
    fault: object, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("loky")
    monkeypatch.setattr(squarna, "find_squarna", lambda: "squarna 3")
    monkeypatch.setattr(squarna, "run_squarna", fault)
    monkeypatch.setattr(squarna, "LEAST_STARTING_SECONDS", 0.0)
    with caplog.at_level(logging.WARNING):
        for letter in "ACGU":
            assert not fold_with_squarna(HAIRPIN + letter, 1.5)
    assert len(squarna._STOPPED) == squarna.MOST_STOPS  # the fourth was not asked
    assert not squarna._RUNNING
    assert "it is not asked again" in caplog.text and len(caplog.records) == squarna.MOST_STOPS


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for the process in /proc")
def test_the_process_ends_when_idle_even_if_the_one_that_asked_was_killed() -> None:
    pytest.importorskip("SQUARNA")
    script = (
        "import numpy as np, time\n"
        "from rnafold.features import squarna\n"
        "squarna.IDLE_SECONDS = 2\n"
        f"assert squarna.fold_with_squarna({TRNA!r}, 60.0)\n"
        "print(*squarna._RUNNING[0]._processes, flush=True)\n"
        "time.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.kill()
    for _ in range(1800):
        state = Path(f"/proc/{child}/stat")
        if not state.exists() or state.read_text().split()[2] == "Z":
            return
        time.sleep(0.1)
    raise AssertionError("the process outlived its parent by three minutes")
