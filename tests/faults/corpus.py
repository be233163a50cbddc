"""Good files of every format that the kit reads, each as the world writes it in several ways, made from one hairpin."""

import datetime
import json
from pathlib import Path

import numpy as np

from rnafold.data.demo import build_folds
from rnafold.planner.quota.ledger import LedgerSession
from rnafold.structure import Candidate, Origin, Target, whole_chain
from rnafold.submission import Sample, write_submission
from rnafold.submission.provenance import describe_candidates, write_records
from rnafold.submission.rows import group_rows

FOLD = build_folds("F", 1, datetime.date(2020, 1, 1), 5)[0]
LETTERS = FOLD.sequence[:12]
POINTS = np.round(FOLD.coords[:12], 3)
TARGET = Target(target_id="T1", sequence=LETTERS, chains=whole_chain(12), cutoff=datetime.date(2024, 1, 1))

SEQUENCES = (
    "target_id,sequence,temporal_cutoff,description,stoichiometry,all_sequences\n"
    f'T1,{LETTERS},2024-01-01,"a, quoted",A:1,">T1|Chain A|x|\n{LETTERS}"\n'
    f"T2_x,{LETTERS[:7]},,plain,,\nT3,{LETTERS.lower()},2023-02-03,,A:2,\nT4,acgtNRY-,2022-12-31,,,\n"
).encode()


def write_label_rows() -> bytes:
    """Two targets, two conformations, a residue missing in each way."""
    lines = ["ID,resname,resid,x_1,y_1,z_1,x_2,y_2,z_2"]
    for name, count in (("T1", 12), ("T2_x", 7)):
        for index in range(count):
            x, y, z = POINTS[index]
            second = (
                ("", "", "") if index == 2 else ("-1e18",) * 3 if index == 3 else (f"{x:.2f}", f"{y:.1e}", f"{z:.3f}")
            )
            lines.append(
                ",".join([f"{name}_{index + 1}", LETTERS[index], str(index + 1), f"{x}", f"{y}", f"{z}", *second])
            )
    return ("\n".join(lines) + "\n").encode()


LABELS = write_label_rows()


def write_pdb(header: bool = True, hetatm: bool = False) -> bytes:
    """The hairpin as a PDB file."""
    lines = ["HEADER    RNA                                     01-JAN-20   9XYZ              "] if header else []
    if header:
        lines.append("REVDAT   1   08-JAN-20 9XYZ    0                                                ")
        lines.append(
            f"SEQRES   1 A   12  {'   '.join(LETTERS)}".replace("SEQRES   1 A   12  ", "SEQRES   1 A   12    ")
        )
    for index, (letter, (x, y, z)) in enumerate(zip(LETTERS, POINTS)):
        kind = "HETATM" if hetatm else "ATOM  "
        point = f"{x:8.3f}{y:8.3f}{z:8.3f}  1.00 {20 + index:5.2f}           C  "
        lines.append(f"{kind}{index + 1:5d}  C1' {letter:>3} A{index + 1:4d}    {point}")
    return ("\n".join([*lines, "TER", "END"]) + "\n").encode()


def write_cif(full: bool = True) -> bytes:
    """The hairpin as mmCIF: as the PDB writes it, or with the author's columns alone."""
    head = ["data_9XYZ", "#", "_entry.id 9XYZ", "#"]
    if full:
        head += ["loop_", "_entity_poly.entity_id", "_entity_poly.type", "1 polyribonucleotide", "#", "loop_"]
        head += [f"_entity_poly_seq.{name}" for name in ("entity_id", "num", "mon_id")]
        head += [*(f"1 {index + 1} {letter}" for index, letter in enumerate(LETTERS)), "#"]
        head += ["loop_", "_struct_asym.id", "_struct_asym.entity_id", "A 1", "#", "loop_"]
        head += [
            "_pdbx_audit_revision_history.ordinal",
            "_pdbx_audit_revision_history.revision_date",
            "1 2020-01-08",
            "#",
        ]
    names = [
        "group_PDB",
        "id",
        "label_atom_id",
        "label_comp_id",
        "auth_asym_id",
        "auth_seq_id",
        "Cartn_x",
        "Cartn_y",
        "Cartn_z",
    ]
    names += ["label_asym_id", "label_entity_id", "label_seq_id", "B_iso_or_equiv"] if full else []
    rows = []
    for index, (letter, (x, y, z)) in enumerate(zip(LETTERS, POINTS)):
        row = f'ATOM {index + 1} "C1\'" {letter} A {index + 1} {x} {y} {z}'
        rows.append(row + (f" A 1 {index + 1} {20 + index}" if full else ""))
    return "\n".join([*head, "loop_", *(f"_atom_site.{name}" for name in names), *rows, "#", ""]).encode()


def write_alignment() -> bytes:
    """Query and rows, an insertion in one."""
    rows = [LETTERS, LETTERS.replace("A", "-"), LETTERS[:4] + "acg" + LETTERS[4:], "-" * 6 + LETTERS[6:], "N" * 12]
    return "".join(
        f">{'query' if k == 0 else f'row{k}/1-12 a b'}\n{row[:8]}\n{row[8:]}\n" for k, row in enumerate(rows)
    ).encode()


def write_stockholm() -> bytes:
    """Rows as a program that sorts them writes them: the query last, with gaps where others have insertions."""
    rows = [LETTERS.replace("A", "-"), "-" * 6 + LETTERS[6:], LETTERS]
    text = "".join(f"row{k}  {row[:4]}{'acg' if k == 1 else '...'}{row[4:]}\n" for k, row in enumerate(rows))
    return f"# STOCKHOLM 1.0\n#=GF ID x\n\n{text}//\n".encode()


CONFIG = b"""# a comment
name: tiny
width: 16
layers: 2  # two
attention_heads: 2
feed_forward: 32
dropout: 1e-1
list: [1, 2.5, no, "12:30", ~]
nested:
  deep: {a: true, b: 'x: y', c: -1}
  text: |
    two
    lines
other:
  - 0x10
  - 1_000
  - .5
"""


def write_good_submission(folder: Path) -> Path:
    """A submission of one target with its record beside it."""
    ids = tuple(f"T1_{index + 1}" for index in range(12))
    sample = Sample(ids=ids, resnames=tuple(LETTERS), resids=tuple(range(1, 13)), groups=group_rows(ids, range(1, 13)))
    path = folder / "submission.csv"
    points = np.stack([POINTS + shift for shift in range(5)])
    write_submission(path, sample, {"T1": points})
    origins: tuple[Origin, ...] = ("template", "network", "assembly", "template", "network")
    picked = [Candidate(coords=one, origin=origin, confidence=0.5) for one, origin in zip(points, origins)]
    write_records(path, {"T1": describe_candidates("T1", picked)})
    return path


def write_ledger(folder: Path) -> bytes:
    """Two sessions, one ended."""
    path = folder / "ledger.jsonl"
    for run in ("one", "two"):
        session = LedgerSession(path, run, "t4x2", counts=True, host="h", planned_hours=1.0)
        session.progress()
    session.end("epochs", 3.5)
    return path.read_bytes()


def write_metrics() -> bytes:
    """Lines of a run's metrics."""
    lines = [{"kind": "train", "step": k, "loss": 1.0 / k, "epoch": k / 2} for k in range(1, 5)]
    return "".join(
        json.dumps(line) + "\n" for line in [*lines, {"kind": "evaluation", "step": 4, "tm_score": 0.5}]
    ).encode()
