"""The blend: a trained sum beside the mean of two closed forms, joined by the validation rows."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import log_softmax

from aggregator.fusion.analytic import fit_discriminant, fit_ridge
from aggregator.fusion.calibrate import best_temperature
from aggregator.fusion.evaluate import fuse_rows
from aggregator.fusion.fit import fit_union_head
from aggregator.joined_rows import DatasetRows, JoinedRows
from shared.models.blend import Blend
from shared.models.fusion import ScoreFusion
from shared.models.fusion_weights import FusionModel, copy_shared
from shared.models.union_head import UnionHead


def fit_blend_head(
    joined: JoinedRows, held_out: Sequence[DatasetRows], *, balance: bool, is_final: bool = False
) -> UnionHead:
    """The blend's union head: ridge and discriminant; arguments as for ``fit_union_head``."""
    fits = (fit_ridge, fit_discriminant)
    return fit_union_head(joined, held_out, balance=balance, fits=fits, is_final=is_final)


def fit_blend(score: ScoreFusion, head: UnionHead, held_out: Sequence[DatasetRows]) -> Blend:
    """Join a trained sum and a fitted head; both temperatures are those of the validation rows.

    Args:
        score: of the variant ``sum``.
        head: of the same experts in the same order.
        held_out: labelled validation rows by dataset.
    """
    fusion = Blend(score.blocks)
    copy_shared(score, fusion)
    copy_shared(head, fusion)
    windows = fusion.named_weights()
    windows["temperature/score"].fill_(_temperature(score, held_out))
    windows["temperature/fused"].fill_(_temperature(fusion.eval(), held_out))
    return fusion


@torch.no_grad()
def _temperature(fusion: FusionModel, held_out: Sequence[DatasetRows]) -> float:
    told = [fuse_rows(fusion, rows).log_probabilities_NV for rows in held_out]

    def tell(temperature: float) -> list[NDArray[np.float64]]:
        return [log_softmax(told_NV / temperature, axis=1) for told_NV in told]

    return best_temperature(tell, held_out, fusion.views)[0]
