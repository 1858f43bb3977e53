"""What a method of the benchmark is given, and what it answers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from aggregator.joined_rows import DatasetRows, JoinedRows


@dataclass(frozen=True, slots=True, eq=False)
class Stage:
    """All that is known after an increment.

    Args:
        joined: datasets in the order in which they came, and the experts that are known by now in
            the order of their own datasets.
        homes: dataset name -> id of the expert that was trained on it.
        seed: of everything random.
        reticent: datasets whose site lets statistics leave and no rows; a method that says nothing
            of them learns their rows like any other's.
    """

    joined: JoinedRows
    homes: Mapping[str, str]
    seed: int
    reticent: frozenset[str] = frozenset()


class Teller(Protocol):
    """A method after training."""

    @property
    def views(self) -> tuple[str, ...]:
        """Views that it knows, in the order of its columns."""
        ...

    def tell(self, rows: DatasetRows) -> NDArray[np.float64]:
        """Log-probabilities (N, V) of every row of a dataset, joined for the stage's experts."""
        ...


Method = Callable[[Stage], Teller]
"""Trains on the training rows of a stage and chooses by its validation rows; never sees a test."""
