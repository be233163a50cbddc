"""The functions that `import rnafold` promises, each a thin door to the room that does the work."""

import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from rnafold.errors import InputError, name_missing_extra
from rnafold.structure import Score, Structure, structure_from_points

if TYPE_CHECKING:
    from rnafold.features.wishes import PairWishes
    from rnafold.planner.plan import Plan
    from rnafold.prediction.fold import Folded
    from rnafold.submission.check import Finding

Place = str | Path


def fold(
    sequence: str,
    *,
    name: str = "rna",
    templates: Sequence[Place] = (),
    candidates: Sequence[str] = (),
    msa: Sequence[Place] = (),
    before: datetime.date | None = None,
    pairs: "PairWishes | None" = None,
    network: bool = True,
    seconds: float = 600.0,
    seed: int = 0,
) -> "Folded":
    """Five models of an RNA from its sequence.

    Args:
        sequence: letters ACGU (lower case and T too), chains joined by &.
        name: what it is called; an alignment is looked for as NAME.MSA.fasta, .a3m, .sto, .afa or .aln.
        templates: folders with known structures (mmCIF, PDB, or the competition's train files).
        candidates: other programs' models to judge beside ours, each NAME[@DATE]=PATH or PATH.
        msa: folders with alignments.
        before: structures released before this date are seen; None: today.
        pairs: pairs that must form or must not.
        network: whether the network refines and judges, where torch is installed.
        seconds: about how long it may take.
        seed: the same seed gives the same models on a CPU.

    Returns:
        Five models, surest first: coordinates (L, 3) of C1' atoms in Å, expected TM-scores (0 to 1), and the expected
        error (5, L) of each residue in Å.

    Raises:
        InputError: a letter that is no nucleotide, a folder that is not there, a model of another length.

    Source: docs/studies/templates.md and docs/studies/network.md.

    >>> import rnafold
    >>> folded = rnafold.fold("GGGGCAAACUUCGGUUUGCCCC", network=False)
    >>> folded.models[0].coords.shape, folded.errors.shape
    ((22, 3), (5, 22))
    """
    from dataclasses import replace

    from rnafold.data.sequences import read_sequences
    from rnafold.prediction.fold import FoldOptions, open_folder

    if Path(sequence).suffix:
        raise InputError(
            f"fold: {sequence[:60]!r} looks like a file; expected letters, `python -m rnafold fold` reads files"
        )
    target = replace(read_sequences(sequence)[0], target_id=name)
    options = FoldOptions(
        templates=tuple(map(Path, templates)),
        candidates=tuple(candidates),
        msa_folders=tuple(map(Path, msa)),
        before=before,
        use_network=network,
        seconds=seconds,
        seed=seed,
    )
    with name_missing_extra():
        return open_folder(options, [target]).fold(target, pairs)


def tm_score(
    model: npt.ArrayLike, reference: "Structure | npt.ArrayLike", mode: Literal["exact", "fast"] = "exact"
) -> float:
    """TM-score of a model against a reference of the same residues, as US-align gives it with `-TMscore 1`.

    Args:
        model: (L, 3) coordinates in Å; NaN rows are missing.
        reference: (L, 3) coordinates in Å, NaN rows unresolved, or a Structure.
        mode: "exact" is US-align's search, "fast" a part of it that is never above.

    Returns:
        0 to 1; divided by the residues that the reference has resolved.

    Raises:
        InputError: shapes that differ or are not (L, 3).

    Source: Zhang & Skolnick, Proteins 57, 702 (2004); d0 of RNA: Gong et al., Bioinformatics 35, 4459 (2019).

    >>> import numpy as np, rnafold
    >>> helix = np.stack([8 * np.cos(np.arange(30)), 8 * np.sin(np.arange(30)), 2.8 * np.arange(30)], axis=1)
    >>> round(rnafold.tm_score(helix + 5.0, helix), 6)
    1.0
    """
    from rnafold.scoring import tm_score as score_matrix

    points = np.asarray(model, dtype=np.float64)
    places = reference.c1 if isinstance(reference, Structure) else np.asarray(reference, dtype=np.float64)
    if points.ndim != 2 or points.shape[1] != 3 or points.shape != places.shape:
        raise InputError(f"tm_score: a model of shape {points.shape}, a reference of {places.shape}, expected (L, 3)")
    return float(score_matrix(points[None], [structure_from_points(places)], mode)[0, 0])


def score_submission(
    submission: Place, labels: Place, *, metric: Literal["part2", "part1"] = "part2", usalign: Place | None = None
) -> list[Score]:
    """Scores of a submission against labels, as Kaggle computes them.

    Args:
        submission: submission.csv with five predictions a residue.
        labels: labels CSV with one or more references a target.
        metric: "part2" (residues matched by number) or "part1" (US-align's sequence-independent alignment).
        usalign: the US-align program, for part1; None: $USALIGN, or where the system finds it.

    Returns:
        One score a labelled target: its five TM-scores and the best.

    Raises:
        InputError: malformed files (row, column, found, expected), a target that the submission lacks, no US-align.

    Source: the competitions' evaluation pages.

    >>> import pathlib, tempfile, pandas as pd, rnafold
    >>> from rnafold.data.demo import write_demo_data
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> write_demo_data(folder, num_train=2, num_test=1)
    >>> labels = pd.read_csv(folder / "test_labels.csv")[["x_1", "y_1", "z_1"]]
    >>> filled = pd.read_csv(folder / "sample_submission.csv")
    >>> for k in range(1, 6):
    ...     filled[[f"x_{k}", f"y_{k}", f"z_{k}"]] = labels.to_numpy()
    >>> filled.to_csv(folder / "perfect.csv", index=False)
    >>> round(rnafold.score_submission(folder / "perfect.csv", folder / "test_labels.csv")[0].best, 4)
    1.0
    """
    from rnafold.scoring.files import score_submission as score_files

    binary = None if usalign is None else Path(usalign)
    return score_files(Path(submission), Path(labels), metric, "exact", binary)


