"""How near drawn images come to real ones, on features of a network that learnt from real ones.

The network is a segmenter of the site, frozen; its id belongs to the name of every figure, as in
``FD-<id>``, since figures on other features cannot be compared with them. Heusel et al. 2017 (arXiv
1706.08500), Binkowski et al. 2018 (arXiv 1801.01401), Kynkaanniemi et al. 2019 (arXiv 1904.06991);
computed by torch-fidelity, which fetches nothing here.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch_fidelity.metric_fid import (
    KEY_METRIC_FID,
    fid_features_to_statistics,
    fid_statistics_to_metric,
)
from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, kid_features_to_metric
from torch_fidelity.metric_prc import (
    KEY_METRIC_PRECISION,
    KEY_METRIC_RECALL,
    prc_features_to_metric,
)

from shared.echo.segmenter import SegmenterCard
from shared.errors import Code, EchoFedError
from shared.models.backbone import load_weights, unpack_tensors
from shared.models.unet import UNetTrunk
from shared.segmentation.fit import z_scored
from shared.segmentation.segmenter import build_network
from shared.shapes import expect
from shared.synthesis.release import fit_threshold, nearest

NEIGHBOURS = 3  # of Kynkaanniemi et al.
_KERNEL_SUBSETS = 20  # of the larger set as large as the smaller one, averaged
_PIECE = 32  # images computed at once


@dataclass(frozen=True, slots=True)
class Likeness:
    """How a set of images compares with a set of real ones.

    Args:
        frechet: distance between Gaussians of the features; grows as sets get smaller.
        kernel: squared discrepancy with the cubic kernel, unbiased, so 0 is no lower bound.
        precision: share of the images that lie among real ones.
        recall: share of the real ones that lie among the images.
    """

    frechet: float
    kernel: float
    precision: float
    recall: float


def encoder_of(card: SegmenterCard, weights: bytes) -> UNetTrunk:
    """The frozen trunk of a segmenter.

    Raises:
        EchoFedError: CONFIG_INVALID for a network without such a trunk or one that has learnt from
            drawn images, which would judge in its own cause; NAME_UNKNOWN, CHECKPOINT_CORRUPT.
    """
    network = build_network(card)
    trunk = getattr(network, "trunk", None)
    if not isinstance(trunk, UNetTrunk) or card.origin not in {"real", "phantom"}:
        raise EchoFedError(
            Code.CONFIG_INVALID,
            f"segmenter {card.id} ({card.network}, origin {card.origin}) cannot judge images",
            "take a unet or contour_net that has learnt from what is compared with",
        )
    load_weights(network, unpack_tensors(weights))
    return trunk.eval().requires_grad_(requires_grad=False)


def encoder_features(encoder: UNetTrunk, pixels_NSS: NDArray[np.uint8]) -> Tensor:
    """The encoder's deepest features, averaged over the square, float64 (N, D).

    Args:
        encoder: frozen.
        pixels_NSS: grey squares, 0 outside the sector; z-scored here as in training.

    Raises:
        EchoFedError: SHAPE_MISMATCH, SECTOR_EMPTY for an image of one grey.
    """
    expect(pixels_NSS, "N S S")
    pooled = []
    with torch.inference_mode():
        for begin in range(0, len(pixels_NSS), _PIECE):
            image_NSS = z_scored(pixels_NSS[begin : begin + _PIECE].astype(np.float32))
            deepest_NDHW = encoder.levels(torch.from_numpy(image_NSS)[:, None])[-1]
            pooled.append(deepest_NDHW.double().mean(dim=(2, 3)))
    return torch.cat(pooled)


def likeness(drawn_ND: Tensor, real_MD: Tensor) -> Likeness:
    """All four figures of two sets of features.

    Raises:
        EchoFedError: SHAPE_MISMATCH, FRAMES_MISSING for fewer images than neighbours.
    """
    precision, recall = precision_recall(drawn_ND, real_MD)
    distance, kernel = frechet_distance(drawn_ND, real_MD), kernel_distance(drawn_ND, real_MD)
    return Likeness(distance, kernel, precision, recall)


def frechet_distance(drawn_ND: Tensor, real_MD: Tensor) -> float:
    """Squared Wasserstein distance between the Gaussians of two sets of features, in float64.

    Raises:
        EchoFedError: SHAPE_MISMATCH, FRAMES_MISSING.
    """
    _expect_sets(drawn_ND, real_MD)
    drawn, real = (fid_features_to_statistics(one.double()) for one in (drawn_ND, real_MD))
    return float(fid_statistics_to_metric(drawn, real, verbose=False)[KEY_METRIC_FID])


def kernel_distance(drawn_ND: Tensor, real_MD: Tensor) -> float:
    """Unbiased squared maximum mean discrepancy with the kernel (x y / D + 1) ** 3, in float64.

    Raises:
        EchoFedError: SHAPE_MISMATCH, FRAMES_MISSING.
    """
    _expect_sets(drawn_ND, real_MD)
    told = kid_features_to_metric(
        drawn_ND.double(), real_MD.double(), verbose=False,
        kid_subsets=1 if len(drawn_ND) == len(real_MD) else _KERNEL_SUBSETS,
        kid_subset_size=min(len(drawn_ND), len(real_MD)),
    )  # fmt: skip
    return float(told[KEY_METRIC_KID_MEAN])


def precision_recall(drawn_ND: Tensor, real_MD: Tensor) -> tuple[float, float]:
    """Shares of drawn images among real ones, and of real ones among drawn images.

    An image lies among others if it is nearer to one of them than that one's third neighbour.

    Raises:
        EchoFedError: SHAPE_MISMATCH, FRAMES_MISSING.
    """
    _expect_sets(drawn_ND, real_MD)
    told = prc_features_to_metric(
        drawn_ND.double(), real_MD.double(), verbose=False, prc_neighborhood=NEIGHBOURS
    )
    return float(told[KEY_METRIC_PRECISION]), float(told[KEY_METRIC_RECALL])


def memorised_share(drawn_ND: Tensor, held_out_HD: Tensor, gallery_GD: Tensor) -> float:
    """Share of images nearer to a training frame than 95 % of real frames of strangers are.

    About 0.05 for images that owe nothing to single training frames; all are unit vectors.

    Raises:
        EchoFedError: SHAPE_MISMATCH, FRAMES_MISSING.
    """
    similarity_N, _ = nearest(drawn_ND, gallery_GD)
    return float((similarity_N > fit_threshold(held_out_HD, gallery_GD)).double().mean())


def _expect_sets(drawn_ND: Tensor, real_MD: Tensor) -> None:
    expect(drawn_ND, "N D")
    expect(real_MD, "M D", D=drawn_ND.shape[1])
    if min(len(drawn_ND), len(real_MD)) <= NEIGHBOURS:
        raise EchoFedError(
            Code.FRAMES_MISSING,
            f"{len(drawn_ND)} images and {len(real_MD)} real frames are too few to be compared",
            f"give more than {NEIGHBOURS} of both",
        )
