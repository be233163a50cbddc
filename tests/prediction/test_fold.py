"""`fold`: models, expected errors and files of one RNA; wishes obeyed, templates used, no torch needed."""

import datetime
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rnafold import rna
from rnafold.cli.main import main
from rnafold.data.demo import write_demo_data
from rnafold.data.sequences import read_sequences
from rnafold.features.wishes import PairWishes
from rnafold.prediction.expected_error import expect_errors
from rnafold.prediction.fold import FoldOptions, open_folder
from rnafold.prediction.obedience import list_unmet
from rnafold.scoring.tm import measure_d0
from rnafold.structure import Candidate

HAIRPIN = "GGGGCAAACUUCGGUUUGCCCC"
TRNA = "GCGGAUUUAGCUCAGUUGGGAGAGCGCCAGACUGAAGAUCUGGAGGUCCUGUGUUCGAUCCACAGAAUUCGCACCA"
ALONE = FoldOptions(use_network=False)


def build_walk(seed: int, length: int = 40) -> np.ndarray:
    steps = np.random.default_rng(seed).normal(size=(length, 3))
    return np.cumsum(5.5 * steps / np.linalg.norm(steps, axis=1, keepdims=True), axis=0)


def test_errors_have_the_expected_tm_score_and_are_largest_where_candidates_disagree() -> None:
    walk = build_walk(0)
    pool = []
    for seed in range(4):  # the last ten residues of the others lie elsewhere
        other = walk.copy()
        other[30:] += 15 * np.random.default_rng(seed).normal(size=3)
        pool.append(Candidate(coords=other, origin="assembly", confidence=0.5))
    model = Candidate(coords=walk, origin="assembly", confidence=0.6)
    errors = expect_errors(model, [model, *pool])
    assert errors[30:].min() > errors[:30].max()
    # without those that the floor of half an Å holds up, the mean of 1 / (1 + (e / d0)^2) would be 0.6 exactly
    assert float((1 / (1 + (errors / measure_d0(40)) ** 2)).mean()) == pytest.approx(0.6, abs=0.05)
    lower = expect_errors(replace(model, confidence=0.3), [model, *pool])
    assert (lower > errors).all()


def test_the_same_seed_gives_the_same_models_and_another_others() -> None:
    (target,) = read_sequences(TRNA)
    first, again, other = (open_folder(replace(ALONE, seed=seed), [target]).fold(target) for seed in (0, 0, 1))
    for one, two in zip(first.models, again.models):
        np.testing.assert_array_equal(one.coords, two.coords)
    np.testing.assert_array_equal(first.errors, again.errors)
    assert not np.array_equal(first.models[0].coords, other.models[0].coords)
    assert first.errors.shape == first.partners.shape == (5, 76)


def test_models_obey_wishes_and_say_which_they_do_not_meet() -> None:
    (target,) = read_sequences(TRNA)
    wished = tuple(zip(range(9, 13), range(24, 20, -1), strict=True))  # the D stem, seldom predicted
    forbidden = tuple(zip(range(26, 31), range(42, 37, -1), strict=True))
    wishes = PairWishes(formed=wished, forbidden=forbidden)
    plain, obeying = open_folder(ALONE, [target]).fold(target), open_folder(ALONE, [target]).fold(target, wishes)
    assert sum(len(list_unmet(target, model.coords, wishes)) for model in plain.models) > 10
    assert obeying.unmet == ((),) * 5
    # a pair that no chain can form is named by every model
    impossible = open_folder(ALONE, [target]).fold(target, PairWishes(formed=((40, 41),)))
    assert [len(unmet) for unmet in impossible.unmet] == [1] * 5
    assert impossible.unmet[0] == (f"{TRNA[40]}41 and {TRNA[41]}42 do not pair",)


def test_a_complex_keeps_its_chains_and_pairs_across_them() -> None:
    (target,) = read_sequences("GGCGCAAGCCUUCGGGCACGGCUC&GAGCCGUGCUUCGCGCC")
    folded = open_folder(ALONE, [target]).fold(target)
    assert len(folded.target.chains) == 2
    across = [(i, j) for i, j in enumerate(folded.partners[0]) if i < 24 <= j]
    assert len(across) > 8


