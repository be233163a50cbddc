"""Makes tests/scoring/usalign_pairs: structures of ideal geometry, predictions of them, and US-align's own scores.

`python scripts/make_usalign_pairs.py --usalign PATH` writes the three files anew; the structures are the same bytes
each time, the scores are whatever the program says. Nothing in them comes from a real structure: natives are A-form
helices, the demo's folds and random walks.
"""

import argparse
import csv
import gzip
import io
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from rnafold import geometry
from rnafold.data.demo import build_fold
from rnafold.rna import ATOM_NAME
from rnafold.scoring import find_usalign
from rnafold.scoring.usalign import parse_tm_score
from rnafold.structure import BoolArray, FloatArray

FOLDER: Final = Path(__file__).resolve().parents[1] / "tests" / "scoring" / "usalign_pairs"
LETTERS: Final = "GACU"
MISSING: Final = np.nan


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Native:
    """A reference: its name, letters (L), coordinates (L, 3) in Å (NaN: unresolved), and its number of equal copies."""

    name: str
    sequence: str
    coords: FloatArray
    num_copies: int

    @property
    def copy_length(self) -> int:
        """Residues of one copy."""
        return len(self.coords) // self.num_copies

    def split(self, points: FloatArray) -> list[FloatArray]:
        """(L, 3) points of a prediction or of the reference, copy by copy."""
        return np.split(points, self.num_copies)


