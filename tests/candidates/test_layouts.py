"""Every program's output tree is known by what lies in it: the models, the source's name, its own confidence."""

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from rnafold.candidates.reading import read_sources
from rnafold.candidates.source import Source, SourceSpec
from tests.pieces.models import (
    LENGTH,
    SEQUENCE,
    make_outside_target,
    make_points,
    one_chain,
    write,
    write_atoms,
    write_cif,
    write_json,
)

PLDDT = [60.0 + index for index in range(LENGTH)]
MEAN = float(np.mean(PLDDT)) / 100  # 0.745
TARGET = make_outside_target()


def write_protenix(root: Path) -> None:
    for rank in range(2):
        folder = root / "T1" / "seed_101" / "predictions"
        write(folder / f"T1_sample_{rank}.cif", one_chain(rank))
        write_json(folder / f"T1_summary_confidence_sample_{rank}.json", plddt=74.5, ptm=0.2, ranking_score=0.04)


def write_protenix_older(root: Path) -> None:
    for rank in range(2):
        folder = root / "T1" / "101"
        write(folder / f"T1_101_sample_{rank}.cif", one_chain(rank))
        write_json(folder / f"T1_101_summary_confidence_sample_{rank}.json", plddt=0.745, ptm=0.2)


def write_rnapro(root: Path) -> None:
    for rank in range(2):
        folder = root / "T1" / "seed_42" / "predictions"
        write(folder / f"T1_sample_{rank}.cif", one_chain(7))
        write(folder / f"T1_sample_{rank}_new.cif", one_chain(rank))


def write_boltz(root: Path) -> None:
    for rank in range(2):
        folder = root / "boltz_results_T1" / "predictions" / "T1"
        write(folder / f"T1_model_{rank}.cif", one_chain(rank))
        write_json(folder / f"confidence_T1_model_{rank}.json", confidence_score=0.64, ptm=0.2, complex_plddt=0.745)


def write_chai(root: Path) -> None:
    for rank in range(2):
        write(root / f"pred.model_idx_{rank}.cif", one_chain(rank, PLDDT))
        np.savez(root / f"scores.model_idx_{rank}.npz", aggregate_score=np.array([0.05]), ptm=np.array([0.25]))


def write_chai_trunks(root: Path) -> None:
    for trunk in range(2):
        write(root / f"trunk_{trunk}" / "pred.model_idx_0.cif", one_chain(trunk, PLDDT))


def write_alphafold(root: Path) -> None:
    for rank in range(2):
        folder = root / "t1" / f"seed-1_sample-{rank}"
        write(folder / f"t1_seed-1_sample-{rank}_model.cif", one_chain(rank, PLDDT))
        write_json(folder / f"t1_seed-1_sample-{rank}_summary_confidences.json", ptm=0.3, ranking_score=0.06)
    write(root / "t1" / "t1_model.cif", one_chain(0, PLDDT))
    write_json(root / "t1" / "t1_summary_confidences.json", ptm=0.3, ranking_score=0.06)
    write(root / "t1" / "t1_ranking_scores.csv", "seed,sample,ranking_score\n1,0,0.06\n")


def write_alphafold_server(root: Path) -> None:
    for rank in range(2):
        write(root / f"fold_t1_model_{rank}.cif", one_chain(rank, PLDDT))
        write_json(root / f"fold_t1_summary_confidences_{rank}.json", ptm=0.3, ranking_score=0.06)


def write_openfold(root: Path) -> None:
    for rank in range(2):
        folder = root / "T1" / "seed_42"
        write(folder / f"T1_seed_42_sample_{rank}_model.cif", one_chain(rank))
        write_json(folder / f"T1_seed_42_sample_{rank}_confidences_aggregated.json", avg_plddt=74.5, ptm=0.2)


def write_rf3(root: Path) -> None:
    for rank in range(2):
        folder = root / f"seed-0_sample-{rank}"
        write(folder / f"T1_seed-0_sample-{rank}_model.cif", one_chain(rank))
        write_json(folder / f"T1_seed-0_sample-{rank}_summary_confidences.json", overall_plddt=0.745, overall_pae=9.0)


def write_drfold(root: Path) -> None:
    for rank in (1, 2):
        write(root / "relax" / f"model_{rank}.pdb", write_atoms(make_points(rank)))
        remark = f"REMARK ENERGY {-100.0 * rank}\n"
        write(root / "folds" / f"opt_{rank}_from_cfg_97.pdb", remark + write_atoms(make_points(rank) + 1.0))


