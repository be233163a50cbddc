"""Boosted trees as flat arrays, evaluated with numpy: what learned figures are stored as, nothing pickled."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

# Rows that are walked through all trees at once.
ROWS_AT_ONCE = 512


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Forest:
    """Boosted trees as flat arrays: node n splits on `feature` (-1 = leaf) at `threshold`; `value` is a leaf's part."""

    feature: IntArray
    threshold: FloatArray
    left: IntArray
    right: IntArray
    value: FloatArray
    roots: IntArray
    baseline: float

    def predict(self, features: FloatArray) -> FloatArray:
        """(rows,) sum of the leaves that each row of features (rows, F) reaches."""
        blocks = [features[k : k + ROWS_AT_ONCE] for k in range(0, len(features), ROWS_AT_ONCE)]
        return np.concatenate([np.zeros(0), *(self._walk(block) for block in blocks)])

    def _walk(self, features: FloatArray) -> FloatArray:
        """All rows through all trees, a level at a time: a leaf leads to itself."""
        leaf = self.feature < 0
        itself = np.arange(len(leaf), dtype=np.int32)
        split = np.where(leaf, 0, self.feature).astype(np.int32)
        threshold = np.where(leaf, np.inf, self.threshold)
        # the child of node n to the left is children[2n + 1], to the right children[2n]
        children = np.empty(2 * len(leaf), dtype=np.int32)
        children[0::2], children[1::2] = np.where(leaf, itself, self.right), np.where(leaf, itself, self.left)
        flat = np.ascontiguousarray(features, dtype=np.float64).ravel()
        row = (np.arange(len(features), dtype=np.int32) * features.shape[1])[:, None]
        node = np.broadcast_to(self.roots.astype(np.int32), (len(features), len(self.roots)))
        for _ in range(self.depth):
            goes_left = flat.take(row + split.take(node)) <= threshold.take(node)
            node = children.take(2 * node + goes_left)
        return np.asarray(self.baseline + self.value.take(node).sum(1), dtype=np.float64)

    @property
    def depth(self) -> int:
        """Splits on the longest way from a root to a leaf."""
        level, deepest = self.roots, 0
        while True:
            level = level[self.feature[level] >= 0]
            if not len(level):
                return deepest
            level, deepest = np.concatenate([self.left[level], self.right[level]]), deepest + 1

    def to_json(self) -> dict[str, Any]:
        """Plain lists; thresholds in full, since features often equal them, leaf values to six digits."""
        return {
            "feature": self.feature.tolist(),
            "threshold": self.threshold.tolist(),
            "left": self.left.tolist(),
            "right": self.right.tolist(),
            "value": [float(f"{x:.6g}") for x in self.value],
            "roots": self.roots.tolist(),
            "baseline": self.baseline,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Forest":
        """The inverse of to_json."""
        integers = {name: np.array(data[name], dtype=np.int64) for name in ("feature", "left", "right", "roots")}
        return cls(
            **integers,
            threshold=np.array(data["threshold"], dtype=np.float64),
            value=np.array(data["value"], dtype=np.float64),
            baseline=float(data["baseline"]),
        )


def average_forests(forests: Sequence[Forest]) -> Forest:
    """One forest that gives the mean of what these give."""
    starts = np.cumsum([0, *(len(one.feature) for one in forests[:-1])])

    def join(name: str) -> IntArray:  # roots and children count nodes from the start of their own forest
        return np.concatenate([getattr(one, name) + start for one, start in zip(forests, starts)])

    return Forest(
        feature=np.concatenate([one.feature for one in forests]),
        threshold=np.concatenate([one.threshold for one in forests]),
        left=join("left"),
        right=join("right"),
        value=np.concatenate([one.value for one in forests]) / len(forests),
        roots=join("roots"),
        baseline=float(np.mean([one.baseline for one in forests])),
    )


def flatten_trees(trees: Any) -> Forest:
    """The trees of a fitted scikit-learn HistGradientBoostingRegressor as one Forest."""
    parts: list[Any] = [predictor.nodes for (predictor,) in trees._predictors]
    starts = np.concatenate([[0], np.cumsum([len(nodes) for nodes in parts])])[:-1].astype(np.int64)
    nodes = np.concatenate(parts)
    offset = np.repeat(starts, [len(part) for part in parts])
    leaf = nodes["is_leaf"].astype(bool)
    return Forest(
        feature=np.where(leaf, -1, nodes["feature_idx"]).astype(np.int64),
        threshold=np.where(leaf, 0.0, nodes["num_threshold"]).astype(np.float64),
        left=np.where(leaf, 0, nodes["left"] + offset).astype(np.int64),
        right=np.where(leaf, 0, nodes["right"] + offset).astype(np.int64),
        value=np.where(leaf, nodes["value"], 0.0).astype(np.float64),
        roots=starts,
        baseline=float(np.ravel(trees._baseline_prediction)[0]),
    )