def check_submission(submission: Place, sample: Place) -> "list[Finding]":
    """Every defect of a submission with its row and column.

    Args:
        submission: the submission.csv to check.
        sample: sample_submission.csv, whose IDs and order it must have.

    Returns:
        Findings in order of row; none means that Kaggle accepts the file.

    Raises:
        InputError: no such file, an empty one, or a sample that cannot be read.

    Source: the competitions' evaluation pages.

    >>> import pathlib, tempfile, rnafold
    >>> from rnafold.data.demo import write_demo_data
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> write_demo_data(folder, num_train=2, num_test=1)
    >>> sample = folder / "sample_submission.csv"
    >>> _ = (folder / "short.csv").write_text("".join(sample.read_text().splitlines(True)[:-1]))
    >>> [finding.kind for finding in rnafold.check_submission(folder / "short.csv", sample)][:1]
    ['row count']
    """
    from rnafold.submission import check_submission as check_file

    return check_file(submission, sample)


def pick(
    candidates: Sequence[str], test: Place, sample: Place, out: Place, *, slots: str | None = None, seed: int = 0
) -> dict[str, tuple[str, ...]]:
    """Writes a submission of the best five among other programs' models.

    Args:
        candidates: each NAME[@DATE]=PATH or PATH: a program's output folder, a folder of structures, a submission.
        test: test_sequences.csv.
        sample: sample_submission.csv.
        out: the submission to write; its records are written beside it.
        slots: how many places each source may fill: a name or a file.
        seed: every random choice hangs on it.

    Returns:
        By target the sources of its five predictions ("" stands for this kit's own).

    Raises:
        InputError: malformed or mismatched files, no model of any target.

    Source: docs/candidates.md.

    >>> import pathlib, tempfile, pandas as pd, rnafold
    >>> from rnafold.data.demo import write_demo_data
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> write_demo_data(folder, num_train=2, num_test=1)
    >>> labels = pd.read_csv(folder / "test_labels.csv")[["x_1", "y_1", "z_1"]]
    >>> filled = pd.read_csv(folder / "sample_submission.csv")
    >>> for k in range(1, 6):
    ...     filled[[f"x_{k}", f"y_{k}", f"z_{k}"]] = labels.to_numpy()
    >>> filled.to_csv(folder / "perfect.csv", index=False)
    >>> test, sample = folder / "test_sequences.csv", folder / "sample_submission.csv"
    >>> won = rnafold.pick([f"boltz={folder / 'perfect.csv'}"], test, sample, folder / "out.csv")
    >>> "boltz" in won["DX001"]
    True
    """
    from rnafold.prediction.pick_run import PickOptions, pick_submission

    options = PickOptions(
        test=Path(test), sample=Path(sample), out=Path(out), candidates=tuple(candidates), slots=slots, seed=seed
    )
    outcome = pick_submission(options)
    return {name: tuple(record.source for record in rows) for name, rows in outcome.records.items()}


def plan(
    gpu: str, model: str = "base", *, data: Place | None = None, examples: int = 800, settings: Sequence[str] = ()
) -> "Plan":
    """Whether a training run fits a card, how many hours it takes and in which sessions, before an hour is spent.

    Args:
        gpu: a file of configs/gpu ("t4x2", "l4", ...).
        model: a file of configs/model ("base", "plain", ...).
        data: folder with train_sequences.csv; None: `examples` clusters of the crop's length.
        examples: without data.
        settings: configuration keys as KEY=VALUE.

    Returns:
        The plan: whether it fits and why not, memory in GiB, hours, sessions under Kaggle's weekly quota (none used
        yet), and the lines that start them.

    Raises:
        InputError: an unknown card, model or key, data that cannot be read, or torch is not installed.

    Source: docs/planner.md.

    >>> import rnafold
    >>> planned = rnafold.plan("t4", "minimal", examples=10)
    >>> planned.fits, planned.chosen.memory.peak_gib < 15
    (True, True)
    """
    from rnafold.config.settings import resolve_config
    from rnafold.planner.memory.estimate import TraceStore
    from rnafold.planner.memory.records import PLANNER_FOLDER
    from rnafold.planner.quota.rules import load_rules
    from rnafold.planner.time.load import assume_load, read_load

    with name_missing_extra():
        from rnafold.planner.plan import Request, build_plan

        config = resolve_config(gpu, model, list(settings))
        cache = Path(config.data.cache) / PLANNER_FOLDER
        load = assume_load(config, examples) if data is None else read_load(Path(data), config.data, cache)
        request = Request(
            gpu=gpu,
            model=model,
            config=config,
            load=load,
            rules=load_rules(),
            state=None,
            overrides=tuple(settings),
            data="DIR" if data is None else str(data),
        )
        return build_plan(request, TraceStore(cache))
