"""The ranker: what TM-score will the model built on a template alignment reach? A learned, calibrated figure.

Gradient-boosted trees, with a quarter of a ridge regression, on features of the alignment. Trained with scikit-learn on
later chains as queries against earlier templates of other groups; stored as JSON arrays and evaluated with numpy.
"""

import datetime
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from rnafold import rna
from rnafold.errors import InputError
from rnafold.files.atomic import write_text
from rnafold.files.bounded import parse_json
from rnafold.forest import Forest, average_forests, flatten_trees
from rnafold.structure import FloatArray, IntArray
from rnafold.templates.alignment import SETTINGS, Hit
from rnafold.templates.library import TemplateLibrary

# The ridge regression's share. Source: cross-validated on later train chains, r of the ranker 0.858 with a half and
# 150 trees, 0.877 with a quarter and 300 trees on half of the features each split; of the jury 0.788 and 0.792.
LINEAR_SHARE = 0.25

FEATURE_NAMES = (
    "score",
    *(f"is_{setting.name}" for setting in SETTINGS),
    "coverage",
    "identity_per_length",
    "identity_per_aligned",
    "probability_on_template_pairs",
    "canonical_pairs_per_length",
    "other_pairs_per_length",
    "half_mapped_pairs_per_length",
    "gaps_per_length",
    "mapped_pairs_per_length",
    "log_length",
    "log_length_ratio",
    "pair_content",
    "predicted_pairs_mapped",
    "longest_run",
    "longest_hole",
    "behind_best",
    "log_compactness",
)


def measure_features(
    library: TemplateLibrary,
    hits: Sequence[Hit],
    sequence: str,
    probabilities: npt.NDArray[np.float32],
    partner: IntArray,
) -> FloatArray:
    """(hits, features) in the order of FEATURE_NAMES.

    Args:
        library: where the hits' chains are.
        hits: alignments of one query.
        sequence: L letters of the query chain.
        probabilities: (L, L) its base-pair probabilities.
        partner: (L,) its predicted partners.
    """
    tokens = rna.encode_sequence(sequence)
    best = [max((hit.score for hit in hits if hit.setting == number), default=0.0) for number in range(len(SETTINGS))]
    rows = [_measure(library, hit, tokens, probabilities, partner, best[hit.setting]) for hit in hits]
    return np.array(rows, dtype=np.float64).reshape(-1, len(FEATURE_NAMES))


def _measure(
    library: TemplateLibrary,
    hit: Hit,
    tokens: IntArray,
    probabilities: npt.NDArray[np.float32],
    partner: IntArray,
    best: float,
) -> list[float]:
    length = len(tokens)
    carried = library.carry_coords(hit)
    placed = np.asarray(np.isfinite(carried).all(1), dtype=np.bool_)
    aligned = hit.mapping >= 0
    same = int((tokens[aligned] == library.tokens[library.chain_rows(hit.chain)][hit.mapping[aligned]]).sum())
    first, second, half = library.map_pairs(hit)
    canonical = int(rna.canonical_pair_matrix()[tokens[first], tokens[second]].sum())
    content = float(probabilities.sum()) / 2
    predicted = int((partner > np.arange(length)).sum())
    points = carried[placed]
    spread = float(np.sqrt(((points - points.mean(0)) ** 2).sum(1).mean())) if len(points) > 2 else 1.0
    return [
        hit.score,
        *(float(hit.setting == number) for number in range(len(SETTINGS))),
        placed.sum() / length,
        same / length,
        same / max(1, int(aligned.sum())),
        float(probabilities[first, second].sum()) / max(content, 1.0),
        canonical / length,
        (len(first) - canonical) / length,
        half / length,
        int((np.diff(hit.mapping[aligned]) != 1).sum()) / length,
        len(first) / length,
        float(np.log(length)),
        float(np.log(library.chain_length[hit.chain] / length)),
        content / length,
        int((partner[first] == second).sum()) / max(1, predicted),
        longest_run(placed) / length,
        longest_run(~placed) / length,
        hit.score - best,
        float(np.log(max(spread, 1.0) / (5.0 * max(len(points), 1) ** (1 / 3)))),
    ]