def write_rhofold(root: Path) -> None:
    write(root / "unrelaxed_model.pdb", write_atoms(make_points(0), chain="0", bfactors=PLDDT))
    write(root / "relaxed_1000_model.pdb", write_atoms(make_points(1)))


def write_trrosetta(root: Path) -> None:
    write(root / "model_1_unrelaxed.pdb", write_atoms(make_points(0)))
    write(root / "model_1_relaxed200.pdb", write_atoms(make_points(1)))
    write(root / "plddt.csv", "resid,plddt\n" + "".join(f"{k + 1},{value}\n" for k, value in enumerate(PLDDT)))


def write_nufold(root: Path) -> None:
    for rank in (1, 2):
        write(root / f"T1_rank_{rank}.pdb", write_atoms(make_points(rank), bfactors=PLDDT))


def write_rosettafold(root: Path) -> None:
    for rank in range(2):
        text = write_atoms(make_points(rank), bfactors=[value / 100 for value in PLDDT], width=66)
        write(root / "models" / f"model_0{rank}.pdb", text)


def write_farfar(root: Path) -> None:
    for rank in (1, 2):
        write(root / f"S_00000{rank}.pdb", write_atoms(make_points(rank), chain=" ") + "score -30.2\nN_WC 9\n")


def write_simrna(root: Path) -> None:
    for rank in (1, 2):
        write(root / f"job_clust0{rank}-000001_AA.pdb", write_atoms(make_points(rank)) + "TER\nEND\n")


def write_vfold(root: Path) -> None:
    models = "".join(f"MODEL     {k}\n{write_atoms(make_points(k))}ENDMDL\n" for k in (1, 2))
    write(root / "T1_npk1_vfold.pdb", models + "END\n")


def write_3drna(root: Path) -> None:
    for rank in (1, 2):
        text = "Please tell me the path of the NSP library: MODEL        1\n"
        write(root / f"test_01.pred{rank}.pdb", text + write_atoms(make_points(rank), chain=" ") + "ENDMDL\n")


def write_rnacomposer(root: Path) -> None:
    for rank in (1, 2):
        text = write_atoms(make_points(rank)).replace("\nATOM", "\nATOM", 1)
        write(root / f"T1_rnacomposer_{rank}.pdb", f"MODEL        1\n{text}ENDMDL\nEND\n")


def write_submission(root: Path) -> None:
    header = ",".join(["ID", "resname", "resid", *(f"{axis}_{k}" for k in (1, 2) for axis in "xyz")])
    first, second = make_points(0), make_points(1)
    rows = [
        f"T1_{k + 1},{letter},{k + 1}," + ",".join(f"{value:.3f}" for value in [*first[k], *second[k]])
        for k, letter in enumerate(SEQUENCE)
    ]
    write(root / "submission.csv", "\n".join([header, *rows]) + "\n")


def write_plain(root: Path) -> None:
    write(root / "a" / "T1.pdb", write_atoms(make_points(0)))
    write(root / "b" / "T1.cif", write_cif([("A", SEQUENCE, make_points(1))]))


def write_bare_traces(root: Path) -> None:
    for seed in range(2):
        lines = [line for line in write_atoms(make_points(seed), width=54).splitlines() if "C1'" in line]
        write(root / f"trace_{seed}.pdb", "\n".join(lines) + "\n")


Case = tuple[Callable[[Path], None], str, float | None]
CASES: dict[str, Case] = {
    "Protenix": (write_protenix, "Protenix", 0.745),
    "Protenix, older names": (write_protenix_older, "Protenix", 0.745),
    "RNAPro": (write_rnapro, "RNAPro", None),
    "Boltz": (write_boltz, "Boltz", 0.745),
    "Chai-1": (write_chai, "Chai-1", MEAN),
    "Chai-1, trunks": (write_chai_trunks, "Chai-1", MEAN),
    "AlphaFold 3": (write_alphafold, "AlphaFold 3", MEAN),
    "AlphaFold server": (write_alphafold_server, "AlphaFold 3", MEAN),
    "OpenFold3": (write_openfold, "OpenFold3", 0.745),
    "RoseTTAFold 3": (write_rf3, "RoseTTAFold 3", 0.745),
    "DRfold2": (write_drfold, "DRfold2", None),
    "RhoFold": (write_rhofold, "RhoFold", MEAN),
    "trRosettaRNA": (write_trrosetta, "trRosettaRNA", MEAN),
    "NuFold": (write_nufold, "NuFold", MEAN),
    "RoseTTAFold2NA": (write_rosettafold, "RoseTTAFold2NA", MEAN),
    "FARFAR2": (write_farfar, "FARFAR2", None),
    "SimRNA": (write_simrna, "SimRNA", None),
    "Vfold": (write_vfold, "Vfold", None),
    "3dRNA": (write_3drna, "3dRNA", None),
    "RNAComposer": (write_rnacomposer, "RNAComposer", None),
    "submission": (write_submission, "tree", None),
    "plain folder": (write_plain, "tree", None),
    "C1' alone, 54 columns": (write_bare_traces, "tree", None),
}


