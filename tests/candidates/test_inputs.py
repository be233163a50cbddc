"""Input files for other programs keep to their published formats, chain by chain."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from rnafold.candidates.inputs import build_jobs, name_chain, write_inputs, write_templates
from rnafold.cli.main import main
from rnafold.errors import ExitCode, InputError
from tests.pieces.models import SEQUENCE, make_points, write

OTHER = "GGGAUCCCUUCGGGGAUCCC"
WHOLE = SEQUENCE * 2 + OTHER
SMILES = "Cc1ccc2ccc(nc2n1)NC(=O)C=C4;[Mg+2]"


def write_test(folder: Path) -> Path:
    """A target of two copies of a chain and one of another, with two ligands; and a plain one."""
    records = f'">1_1|Chain A[auth A]|RNA|\n{SEQUENCE}\n>1_2|Chain B[auth B]|RNA|\n{OTHER}"'
    rows = [
        "target_id,sequence,temporal_cutoff,description,stoichiometry,all_sequences,ligand_ids,ligand_SMILES",
        f"T1,{WHOLE},2025-01-01,x,A:2;B:1,{records},NAZ;MG,{SMILES}",
        f"T2,{OTHER},2025-01-01,x,A:1,,,",
    ]
    return write(folder / "test.csv", "\n".join(rows) + "\n")


def write_msa(folder: Path) -> Path:
    """An alignment of T1 with a row of the first chain, one of the last, one that repeats the query."""
    gaps = "-" * len(SEQUENCE)
    rows = [WHOLE, SEQUENCE.replace("G", "A", 1) + gaps + "-" * len(OTHER), gaps * 2 + OTHER[:-1] + "A", WHOLE]
    write(folder / "T1.MSA.fasta", "".join(f">r{k}\n{row}\n" for k, row in enumerate(rows)))
    return folder


def test_chain_names_are_upper_case_letters_and_never_repeat() -> None:
    names = [name_chain(number) for number in range(800)]
    assert names[:3] == ["A", "B", "C"] and names[26:28] == ["AA", "BA"]
    assert len(set(names)) == 800 and all(name.isalpha() and name.isupper() for name in names)


def test_each_chain_gets_its_own_slice_of_the_alignment(tmp_path: Path) -> None:
    job = build_jobs(write_test(tmp_path), [write_msa(tmp_path / "msa")])[0]
    assert [chain.ids for chain in job.chains] == [("A", "B"), ("C",)]
    assert job.chains[0].alignment == f">query\n{SEQUENCE}\n>row_1\n{SEQUENCE.replace('G', 'A', 1)}\n"
    assert job.chains[1].alignment == f">query\n{OTHER}\n>row_2\n{OTHER[:-1]}A\n"
    assert [name for name, _ in job.ligands] == ["D", "E"]


def check_protenix(job: dict[str, Any]) -> None:
    """The keys and kinds of Protenix's infer_json_format.md."""
    assert set(job) <= {"name", "modelSeeds", "sequences", "covalent_bonds"} and isinstance(job["name"], str)
    for entry in job["sequences"]:
        ((kind, content),) = entry.items()
        assert kind in {"rnaSequence", "ligand"} and isinstance(content["count"], int) and content["count"] > 0
        if kind == "rnaSequence":
            assert set(content) <= {"sequence", "count", "unpairedMsaPath", "modifications"}
            assert set(content["sequence"]) <= set("ACGUN")


def test_protenix_takes_a_list_of_jobs_with_counts_and_alignment_files(tmp_path: Path) -> None:
    write_inputs("protenix", write_test(tmp_path), tmp_path / "out", msa_folders=[write_msa(tmp_path / "msa")])
    jobs = json.loads((tmp_path / "out" / "protenix.json").read_text(encoding="utf-8"))
    assert [job["name"] for job in jobs] == ["T1", "T2"]
    for job in jobs:
        check_protenix(job)
    first = jobs[0]["sequences"]
    assert [next(iter(entry)) for entry in first] == ["rnaSequence", "rnaSequence", "ligand", "ligand"]
    assert (first[0]["rnaSequence"]["count"], first[2]["ligand"]["ligand"]) == (2, SMILES.split(";")[0])
    aligned = Path(first[1]["rnaSequence"]["unpairedMsaPath"])
    assert aligned.is_absolute() and aligned.read_text(encoding="utf-8").startswith(f">query\n{OTHER}\n")
    assert "unpairedMsaPath" not in jobs[1]["sequences"][0]["rnaSequence"]


