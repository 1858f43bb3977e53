"""Prototype distance: the cosine of a row with the nearest prototype, a mean over patients.

Reference: Snell et al. 2017 (arXiv 1703.05175) for prototypes; the cosine takes out how strongly
an expert responds at all, which depends on gain.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from shared.evidence.rows import OwnRows


@dataclass(frozen=True, slots=True, eq=False)
class Prototype:
    """Directions of the classes from the mean of all rows, every patient weighing the same."""

    mean_D: NDArray[np.float64]
    directions_KD: NDArray[np.float64]

    @classmethod
    def fit(cls, rows: OwnRows) -> Self:
        """Average each patient's rows of a class, then the patients."""
        pairs, place_N = np.unique(
            np.stack([rows.class_N, rows.patient_N], axis=1), axis=0, return_inverse=True
        )
        by_patient_MD = np.zeros((len(pairs), rows.features_ND.shape[1]))
        np.add.at(by_patient_MD, place_N, rows.features_ND)
        by_patient_MD /= np.bincount(place_N)[:, None]
        class_M = pairs[:, 0]
        prototypes_KD = np.stack(
            [by_patient_MD[class_M == place].mean(axis=0) for place in np.unique(class_M)]
        )
        mean_D = rows.features_ND.mean(axis=0)
        return cls(mean_D, _unit(prototypes_KD - mean_D))

    def score(
        self, features_ND: NDArray[np.floating], logits_NC: NDArray[np.floating]
    ) -> NDArray[np.float64]:
        """The highest cosine with a prototype (N), in [-1, 1]."""
        del logits_NC
        cosine_NK = _unit(features_ND.astype(np.float64) - self.mean_D) @ self.directions_KD.T
        score_N: NDArray[np.float64] = cosine_NK.max(axis=1)
        return score_N


def _unit(rows_ND: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows of length one; a row of zeros stays."""
    length_N = np.linalg.norm(rows_ND, axis=1, keepdims=True)
    unit_ND: NDArray[np.float64] = rows_ND / np.where(length_N > 0, length_N, 1.0)
    return unit_ND
