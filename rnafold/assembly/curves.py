"""Curves that loops are drawn along: circular arcs, and points turned about an axis."""

import numpy as np

from rnafold.structure import FloatArray

# Mean virtual bond along unpaired residues, for the length of arcs. Source: rna.BOND_RANGE and rna.STEM_BOND.
ARC_BOND = 5.6


def draw_arc(start: FloatArray, stop: FloatArray, count: int, outward: FloatArray) -> FloatArray:
    """(count, 3) points evenly spaced on a circular arc from `start` to `stop` (both exclusive), bulging outwards.

    The arc is as long as count + 1 virtual bonds; where the ends are further apart than that, a straight line.
    """
    chord_vector = stop - start
    chord = float(np.linalg.norm(chord_vector))
    length = ARC_BOND * (count + 1)
    fraction = np.arange(1, count + 1)[:, None] / (count + 1)
    if chord > 0.98 * length or chord < 1e-6:
        return start + fraction * chord_vector
    along = chord_vector / chord
    normal = outward - (outward @ along) * along
    norm = float(np.linalg.norm(normal))
    if norm < 1e-6:
        normal = np.cross(along, [1.0, 0.0, 0.0] if abs(along[0]) < 0.9 else [0.0, 1.0, 0.0])
        norm = float(np.linalg.norm(normal))
    normal = normal / norm
    low, high = 1e-3, np.pi - 1e-3  # half the arc's angle: sin(x) / x = chord / length falls monotonically
    for _ in range(50):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if np.sin(middle) / middle > chord / length else (low, middle)
    radius = chord / (2 * np.sin(low))
    angle = low * (2 * fraction - 1)
    height = radius * (np.cos(angle) - np.cos(low))
    return np.asarray(0.5 * (start + stop) + radius * np.sin(angle) * along + height * normal, dtype=np.float64)


def rotate(points: FloatArray, axis: FloatArray, angle: float, origin: FloatArray) -> FloatArray:
    """Points (N, 3) turned by `angle` radians about `axis` through `origin` (right-hand rule)."""
    unit = axis / max(float(np.linalg.norm(axis)), 1e-9)
    rel = points - origin
    turned = (
        rel * np.cos(angle) + np.cross(unit, rel) * np.sin(angle) + np.outer(rel @ unit, unit) * (1 - np.cos(angle))
    )
    return np.asarray(turned + origin, dtype=np.float64)