def check_alphafold(job: dict[str, Any]) -> None:
    """The required fields of AlphaFold 3's input.md, ids in upper case and each once."""
    assert set(job) == {"name", "modelSeeds", "sequences", "dialect", "version"}
    assert job["dialect"] == "alphafold3" and job["version"] in (1, 2, 3, 4)
    assert job["modelSeeds"] and all(isinstance(seed, int) for seed in job["modelSeeds"])
    ids = [name for entry in job["sequences"] for content in entry.values() for name in content["id"]]
    assert len(set(ids)) == len(ids) and all(name.isupper() and name.isalpha() for name in ids)
    for entry in job["sequences"]:
        ((kind, content),) = entry.items()
        assert set(content) <= ({"id", "sequence", "unpairedMsa"} if kind == "rna" else {"id", "smiles"})


def test_alphafold_takes_a_file_a_target_with_alignments_inside(tmp_path: Path) -> None:
    test, msa = write_test(tmp_path), write_msa(tmp_path / "msa")
    write_inputs("alphafold3", test, tmp_path / "out", msa_folders=[msa], seeds=[1, 7])
    first, second = (
        json.loads((tmp_path / "out" / f"{name}.json").read_text(encoding="utf-8")) for name in ("T1", "T2")
    )
    check_alphafold(first)
    check_alphafold(second)
    assert first["modelSeeds"] == [1, 7]
    assert first["sequences"][0]["rna"]["unpairedMsa"].startswith(f">query\n{SEQUENCE}\n")
    assert second["sequences"][0]["rna"]["unpairedMsa"] == ""
    write_inputs("alphafold3", test, tmp_path / "plain")
    plain = json.loads((tmp_path / "plain" / "T1.json").read_text(encoding="utf-8"))
    assert "unpairedMsa" not in plain["sequences"][0]["rna"]


def test_boltz_takes_a_yaml_a_target(tmp_path: Path) -> None:
    write_inputs("boltz", write_test(tmp_path), tmp_path / "out")
    job = yaml.safe_load((tmp_path / "out" / "T1.yaml").read_text(encoding="utf-8"))
    assert job["version"] == 1
    assert job["sequences"][0] == {"rna": {"id": ["A", "B"], "sequence": SEQUENCE}}
    assert job["sequences"][3] == {"ligand": {"id": "E", "smiles": "[Mg+2]"}}


def test_ligands_can_be_left_out_and_names_with_slashes_stay_in_the_folder(tmp_path: Path) -> None:
    test = write(tmp_path / "test.csv", f"target_id,sequence,ligand_ids,ligand_SMILES\n../T1,{OTHER},MG,[Mg+2]\n")
    written = write_inputs("boltz", test, tmp_path / "out", ligands=False)
    assert [path.parent for path in written] == [tmp_path / "out"]
    assert len(yaml.safe_load(written[0].read_text(encoding="utf-8"))["sequences"]) == 1


def write_submission_file(folder: Path, cell: str = "") -> Path:
    """A submission of T2's sequence, one cell replaced."""
    header = ["ID", "resname", "resid", *(f"{axis}_{k}" for k in range(1, 6) for axis in "xyz")]
    rows = []
    for k, letter in enumerate(OTHER):
        values = [f"{value:.3f}" for value in make_points()[k]] * 5
        rows.append(",".join([f"T2_{k + 1}", letter, str(k + 1), *values]))
    text = "\n".join([",".join(header), *rows]) + "\n"
    return write(folder / "submission.csv", text.replace(rows[0].split(",")[3], cell, 1) if cell else text)


def test_rnapros_templates_have_every_residue(tmp_path: Path) -> None:
    test = write(tmp_path / "test.csv", f"target_id,sequence\nT2,{OTHER}\n")
    path = write_templates(write_submission_file(tmp_path), test, tmp_path / "out")
    lines = path.read_text(encoding="utf-8").splitlines()
    assert len(lines) == 1 + len(OTHER) and not any(",," in line for line in lines)
    with pytest.raises(InputError, match="expected a number"):
        write_templates(write_submission_file(tmp_path, "nan"), test, tmp_path / "out")
    longer = write(tmp_path / "longer.csv", f"target_id,sequence\nT2,{OTHER}A\n")
    with pytest.raises(InputError, match="20 rows, expected 21"):
        write_templates(write_submission_file(tmp_path), longer, tmp_path / "out")


def test_the_command_says_what_it_needs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    test, out = str(write_test(tmp_path)), str(tmp_path / "out")
    assert main(["export", "--for", "boltz", "--test", test, "--out", out]) == ExitCode.DONE
    assert "2 files written" in capsys.readouterr().out
    assert main(["export", "--for", "rnapro", "--test", test, "--out", out]) == ExitCode.INPUT
    assert main(["export", "--test", test, "--out", out]) == ExitCode.INPUT
    assert main(["export", "x.csv", "--for", "boltz", "--test", test, "--out", out]) == ExitCode.INPUT
    assert "needs a SUBMISSION" in capsys.readouterr().err
