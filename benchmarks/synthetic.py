"""Sets of the competition's size made from nothing: training CSVs and ribosome-like mmCIF files, for benchmarks."""

import csv
import datetime
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from rnafold.data.competition import read_targets
from rnafold.data.demo import build_fold
from rnafold.structure import FloatArray

# Long chains are near copies of members of so many families, as ribosomal RNAs are.
NUM_FAMILIES, LONGEST = 12, 125_580
# Lengths of the RNA chains of a structure file.
RNA_LENGTHS = (1500, 120)
BASE_ATOMS = {
    "A": "N9 C8 N7 C5 C6 N6 N1 C2 N3 C4",
    "C": "N1 C2 O2 N3 C4 N4 C5 C6",
    "G": "N9 C8 N7 C5 C6 O6 N1 C2 N2 N3 C4",
    "U": "N1 C2 O2 N3 C4 O4 C5 C6",
}
BACKBONE = "P OP1 OP2 O5' C5' C4' O4' C3' O3' C2' O2' C1'"
ATOM_COLUMNS = (
    "group_PDB",
    "id",
    "type_symbol",
    "label_atom_id",
    "label_alt_id",
    "label_comp_id",
    "label_asym_id",
    "label_entity_id",
    "label_seq_id",
    "pdbx_PDB_ins_code",
    "Cartn_x",
    "Cartn_y",
    "Cartn_z",
    "occupancy",
    "B_iso_or_equiv",
    "pdbx_formal_charge",
    "auth_seq_id",
    "auth_comp_id",
    "auth_asym_id",
    "auth_atom_id",
    "pdbx_PDB_model_num",
)


def build_long(rng: np.random.Generator, length: int) -> tuple[str, FloatArray]:
    """Letters and C1' (L, 3) of a chain of ideal folds, side by side."""
    letters = ""
    points: list[FloatArray] = []
    while len(letters) < length:
        sequence, coords, _ = build_fold(rng, 3)
        points.append(coords + [60.0 * len(points), 0.0, 0.0])
        letters += sequence
    return letters[:length], np.concatenate(points)[:length]


def draw_lengths(rng: np.random.Generator, count: int, longest: int = LONGEST) -> list[int]:
    """Lengths whose quartiles are those of the competition's part 2, the first the longest."""
    ranges = ((10, 43), (43, 95), (95, 2584), (2584, 4600))
    drawn = [int(np.exp(rng.uniform(*np.log(ranges[int(rng.integers(4))])))) for _ in range(count)]
    return [min(longest, length) for length in (longest, *drawn[1:])]


def write_set(folder: Path, count: int, longest: int = LONGEST) -> None:
    """A training set of `count` targets in competition format, none of more than `longest` residues."""
    rng = np.random.default_rng(0)
    families = [build_long(rng, 4700) for _ in range(NUM_FAMILIES)]
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "train_sequences.csv").open("w") as sequences, (folder / "train_labels.csv").open("w") as labels:
        sequences.write("target_id,sequence,temporal_cutoff,description,all_sequences\n")
        labels.write("ID,resname,resid,x_1,y_1,z_1\n")
        for number, length in enumerate(tqdm(draw_lengths(rng, count, longest), desc="synthetic set", disable=None)):
            whole = families[int(rng.integers(NUM_FAMILIES))] if 2000 < length < 5000 else build_long(rng, length)
            letters = np.array(list(whole[0][:length]))
            changed = rng.random(length) < 0.05
            letters[changed] = rng.choice(list("ACGU"), int(changed.sum()))
            points = whole[1][:length] + rng.normal(0.0, 0.3, (length, 3))
            name = f"{number % 9 + 1}{number:05d}S"
            date = datetime.date(1995, 1, 1) + datetime.timedelta(days=int(rng.integers(10_000)))
            sequences.write(f"{name},{''.join(letters)},{date},synthetic,\n")
            for i, (x, point) in enumerate(zip(letters, points), start=1):
                cells = ",".join(f"{value:.3f}" for value in point)
                labels.write(f"{name}_{i},{x},{i},{cells}\n")


def write_part(data: Path, out: Path, step: int) -> None:
    """Every `step`-th target of a set."""
    csv.field_size_limit(1 << 30)
    out.mkdir(parents=True, exist_ok=True)
    with (data / "train_sequences.csv").open() as source, (out / "train_sequences.csv").open("w") as target:
        rows = list(csv.reader(source))
        kept = {row[0] for row in rows[1::step]}
        csv.writer(target, lineterminator="\n").writerows([rows[0], *rows[1::step]])
    with (data / "train_labels.csv").open() as source, (out / "train_labels.csv").open("w") as target:
        target.write(next(source))
        target.writelines(line for line in source if line.partition(",")[0].rpartition("_")[0] in kept)


