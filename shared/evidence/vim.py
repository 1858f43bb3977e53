"""ViM: energy less a virtual logit, the part of a row outside the principal subspace.

Reference: Wang et al. 2022 (arXiv 2203.10807), negated. Departure: rows are centred on their mean,
not on the point where the head's logits vanish, so that no weight of the head is needed.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from shared.evidence.rows import OwnRows

_EXPLAINED = 0.99  # of the variance; of 0.5 to 0.99 the best on validation rows of phantom banks


@dataclass(frozen=True, slots=True, eq=False)
class Vim:
    """Mean, an orthonormal basis of the principal subspace, and the scale of the virtual logit."""

    mean_D: NDArray[np.float64]
    basis_DS: NDArray[np.float64]
    alpha: NDArray[np.float64]

    @classmethod
    def fit(cls, rows: OwnRows) -> Self:
        """Fit; on training rows the virtual logit is on average the highest logit."""
        mean_D = rows.features_ND.mean(axis=0)
        centred_ND = rows.features_ND - mean_D
        value_D, vector_DD = np.linalg.eigh(centred_ND.T @ centred_ND)
        value_D, vector_DD = value_D[::-1], vector_DD[:, ::-1]
        num = int(np.searchsorted(np.cumsum(value_D) / value_D.sum(), _EXPLAINED))
        basis_DS = np.ascontiguousarray(vector_DD[:, :num])
        # Logits below zero must not turn the sign: softmax leaves their common height open.
        height = np.abs(rows.logits_NC.max(axis=1).mean())
        return cls(mean_D, basis_DS, np.array(height / _residual(centred_ND, basis_DS).mean()))

    def score(
        self, features_ND: NDArray[np.floating], logits_NC: NDArray[np.floating]
    ) -> NDArray[np.float64]:
        """Energy minus the virtual logit (N)."""
        residual_N = _residual(features_ND.astype(np.float64) - self.mean_D, self.basis_DS)
        energy_N = logsumexp(logits_NC.astype(np.float64), axis=1)
        score_N: NDArray[np.float64] = energy_N - self.alpha * residual_N
        return score_N


def _residual(
    centred_ND: NDArray[np.float64], basis_DS: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Length of what lies outside the subspace (N)."""
    outside_ND = centred_ND - centred_ND @ basis_DS @ basis_DS.T
    length_N: NDArray[np.float64] = np.linalg.norm(outside_ND, axis=1)
    return length_N
