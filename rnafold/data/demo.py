"""The embedded data set: ideal A-form hairpins and multi-stem folds with known coordinates, in competition format.

Nothing here is copied from a real structure. A fold is a row of hairpins: each stem an A-form helix, each loop an arc,
neighbouring hairpins joined by short linkers and set side by side, so that sequence decides stem lengths and stem
lengths decide the shape: a network can learn it, and a score on it means something.
"""

import csv
import datetime
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from rnafold import geometry
from rnafold.files.atomic import write_text

FloatArray = npt.NDArray[np.float64]
COMPLEMENT = {"A": "U", "C": "G", "G": "C", "U": "A"}
LOOPS = ("GAAA", "UUCG", "GCAA", "UACG")
LINKERS = ("AAAAAA", "ACAAAAA", "AACAACAA")
# Distance of the axes of neighbouring helices in Å: two A-form helices of C1' radius 8.45 do not touch at 24.
AXIS_SPACING = 24.0
STEP = 5.5
UP = np.array([0.0, 0.0, 1.0])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DemoFold:
    """One entry: id, sequence, coordinates (L, 3) in Å, release date and its partner array (L,)."""

    target_id: str
    sequence: str
    coords: FloatArray
    released: datetime.date
    partner: npt.NDArray[np.int64]


def build_hairpin(num_pairs: int, loop_size: int) -> FloatArray:
    """(2 n + loop, 3): an A-form stem closed by a loop on an arc between the last pair, 5.5 Å a step."""
    strand, other = geometry.build_helix(num_pairs)
    return np.concatenate([strand, _arc(strand[-1], other[-1], loop_size, UP), other[::-1]])


def _arc(first: FloatArray, last: FloatArray, count: int, direction: FloatArray) -> FloatArray:
    """`count` points (count, 3) on a circle from `first` to `last`, 5.5 Å a step, bulging toward `direction`."""
    chord = float(np.linalg.norm(last - first))
    radius = _arc_radius(chord, STEP, count + 1)
    across = (last - first) / chord
    outward = direction - (direction @ across) * across
    outward /= np.linalg.norm(outward)
    half = math.asin(min(1.0, chord / (2 * radius)))
    if STEP * (count + 1) > math.pi * chord / 2:
        half = math.pi - half
    middle = (first + last) / 2 - outward * radius * math.cos(half)
    angles = np.linspace(-half, half, count + 2)[1:-1, None]
    return np.asarray(middle + radius * (np.sin(angles) * across + np.cos(angles) * outward), dtype=np.float64)


def _arc_radius(chord: float, step: float, steps: int) -> float:
    """Radius of the circle on which `steps` chords of length `step` span `chord`, by bisection."""

    def span(radius: float) -> float:
        return 2 * radius * math.sin(min(steps * math.asin(step / (2 * radius)), math.pi))

    low, high = step * steps / (2 * math.pi) * 1.0001, 1e4
    low = max(low, step / 2 * 1.0001)
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if span(middle) < chord else (low, middle)
    return (low + high) / 2


def build_fold(rng: np.random.Generator, num_hairpins: int) -> tuple[str, FloatArray, npt.NDArray[np.int64]]:
    """Sequence, coordinates (L, 3) and partners (L,) of a row of hairpins with random stems."""
    letters: list[str] = []
    points: list[FloatArray] = []
    partner: list[int] = []
    for index in range(num_hairpins):
        if index:
            linker = LINKERS[int(rng.integers(len(LINKERS)))]
            letters += linker
            points.append(np.full((len(linker), 3), np.nan))
            partner += [-1] * len(linker)
        num_pairs, loop = int(rng.integers(5, 11)), LOOPS[int(rng.integers(len(LOOPS)))]
        stem = _design_stem(rng, num_pairs)
        base = len(letters)
        size = 2 * num_pairs + len(loop)
        letters += [*stem, *loop, *(COMPLEMENT[x] for x in reversed(stem))]
        pairs = np.full(size, -1)
        pairs[:num_pairs] = base + size - 1 - np.arange(num_pairs)
        pairs[size - num_pairs :] = base + num_pairs - 1 - np.arange(num_pairs)
        partner += pairs.tolist()
        points.append(build_hairpin(num_pairs, len(loop)) + np.array([AXIS_SPACING * index, 0.0, 0.0]))
    for index in range(1, len(points), 2):
        points[index] = _arc(points[index - 1][-1], points[index + 1][0], len(points[index]), -UP)
    return "".join(letters), np.concatenate(points), np.array(partner, dtype=np.int64)


