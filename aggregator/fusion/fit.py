"""The union head in closed form: ridge weights, and id scores by each expert's competence.

A label for the id score is drawn from validation rows only: an expert is always right on the
frames that it was trained on.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from aggregator.fusion.analytic import Fit, LinearHead, choose_head, fit_ridge
from aggregator.fusion.sums import REFIT, space_of, sum_datasets
from aggregator.joined_rows import DatasetRows, JoinedRows
from shared.echo.expert import Block
from shared.echo.label_sets import possible_views
from shared.echo.statistics import projection
from shared.evidence.energy import Energy
from shared.models.blend import Blend
from shared.models.union_head import UnionHead

_NO_ROWS = -1e3  # logit of a view without a training row
_ROUNDING = 1e-5  # deviation that float32 evidence (in deviations) and energy (in nats) can feign


def fit_union_head(
    joined: JoinedRows,
    held_out: Sequence[DatasetRows],
    *,
    balance: bool,
    fits: Sequence[Fit] = (fit_ridge,),
    is_final: bool = False,
) -> UnionHead:
    """Fit on the training rows; ridge, temperature and id scores on the validation rows.

    Args:
        joined: rows of all datasets.
        held_out: labelled validation rows by dataset.
        balance: give every dataset the same total weight.
        fits: closed forms, each at its own ridge and temperature; the mean of their logits counts.
        is_final: fit once more on training and validation rows, at what was chosen.

    Raises:
        EchoFedError: FRAMES_MISSING where fewer than two views have training rows,
            FEATURES_NOT_FINITE, FEATURES_INVALID where no feature varies.
    """
    space = space_of(joined)
    sums = sum_datasets(joined, space)
    again = sum_datasets(joined, space, splits=REFIT) if is_final else None
    parts = [
        _head_weights(choose_head(fit, sums, held_out, space, balance=balance, again=again))
        for fit in fits
    ]
    fusion = UnionHead(joined.blocks)
    windows = fusion.named_weights()
    for name in parts[0]:
        values = np.mean([part[name] for part in parts], axis=0)
        windows[name].copy_(torch.from_numpy(values))
    fit_id_scores(fusion, held_out)
    return fusion.eval()


def fit_id_scores(fusion: UnionHead | Blend, held_out: Sequence[DatasetRows]) -> None:
    """Fit the id scores in place, each expert by itself, on labelled validation rows."""
    windows = fusion.named_weights()
    for place, block in enumerate(fusion.blocks):
        (*weight_L, energy), bias = fit_competence(held_out, place, block)
        windows[f"gate/{block.expert}/weight"].copy_(torch.tensor(weight_L))
        windows[f"gate/{block.expert}/energy"].fill_(energy)
        windows[f"gate/{block.expert}/bias"].fill_(bias)


def fit_competence(
    held_out: Sequence[DatasetRows], place: int, block: Block
) -> tuple[NDArray[np.float64], float]:
    """Logistic regression of "the expert's own answer is right" on its own evidence and energy.

    Args:
        held_out: labelled rows that no expert was trained on.
        place: of the expert among the blocks.
        block: the expert.

    Returns:
        Weights of the evidence by layer and, last, of the energy (L + 1), and the intercept; where
        the expert is always or never right, no weights and the log odds with one row of either
        kind added.
    """
    seen = [rows for rows in held_out if rows.available[place]]
    is_right_N = np.concatenate(
        [np.zeros(0, np.bool_), *(is_right(rows, place, block) for rows in seen)]
    )
    num_right = int(is_right_N.sum())
    if num_right in (0, len(is_right_N)):
        odds = (num_right + 1.0) / (len(is_right_N) - num_right + 1.0)
        return np.zeros(block.num_evidence + 1), float(np.log(odds))
    told_NI = np.concatenate([_inputs(rows, place) for rows in seen])
    mean_I, sd_I = told_NI.mean(axis=0), told_NI.std(axis=0)
    sd_I = np.where(sd_I > _ROUNDING, sd_I, 1.0)
    weight_N = np.concatenate(
        [np.full(len(rows.label_N), 1.0 / len(rows.label_N)) for rows in seen]
    )
    model = LogisticRegression(max_iter=1000)
    model.fit((told_NI - mean_I) / sd_I, is_right_N, weight_N * len(weight_N) / len(seen))
    weight_I = model.coef_[0] / sd_I
    return weight_I, float(model.intercept_[0] - weight_I @ mean_I)


def is_right(rows: DatasetRows, place: int, block: Block) -> NDArray[np.bool_]:
    """Whether the expert's most probable view is one that the label leaves possible (N)."""
    covers_KC = possible_views(rows, block.views)
    told_N = rows.logits[place].argmax(axis=1)
    is_right_N: NDArray[np.bool_] = covers_KC[rows.label_N, told_N]
    return is_right_N


def _inputs(rows: DatasetRows, place: int) -> NDArray[np.float64]:
    """What the id score of one expert is told by: evidence by layer, then energy (N, L + 1)."""
    energy_N = Energy().score(rows.features[place], rows.logits[place])
    return np.column_stack([rows.evidence[place].astype(np.float64), energy_N])


def _head_weights(head: LinearHead) -> dict[str, NDArray[np.float64]]:
    """The head under the names that its weights have in the fusion."""
    views, names = head.space.views, {}
    for column, view in enumerate(views):
        bias = head.bias_V[column] / head.temperature if head.has_rows_V[column] else _NO_ROWS
        names[f"head/bias/{view}"] = np.array([bias])
    start = 0
    for block, width in zip(head.space.blocks, head.space.widths, strict=True):
        part = slice(start, start + width)
        start = part.stop
        lift_DP = projection(block) if head.space.is_projected else np.eye(width)
        names[f"head/{block.expert}/mean"] = lift_DP @ head.mean_D[part]
        for column, view in enumerate(views):
            weight_D = lift_DP @ head.weight_DV[part, column] / head.temperature
            names[f"head/{block.expert}/weight/{view}"] = weight_D
    return names
