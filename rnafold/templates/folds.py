"""Rankers, juries and loop judges that did not see a chain: five folds, for the start structures of training chains.

The shipped models were trained on the training chains, so there they are surer than they will be on a new target. A
network that learns from their confidences would trust them too much. `scripts/train_ranker.py --folds` writes these.
"""

import datetime
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rnafold.assembly.loop_judge import LoopJudge
from rnafold.errors import InputError
from rnafold.files.atomic import write_text
from rnafold.files.bounded import parse_json
from rnafold.structure import Entry
from rnafold.templates.jury import JURY_NAMES
from rnafold.templates.ranker import Ranker

INDEX_FILE = "folds.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldModels:
    """Models of each fold, trained on the other folds.

    Attributes:
        begins: first release date of each fold, increasing.
        groups: fold of each sequence group that had a chain in the training.
        rankers: one a fold.
        juries: one a fold.
        loop_judges: one a fold.
    """

    begins: tuple[datetime.date, ...]
    groups: Mapping[str, int]
    rankers: tuple[Ranker, ...]
    juries: tuple[Ranker, ...]
    loop_judges: tuple[LoopJudge, ...]

    def fold_of(self, entry: Entry) -> int:
        """The fold whose models saw nothing of the entry's sequence group: that of its group, else of its date."""
        if entry.group in self.groups:
            return self.groups[entry.group]
        return 0 if entry.target.cutoff is None else fold_by_date(self.begins, entry.target.cutoff)

    def ranker_of(self, entry: Entry) -> Ranker:
        """The ranker for an entry, which every gate lets through since it is out of the entry's fold."""
        return self.rankers[self.fold_of(entry)].exempt("out of fold")

    def jury_of(self, entry: Entry) -> Ranker:
        """The jury for an entry, as `ranker_of`."""
        return self.juries[self.fold_of(entry)].exempt("out of fold")

    def loop_judge_of(self, entry: Entry) -> LoopJudge:
        """The loop judge for an entry, as `ranker_of`."""
        return replace(self.loop_judges[self.fold_of(entry)], exempt=True)

    def models_of(self, entry: Entry) -> tuple[Ranker, Ranker, LoopJudge]:
        """All three for an entry, in the order in which `Sources` takes them."""
        return self.ranker_of(entry), self.jury_of(entry), self.loop_judge_of(entry)


def fold_by_date(begins: Sequence[datetime.date], date: datetime.date) -> int:
    """The fold, of those with these first dates in order, that a date falls into; the first for an earlier date."""
    return max((fold for fold, begin in enumerate(begins) if begin <= date), default=0)


def save_folds(
    folder: str | Path,
    begins: Sequence[datetime.date],
    groups: Mapping[str, int],
    rankers: Sequence[Ranker],
    juries: Sequence[Ranker],
    loop_judges: Sequence[LoopJudge],
) -> None:
    """Writes the models of each fold and, last, the index; a folder without index is not a set of folds."""
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    for fold, (ranker, jury, judge) in enumerate(zip(rankers, juries, loop_judges, strict=True)):
        ranker.save(place / f"ranker-{fold}.json")
        jury.save(place / f"jury-{fold}.json")
        judge.save(place / f"loops-{fold}.json")
    index = {"begins": [date.isoformat() for date in begins], "groups": dict(sorted(groups.items()))}
    write_text(place / INDEX_FILE, json.dumps(index, indent=1) + "\n")


def load_folds(folder: str | Path) -> FoldModels:
    """Reads what `save_folds` wrote.

    Raises:
        InputError: the folder holds no folds, or a file of another kind.
    """
    place = Path(folder)
    try:
        index = parse_json((place / INDEX_FILE).read_text(encoding="utf-8"))
        begins = tuple(datetime.date.fromisoformat(text) for text in index["begins"])
        groups = {str(group): int(fold) for group, fold in index["groups"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{place}: no fold models there (scripts/train_ranker.py --folds): {error}") from error
    return FoldModels(
        begins=begins,
        groups=groups,
        rankers=tuple(Ranker.load(place / f"ranker-{fold}.json") for fold in range(len(begins))),
        juries=tuple(Ranker.load(place / f"jury-{fold}.json", JURY_NAMES) for fold in range(len(begins))),
        loop_judges=tuple(LoopJudge.load(place / f"loops-{fold}.json") for fold in range(len(begins))),
    )