def _design_stem(rng: np.random.Generator, num_pairs: int) -> str:
    """One strand of a stem: at least half G or C, so that a folding program finds it."""
    return "".join(rng.choice(list("GCGCAU"), size=num_pairs))


def build_folds(prefix: str, count: int, first_day: datetime.date, seed: int) -> list[DemoFold]:
    """`count` folds of one to three hairpins, one released a day from `first_day` on."""
    rng = np.random.default_rng([seed, sum(map(ord, prefix))])
    folds = []
    for index in range(count):
        sequence, coords, partner = build_fold(rng, 1 + index % 3)
        # a random pose: a network that learned absolute positions would be found out
        quaternion = rng.normal(size=4)
        rotation = _rotation(quaternion / np.linalg.norm(quaternion))
        folds.append(
            DemoFold(
                target_id=f"{prefix}{index + 1:03d}",
                sequence=sequence,
                coords=coords @ rotation.T + rng.normal(scale=20.0, size=3),
                released=first_day + datetime.timedelta(days=index),
                partner=partner,
            )
        )
    return folds


def _rotation(q: FloatArray) -> FloatArray:
    w, x, y, z = q
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def write_demo_data(folder: Path, seed: int = 0, num_train: int = 72, num_test: int = 9) -> None:
    """Writes train_*.csv, validation_*.csv, test_sequences.csv, test_labels.csv and sample_submission.csv."""
    folder.mkdir(parents=True, exist_ok=True)
    train = build_folds("DT", num_train, datetime.date(2020, 1, 1), seed)
    validation = build_folds("DV", num_test, datetime.date(2023, 1, 1), seed)
    test = build_folds("DX", num_test, datetime.date(2024, 1, 1), seed)
    for name, folds in (("train", train), ("validation", validation), ("test", test)):
        _write(folder / f"{name}_sequences.csv", _sequence_rows(folds))
        _write(folder / f"{name}_labels.csv", _label_rows(folds, unresolved=name == "train"))
    header = ["ID", "resname", "resid", *(f"{axis}_{k}" for k in range(1, 6) for axis in "xyz")]
    rows = [[f"{f.target_id}_{i + 1}", x, str(i + 1), *["0.0"] * 15] for f in test for i, x in enumerate(f.sequence)]
    _write(folder / "sample_submission.csv", [header, *rows])


def _sequence_rows(folds: Sequence[DemoFold]) -> list[list[str]]:
    header = ["target_id", "sequence", "temporal_cutoff", "description", "all_sequences"]
    return [
        header,
        *(
            [f.target_id, f.sequence, f.released.isoformat(), "ideal A-form demo fold", f">{f.target_id}\n{f.sequence}"]
            for f in folds
        ),
    ]


def _label_rows(folds: Sequence[DemoFold], unresolved: bool) -> list[list[str]]:
    """Label rows; with `unresolved` each 29th residue is empty, as in real training labels."""
    rows = [["ID", "resname", "resid", "x_1", "y_1", "z_1"]]
    for fold in folds:
        for index, (letter, point) in enumerate(zip(fold.sequence, fold.coords)):
            cells = ["", "", ""] if unresolved and index % 29 == 28 else [f"{value:.3f}" for value in point]
            rows.append([f"{fold.target_id}_{index + 1}", letter, str(index + 1), *cells])
    return rows


def _write(path: Path, rows: Sequence[Sequence[str]]) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    write_text(path, text.getvalue())