def longest_run(flags: npt.NDArray[np.bool_]) -> int:
    """Length of the longest run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(np.int8), [0]])))
    return int((edges[1::2] - edges[::2]).max(initial=0))


# Why a model is asked of a target although the dates forbid it: its training left out the target's whole sequence group
# ("out of fold"), or it saw the target and whoever asks knows that its figures are too sure ("in sample").
Exemption = Literal["none", "out of fold", "in sample"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ranker:
    """Expected TM-score of the hybrid built on a hit: the weighted mean of boosted trees and a ridge regression.

    Attributes:
        names: of the features.
        forest: the trees.
        weights: of the ridge regression, a feature each.
        mean: of each feature in the training.
        scale: standard deviation of each feature in the training.
        intercept: of the ridge regression.
        trained_before: no structure released on or after this date had a part in the training.
        linear_share: the ridge regression's part.
        exemption: why `trained_before` does not count for those who ask this copy; no part of the file.
    """

    names: tuple[str, ...]
    forest: Forest
    weights: FloatArray
    mean: FloatArray
    scale: FloatArray
    intercept: float
    trained_before: datetime.date
    linear_share: float = LINEAR_SHARE
    exemption: Exemption = "none"

    def exempt(self, reason: Exemption) -> "Ranker":
        """The same model, asked without regard to the date of its training for the reason given."""
        return replace(self, exemption=reason)

    def may_rate(self, before: datetime.date | None) -> bool:
        """Whether a target may ask it that sees only structures released before a date (None: of any date)."""
        return self.exemption != "none" or before is None or self.trained_before <= before

    def predict(self, features: FloatArray) -> FloatArray:
        """(rows,) expected TM-scores, within 0..1, of features (rows, F)."""
        if not len(features):
            return np.zeros(0)
        linear = (features - self.mean) / self.scale @ self.weights + self.intercept
        trees = self.forest.predict(features)
        return np.clip(self.linear_share * linear + (1.0 - self.linear_share) * trees, 0.0, 1.0)

    def save(self, path: str | Path) -> None:
        """Writes the JSON, in one step."""
        write_text(path, self.to_json())

    def to_json(self) -> str:
        """All of the model, as its file holds it."""
        data = {
            "kind": "rnafold template ranker",
            "names": list(self.names),
            "trained_before": self.trained_before.isoformat(),
            "weights": self.weights.tolist(),
            "mean": self.mean.tolist(),
            "scale": self.scale.tolist(),
            "intercept": self.intercept,
            "linear_share": self.linear_share,
            "forest": self.forest.to_json(),
        }
        return json.dumps(data) + "\n"

    @classmethod
    def load(cls, path: str | Path, names: Sequence[str] = FEATURE_NAMES) -> "Ranker":
        """Read a saved ranker.

        Raises:
            InputError: not such a file, or trained on other features than `names`.
        """
        try:
            data = parse_json(Path(path).read_text(encoding="utf-8"))
            made = cls(
                names=tuple(data["names"]),
                forest=Forest.from_json(data["forest"]),
                weights=np.array(data["weights"], dtype=np.float64),
                mean=np.array(data["mean"], dtype=np.float64),
                scale=np.array(data["scale"], dtype=np.float64),
                intercept=float(data["intercept"]),
                linear_share=float(data["linear_share"]),
                trained_before=datetime.date.fromisoformat(data["trained_before"]),
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path}: not a ranker, or an older version's; train it anew: {error!r}") from error
        if made.names != tuple(names):
            raise InputError(f"{path}: trained on {len(made.names)} other features, expected {len(names)}")
        return made


def train_ranker(
    features: FloatArray,
    tm: FloatArray,
    query: IntArray,
    names: Sequence[str],
    trained_before: datetime.date,
    seed: int = 0,
    num_trees: int = 300,
    importance: FloatArray | None = None,
    num_forests: int = 1,
) -> Ranker:
    """Fit the ranker. A query weighs the same however many hits it has.

    Args:
        features: (rows, F).
        tm: (rows,) TM-scores that the models of these hits reached.
        query: (rows,) index of the query that each row belongs to.
        names: F names.
        trained_before: the date before which all structures used were released.
        seed: of the trees.
        num_trees: boosting rounds.
        importance: (queries,) what each query weighs beside the others; None: all the same.
        num_forests: the mean of so many forests of different seeds is taken.
    """
    from sklearn.ensemble import HistGradientBoostingRegressor
    from sklearn.linear_model import Ridge

    count = np.bincount(query)
    weight = (1.0 if importance is None else importance[query]) / count[query]
    weight = weight / weight.mean()
    forests = []
    for number in range(num_forests):
        trees = HistGradientBoostingRegressor(
            max_depth=5,
            max_iter=num_trees,
            learning_rate=0.06,
            min_samples_leaf=60,
            max_features=0.5,
            random_state=seed + number,
        )
        forests.append(flatten_trees(trees.fit(features, tm, weight)))
    mean, scale = features.mean(0), features.std(0) + 1e-9
    ridge = Ridge(1.0).fit((features - mean) / scale, tm, weight)
    return Ranker(
        names=tuple(names),
        forest=average_forests(forests),
        weights=np.asarray(ridge.coef_, dtype=np.float64),
        mean=mean,
        scale=scale,
        intercept=float(ridge.intercept_),
        trained_before=trained_before,
    )
