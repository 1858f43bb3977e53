"""One budget for all methods: five values of one number, and a temperature, by validation rows.

Each method names the number that matters most to it beside its five values; everything else is
fixed. The value and temperature are those at which the labels of the validation rows of all
datasets that have come are most probable, datasets weighing equally. Validation rows of earlier
datasets stay at hand for this, which favours methods that would have to choose blindly.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from aggregator.fusion.analytic import LinearHead, fit_temperature, tell_scores
from aggregator.joined_rows import DatasetRows


@dataclass(frozen=True, slots=True, eq=False)
class ScoreTeller:
    """Tells views by scores.

    Args:
        scores: rows -> scores (N, V) before the temperature.
        has_rows_V: views that were learned; the others get the floor.
    """

    views: tuple[str, ...]
    scores: Callable[[DatasetRows], NDArray[np.float64]]
    has_rows_V: NDArray[np.bool_]
    temperature: float = 1.0

    def tell(self, rows: DatasetRows) -> NDArray[np.float64]:
        """Log-probabilities (N, V)."""
        return tell_scores(self.scores(rows), self.has_rows_V, self.temperature)


def choose_teller(tried: Iterable[ScoreTeller], held_out: Sequence[DatasetRows]) -> ScoreTeller:
    """The teller, at its best temperature, that finds the labels of held-out rows most probable."""
    best, highest = None, -np.inf
    for teller in tried:
        scores = [teller.scores(rows) for rows in held_out]
        temperature, certainty = fit_temperature(scores, held_out, teller.views, teller.has_rows_V)
        if best is None or certainty > highest:
            best, highest = replace(teller, temperature=temperature), certainty
    assert best is not None  # every method tries something
    return best


def head_teller(head: LinearHead) -> ScoreTeller:
    """A head in closed form as a method's answer."""
    return ScoreTeller(head.space.views, head.scores, head.has_rows_V, head.temperature)