def test_templates_released_later_are_not_seen(tmp_path: Path) -> None:
    write_demo_data(tmp_path / "data", num_train=6, num_test=1)
    sequence = (tmp_path / "data" / "train_sequences.csv").read_text(encoding="utf-8").splitlines()[1].split(",")[1]
    (target,) = read_sequences(sequence)
    for before, origins in (("2100-01-01", {"template"}), ("1980-01-01", set())):
        options = replace(ALONE, templates=(tmp_path / "data",), before=datetime.date.fromisoformat(before))
        folded = open_folder(options, [target]).fold(target)
        assert {model.origin for model in folded.models if model.origin == "template"} == origins


def test_the_command_writes_models_records_and_a_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fasta, wishes = tmp_path / "two.fasta", tmp_path / "pairs.dbn"
    fasta.write_text(f">pin\n{HAIRPIN.lower().replace('u', 't')}\n>duplex\nGGGCACC&GGUGCCC\n", encoding="utf-8")
    wishes.write_text(">pin\nx" + "." * 21 + "\n", encoding="utf-8")
    out, cache = tmp_path / "out", tmp_path / "cache"
    code = main(["fold", str(fasta), "--out", str(out), "--no-network", "--pairs", str(wishes), "--cache", str(cache)])
    assert code == 0
    said = capsys.readouterr().out
    assert "pin: 22 nt, expected TM-score" in said and "duplex: 14 nt" in said
    assert sorted(path.name for path in out.iterdir()) == ["duplex", "pin"]
    record = json.loads((out / "pin" / "models.json").read_text(encoding="utf-8"))
    assert record["sequence"] == HAIRPIN and record["wishes"]["unpaired"] == [1]
    others = record["predicted_pairs"]["alternatives"]
    page = (out / "pin" / "index.html").read_text(encoding="utf-8")
    assert {other["source"] for other in others} >= {"Langdon 2018", "Andronescu 2007"}
    assert all(other["dot_bracket"][0] == "." and f"predicted, {other['source']}" in page for other in others)
    assert len(record["models"]) == 5
    for model in record["models"]:
        assert len(model["expected_error"]) == 22 and len(model["files"]) == 2
        partner = rna.parse_dot_bracket(model["dot_bracket"])
        assert [[i + 1, j + 1] for i, j in enumerate(partner) if j > i] == model["pairs"]
        assert model["rests_on"][0]["first"] == 1 and model["rests_on"][-1]["last"] == 22
        pdb = (out / "pin" / model["files"][1]).read_text(encoding="utf-8")
        atoms = [line for line in pdb.splitlines() if line.startswith("ATOM")]
        assert [float(line[60:66]) for line in atoms] == model["expected_error"]
    assert (out / "duplex" / "index.html").stat().st_size < 300_000


def test_folding_without_the_network_loads_neither_torch_nor_plotly(tmp_path: Path) -> None:
    arguments = ["fold", HAIRPIN, "--out", str(tmp_path / "out"), "--no-network", "--cache", str(tmp_path / "cache")]
    heavy = ("torch", "accelerate", "tensorboard", "plotly", "safetensors")
    code = f"import sys\nfrom rnafold.cli.main import main\nassert main({arguments!r}) == 0\n"
    code += f"sys.exit(' '.join(name for name in {heavy!r} if name in sys.modules) or 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["none.fa"], "error: none.fa: no such file, and no sequence"),
        ([HAIRPIN, "--seconds", "0"], "error: --seconds 0: expected a number above 0"),
        ([HAIRPIN, "--templates", "none"], "error: none: no such folder"),
        ([HAIRPIN, "--msa", "none"], "error: --msa none: no such folder"),
        ([HAIRPIN, "--pairs", "none.dbn"], "error: none.dbn: cannot be read (No such file or directory)"),
    ],
    ids=["no sequence", "no time", "no templates", "no alignments", "no wishes"],
)
def test_what_cannot_be_meant_is_one_line(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fold", *arguments, "--no-network", "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith(said)
    assert not (tmp_path / "out").exists()


def test_a_wished_pseudoknot_is_built() -> None:
    (target,) = read_sequences("GGCGCGGCACCGUCCGCGGAACAAACGG")
    wished = tuple((i, int(j)) for i, j in enumerate(rna.parse_dot_bracket("..(((((..[[[.)))))......]]].")) if j > i)
    folded = open_folder(ALONE, [target]).fold(target, PairWishes(formed=wished))
    assert folded.unmet == ((),) * 5
    assert any("pulled together" in model.note for model in folded.models)
