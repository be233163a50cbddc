"""Rigid superposition, virtual bonds and angles, and the ideal A-form helix of C1' atoms, in numpy and Å."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rnafold import rna

FloatArray = npt.NDArray[np.float64]


def superpose(
    mobile: FloatArray, reference: FloatArray, weights: FloatArray | None = None
) -> tuple[FloatArray, FloatArray]:
    """Proper rotation and translation that move `mobile` onto `reference` with least weighted squared distance.

    Args:
        mobile: (..., N, 3) points in Å.
        reference: (..., N, 3) points in Å.
        weights: (..., N) non-negative weights; None means all one.

    Returns:
        rotation (..., 3, 3) with determinant +1 and translation (..., 3): `mobile @ rotation^T + translation`.

    Source: Kabsch, Acta Cryst. A32, 922 (1976); the sign correction keeps mirror images apart.
    """
    w = np.ones(mobile.shape[:-1]) if weights is None else weights
    total = np.maximum(w.sum(-1, keepdims=True), 1e-12)[..., None]
    mean_mobile = (w[..., None] * mobile).sum(-2, keepdims=True) / total
    mean_reference = (w[..., None] * reference).sum(-2, keepdims=True) / total
    covariance = np.swapaxes((mobile - mean_mobile) * w[..., None], -1, -2) @ (reference - mean_reference)
    u, _, vt = np.linalg.svd(covariance)
    sign = np.where(np.linalg.det(u) * np.linalg.det(vt) < 0, -1.0, 1.0)
    vt = vt.copy()
    vt[..., 2, :] *= sign[..., None]
    rotation = np.swapaxes(u @ vt, -1, -2)
    translation = mean_reference[..., 0, :] - (rotation @ mean_mobile[..., 0, :, None])[..., 0]
    return rotation, translation


def transform(points: FloatArray, rotation: FloatArray, translation: FloatArray) -> FloatArray:
    """Points (..., N, 3) rotated by (..., 3, 3) and moved by (..., 3)."""
    return points @ np.swapaxes(rotation, -1, -2) + translation[..., None, :]


def measure_rmsd(mobile: FloatArray, reference: FloatArray) -> float:
    """Root mean square distance in Å of (N, 3) points after the best superposition."""
    moved = transform(mobile, *superpose(mobile, reference))
    return float(np.sqrt(((moved - reference) ** 2).sum(-1).mean()))


@dataclass(frozen=True, slots=True)
class Helix:
    """Shape of a right-handed A-form helix, Å and degrees; the defaults are the mean of measured stems.

    Source: rna.HELIX_*, measured: docs/studies/geometry.md.
    """

    rise: float = rna.HELIX_RISE
    twist_degrees: float = rna.HELIX_TWIST_DEGREES
    radius: float = rna.HELIX_RADIUS
    partner_twist_degrees: float = rna.HELIX_PARTNER_TWIST_DEGREES
    partner_rise: float = rna.HELIX_PARTNER_RISE

    def build(self, num_pairs: int) -> FloatArray:
        """(2n, 3) the strand in 5'-3' order, then the partner of each of its residues."""
        step = np.arange(num_pairs)
        strands = []
        for turn, shift in ((0.0, 0.0), (self.partner_twist_degrees, self.partner_rise)):
            angle = np.deg2rad(self.twist_degrees * step + turn)
            axis = self.rise * step + shift
            strands.append(np.stack([self.radius * np.cos(angle), self.radius * np.sin(angle), axis], axis=1))
        return np.vstack(strands)


def build_helix(num_pairs: int) -> tuple[FloatArray, FloatArray]:
    """The mean helix: strand (n, 3) in 5'-3' order and the partner of each residue (n, 3), in Å.

    Residue k of the strand pairs with row k of the second array, which therefore runs 3'-5'.
    """
    points = Helix().build(num_pairs)
    return points[:num_pairs], points[num_pairs:]


def measure_bonds(coords: FloatArray) -> FloatArray:
    """Virtual bond lengths (..., N-1) in Å of consecutive points (..., N, 3)."""
    return np.asarray(np.linalg.norm(coords[..., 1:, :] - coords[..., :-1, :], axis=-1), dtype=np.float64)


def measure_angles_degrees(coords: FloatArray) -> FloatArray:
    """Virtual angles (..., N-2) in degrees of three consecutive points of (..., N, 3); 180 is straight."""
    back = coords[..., :-2, :] - coords[..., 1:-1, :]
    forth = coords[..., 2:, :] - coords[..., 1:-1, :]
    norm = np.maximum(np.linalg.norm(back, axis=-1) * np.linalg.norm(forth, axis=-1), 1e-9)
    return np.asarray(np.degrees(np.arccos(np.clip((back * forth).sum(-1) / norm, -1.0, 1.0))), dtype=np.float64)
