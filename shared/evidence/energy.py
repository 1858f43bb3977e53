"""Energy: the log-sum-exp of an expert's own logits.

Reference: Liu et al. 2020 (arXiv 2010.03759) at temperature 1, negated: high in their sign is far.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from shared.evidence.rows import OwnRows


@dataclass(frozen=True, slots=True, eq=False)
class Energy:
    """Needs no fitting; logits that all rise by a constant raise it by that constant."""

    @classmethod
    def fit(cls, rows: OwnRows) -> Self:
        """Keep nothing."""
        del rows
        return cls()

    def score(
        self, features_ND: NDArray[np.floating], logits_NC: NDArray[np.floating]
    ) -> NDArray[np.float64]:
        """Log-sum-exp of the logits (N)."""
        del features_ND
        energy_N: NDArray[np.float64] = logsumexp(logits_NC.astype(np.float64), axis=1)
        return energy_N