def build_natives() -> list[Native]:
    """Single chains, one for each d0 of short RNAs and three longer; complexes of two, three and four copies."""
    singles = [("helix11", 11), ("helix14", 14), ("helix18", 18), ("helix22", 22), ("helix28", 28)]
    natives = [_single(name, _strand(length)) for name, length in singles]
    for name, num_hairpins in (("fold2", 2), ("fold4", 4)):
        sequence, coords, _ = build_fold(np.random.default_rng(num_hairpins), num_hairpins)
        gaps = coords.copy()
        gaps[[5, len(coords) // 2, len(coords) - 1]] = MISSING
        natives.append(Native(name=name, sequence=sequence, coords=gaps if num_hairpins == 2 else coords, num_copies=1))
    natives.append(_single("walk90", build_walk(90, 7)))
    natives += [_complex(f"copies{n}", n, seed=n) for n in (2, 3, 4)]
    return natives


def _strand(length: int) -> FloatArray:
    strand, other = geometry.build_helix((length + 1) // 2)
    return np.concatenate([strand, other[::-1]])[:length]


def _single(name: str, coords: FloatArray) -> Native:
    return Native(name=name, sequence=(LETTERS * len(coords))[: len(coords)], coords=coords, num_copies=1)


def _complex(name: str, num_copies: int, seed: int) -> Native:
    """Copies of one demo hairpin, turned and set around a centre without a symmetry."""
    rng = np.random.default_rng([seed, 1])
    sequence, coords, _ = build_fold(rng, 1)
    copies = [(coords - coords.mean(0)) @ build_rotation(rng).T + _place(k) for k in range(num_copies)]
    return Native(name=name, sequence=sequence * num_copies, coords=np.concatenate(copies), num_copies=num_copies)


def _place(index: int) -> FloatArray:
    return np.array([0.0, 30.0 * index, 11.0 * index**2])


def build_walk(length: int, seed: int) -> FloatArray:
    """(length, 3) a walk of 5.5 Å steps whose direction persists for a while."""
    steps = np.random.default_rng(seed).normal(size=(length, 3))
    for index in range(1, length):
        steps[index] += 0.8 * steps[index - 1]
    return np.cumsum(5.5 * steps / np.linalg.norm(steps, axis=1, keepdims=True), axis=0)


def build_rotation(rng: np.random.Generator) -> FloatArray:
    """A random proper rotation (3, 3)."""
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    return np.asarray(turn * np.sign(np.linalg.det(turn)), dtype=np.float64)


Change = Callable[[Native, FloatArray, np.random.Generator], FloatArray]


def add_noise(scale: float) -> Change:
    """Gaussian noise of `scale` Å a coordinate."""
    return lambda _, points, rng: points + rng.normal(scale=scale, size=points.shape)


def shift_by_one(_: Native, points: FloatArray, __: np.random.Generator) -> FloatArray:
    """Each residue at the place of the next."""
    return np.roll(points, 1, axis=0)


def bend(_: Native, points: FloatArray, rng: np.random.Generator) -> FloatArray:
    """The second half turned about the middle residue."""
    middle = len(points) // 2
    moved = points.copy()
    moved[middle:] = (points[middle:] - points[middle]) @ build_rotation(rng).T + points[middle]
    return moved


def drop_a_third(_: Native, points: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Three residues of ten are missing."""
    moved = points.copy()
    moved[rng.permutation(len(points))[: 3 * len(points) // 10]] = MISSING
    return moved


def swap_copies(native: Native, points: FloatArray, _: np.random.Generator) -> FloatArray:
    """Each copy at the place of the next."""
    copies = native.split(points)
    return np.concatenate([*copies[1:], copies[0]])


def move_one_away(native: Native, points: FloatArray, _: np.random.Generator) -> FloatArray:
    """The last copy 300 Å away."""
    moved = points.copy()
    moved[-native.copy_length :] += 300.0
    return moved


SINGLE: Final[dict[str, Change]] = {
    "self": lambda _, points, __: points,
    "mirror": lambda _, points, __: points * [1.0, 1.0, -1.0],
    "noise0.5": add_noise(0.5),
    "noise2": add_noise(2.0),
    "noise8": add_noise(8.0),
    "shift1": shift_by_one,
    "bend": bend,
    "missing30": drop_a_third,
    "half": lambda _, points, __: np.where(np.arange(len(points))[:, None] < len(points) // 2, points, 0.0),
    "zeros": lambda _, points, __: np.zeros_like(points),
    "line": lambda _, points, __: np.outer(np.arange(len(points)), [5.5, 0.0, 0.0]),
    "helix": lambda _, points, __: geometry.build_helix(len(points))[0],
    "walk": lambda _, points, __: build_walk(len(points), 3),
}
COPIES: Final[dict[str, Change]] = {
    "self": SINGLE["self"],
    "swap": swap_copies,
    "noise3": add_noise(3.0),
    "swap_noise1": lambda native, points, rng: swap_copies(native, points, rng) + rng.normal(size=points.shape),
    "one_far": move_one_away,
}


def predict(native: Native, variant: str, change: Change) -> FloatArray:
    """(L, 3) a prediction, turned and moved, so that no score is had without superposing; NaN: missing.

    All zeros stay at the origin, as a submission has them: of residues that share one point elsewhere US-align finds no
    rotation, and gives less than the best superposition.
    """
    rng = np.random.default_rng([len(native.coords), sum(map(ord, native.name + variant))])
    complete = np.where(np.isfinite(native.coords), native.coords, 0.0)
    moved = change(native, complete, rng)
    if moved.any():
        moved = moved @ build_rotation(rng).T + rng.normal(scale=20.0, size=3)
    return np.round(moved, 3)


# The competition's two ways to score: https://www.kaggle.com/competitions/stanford-rna-3d-folding-2 (metric's code).
def score(binary: Path, folder: Path, native: Native, points: FloatArray) -> float:
    """US-align's TM-score of a prediction, as part 2 of the competition asks for it.

    One chain: residues are matched by number. Copies: chains are matched first (`-mm 1`), put in that order, numbered
    anew, and scored as one chain.
    """
    if native.num_copies > 1:
        order = map_copies(binary, folder, native, points)
        points = np.concatenate([native.split(points)[k] for k in order])
    model = write_pdb(folder / "model.pdb", native.sequence, points, 1)
    reference = write_pdb(folder / "native.pdb", native.sequence, native.coords, 1)
    return parse_tm_score(run(binary, model, reference, "-TMscore", "1"))


def map_copies(binary: Path, folder: Path, native: Native, points: FloatArray) -> list[int]:
    """The predicted copy for each reference copy, by US-align's own matching; copies left over go to the end."""
    model = write_pdb(folder / "model.pdb", native.sequence, points, native.num_copies)
    reference = write_pdb(folder / "native.pdb", native.sequence, native.coords, native.num_copies)
    text = run(binary, model, reference, "-TMscore", "0", "-mm", "1", "-ter", "0")
    ours, theirs = (_read_chains(text, number) for number in (1, 2))
    by_native = {fixed: mobile for mobile, fixed in zip(ours, theirs) if mobile is not None and fixed is not None}
    found = [by_native[k] for k in sorted(by_native)]
    return found + [k for k in range(native.num_copies) if k not in found]


def _read_chains(text: str, number: int) -> list[int | None]:
    """Copies in the order of the alignment, from "Name of Structure_1: model.pdb:A:B:"; None where a chain has none."""
    line = next(line for line in text.splitlines() if line.startswith(f"Name of Structure_{number}:"))
    listed = line.partition(".pdb")[2].partition(" (")[0].split(":")[1:]
    return [ord(name.split(",")[-1]) - ord("A") if name.strip() else None for name in listed]


def run(binary: Path, model: Path, reference: Path, *options: str) -> str:
    """What US-align prints."""
    command = [str(binary), str(model), str(reference), "-atom", f" {ATOM_NAME}", *options]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def write_pdb(path: Path, sequence: str, points: FloatArray, num_copies: int) -> Path:
    """The C1' atoms that have coordinates, each copy a chain; residues are numbered from 1 in each."""
    length = len(sequence) // num_copies
    lines = []
    for index in np.flatnonzero(np.isfinite(points).all(axis=1)):
        copy, number = divmod(int(index), length)
        x, y, z = points[index]
        lines.append(
            f"ATOM  {index + 1:5d}  {ATOM_NAME:<3s} {sequence[index]:>3s} {chr(ord('A') + copy)}{number + 1:4d}    "
            f"{x:8.3f}{y:8.3f}{z:8.3f}  1.00  0.00           C\n"
        )
    path.write_text("".join(lines) + "TER\nEND\n", encoding="ascii")
    return path


def write_rows(path: Path, rows: Sequence[Sequence[str]]) -> None:
    """A CSV file, compressed without a time of day where its name ends in .gz."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    data = text.getvalue().encode()
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)
    temporary.replace(path)


def format_point(point: FloatArray) -> list[str]:
    """Three cells with 3 decimals, empty for a missing residue."""
    known: BoolArray = np.isfinite(point)
    return [f"{value:.3f}" if known.all() else "" for value in point]


def main() -> None:
    """Writes natives.csv.gz, predictions.csv.gz and scores.csv."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--usalign", metavar="PATH", help="the US-align program (else $USALIGN or the one on the PATH)")
    binary = find_usalign(parser.parse_args().usalign)
    natives = [["ID", "resname", "resid", "x_1", "y_1", "z_1", "chain", "copy"]]
    predictions, scores = [["ID", "variant", "x", "y", "z"]], [["target", "variant", "part2"]]
    with tempfile.TemporaryDirectory() as name:
        for native in build_natives():
            rounded = Native(
                name=native.name,
                sequence=native.sequence,
                coords=np.round(native.coords, 3),
                num_copies=native.num_copies,
            )
            for index, point in enumerate(rounded.coords):
                copy = index // rounded.copy_length + 1
                row = [f"{native.name}_{index + 1}", native.sequence[index], str(index + 1)]
                natives.append([*row, *format_point(point), "A", str(copy)])
            for variant, change in (COPIES if native.num_copies > 1 else SINGLE).items():
                points = predict(rounded, variant, change)
                predictions += [
                    [f"{native.name}_{number}", variant, *format_point(point)]
                    for number, point in enumerate(points, start=1)
                ]
                scores.append([native.name, variant, f"{score(binary, Path(name), rounded, points):.5f}"])
    write_rows(FOLDER / "natives.csv.gz", natives)
    write_rows(FOLDER / "predictions.csv.gz", predictions)
    write_rows(FOLDER / "scores.csv", scores)


if __name__ == "__main__":
    main()
