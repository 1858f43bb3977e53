"""What methods that learn one dataset after the other are given, and the loop that trains a head.

The columns are the features of all experts of the stage side by side, each expert's standardised by
the training rows of the dataset with which it came, as no other was there when the choice was
due. A dataset is learned with the experts that are known when it comes; the columns of later ones
are zero, which is their mean. Told is with all experts of the stage.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aggregator.benchmark.stage import Stage
from aggregator.benchmark.tuning import ScoreTeller
from aggregator.fusion.sums import FeatureSpace, label_shares
from aggregator.joined_rows import DatasetRows, select_rows
from shared.echo.manifest import SPLITS

LEARNING_RATES = (0.001, 0.003, 0.01, 0.03, 0.1)
"""Tried by methods without a number of their own."""
LEARNING_RATE = 0.01  # of the others, which tune something else: the middle one
EPOCHS, MOST_STEPS, BATCH, MOMENTUM = 20, 500, 64, 0.9


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """Standardised features of all experts side by side.

    Args:
        mean_D: of the rows with which each expert came.
        scale_D: 1 / deviation of the same; 1 where they do not vary.
        power: Tukey's, to which magnitudes are raised first.
    """

    space: FeatureSpace
    mean_D: NDArray[np.float64]
    scale_D: NDArray[np.float64]
    power: float = 1.0

    def of(self, rows: DatasetRows) -> NDArray[np.float64]:
        """Rows (N, D); zero for an expert that did not see the dataset."""
        raised_ND = _raise(self.space.columns(rows.features), self.power)
        centred_ND = (raised_ND - self.mean_D) * self.scale_D
        return centred_ND * self.space.spread(rows.available)


@dataclass(frozen=True, slots=True, eq=False)
class Lesson:
    """The training rows of one dataset.

    Args:
        rows: the labelled ones, every pass of them.
        columns_ND: as all experts of the stage see it.
        share_NV: of each row's label among the views that the known experts own.
        seen_D: columns of the experts that are known when the dataset comes.
        knows_V: views that any label so far covers.
        is_new_V: those that no earlier label covered.
    """

    rows: DatasetRows
    columns_ND: NDArray[np.float64]
    share_NV: NDArray[np.float64]
    seen_D: NDArray[np.bool_]
    knows_V: NDArray[np.bool_]
    is_new_V: NDArray[np.bool_]


def arrange_columns(stage: Stage, *, power: float = 1.0) -> Columns:
    """Standardise each expert's features by its own dataset's training rows."""
    space = FeatureSpace(stage.joined.blocks)
    means, scales = [], []
    for place, block in enumerate(stage.joined.blocks):
        own = [
            rows.features[place][rows.split_N == SPLITS.index("train")]
            for rows in stage.joined.datasets
            if stage.homes[rows.name] == block.expert and rows.available[place]
        ]
        rows_ND = own[0].astype(np.float64) if own else np.zeros((1, block.feature_width))
        rows_ND = _raise(rows_ND, power)
        deviation_D = rows_ND.std(axis=0)
        means.append(rows_ND.mean(axis=0))
        scales.append(1.0 / np.where(deviation_D > 0, deviation_D, 1.0))
    return Columns(space, np.concatenate(means), np.concatenate(scales), power)


def arrange_lessons(stage: Stage, columns: Columns) -> list[Lesson]:
    """The datasets in the order in which they came, without those that teach nothing."""
    lessons: list[Lesson] = []
    knows_V = np.zeros(len(columns.space.views), dtype=np.bool_)
    known: set[str] = set()
    for rows in stage.joined.datasets:
        known.add(stage.homes[rows.name])
        share_KV = _shares_of_known(rows, columns.space, known)
        kept_N = rows.split_N == SPLITS.index("train")
        kept_N &= (share_KV.sum(axis=1) > 0)[rows.label_N]
        if not kept_N.any():
            continue
        kept = select_rows(rows, kept_N)
        share_NV = share_KV[kept.label_N]
        seen_D = columns.space.spread([block.expert in known for block in stage.joined.blocks]) > 0
        before_V, knows_V = knows_V, knows_V | (share_NV > 0).any(axis=0)
        lessons.append(
            Lesson(kept, columns.of(kept), share_NV, seen_D, knows_V, knows_V & ~before_V)
        )
    return lessons


def _raise(columns_ND: NDArray[np.float64], power: float) -> NDArray[np.float64]:
    return columns_ND if power == 1.0 else np.sign(columns_ND) * np.abs(columns_ND) ** power


def _shares_of_known(
    rows: DatasetRows, space: FeatureSpace, known: Collection[str]
) -> NDArray[np.float64]:
    """Shares (K, V) of each label among the views that the known experts own."""
    owned = {view for block in space.blocks if block.expert in known for view in block.views}
    share_KV = label_shares(rows, space.views) * [view in owned for view in space.views]
    total_K1 = share_KV.sum(axis=1, keepdims=True)
    return share_KV / np.where(total_K1 > 0, total_K1, 1.0)


@dataclass(frozen=True, slots=True, eq=False)
class Head:
    """A linear head, float64; ``knows_V`` are the views that it was taught."""

    weight_VD: Tensor
    bias_V: Tensor
    knows_V: Tensor

    def logits(self, columns_ND: Tensor) -> Tensor:
        """Logits (N, V); ``-inf`` for views that were not taught."""
        logits_NV = columns_ND @ self.weight_VD.T + self.bias_V
        return logits_NV.masked_fill(~self.knows_V, -torch.inf)


Loss = Callable[[Head, Tensor], Tensor]
"""A head and the places of a batch's rows -> what is made small."""


