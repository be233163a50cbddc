"""SQUARNA's structures as alternatives: what they are, when they are asked for, and that nothing of it can do harm."""

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rnafold.features import squarna
from rnafold.features.pair_choice import heed_alternatives
from rnafold.features.squarna import add_alternatives
from rnafold.features.wishes import PairWishes
from rnafold.rna import parse_dot_bracket
from rnafold.structure import Chain, Pairing

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


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Stands in for SQUARNA: one structure of every strand, its outermost pairs; keeps what it was asked."""
    asked: list[str] = []

    def fold(strands: str, patience: float) -> tuple[np.ndarray, ...]:
        asked.append(strands)
        letters = strands.replace("&", "")
        return tuple(parse_dot_bracket("(" * k + "." * (len(letters) - 2 * k) + ")" * k) for k in (3, 2))

    monkeypatch.setattr(squarna, "find_squarna", lambda: "squarna 3")
    monkeypatch.setattr(squarna, "_ask", fold)
    return asked


def pairing_of(text: str) -> Pairing:
    partner = parse_dot_bracket(text)
    probabilities = np.zeros((len(partner), len(partner)), np.float32)
    paired = np.flatnonzero(partner >= 0)
    probabilities[paired, partner[paired]] = 1
    return Pairing(probabilities=probabilities, partner=partner, samples=partner[None], source="test")


def test_squarna_gives_five_structures_and_the_same_ones_each_time() -> None:
    pytest.importorskip("SQUARNA")
    open_pairing = pairing_of("." * len(TRNA))
    first = add_alternatives(open_pairing, TRNA)
    squarna._FOUND.clear()
    second = add_alternatives(open_pairing, TRNA)
    assert len(first.alternatives) == 5
    assert [a.tolist() for a in first.alternatives] == [a.tolist() for a in second.alternatives]
    cloverleaf = parse_dot_bracket("(((((((..((((........)))).(((((.......))))).....(((((.......))))))))))))....")
    assert any(((a == cloverleaf) & (cloverleaf >= 0)).sum() >= 40 for a in first.alternatives)
    for partner in first.alternatives:
        paired = np.flatnonzero(partner >= 0)
        assert (partner[partner[paired]] == paired).all() and (partner[paired] != paired).all()


def test_strands_that_pair_are_folded_together_and_others_alone(program: list[str]) -> None:
    chains = (Chain(chain_id="A", copy=1, start=0, stop=8), Chain(chain_id="B", copy=1, start=8, stop=16))
    add_alternatives(pairing_of("(((((((())))))))"), "GGGACGCCGGCGUCCC", chains)
    apart = add_alternatives(pairing_of("((....))" * 2), "GGGACGCC" * 2, chains)
    assert program == ["GGGACGCC&GGCGUCCC", "GGGACGCC"]  # alike chains once
    assert apart.alternatives[0].tolist() == parse_dot_bracket("(((..)))" * 2).tolist()


def test_a_chain_without_structures_keeps_its_predicted_one(
    monkeypatch: pytest.MonkeyPatch, program: list[str]
) -> None:
    monkeypatch.setattr(squarna, "MAX_LENGTH", 10)
    chains = (Chain(chain_id="A", copy=1, start=0, stop=8), Chain(chain_id="B", copy=1, start=8, stop=26))
    found = add_alternatives(pairing_of("((....))" + "((((((......))))))"), "GGGACGCC" + HAIRPIN, chains)
    assert found.alternatives[1].tolist() == parse_dot_bracket("((....))" + "((((((......))))))").tolist()
    assert program == ["GGGACGCC"]


def test_what_would_take_too_long_is_not_begun(program: list[str]) -> None:
    pairing = pairing_of("." * 600)
    assert not add_alternatives(pairing, "G" * 600).alternatives  # 22 s, with no limit 10 s
    assert not add_alternatives(pairing, "G" * 600, seconds=20.0).alternatives
    assert add_alternatives(pairing, "G" * 600, seconds=60.0).alternatives
    assert not add_alternatives(pairing_of("." * 1001), "G" * 1001, seconds=1e6).alternatives


def test_alternatives_obey_wishes(program: list[str]) -> None:
    wishes = PairWishes(formed=((1, 12),), unpaired=(0,))
    found = add_alternatives(pairing_of("." * 18), HAIRPIN, wishes=wishes)
    for partner in found.alternatives:
        assert partner[1] == 12 and partner[0] == -1 and partner[17] == -1
    imposed = PairWishes(unpaired=(2,)).impose(found)
    assert all(partner[2] == -1 for partner in imposed.alternatives)


def test_half_of_a_probability_is_what_the_alternatives_form() -> None:
    pairing = pairing_of("((...))")
    assert heed_alternatives(pairing) is pairing.probabilities
    both = replace(pairing, alternatives=(parse_dot_bracket("((...))"), parse_dot_bracket("(.....)")))
    heeded = heed_alternatives(both)
    assert heeded[0, 6] == heeded[6, 0] == 1.0 and heeded[1, 5] == 0.75 and heeded.sum() == 3.5


def test_without_squarna_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(squarna, "find_squarna", lambda: None)
    assert add_alternatives(pairing_of("." * 18), HAIRPIN).alternatives == ()


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
            assert not add_alternatives(pairing_of("." * 18), HAIRPIN + letter, seconds=1.5).alternatives
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
        f"assert squarna._fold({TRNA!r}, 60.0)\n"
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
