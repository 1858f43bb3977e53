"""Does a fusion depend on the order in which datasets and experts came?"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from aggregator.fusion.evaluate import fuse_rows, is_scored, macro_score, score_rows
from aggregator.fusion.train import Provenance, train_fusions
from aggregator.joined_rows import DatasetRows, JoinedRows, select_rows
from aggregator.settings import FusionSettings
from shared.echo.expert import FusionVariant
from shared.seeding import numpy_generator

NUM_ORDERS = 5


@dataclass(frozen=True, slots=True)
class OrderSpread:
    """How far fusions of the same datasets in other orders lie from each other, on test clips.

    Args:
        macro_f1: of every order, the mean over datasets.
        spread: highest minus lowest of these.
        probability_change: largest change of any test frame's probability of any view.
    """

    variant: FusionVariant
    macro_f1: tuple[float, ...]
    spread: float
    probability_change: float


def measure_order_spread(
    joined: JoinedRows,
    settings: FusionSettings,
    variant: FusionVariant,
    *,
    advance: Callable[[], None] = lambda: None,
) -> OrderSpread:
    """Fit a variant on the same datasets and experts in random orders, all else equal.

    Args:
        joined: rows of all datasets.
        settings: of the fusion; the orders are drawn with their seed.
        variant: which one is fitted.
        advance: told after each order.

    Raises:
        EchoFedError: FRAMES_MISSING where no labelled row is left for training or for validation.
    """
    generator = numpy_generator(settings.seed, "orders")
    alone = settings.model_copy(update={"variants": (variant,), "serve": variant})
    scores, told = [], []
    for _ in range(NUM_ORDERS):
        shuffled = _shuffle(joined, generator)
        fusion = train_fusions(shuffled, alone, Provenance("")).best.fusion
        by_name = {
            rows.name: (rows, fuse_rows(fusion, rows).log_probabilities_NV)
            for rows in sorted(map(_held_out, shuffled.datasets), key=lambda rows: rows.name)
            if len(rows.label_N)
        }
        scores.append(
            macro_score(score_rows(rows, one, fusion.views) for rows, one in by_name.values())
        )
        told.append([np.exp(one) for _, one in by_name.values()])
        advance()
    change = max(
        (
            float(np.abs(one - first).max())
            for other in told
            for one, first in zip(other, told[0], strict=True)
        ),
        default=0.0,
    )
    return OrderSpread(variant, tuple(scores), max(scores) - min(scores), change)


def _shuffle(joined: JoinedRows, generator: np.random.Generator) -> JoinedRows:
    experts = generator.permutation(len(joined.blocks)).tolist()
    datasets = generator.permutation(len(joined.datasets)).tolist()
    return replace(
        joined,
        blocks=tuple(joined.blocks[place] for place in experts),
        datasets=tuple(_by_experts(joined.datasets[place], experts) for place in datasets),
    )


def _by_experts(rows: DatasetRows, order: list[int]) -> DatasetRows:
    return replace(
        rows,
        available=tuple(rows.available[place] for place in order),
        features=tuple(rows.features[place] for place in order),
        logits=tuple(rows.logits[place] for place in order),
        evidence=tuple(rows.evidence[place] for place in order),
    )


def _held_out(rows: DatasetRows) -> DatasetRows:
    return select_rows(rows, is_scored(rows, "test"))
