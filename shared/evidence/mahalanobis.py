"""Mahalanobis distance to the nearest class mean, under one covariance within classes.

Reference: Lee et al. 2018 (arXiv 1807.03888), squared and without their noise on the input.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from shared.evidence.gaussian import SHRINKAGE, squared_distances, whitening
from shared.evidence.rows import OwnRows


@dataclass(frozen=True, slots=True, eq=False)
class Mahalanobis:
    """Class means, and the whitening of what is within classes."""

    means_KD: NDArray[np.float64]
    whitening_DD: NDArray[np.float64]

    @classmethod
    def fit(cls, rows: OwnRows, *, shrinkage: float = SHRINKAGE) -> Self:
        """Fit; without shrinkage no invertible affine map of the features changes a score."""
        means_KD = rows.class_means()
        return cls(means_KD, whitening(rows.features_ND - means_KD[rows.class_N], shrinkage))

    def score(
        self, features_ND: NDArray[np.floating], logits_NC: NDArray[np.floating]
    ) -> NDArray[np.float64]:
        """Minus the squared distance to the nearest mean (N), at most 0."""
        del logits_NC
        distances_NK = squared_distances(features_ND, self.means_KD, self.whitening_DD)
        score_N: NDArray[np.float64] = -distances_NK.min(axis=1)
        return score_N
