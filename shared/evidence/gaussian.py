"""Shrunk covariances and the distances that they measure, in float64."""

import numpy as np
from numpy.typing import NDArray

SHRINKAGE = 0.01  # of correlations; of 0 to 1 about the best on validation rows of phantom banks
_SAME_PLACE = 1e-6  # deviations; means are apart by more
_ROUNDING = 1e-10  # a column or direction varies if it is above this share of the largest


def shrunk_covariance(
    centred_ND: NDArray[np.float64], shrinkage: float = SHRINKAGE
) -> NDArray[np.float64]:
    """Covariance (D, D) of centred rows; correlations between columns shrink towards zero.

    So few rows do not make a direction look narrow.

    Args:
        centred_ND: rows about their mean.
        shrinkage: 0 for the sample covariance, 1 for variances alone.
    """
    covariance_DD = centred_ND.T @ centred_ND / len(centred_ND)
    variance_D = np.diagonal(covariance_DD).copy()
    covariance_DD *= 1.0 - shrinkage
    covariance_DD[np.diag_indices_from(covariance_DD)] = variance_D
    return covariance_DD


def whitening_of(covariance_DD: NDArray[np.float64]) -> NDArray[np.float64]:
    """The map (D, D) under which rows of a covariance have the unit covariance.

    Directions without any variation are left out: distances are those of the pseudo-inverse.
    """
    variance_D = np.diagonal(covariance_DD)
    varies_D = variance_D > _ROUNDING * variance_D.max()
    scale_D = np.where(varies_D, 1.0 / np.sqrt(np.where(varies_D, variance_D, 1.0)), 0.0)
    value_D, vector_DD = np.linalg.eigh(covariance_DD * np.outer(scale_D, scale_D))
    wide_D = value_D > _ROUNDING * value_D[-1]
    narrowing_D = np.where(wide_D, 1.0 / np.sqrt(np.where(wide_D, value_D, 1.0)), 0.0)
    whitening_DD: NDArray[np.float64] = scale_D[:, None] * vector_DD * narrowing_D
    return whitening_DD


def whitening_along(
    covariance_DD: NDArray[np.float64], axes_DR: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The whitening (D, R) of a covariance along some axes, and of nothing else."""
    whitening_DR: NDArray[np.float64] = axes_DR @ whitening_of(axes_DR.T @ covariance_DD @ axes_DR)
    return whitening_DR


def axes_between(
    apart_HD: NDArray[np.float64], within_DD: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Fisher's discriminants (D, R): along them lies all in which means about their mean differ.

    Args:
        apart_HD: the means.
        within_DD: covariance of what the means are of.
    """
    whitening_DD = whitening_of(within_DD)
    _, length_H, axis_HD = np.linalg.svd(apart_HD @ whitening_DD, full_matrices=False)
    axes_DR: NDArray[np.float64] = whitening_DD @ axis_HD[length_H > _SAME_PLACE].T
    return axes_DR


def whitening(centred_ND: NDArray[np.float64], shrinkage: float = SHRINKAGE) -> NDArray[np.float64]:
    """The whitening of the shrunk covariance of centred rows."""
    return whitening_of(shrunk_covariance(centred_ND, shrinkage))


def squared_distances(
    rows_ND: NDArray[np.floating],
    means_KD: NDArray[np.float64],
    whitening_DD: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Squared distances (N, K) of whitened rows from whitened means."""
    white_ND = (rows_ND.astype(np.float64) - means_KD[0]) @ whitening_DD
    white_KD = (means_KD - means_KD[0]) @ whitening_DD
    distances = [((white_ND - mean_D) ** 2).sum(axis=1) for mean_D in white_KD]
    return np.stack(distances, axis=1)
