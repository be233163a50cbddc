"""Published models of 33 RNAs, where they lie beside the checkout: all are read or refused for a stated reason."""

import csv
from collections import Counter
from pathlib import Path

import pytest

from rnafold.candidates.reading import read_sources
from rnafold.candidates.refusals import COLLAPSED, COPY, DUPLICATE
from rnafold.candidates.source import Source, SourceSpec
from rnafold.data.competition import read_targets
from rnafold.structure import Target


@pytest.fixture(scope="module")
def published() -> Path:
    """The folder of published models; tests skip without it."""
    folder = Path(__file__).resolve().parents[2] / ".." / "shared" / "peers"
    if not folder.is_dir():
        pytest.skip("the published models beside the checkout are absent")
    return folder


@pytest.fixture(scope="module")
def targets(published: Path) -> list[Target]:
    """The validation and the recent targets."""
    data = published.parent / "data"
    return [t for part in ("validation", "recent") for t in read_targets(data / f"{part}_sequences.csv")]


def test_every_stored_model_is_read_or_refused_for_a_reason(published: Path, targets: list[Target]) -> None:
    folders = sorted(path for path in published.iterdir() if path.is_dir())
    found = read_sources([SourceSpec(path=folder, name=folder.name) for folder in folders], targets)
    with (published / "index.csv").open(encoding="utf-8") as handle:
        listed = Counter((row["method"], row["target_id"]) for row in csv.DictReader(handle))
    read = Counter(
        {(source.name, target_id): len(models) for source in found for target_id, models in source.models.items()}
    )
    refused = Counter[str]()
    for source in found:
        refused.update({reason: len(names) for reason, names in source.refused.items()})
    # two of RhoFold's are collapsed, 13 are copies of one job, some groups handed in each other's models
    assert refused[COLLAPSED] == 2 and refused[COPY] == 13 and set(refused) == {COLLAPSED, COPY, DUPLICATE}
    assert sum(read.values()) >= sum(listed.values()) - 19
    lost = {key for key in listed if not read[key]}
    assert lost <= {("RhoFold", "R1126"), ("RhoFold", "R1138")} | {
        key for key in listed if key[0].startswith("casp15-")
    }


def test_odd_files_are_refused_or_survived_as_their_index_says(published: Path, targets: list[Target]) -> None:
    folder = published.parent / "peers_odd"
    with (folder / "index.csv").open(encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    # beads of NAST, FebRNA, DRfold2's rets_dir and RNAJP: no C1' in any of them
    beads = ("NAST", "FebRNA", "cfg_95", "_cg-1")
    unreadable = {row["file"] for row in rows if any(name in row["file"] for name in beads)}
    found: list[Source] = read_sources([SourceSpec(path=folder)], targets)
    without = {
        name for source in found for reason, names in source.refused.items() if "no C1'" in reason for name in names
    }
    assert without == unreadable and len(without) == 7
    survived = {model.note for source in found for models in source.models.values() for model in models}
    assert survived == {row["file"] for row in rows} - unreadable
