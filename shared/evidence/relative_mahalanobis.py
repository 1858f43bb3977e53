"""Relative Mahalanobis distance: how much nearer a row is to a class than to all rows together.

Reference: Ren et al. 2021 (arXiv 2106.09022).
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from shared.evidence.gaussian import SHRINKAGE, squared_distances, whitening
from shared.evidence.rows import OwnRows


@dataclass(frozen=True, slots=True, eq=False)
class RelativeMahalanobis:
    """Class means with the whitening within them; the mean of all rows with the one about it."""

    means_KD: NDArray[np.float64]
    whitening_DD: NDArray[np.float64]
    background_mean_D: NDArray[np.float64]
    background_whitening_DD: NDArray[np.float64]

    @classmethod
    def fit(cls, rows: OwnRows, *, shrinkage: float = SHRINKAGE) -> Self:
        """Fit; without shrinkage no invertible affine map of the features changes a score."""
        means_KD = rows.class_means()
        mean_D = rows.features_ND.mean(axis=0)
        return cls(
            means_KD,
            whitening(rows.features_ND - means_KD[rows.class_N], shrinkage),
            mean_D,
            whitening(rows.features_ND - mean_D, shrinkage),
        )

    def score(
        self, features_ND: NDArray[np.floating], logits_NC: NDArray[np.floating]
    ) -> NDArray[np.float64]:
        """The squared distance to all rows together minus that to the nearest class (N)."""
        del logits_NC
        nearest_N = squared_distances(features_ND, self.means_KD, self.whitening_DD).min(axis=1)
        background_NK = squared_distances(
            features_ND, self.background_mean_D[None], self.background_whitening_DD
        )
        score_N: NDArray[np.float64] = background_NK[:, 0] - nearest_N
        return score_N