def build_structure(code: str, seed: int, num_proteins: int = 20, protein_length: int = 130) -> str:
    """A ribosome-like mmCIF file: two RNA chains with all heavy atoms, and proteins."""
    rng = np.random.default_rng(seed)
    released = datetime.date(1995, 1, 1) + datetime.timedelta(days=int(rng.integers(10_000)))
    entities: list[str] = []
    scheme: list[str] = []
    atoms: list[str] = []

    def add(asym: str, entity: int, place: int, residue: str, names: Sequence[str], points: FloatArray) -> None:
        scheme.append(f"{asym} {entity} {place} {residue} {place} {place} {place} {residue} {residue} {asym} .")
        for name, (x, y, z) in zip(names, points):
            quoted = f'"{name}"' if "'" in name else name
            atoms.append(
                f"ATOM {len(atoms) + 1} {name[0]} {quoted} . {residue} {asym} {entity} {place} ? "
                f"{x:.3f} {y:.3f} {z:.3f} 1.00 50.00 ? {place} {residue} {asym} {quoted} 1"
            )

    for entity, length in enumerate(RNA_LENGTHS, start=1):
        entities.append(f"{entity} polyribonucleotide")
        for place, (letter, centre) in enumerate(zip(*build_long(rng, length)), start=1):
            names = f"{BACKBONE} {BASE_ATOMS[letter]}".split()
            offsets = rng.normal(scale=2.0, size=(len(names), 3))
            offsets[names.index("C1'")] = 0.0
            add(chr(64 + entity), entity, place, letter, names, centre + offsets)
    for number in range(num_proteins):
        entity = len(RNA_LENGTHS) + 1 + number
        entities.append(f"{entity} 'polypeptide(L)'")
        for place in range(1, protein_length + 1):
            points = rng.normal(scale=60.0, size=(8, 3))
            add(f"P{chr(65 + number)}", entity, place, "LYS", ["N", "CA", "C", "O", "CB", "CG", "CD", "CE"], points)
    columns = (
        "asym_id entity_id seq_id mon_id ndb_seq_num pdb_seq_num auth_seq_num pdb_mon_id auth_mon_id pdb_strand_id"
    )
    lines = [
        f"data_{code}",
        "#",
        f"_entry.id {code}",
        "#",
        f"_pdbx_audit_revision_history.revision_date {released}",
        "#",
    ]
    lines += ["loop_", "_entity_poly.entity_id", "_entity_poly.type", *entities, "#", "loop_"]
    lines += [f"_pdbx_poly_seq_scheme.{name}" for name in (*columns.split(), "pdb_ins_code")] + scheme + ["#", "loop_"]
    return "\n".join([*lines, *(f"_atom_site.{name}" for name in ATOM_COLUMNS), *atoms, "#", ""])


def write_structures(folder: Path, count: int, different: int) -> None:
    """Structure files, of which so many differ; each has a name of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = [build_structure(f"{k % 9 + 1}{k:03d}", k) for k in tqdm(range(min(count, different)), disable=None)]
    for number in range(count):
        (folder / f"{number % 9 + 1}{number:03d}.cif").write_text(texts[number % len(texts)])


def write_targets(data: Path, out: Path, count: int) -> None:
    """Test sequences and a sample of the youngest targets of a set, of 30 to 300 residues."""
    out.mkdir(parents=True, exist_ok=True)
    targets = [target for target in read_targets(data / "train_sequences.csv") if 30 <= target.length <= 300]
    chosen = sorted(targets, key=lambda t: (str(t.cutoff), t.target_id))[-count:]
    with (out / "test_sequences.csv").open("w") as test, (out / "sample_submission.csv").open("w") as sample:
        test.write("target_id,sequence,temporal_cutoff,description,all_sequences\n")
        sample.write("ID,resname,resid," + ",".join(f"{axis}_{k}" for k in range(1, 6) for axis in "xyz") + "\n")
        for target in chosen:
            test.write(f"{target.target_id},{target.sequence},{target.cutoff},synthetic,\n")
            for i, letter in enumerate(target.sequence, start=1):
                sample.write(f"{target.target_id}_{i},{letter},{i}" + ",0.0" * 15 + "\n")
