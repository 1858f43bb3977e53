"""Max logit: the highest of an expert's own logits.

Reference: Hendrycks et al. 2022 (arXiv 1911.11132), negated.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from shared.evidence.rows import OwnRows


@dataclass(frozen=True, slots=True, eq=False)
class MaxLogit:
    """Needs no fitting; logits that all rise by a constant raise it by that constant."""

    @classmethod
    def fit(cls, rows: OwnRows) -> Self:
        """Keep nothing."""
        del rows
        return cls()

    def score(
        self, features_ND: NDArray[np.floating], logits_NC: NDArray[np.floating]
    ) -> NDArray[np.float64]:
        """The highest logit (N)."""
        del features_ND
        highest_N: NDArray[np.float64] = logits_NC.max(axis=1).astype(np.float64)
        return highest_N
