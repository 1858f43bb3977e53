"""Risk against coverage: how wrong a method is on the clips that it is surest of.

Reference: Geifman and El-Yaniv 2017 (arXiv 1705.08500).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class RiskCoverage:
    """Error among the surest items, from one item to all of them.

    Args:
        coverage_N: share of items that are answered, ascending to 1.
        risk_N: share of wrong answers among them.
    """

    coverage_N: NDArray[np.float64]
    risk_N: NDArray[np.float64]

    @property
    def area(self) -> float:
        """Mean risk over all coverages; lower is better."""
        return float(self.risk_N.mean())

    def accuracy_at(self, coverage: float) -> float:
        """Share of right answers when the surest ``coverage`` of the items is answered."""
        return 1.0 - float(np.interp(coverage, self.coverage_N, self.risk_N))


def risk_coverage(certainty_N: NDArray[np.float64], is_right_N: NDArray[np.bool_]) -> RiskCoverage:
    """Answer the surest items first; of equally sure ones the expected share of errors counts.

    Args:
        certainty_N: higher = surer.
        is_right_N: whether the item's answer is its label; at least one item.
    """
    num = len(certainty_N)
    order_N = np.argsort(-certainty_N, kind="stable")
    wrong_N = np.cumsum(~is_right_N[order_N])
    is_last_N = np.append(np.diff(certainty_N[order_N]) != 0, True)  # of those equally sure
    rank_N = np.arange(1, num + 1)
    errors_N = np.interp(rank_N, np.append(0, rank_N[is_last_N]), np.append(0, wrong_N[is_last_N]))
    return RiskCoverage(rank_N / num, errors_N / rank_N)