def read_tree(root: Path) -> list[Source]:
    """The sources of a tree."""
    return read_sources([SourceSpec(path=root)], [TARGET])


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_a_tree_is_read_as_its_programs(case: Case, tmp_path: Path) -> None:
    make, name, confidence = case
    root = tmp_path / "tree"
    root.mkdir()
    make(root)
    sources = read_tree(root)
    assert [source.name for source in sources] == [name]
    models = sources[0].models["T1"]
    assert len(models) == 2
    assert all(model.points.shape == (LENGTH, 3) and np.isfinite(model.points).all() for model in models)
    if confidence is not None:
        assert all(model.own is not None and model.own.scaled for model in models)
        np.testing.assert_allclose([model.own.value for model in models if model.own], confidence, atol=1e-3)


def test_models_come_in_the_programs_order_and_numbers_count_as_numbers(tmp_path: Path) -> None:
    for rank in (10, 2, 1):
        write(tmp_path / "boltz_results_T1" / "predictions" / "T1" / f"T1_model_{rank}.cif", one_chain(rank))
    models = read_tree(tmp_path)[0].models["T1"]
    assert [model.note.split(".")[0] for model in models] == ["T1_model_1", "T1_model_2", "T1_model_10"]


def test_what_the_network_of_alphafold_writes_twice_is_counted_as_a_duplicate(tmp_path: Path) -> None:
    write_alphafold(tmp_path)
    source = read_tree(tmp_path)[0]
    assert sum(len(names) for reason, names in source.refused.items() if "same coordinates" in reason) == 1


def test_drfolds_energies_are_compared_but_on_no_scale(tmp_path: Path) -> None:
    write_drfold(tmp_path)
    owns = [model.own for model in read_tree(tmp_path)[0].models["T1"]]
    # energies of -100 and -200: the lower one is the better
    assert [own.value for own in owns if own] == [100.0, 200.0]
    assert not any(own.scaled for own in owns if own)


def test_drfolds_three_atom_traces_are_refused_with_the_folder_to_name(tmp_path: Path) -> None:
    text = write_atoms(make_points(), atom="N9")
    write(tmp_path / "rets_dir" / "cfg_97_model_0.pdb", text)
    write(tmp_path / "relax" / "model_1.pdb", write_atoms(make_points()))
    source = read_tree(tmp_path)[0]
    assert source.num_models == 1
    assert any("rets_dir" in reason and "relax" in reason for reason in source.refused)


@pytest.mark.parametrize("ending", [".gz", ".zst"])
def test_packed_models_are_read(ending: str, tmp_path: Path) -> None:
    data = write_atoms(make_points()).encode()
    if ending == ".zst":
        zstandard = pytest.importorskip("zstandard")
        packed = zstandard.ZstdCompressor().compress(data)
    else:
        packed = gzip.compress(data)
    (tmp_path / f"T1.pdb{ending}").write_bytes(packed)
    (tmp_path / f"cut.pdb{ending}").write_bytes(packed[: len(packed) // 2])
    source = read_tree(tmp_path)[0]
    assert source.num_models == 1
    assert [names for reason, names in source.refused.items() if "cannot be unpacked" in reason] == [
        [f"cut.pdb{ending}"]
    ]


def test_several_programs_below_one_folder_are_a_source_each(tmp_path: Path) -> None:
    write_protenix(tmp_path / "one")
    write(tmp_path / "two" / "predictions" / "T1" / "T1_model_0.cif", one_chain(5))
    sources = read_tree(tmp_path)
    assert sorted(source.name for source in sources) == ["Boltz", "Protenix"]
