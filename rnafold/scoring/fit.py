"""Rigid superposition of many point sets at once from their summed moments, the inner step of the TM-score search."""

from typing import Final

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

# Columns of the moments of a set: sum x (3), sum y (3), sum of x_a y_b (9), number of points.
NUM_MOMENTS: Final = 16
# Below this many sets one LAPACK call costs less than the ~150 array operations of the quaternion form.
_SVD_ROWS: Final = 96
# Normalised distance of the two leading eigenvalues under which the quaternion form has lost its digits.
_SMALLEST_GAP: Final = 1e-3
_NEWTON_STEPS: Final = 40


def build_moments(mobile: FloatArray, reference: FloatArray) -> FloatArray:
    """(n, 16) what each point adds to the moments of a set: x, y, the outer product of both, and 1."""
    outer = (mobile[:, :, None] * reference[:, None, :]).reshape(len(mobile), 9)
    return np.concatenate([mobile, reference, outer, np.ones((len(mobile), 1))], axis=1)


def fit_moments(moments: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Least-squares rotation (K, 3, 3), determinant +1, and translation (K, 3) of K sets: `R x + t` lands near y.

    Args:
        moments: (K, 16) sums over each set of the rows of `build_moments`; every set has at least one point.

    Source: Kabsch, Acta Cryst. A32, 922 (1976); Theobald, Acta Cryst. A61, 478 (2005) for the quaternion form.
    """
    weight = moments[:, 15:16]
    mean_x, mean_y = moments[:, :3] / weight, moments[:, 3:6] / weight
    covariance = moments[:, 6:15].reshape(-1, 3, 3) / weight[:, :, None] - mean_x[:, :, None] * mean_y[:, None, :]
    rotation = rotate_covariance(covariance)
    return rotation, mean_y - (rotation @ mean_x[:, :, None])[:, :, 0]


def rotate_covariance(covariance: FloatArray) -> FloatArray:
    """Proper rotations (K, 3, 3) that maximise trace(R H) for covariances H (K, 3, 3) = mean of x y^T.

    Collinear and coincident points leave the rotation open: any of the best ones comes back, never NaN.
    """
    if len(covariance) < _SVD_ROWS:
        return _rotate_by_svd(covariance)
    rotation, unsafe = _rotate_by_quaternion(covariance)
    if unsafe.any():
        rotation[unsafe] = _rotate_by_svd(covariance[unsafe])
    return rotation


def _rotate_by_svd(covariance: FloatArray) -> FloatArray:
    u, _, vt = np.linalg.svd(covariance)
    rotation = np.swapaxes(u @ vt, 1, 2)
    mirrored = np.flatnonzero(np.linalg.det(rotation) < 0)
    if len(mirrored):
        u, vt = u[mirrored], vt[mirrored]
        rotation[mirrored] -= 2.0 * vt[:, 2, :, None] * u[:, None, :, 2]
    return np.asarray(rotation, dtype=np.float64)


def _rotate_by_quaternion(covariance: FloatArray) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
    """Rotations and a mask (K,) of those that need the slower, safe form."""
    norm = np.sqrt((covariance**2).sum((1, 2)))
    scaled = np.ascontiguousarray((covariance / np.maximum(norm, 1e-300)[:, None, None]).transpose(1, 2, 0))
    key = _build_key_matrix(scaled)
    determinant, _ = _minors(key)
    det3 = (
        scaled[0, 0] * (scaled[1, 1] * scaled[2, 2] - scaled[1, 2] * scaled[2, 1])
        - scaled[0, 1] * (scaled[1, 0] * scaled[2, 2] - scaled[1, 2] * scaled[2, 0])
        + scaled[0, 2] * (scaled[1, 0] * scaled[2, 1] - scaled[1, 1] * scaled[2, 0])
    )
    # Characteristic polynomial l^4 - 2 l^2 - 8 det(H) l + det(K) of the scaled key matrix; sqrt(3) bounds its roots,
    # and from above Newton's method comes down monotonically.
    root = np.full(len(norm), np.sqrt(3.0))
    for _ in range(_NEWTON_STEPS):
        square = root * root
        value = (square - 2.0) * square - 8.0 * det3 * root + determinant
        slope = 4.0 * root * (square - 1.0) - 8.0 * det3
        step = value / np.where(np.abs(slope) > 1e-12, slope, 1e-12)
        root -= step
        if np.abs(step).max() < 1e-14:
            break
    for axis in range(4):
        key[axis, axis] -= root
    _, adjugate = _minors(key)
    column = np.argmax(np.abs(np.stack([adjugate[i, i] for i in range(4)])), axis=0)
    quaternion = np.take_along_axis(adjugate, column[None, None, :], axis=1)[:, 0]
    length = np.sqrt((quaternion**2).sum(0))
    # The adjugate's trace is minus the product of the gaps to the three other eigenvalues: small means ambiguous.
    unsafe = ~(length > _SMALLEST_GAP) | (norm < 1e-12)
    quaternion = quaternion / np.where(unsafe, 1.0, length)
    return _quaternion_matrix(quaternion), unsafe


def _build_key_matrix(h: FloatArray) -> FloatArray:
    """(4, 4, K) symmetric matrix whose leading eigenvector is the quaternion of the best rotation of (3, 3, K)."""
    key = np.empty((4, 4, h.shape[2]))
    key[0, 0] = h[0, 0] + h[1, 1] + h[2, 2]
    key[1, 1] = h[0, 0] - h[1, 1] - h[2, 2]
    key[2, 2] = h[1, 1] - h[0, 0] - h[2, 2]
    key[3, 3] = h[2, 2] - h[0, 0] - h[1, 1]
    key[0, 1] = key[1, 0] = h[1, 2] - h[2, 1]
    key[0, 2] = key[2, 0] = h[2, 0] - h[0, 2]
    key[0, 3] = key[3, 0] = h[0, 1] - h[1, 0]
    key[1, 2] = key[2, 1] = h[0, 1] + h[1, 0]
    key[1, 3] = key[3, 1] = h[0, 2] + h[2, 0]
    key[2, 3] = key[3, 2] = h[1, 2] + h[2, 1]
    return key


def _minors(m: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Determinant (K,) and adjugate (4, 4, K) of symmetric matrices (4, 4, K), from their 2x2 minors."""
    pairs = ((0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3))
    s = [m[0, a] * m[1, b] - m[0, b] * m[1, a] for a, b in pairs]
    c = [m[2, a] * m[3, b] - m[2, b] * m[3, a] for a, b in pairs]
    determinant = s[0] * c[5] - s[1] * c[4] + s[2] * c[3] + s[3] * c[2] - s[4] * c[1] + s[5] * c[0]
    adjugate = np.empty_like(m)
    adjugate[0, 0] = m[1, 1] * c[5] - m[1, 2] * c[4] + m[1, 3] * c[3]
    adjugate[0, 1] = -m[0, 1] * c[5] + m[0, 2] * c[4] - m[0, 3] * c[3]
    adjugate[0, 2] = m[3, 1] * s[5] - m[3, 2] * s[4] + m[3, 3] * s[3]
    adjugate[0, 3] = -m[2, 1] * s[5] + m[2, 2] * s[4] - m[2, 3] * s[3]
    adjugate[1, 1] = m[0, 0] * c[5] - m[0, 2] * c[2] + m[0, 3] * c[1]
    adjugate[1, 2] = -m[3, 0] * s[5] + m[3, 2] * s[2] - m[3, 3] * s[1]
    adjugate[1, 3] = m[2, 0] * s[5] - m[2, 2] * s[2] + m[2, 3] * s[1]
    adjugate[2, 2] = m[3, 0] * s[4] - m[3, 1] * s[2] + m[3, 3] * s[0]
    adjugate[2, 3] = -m[2, 0] * s[4] + m[2, 1] * s[2] - m[2, 3] * s[0]
    adjugate[3, 3] = m[2, 0] * s[3] - m[2, 1] * s[1] + m[2, 2] * s[0]
    for a, b in pairs:
        adjugate[b, a] = adjugate[a, b]
    return determinant, adjugate


def _quaternion_matrix(q: FloatArray) -> FloatArray:
    """Rotation matrices (K, 3, 3) of unit quaternions (4, K)."""
    w, x, y, z = q
    matrix = np.empty((q.shape[1], 3, 3))
    matrix[:, 0, 0] = w * w + x * x - y * y - z * z
    matrix[:, 1, 1] = w * w - x * x + y * y - z * z
    matrix[:, 2, 2] = w * w - x * x - y * y + z * z
    matrix[:, 0, 1], matrix[:, 1, 0] = 2 * (x * y - w * z), 2 * (x * y + w * z)
    matrix[:, 0, 2], matrix[:, 2, 0] = 2 * (x * z + w * y), 2 * (x * z - w * y)
    matrix[:, 1, 2], matrix[:, 2, 1] = 2 * (y * z - w * x), 2 * (y * z + w * x)
    return matrix
