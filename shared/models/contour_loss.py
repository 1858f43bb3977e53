"""What the contour network is held to: landmarks, heat maps, distances, and that they agree."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline
from torch import Tensor, nn

from shared.models.contour_net import ContourMaps, axes_mm


@dataclass(frozen=True, slots=True)
class LossWeights:
    """What each term of ``contour_loss`` counts; the terms are in mm but for the two marked ones.

    Attributes:
        points: Euclidean error of the landmarks.
        spread: divergence of the heat maps from a narrow spot (nats).
        likelihood: Gaussian likelihood of the landmarks (nats); what makes covariances honest.
        distance: error of the distance map.
        coupling: predicted distance along the spline through the predicted landmarks.
    """

    points: float = 1.0
    spread: float = 3.0
    likelihood: float = 0.0
    distance: float = 1.0
    coupling: float = 0.5


def contour_loss(
    maps: ContourMaps,
    points_xy_mm_NK2: Tensor,
    distance_mm_NHW: Tensor,
    mm_per_pixel_N2: Tensor,
    *,
    weights: LossWeights,
) -> dict[str, Tensor]:
    """Weighted terms by name, each a mean over the batch; their sum is what is minimised.

    Args:
        maps: what the network said.
        points_xy_mm_NK2: landmarks of the reference; NaN where one is unknown.
        distance_mm_NHW: signed distance map of the reference.
        mm_per_pixel_N2: spacing of (rows, columns).
        weights: of each term; a term of weight zero is not computed.
    """
    known_NK = points_xy_mm_NK2.isfinite().all(dim=2)
    # an unknown landmark is replaced by the answer, so that no NaN reaches a gradient
    reference = torch.where(known_NK[..., None], points_xy_mm_NK2, maps.points_xy_mm_NK2.detach())
    heat = maps.log_heat_NKHW
    terms: dict[str, Callable[[], Tensor]] = {
        "points": lambda: _mean(euclidean_mm(maps.points_xy_mm_NK2, reference), known_NK),
        "spread": lambda: _mean(heat_divergence(heat, reference, mm_per_pixel_N2), known_NK),
        "likelihood": lambda: _mean(
            point_surprise(
                maps.points_xy_mm_NK2, maps.covariance_mm2_NK22, reference, mm_per_pixel_N2
            ),
            known_NK,
        ),
        "distance": lambda: distance_error(maps.distance_mm_NHW, distance_mm_NHW).mean(),
        "coupling": lambda: coupling_error(
            maps.points_xy_mm_NK2, maps.distance_mm_NHW, mm_per_pixel_N2
        ).mean(),
    }
    scale = {name: getattr(weights, name) for name in terms}
    return {name: scale[name] * term() for name, term in terms.items() if scale[name]}


def euclidean_mm(points_xy_mm_NK2: Tensor, reference_xy_mm_NK2: Tensor) -> Tensor:
    """Distance of each landmark from its reference (N, K), in mm; the gradient at zero is zero."""
    error_NK: Tensor = torch.linalg.vector_norm(points_xy_mm_NK2 - reference_xy_mm_NK2, dim=2)
    return error_NK


def heat_divergence(
    log_heat_NKHW: Tensor,
    reference_xy_mm_NK2: Tensor,
    mm_per_pixel_N2: Tensor,
    *,
    sigma_mm: float = 2.0,
) -> Tensor:
    """Kullback-Leibler divergence of each heat map from a Gaussian about its reference (N, K).

    In nats, zero where the map is that Gaussian. It keeps mass from leaking over the picture, which
    would draw every expectation to the centre. Unlike the Jensen-Shannon divergence it goes on
    pulling where map and Gaussian do not overlap yet, as in the first epochs.

    Reference: Nibali et al. 2018 (arXiv 1801.07372), distribution regularisation; sigma is ours.
    """
    height, width = log_heat_NKHW.shape[-2:]
    rows_mm_NH, columns_mm_NW = axes_mm(height, width, mm_per_pixel_N2)
    right = columns_mm_NW[:, None] - reference_xy_mm_NK2[..., :1]
    down = rows_mm_NH[:, None] - reference_xy_mm_NK2[..., 1:]
    exponent = -(down[..., :, None] ** 2 + right[..., None, :] ** 2) / (2.0 * sigma_mm**2)
    log_gauss = exponent.flatten(2).log_softmax(dim=2)
    return (log_gauss.exp() * (log_gauss - log_heat_NKHW.flatten(2))).sum(dim=2)


def point_surprise(
    points_xy_mm_NK2: Tensor,
    covariance_mm2_NK22: Tensor,
    reference_xy_mm_NK2: Tensor,
    mm_per_pixel_N2: Tensor,
) -> Tensor:
    """Minus log of the Gaussian density at each reference, less log(2 pi), (N, K).

    ``(log det S + d^T S^-1 d) / 2``, where S is the covariance and that of a place within a pixel,
    a twelfth of its square, without which a heat map of one pixel would be infinitely sure.

    Reference: Judge et al. 2023 (MICCAI), contour uncertainty from heat maps; the floor is ours.
    """
    within_N22 = torch.diag_embed(mm_per_pixel_N2.flip(1) ** 2 / 12.0)
    covariance = covariance_mm2_NK22 + within_N22[:, None]
    x, y = (reference_xy_mm_NK2 - points_xy_mm_NK2).unbind(dim=2)
    xx, xy, yy = covariance[..., 0, 0], covariance[..., 0, 1], covariance[..., 1, 1]
    determinant = xx * yy - xy**2
    return 0.5 * (determinant.log() + (yy * x**2 - 2 * xy * x * y + xx * y**2) / determinant)


def distance_error(
    distance_mm_NHW: Tensor,
    reference_mm_NHW: Tensor,
    *,
    reach_mm: float = 15.0,
    near_mm: float = 3.0,
) -> Tensor:
    """Weighted smooth L1 error of each frame's distance map (N,), in mm.

    Pixels beyond the reach must only be said to be beyond it, on the right side: what is far from
    the contour says nothing about where it is. Weights are ``0.1 + exp(-|reference| / near_mm)``.
    """
    residual = distance_mm_NHW - reference_mm_NHW
    outside = (distance_mm_NHW - reach_mm).clamp(max=0.0)
    inside = (distance_mm_NHW + reach_mm).clamp(min=0.0)
    residual = torch.where(reference_mm_NHW >= reach_mm, outside, residual)
    residual = torch.where(reference_mm_NHW <= -reach_mm, inside, residual)
    weights_NHW = 0.1 + torch.exp(-reference_mm_NHW.abs() / near_mm)
    error_NHW = nn.functional.huber_loss(residual, torch.zeros_like(residual), reduction="none")
    return (weights_NHW * error_NHW).flatten(1).sum(dim=1) / weights_NHW.flatten(1).sum(dim=1)


def coupling_error(
    points_xy_mm_NK2: Tensor,
    distance_mm_NHW: Tensor,
    mm_per_pixel_N2: Tensor,
    *,
    num_points: int = 41,
) -> Tensor:
    """Mean absolute distance along the spline through the landmarks (N,), in mm.

    Zero where both heads agree on the contour. With the predicted map it needs no reference, with
    the reference map it holds the landmarks to the contour and lets them slide along it.

    Reference: hybrid contour distance, Bransby et al. 2023 (arXiv 2306.12155), at the landmarks
    and over the reference map; the spline and the predicted map are ours.
    """
    matrix_PK = spline_matrix(points_xy_mm_NK2.shape[1], num_points).to(points_xy_mm_NK2)
    curve_NP2 = torch.einsum("pk,nkc->npc", matrix_PK, points_xy_mm_NK2)
    return _sample(distance_mm_NHW, curve_NP2 / mm_per_pixel_N2.flip(1)[:, None]).abs().mean(dim=1)


def spline_matrix(num_landmarks: int, num_points: int) -> Tensor:
    """Landmarks -> points of the cubic spline through them (P, K), float64.

    Knots are equidistant, which landmarks at equal arc length nearly are; so the spline is linear
    in the landmarks and its gradient is this matrix.
    """
    return torch.from_numpy(_spline_matrix(num_landmarks, num_points).copy())


@cache
def _spline_matrix(num_landmarks: int, num_points: int) -> NDArray[np.float64]:
    knots = np.linspace(0.0, 1.0, num_landmarks)
    matrix: NDArray[np.float64] = CubicSpline(knots, np.eye(num_landmarks))(
        np.linspace(0.0, 1.0, num_points)
    )
    return matrix


def _mean(values_NK: Tensor, known_NK: Tensor) -> Tensor:
    """Mean over the known landmarks; zero where there is none."""
    return (values_NK * known_NK).sum() / known_NK.sum().clamp(min=1)


def _sample(maps_NHW: Tensor, points_px_NP2: Tensor) -> Tensor:
    """Bilinear values (N, P) at (column, row); the edge is repeated.

    By index instead of ``grid_sample``, whose gradient on a GPU differs from run to run.
    """
    num, height, width = maps_NHW.shape
    x = points_px_NP2[..., 0].clamp(0, width - 1)
    y = points_px_NP2[..., 1].clamp(0, height - 1)
    left, top = x.detach().floor().long(), y.detach().floor().long()
    right, bottom = (left + 1).clamp(max=width - 1), (top + 1).clamp(max=height - 1)
    n = torch.arange(num, device=maps_NHW.device)[:, None]
    across, down = x - left, y - top
    above = maps_NHW[n, top, left] * (1 - across) + maps_NHW[n, top, right] * across
    below = maps_NHW[n, bottom, left] * (1 - across) + maps_NHW[n, bottom, right] * across
    return above * (1 - down) + below * down
