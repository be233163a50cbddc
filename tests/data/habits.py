"""Small structure files written by hand, each with one habit of a program, and what each reads as.

All hold the same strand, GGACUUCGC, or parts of it: a residue every 6 Å along x, O3' 1.6 Å before the next P.
"""

import gzip
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

STRAND: Final = "GGACUUCGC"
SUGAR: Final = ("P", "C4'", "O3'", "C2'", "O2'", "C1'")
_OFFSETS: Final = {
    "P": (0.0, 0.0, 0.0), "C4'": (2.5, 1.0, 0.0), "O3'": (4.4, 0.0, 0.0), "C2'": (3.0, 2.5, 1.0),
    "O2'": (3.5, 2.5, 2.0), "C1'": (2.0, 3.0, 0.0), "O": (1.0, 1.0, 9.0), "CA": (1.0, 1.0, 1.0),
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Res:
    """A residue as a file lists it; `at` is its place along the strand (6 Å each), `row` the record's name."""

    name: str
    number: str
    at: float
    chain: str = "A"
    row: str = "ATOM"
    segment: str = ""
    atoms: Sequence[str] = SUGAR
    alternate: str = " "
    occupancy: float = 1.0
    shift: float = 0.0
    model: int = 1


def strand(letters: Iterable[str] = STRAND, first: int = 1, at: int = 0, **settings: Any) -> list[Res]:
    """Residues of these names, numbered from `first`."""
    return [Res(name=name, number=str(first + i), at=at + i, **settings) for i, name in enumerate(letters)]


def change(residues: Sequence[Res], index: int, **settings: Any) -> list[Res]:
    """The list with one residue written otherwise."""
    fields = {name: getattr(residues[index], name) for name in Res.__slots__} | settings
    return [*residues[:index], Res(**fields), *residues[index + 1 :]]


def points(residue: Res) -> list[tuple[str, float, float, float]]:
    """Atom, x, y, z."""
    rows = []
    for atom in residue.atoms:
        x, y, z = _OFFSETS[atom.replace("*", "'")]
        rows.append((atom, 6 * residue.at + x, y + residue.shift, z))
    return rows


def pdb(*parts: str | Sequence[Res], end: str = "END\n") -> str:
    """A PDB file of lines and residues."""
    lines = []
    for part in parts:
        if isinstance(part, str):
            lines.append(part)
            continue
        for res in part:
            number = f"{res.number:>4} " if res.number[-1].isdigit() else f"{res.number:>5}"
            for atom, x, y, z in points(res):
                lines.append(
                    f"{res.row:<6}{len(lines) + 1:>5} {atom:^4}{res.alternate}{res.name:>3}{res.chain:>2}{number}   "
                    f"{x:8.3f}{y:8.3f}{z:8.3f}{res.occupancy:6.2f}{20.0:6.2f}      {res.segment:<4}{atom[0]:>2}"
                )
    return "\n".join(lines) + "\n" + end


COLUMNS: Final = (
    "group_PDB id type_symbol label_atom_id label_alt_id label_comp_id label_asym_id label_entity_id label_seq_id "
    "pdbx_PDB_ins_code Cartn_x Cartn_y Cartn_z occupancy auth_seq_id auth_asym_id pdbx_PDB_model_num"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """What stands in the label columns: asym id and number of a residue ({n} its count, {i} its number), and entity."""

    asym: str = "{chain}"
    seq: str = "{n}"
    entity: str = "1"


def cif(
    residues: Sequence[Res], *parts: str, labels: Labels | None = None, columns: str = COLUMNS, name: str = "X"
) -> str:
    """One data block: `parts` (categories) and the atoms."""
    form, count, last = labels or Labels(), 0, ("", "")
    rows: list[str] = []
    for res in residues:
        count = count + 1 if (res.chain, str(res.model)) == last else 1
        last = (res.chain, str(res.model))
        plain = res.number.rstrip("ABCDEFG")
        for atom, x, y, z in points(res):
            values = {"chain": res.chain, "n": count, "i": plain}
            water = res.row == "HETATM"
            cell = {
                "group_PDB": res.row, "id": str(len(rows) + 1), "type_symbol": atom[0], "label_atom_id": f'"{atom}"',
                "auth_atom_id": f'"{atom}"', "label_alt_id": res.alternate.strip() or ".", "label_comp_id": res.name,
                "auth_comp_id": res.name, "label_asym_id": form.asym.format(**values), "label_entity_id": form.entity,
                "label_seq_id": "." if water and "{n}" in form.seq else form.seq.format(**values),
                "pdbx_PDB_ins_code": res.number[len(plain):] or "?", "Cartn_x": f"{x:.3f}", "Cartn_y": f"{y:.3f}",
                "Cartn_z": f"{z:.3f}", "occupancy": f"{res.occupancy:.2f}", "auth_seq_id": plain,
                "auth_asym_id": res.chain, "pdbx_PDB_model_num": str(res.model),
            }  # fmt: skip
            rows.append(" ".join(cell[column] for column in columns.split()))
    loop = "loop_\n" + "\n".join(f"_atom_site.{column}" for column in columns.split())
    return "\n".join([f"data_{name}", "#", *parts, loop, *rows, "#"]) + "\n"


def category(name: str, columns: str, *rows: str) -> str:
    """A loop of an mmCIF file."""
    return "\n".join(["loop_", *(f"_{name}.{column}" for column in columns.split()), *rows, "#"])


def scheme(letters: str, asym: str = "A", entity: str = "1") -> str:
    """The sequence of a chain as the archive's mmCIF files state it."""
    rows = [f"{asym} {entity} {i} {letter}" for i, letter in enumerate(letters, 1)]
    return category("pdbx_poly_seq_scheme", "asym_id entity_id seq_id mon_id", *rows)


def sequence(letters: str, entity: str = "1", kind: str = "polyribonucleotide") -> str:
    """The sequence of an entity as programs write it that know no scheme."""
    rows = [f"{entity} {i} {letter}" for i, letter in enumerate(letters, 1)]
    types = category("entity_poly", "entity_id type", f"{entity} {kind}")
    return types + "\n" + category("entity_poly_seq", "entity_id num mon_id", *rows)


def seqres(letters: Sequence[str], chain: str = "A") -> str:
    """SEQRES records, 13 residues each."""
    lines = []
    for serial, start in enumerate(range(0, len(letters), 13), 1):
        names = " ".join(f"{name:>3}" for name in letters[start : start + 13])
        lines.append(f"SEQRES {serial:>3} {chain} {len(letters):>4}  {names}")
    return "\n".join(lines)


def waters(first: int, num: int, name: str = "HOH", row: str = "HETATM", chain: str = "A") -> list[Res]:
    """Waters or ions far from the strand."""
    return [Res(name=name, number=str(first + i), at=50.0 + i, chain=chain, row=row, atoms=("O",)) for i in range(num)]


HEADER = "HEADER    RNA                                     20-OCT-04   1XYZ"
REVDAT = "REVDAT   2   24-FEB-09 1XYZ    1       VERSN\nREVDAT   1   28-DEC-04 1XYZ    0"
HISTORY = category("pdbx_audit_revision_history", "ordinal revision_date", "1 2019-05-01", "2 2023-01-01")


@dataclass(frozen=True, slots=True)
class Habit:
    """One hand-made file: whose habit it shows, and what it reads as (chain, sequence, resolved; or the fault)."""

    program: str
    habit: str
    file: str
    reads: str
    data: str | bytes

    def write(self, folder: Path) -> Path:
        """Writes the file, packed where its name ends in .gz."""
        path = folder / self.file
        data = self.data.encode() if isinstance(self.data, str) else self.data
        path.write_bytes(gzip.compress(data) if path.suffix == ".gz" and not data.startswith(b"\x1f\x8b") else data)
        return path
