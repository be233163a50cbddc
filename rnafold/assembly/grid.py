"""Which points lie near each other, found on a grid of cubes."""

import numpy as np

from rnafold.structure import FloatArray, IntArray

# Up to so many points all distances cost less than the grid.
DENSE = 600
_CELLS = 1 << 20  # cells along an axis: 8 Å x a million is far beyond any structure
_NEIGHBOURS = np.array([[x, y, z] for x in (-1, 0, 1) for y in (-1, 0, 1) for z in (-1, 0, 1)])
# Nearer than this two residues of different loops count as a clash while building. Source: docs/studies/templates.md.
CLASH_DISTANCE = 6.0


def cell_keys(points: FloatArray, size: float, neighbours: bool = False) -> IntArray:
    """One number for the cube of edge `size` that each point (N, 3) lies in; with all 26 around it if asked for."""
    cells = np.floor(points / size).astype(np.int64) + _CELLS // 2
    if neighbours:
        cells = np.unique((cells[:, None] + _NEIGHBOURS).reshape(-1, 3), axis=0)
    return np.asarray((cells[:, 0] * _CELLS + cells[:, 1]) * _CELLS + cells[:, 2], dtype=np.int64)


def near_pairs(points: FloatArray, distance: float) -> IntArray:
    """(2, N) indices i < j of points (L, 3) nearer than `distance`; of many points, found on a grid of cubes."""
    if len(points) <= DENSE:
        square = (points * points).sum(1)
        # a little wide: the difference of large squares is less exact than the square of a difference
        rows, columns = np.nonzero(square[:, None] + square - 2.0 * points @ points.T < distance * distance + 1e-3)
        pairs = np.stack([rows, columns])
        return _keep_near(points, pairs[:, rows < columns], distance)
    keys = cell_keys(points, distance)
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    found = []
    origin = np.zeros((1, 3))
    for step in cell_keys(origin, distance, neighbours=True) - cell_keys(origin, distance):
        begin = np.searchsorted(ordered, keys + step, "left")
        count = np.searchsorted(ordered, keys + step, "right") - begin
        i = np.repeat(np.arange(len(points)), count)
        at = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count) + np.repeat(begin, count)
        pairs = np.stack([i, order[at]])
        found.append(_keep_near(points, pairs[:, pairs[0] < pairs[1]], distance))
    return np.concatenate(found, axis=1)


def _keep_near(points: FloatArray, pairs: IntArray, distance: float) -> IntArray:
    apart = points[pairs[0]] - points[pairs[1]]
    near: IntArray = pairs[:, (apart * apart).sum(1) < distance * distance]
    return near


def count_clashes(points: FloatArray, others: FloatArray, distance: float = CLASH_DISTANCE) -> int:
    """How many of points (N, 3) x others (M, 3) are nearer than `distance` Å."""
    if not len(points) or not len(others):
        return 0
    low, high = points.min(0) - distance, points.max(0) + distance
    near = others[((others >= low) & (others <= high)).all(1)]
    if not len(near):
        return 0
    return int((((points[:, None] - near[None]) ** 2).sum(-1) < distance**2).sum())
