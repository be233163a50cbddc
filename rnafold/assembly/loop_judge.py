"""The loop judge: how far, in Å, will a known loop lie from the query's? A learned figure with its spread, a kind each.

Boosted trees over `loop_features`, trained on loops of training chains as queries against those of other sequence
groups (scripts/train_loops.py) and stored as JSON arrays.
"""

import datetime
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from rnafold.assembly.loop_features import LOOP_FEATURES
from rnafold.errors import InputError
from rnafold.files.atomic import write_text
from rnafold.files.bounded import parse_json
from rnafold.forest import Forest
from rnafold.structure import FloatArray

LoopKind = Literal["hairpin", "internal", "multiloop", "linker"]
LOOP_KINDS: Final[tuple[LoopKind, ...]] = ("hairpin", "internal", "multiloop", "linker")
JUDGE_PATH: Final = Path(__file__).resolve().parent / "loops.json"
_KIND: Final = "rnafold loop judge"
# Added before the logarithm is taken of a deviation: what lies nearer than this is all the same.
SHIFT: Final = 0.3


def kind_of(num_stems: int) -> LoopKind:
    """What a closed loop with so many stems is."""
    return LOOP_KINDS[min(num_stems, 3) - 1]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LoopModel:
    """One kind's: trees for log(deviation + SHIFT), and `spread` (B,), its standard deviation at expected `at` (B,).

    `certainty` is the difference in the logarithm by which a loop becomes e times less likely to be the query's kind.
    """

    forest: Forest
    at: FloatArray
    spread: FloatArray
    certainty: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Verdict:
    """Of K loops the expected logarithm (K,) of deviation + SHIFT, and `spread` (K,) around it."""

    expected: FloatArray
    spread: FloatArray

    @property
    def deviation(self) -> FloatArray:
        """(K,) expected deviation in Å: the mean of a log-normal figure."""
        return np.maximum(np.exp(self.expected + 0.5 * self.spread**2) - SHIFT, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LoopJudge:
    """A model for each kind of loop; no structure released on or after `trained_before` had a part in their training.

    `exempt` lets every target ask this copy whatever its date, since it did not see the target's sequence group.
    """

    models: Mapping[LoopKind, LoopModel]
    trained_before: datetime.date
    exempt: bool = False

    def may_rate(self, before: datetime.date | None) -> bool:
        """Whether a target may ask it that sees only structures released before a date (None: of any date)."""
        return self.exempt or before is None or self.trained_before <= before

    def rate(self, kind: LoopKind, features: FloatArray) -> Verdict:
        """What is expected of loops with these features (K, F)."""
        model = self.models[kind]
        expected = model.forest.predict(features)
        return Verdict(expected=expected, spread=np.interp(expected, model.at, model.spread))

    def to_json(self) -> str:
        """All of the judge, as its file holds it."""
        models = {
            kind: {
                "at": [float(f"{x:.6g}") for x in model.at],
                "spread": [float(f"{x:.6g}") for x in model.spread],
                "certainty": model.certainty,
                "forest": model.forest.to_json(),
            }
            for kind, model in self.models.items()
        }
        head = {"kind": _KIND, "features": LOOP_FEATURES, "trained_before": self.trained_before.isoformat()}
        return json.dumps(head | {"models": models}) + "\n"

    def save(self, path: str | Path) -> None:
        """Writes the JSON, in one step."""
        write_text(path, self.to_json())

    @classmethod
    def load(cls, path: str | Path = JUDGE_PATH) -> "LoopJudge":
        """Read a saved judge.

        Raises:
            InputError: not such a file, or trained on other features than today's.
        """
        try:
            data = parse_json(Path(path).read_text(encoding="utf-8"))
            features = tuple(data["features"])
            made = cls(
                models={kind: _read_model(data["models"][kind]) for kind in LOOP_KINDS},
                trained_before=datetime.date.fromisoformat(data["trained_before"]),
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path}: not a loop judge, or an older version's; train it anew: {error!r}") from error
        if features != LOOP_FEATURES:
            raise InputError(f"{path}: trained on {len(features)} other features, expected {len(LOOP_FEATURES)}")
        return made


def _read_model(data: Mapping[str, Any]) -> LoopModel:
    return LoopModel(
        forest=Forest.from_json(data["forest"]),
        at=np.array(data["at"], dtype=np.float64),
        spread=np.array(data["spread"], dtype=np.float64),
        certainty=float(data["certainty"]),
    )
