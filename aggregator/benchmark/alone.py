"""One expert's own head for each dataset: the oracle, and the network trained on pooled images."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aggregator.benchmark.stage import Stage, Teller
from aggregator.fusion.baselines import tell_alone
from aggregator.joined_rows import DatasetRows
from shared.echo.expert import Block
from shared.models.fused import union_views


@dataclass(frozen=True, slots=True, eq=False)
class AloneTeller:
    """Asks one expert, told which dataset a row is from.

    Args:
        blocks: experts in the order of the rows.
        expert_of: dataset name -> id of the expert that is asked.
    """

    blocks: tuple[Block, ...]
    expert_of: Mapping[str, str]

    @property
    def views(self) -> tuple[str, ...]:
        """Union views."""
        return union_views(self.blocks)

    def tell(self, rows: DatasetRows) -> NDArray[np.float64]:
        """Log-probabilities (N, V); not a number where there is no expert to ask."""
        seen = [
            block.expert
            for block, is_available in zip(self.blocks, rows.available, strict=True)
            if is_available
        ]
        expert = self.expert_of.get(rows.name)
        if expert not in seen:
            return np.full((len(rows.label_N), len(self.views)), np.nan)
        return tell_alone(rows, self.blocks, self.views, expert=expert)


def ask_own_expert(stage: Stage) -> Teller:
    """The oracle: whoever knows where a row is from needs no fusion."""
    return AloneTeller(stage.joined.blocks, stage.homes)
