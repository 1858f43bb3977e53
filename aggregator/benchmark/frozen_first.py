"""The base expert alone: its own frozen logits, and columns on its features for later views.

A view's column is trained by SGD on the dataset with which the view comes, beside the logits that
stand already, and is frozen from then on.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aggregator.benchmark.lessons import (
    LEARNING_RATES,
    Columns,
    Head,
    Lesson,
    Loss,
    arrange_columns,
    arrange_lessons,
    blank_head,
    marginal_loss,
    train_head,
)
from aggregator.benchmark.stage import Stage, Teller
from aggregator.benchmark.tuning import ScoreTeller, choose_teller
from aggregator.fusion.rows import held_out_rows
from aggregator.joined_rows import DatasetRows
from shared.seeding import numpy_generator


def fit_frozen_first(stage: Stage) -> Teller:
    """Try every learning rate for the columns of later views."""
    columns = arrange_columns(stage)
    lessons = arrange_lessons(stage, columns)
    base = stage.homes[stage.joined.datasets[0].name]
    tried = (
        _teller(columns, base, learn_beside(columns, lessons, base, rate, stage.seed))
        for rate in LEARNING_RATES
    )
    return choose_teller(tried, held_out_rows(stage.joined))


def learn_beside(
    columns: Columns, lessons: Sequence[Lesson], base: str, learning_rate: float, seed: int
) -> Head:
    """What is added to the base expert's logits: nothing for the views that it knows."""
    place, is_own_V, is_own_D = _own(columns, base)
    head = blank_head(lessons[0])
    for lesson in lessons:
        is_new_V = torch.from_numpy(lesson.is_new_V & ~is_own_V)
        by_base = replace(lesson, seen_D=is_own_D, knows_V=lesson.knows_V | is_own_V)
        if not is_new_V.any():
            head = Head(head.weight_VD, head.bias_V, torch.from_numpy(by_base.knows_V))
            continue
        generator = numpy_generator(seed, "lesson", lesson.rows.name)
        loss = _beside(by_base, _spread(lesson.rows, columns, place), is_new_V)
        head = train_head(head, by_base, loss, learning_rate=learning_rate, generator=generator)
    return head


def _beside(lesson: Lesson, own_NV: NDArray[np.float64], is_new_V: Tensor) -> Loss:
    """The marginal loss, of which only the columns of new views learn."""
    seen_ND = torch.from_numpy(lesson.columns_ND * lesson.seen_D)
    is_target_NV, logits_NV = torch.from_numpy(lesson.share_NV > 0), torch.from_numpy(own_NV)

    def loss(head: Head, places_M: Tensor) -> Tensor:
        learning = Head(
            torch.where(is_new_V[:, None], head.weight_VD, head.weight_VD.detach()),
            torch.where(is_new_V, head.bias_V, head.bias_V.detach()),
            head.knows_V,
        )
        told_MV = learning.logits(seen_ND[places_M]) + logits_NV[places_M]
        return marginal_loss(told_MV, is_target_NV[places_M])

    return loss


def _teller(columns: Columns, base: str, head: Head) -> ScoreTeller:
    place, _, is_own_D = _own(columns, base)
    weight_DV, bias_V = head.weight_VD.numpy().T, head.bias_V.numpy()

    def scores(rows: DatasetRows) -> NDArray[np.float64]:
        added_NV = (columns.of(rows) * is_own_D) @ weight_DV + bias_V
        told_NV: NDArray[np.float64] = added_NV + _spread(rows, columns, place)
        return told_NV

    return ScoreTeller(columns.space.views, scores, head.knows_V.numpy())


def _own(columns: Columns, base: str) -> tuple[int, NDArray[np.bool_], NDArray[np.bool_]]:
    """The base expert's place, its views and its columns."""
    blocks = columns.space.blocks
    place = [block.expert for block in blocks].index(base)
    is_own_V = np.isin(columns.space.views, blocks[place].views)
    return place, is_own_V, columns.space.spread([block.expert == base for block in blocks]) > 0


def _spread(rows: DatasetRows, columns: Columns, place: int) -> NDArray[np.float64]:
    """An expert's own logits over the union views (N, V); zero elsewhere."""
    views = columns.space.views
    own_NV = np.zeros((len(rows.label_N), len(views)))
    own_NV[:, [views.index(view) for view in columns.space.blocks[place].views]] = rows.logits[
        place
    ]
    return own_NV
