"""BackMix: what lies outside a frame's sector is swapped for another frame's background.

Reference: Bransby et al., MICCAI 2024 (arXiv 2406.19148), with the semi-supervised fraction and the
loss weights of wBackMix.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from shared.errors import Code, EchoFedError
from site_client.augment.geometry import MaskedFrames


def mix_background(receiver: MaskedFrames, donor: MaskedFrames) -> Tensor:
    """Keep the receiver inside its sector and put the donor's background outside.

    Where the receiver's background meets the donor's sector the result is black, so no foreign
    anatomy enters. The donor is not augmented.

    Returns:
        Pixels (N, 1, H, W) in 0..255, before normalisation.
    """
    inside_N1HW, foreign_N1HW = receiver.mask_N1HW.float(), donor.mask_N1HW.float()
    background_N1HW = (1 - inside_N1HW) * (1 - foreign_N1HW) * donor.pixels_N1HW
    return background_N1HW.addcmul_(inside_N1HW, receiver.pixels_N1HW)


def choose_mixed(has_mask_N: NDArray[np.bool_], fraction: float) -> NDArray[np.bool_]:
    """Every int(1/fraction)-th frame of the sorted list, among those that have a mask.

    The order of the frames is the sorted list: it must not depend on the run. With every frame
    masked and a fraction of 0.05 this is every twentieth frame, as in the paper.

    Raises:
        EchoFedError: SECTOR_EMPTY where no frame has a mask, CONFIG_INVALID for a fraction that is
            not near one over a whole number.
    """
    every = int(1 / fraction)
    if abs(1 / every - fraction) > 0.1 * fraction:
        raise EchoFedError(
            Code.CONFIG_INVALID,
            f"expert.backmix.mask_fraction={fraction} would mix every {every}. frame",
            f"frames are taken evenly; use {1 / every:.3g} or {1 / (every + 1):.3g}",
        )
    masked = np.flatnonzero(has_mask_N)
    if not len(masked):
        raise EchoFedError(
            Code.SECTOR_EMPTY,
            "BackMix needs sector masks, and no training frame has one",
            "ingest files with a 2-D region, or set expert.backmix.enabled=false",
        )
    is_mixed_N = np.zeros(len(has_mask_N), dtype=np.bool_)
    is_mixed_N[masked[::every]] = True
    return is_mixed_N


@dataclass(frozen=True, slots=True)
class LossWeights:
    """wBackMix: loss weight of a frame that is mixed and of one that is not."""

    mixed: float
    plain: float


def weigh_losses(is_mixed_N: NDArray[np.bool_], loss_lambda: float) -> LossWeights:
    """1 + lambda (1 - f) for mixed frames and 1 - lambda f for the others; their mean is 1.

    f is the share of frames that are mixed in fact, so that the mean is 1 where some lack a mask.

    Raises:
        EchoFedError: CONFIG_INVALID where lambda is above 1/f, which would reward errors.
    """
    share = float(is_mixed_N.mean())
    if loss_lambda * share > 1:
        raise EchoFedError(
            Code.CONFIG_INVALID,
            f"expert.backmix.loss_lambda={loss_lambda} is above 1/f={1 / share:.3g}",
            "the unmixed frames would get a negative weight; lower it",
        )
    return LossWeights(mixed=1 + loss_lambda * (1 - share), plain=1 - loss_lambda * share)