def blank_head(lesson: Lesson) -> Head:
    """A head that knows nothing yet."""
    width, num = lesson.columns_ND.shape[1], len(lesson.knows_V)
    zeros_VD = torch.zeros(num, width, dtype=torch.float64)
    return Head(zeros_VD, zeros_VD[:, 0].clone(), torch.zeros(num, dtype=torch.bool))


def marginal_loss(logits_NV: Tensor, is_target_NV: Tensor) -> Tensor:
    """-log of the probability of all views that each label covers, averaged over rows."""
    covered_NV = logits_NV.masked_fill(~is_target_NV, -torch.inf)
    loss: Tensor = (logits_NV.logsumexp(dim=1) - covered_NV.logsumexp(dim=1)).mean()
    return loss


def plain_loss(lesson: Lesson) -> Loss:
    """The marginal loss of a batch of a lesson, as the experts known by then see it."""
    seen_ND = torch.from_numpy(lesson.columns_ND * lesson.seen_D)
    is_target_NV = torch.from_numpy(lesson.share_NV > 0)

    def loss(head: Head, places_M: Tensor) -> Tensor:
        return marginal_loss(head.logits(seen_ND[places_M]), is_target_NV[places_M])

    return loss


def train_head(
    head: Head,
    lesson: Lesson,
    loss: Loss,
    *,
    learning_rate: float,
    generator: np.random.Generator,
) -> Head:
    """Go on from a head by SGD on the rows of one dataset.

    Args:
        head: stays as it is.
        lesson: its views are known from now on.
        loss: of a head and the places of a batch's rows.
        learning_rate: of SGD with momentum, constant.
        generator: draws the batches.
    """
    weight_VD = head.weight_VD.clone().requires_grad_()
    bias_V = head.bias_V.clone().requires_grad_()
    trained = Head(weight_VD, bias_V, torch.from_numpy(lesson.knows_V))
    optimiser = torch.optim.SGD([weight_VD, bias_V], lr=learning_rate, momentum=MOMENTUM)
    for places_M in draw_batches(len(lesson.columns_ND), generator):
        optimiser.zero_grad(set_to_none=True)
        loss(trained, places_M).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return Head(weight_VD.detach(), bias_V.detach(), trained.knows_V)


def draw_batches(num: int, generator: np.random.Generator) -> Sequence[Tensor]:
    """Places of the rows of each step, every row once an epoch."""
    batches = [
        places_M
        for _ in range(EPOCHS)
        for places_M in torch.split(torch.from_numpy(generator.permutation(num)), BATCH)
    ]
    return batches[:MOST_STEPS]


def linear_teller(columns: Columns, head: Head) -> ScoreTeller:
    """A trained head over all experts of the stage."""
    weight_VD, bias_V = head.weight_VD.numpy(), head.bias_V.numpy()
    return ScoreTeller(
        columns.space.views,
        lambda rows: columns.of(rows) @ weight_VD.T + bias_V,
        head.knows_V.numpy(),
    )
