import math

import numpy as np
import pytest
import torch
from scipy.interpolate import CubicSpline
from torch import Tensor

from shared.models.contour_loss import (
    LossWeights,
    contour_loss,
    coupling_error,
    distance_error,
    euclidean_mm,
    heat_divergence,
    point_surprise,
    spline_matrix,
)
from shared.models.contour_net import ContourMaps, ContourNet

SPACING = torch.tensor([[0.5, 0.4]], dtype=torch.float64)
SIZE = (80, 90)
CENTRE, RADIUS = (18.0, 20.0), 12.0


def tensor(values: object) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def circle_distance(spacing: Tensor = SPACING) -> Tensor:
    """Signed distance map (1, H, W) of a circle."""
    y = torch.arange(SIZE[0], dtype=torch.float64)[:, None] * spacing[0, 0]
    x = torch.arange(SIZE[1], dtype=torch.float64)[None, :] * spacing[0, 1]
    return (torch.hypot(x - CENTRE[0], y - CENTRE[1]) - RADIUS)[None]


def on_circle(num: int = 9, radius: float = RADIUS) -> Tensor:
    """Landmarks (1, K, 2) on three quarters of a circle."""
    angles = torch.linspace(0.75 * math.pi, 2.25 * math.pi, num, dtype=torch.float64)
    points = torch.stack([torch.cos(angles), torch.sin(angles)], dim=1)
    return (tensor(CENTRE) + radius * points)[None]


def heat_at(points: Tensor, sigma_mm: float) -> Tensor:
    """Log heat maps (1, K, H, W): Gaussians about the points."""
    y = torch.arange(SIZE[0], dtype=torch.float64) * SPACING[0, 0]
    x = torch.arange(SIZE[1], dtype=torch.float64) * SPACING[0, 1]
    down = (y - points[..., 1:])[..., :, None]
    right = (x - points[..., :1])[..., None, :]
    exponent = -(down**2 + right**2) / (2 * sigma_mm**2)
    return exponent.flatten(2).log_softmax(2).view_as(exponent)


def perfect(num: int = 9) -> ContourMaps:
    points = on_circle(num)
    covariance = 4.0 * torch.eye(2).double().expand(1, num, 2, 2)
    return ContourMaps(heat_at(points, 2.0), points, covariance, circle_distance())


def test_euclidean_is_a_distance_with_a_gradient_of_one_and_none_at_zero() -> None:
    points = tensor([[[3.0, 4.0], [1.0, 1.0]]]).requires_grad_()
    errors = euclidean_mm(points, tensor([[[0.0, 0.0], [1.0, 1.0]]]))
    (gradient,) = torch.autograd.grad(errors.sum(), points)
    assert torch.equal(errors.detach(), tensor([[5.0, 0.0]]))
    torch.testing.assert_close(gradient, tensor([[[0.6, 0.8], [0.0, 0.0]]]))


def test_divergence_is_zero_for_the_gaussian_itself_and_half_the_squared_sigmas_away() -> None:
    points = on_circle(7)
    heat = heat_at(points, 2.0)
    assert heat_divergence(heat, points, SPACING).abs().max() < 1e-14
    middle = tensor([[[18.0, 20.0]]])
    away = heat_divergence(heat_at(middle + tensor([3.0, -4.0]), 2.0), middle, SPACING)
    assert float(away) == pytest.approx(5.0**2 / (2 * 2.0**2), abs=1e-6)


def test_divergence_grows_with_leakage_and_with_the_wrong_spread() -> None:
    points = on_circle(7)
    heat, uniform = heat_at(points, 2.0), 1.0 / (SIZE[0] * SIZE[1])
    leaking = [
        float(heat_divergence(((1 - s) * heat.exp() + s * uniform).log(), points, SPACING).mean())
        for s in (0.0, 0.05, 0.2, 0.5)
    ]
    assert leaking == sorted(leaking)
    spreads = [
        float(heat_divergence(heat_at(points, s), points, SPACING).mean()) for s in (2.0, 2.5, 4.0)
    ]
    assert spreads == sorted(spreads)


def test_surprise_is_the_gaussian_log_density() -> None:
    points, reference = tensor([[[1.0, 2.0]]]), tensor([[[2.5, 1.0]]])
    covariance = tensor([[[[4.0, 1.5], [1.5, 3.0]]]])
    within = torch.diag(tensor([0.4, 0.5]) ** 2 / 12)
    gauss = torch.distributions.MultivariateNormal(points[0, 0], covariance[0, 0] + within)
    expected = -gauss.log_prob(reference[0, 0]) - math.log(2 * math.pi)
    found = point_surprise(points, covariance, reference, SPACING)
    assert float(found) == pytest.approx(float(expected), abs=1e-12)


def test_surprise_is_least_where_the_covariance_is_that_of_the_errors() -> None:
    errors = 3.0 * torch.randn(1, 20000, 2, generator=torch.Generator().manual_seed(0)).double()
    eye = torch.eye(2).double()
    mean = {
        sigma: float(
            point_surprise(
                torch.zeros_like(errors), (sigma**2 * eye).expand(1, 20000, 2, 2), errors, SPACING
            ).mean()
        )
        for sigma in (2.0, 2.7, 3.0, 3.3, 4.0)
    }
    assert min(mean, key=lambda sigma: mean[sigma]) == 3.0


def test_a_heat_map_of_one_pixel_is_not_infinitely_sure() -> None:
    zero = torch.zeros(1, 1, 2).double()
    assert point_surprise(zero, torch.zeros(1, 1, 2, 2).double(), zero, SPACING).isfinite().all()


def test_distance_error_is_zero_for_the_reference_and_beyond_the_reach() -> None:
    reference = 40.0 * (circle_distance() / circle_distance().max())
    farther = torch.where(reference.abs() > 15.0, 3.0 * reference, reference)
    assert float(distance_error(reference, reference)) == 0.0
    assert float(distance_error(farther, reference)) == 0.0
    assert float(distance_error(-farther, reference)) > 5.0


def test_the_wrong_side_far_away_is_pushed_back() -> None:
    predicted = tensor([[[20.0, -20.0]]]).requires_grad_()
    error = distance_error(predicted, tensor([[[-18.0, 18.0]]]))
    (gradient,) = torch.autograd.grad(error.sum(), predicted)
    assert gradient[0, 0, 0] > 0
    assert gradient[0, 0, 1] < 0


def test_an_error_counts_more_near_the_contour() -> None:
    reference = tensor([[[0.0, 10.0]]])
    near = distance_error(reference + tensor([1.0, 0.0]), reference)
    far = distance_error(reference + tensor([0.0, 1.0]), reference)
    assert float(near) > 5.0 * float(far)


@pytest.mark.parametrize("num", [5, 7, 9, 11])
def test_spline_matrix_is_the_cubic_spline(num: int) -> None:
    points = np.random.default_rng(0).standard_normal((num, 2))
    knots = np.linspace(0, 1, num)
    expected = CubicSpline(knots, points)(np.linspace(0, 1, 41))
    assert np.allclose(spline_matrix(num, 41).numpy() @ points, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(spline_matrix(num, 41).sum(dim=1), torch.ones(41).double())


def test_heads_that_agree_are_coupled_at_no_cost() -> None:
    """What remains is the spline's and the bilinear map's error, and both are small."""
    assert float(coupling_error(on_circle(11), circle_distance(), SPACING)) < 0.01


@pytest.mark.parametrize("outward", [-2.0, 1.0, 3.0])
def test_coupling_is_the_distance_between_the_heads(outward: float) -> None:
    found = coupling_error(on_circle(11, RADIUS + outward), circle_distance(), SPACING)
    assert float(found) == pytest.approx(abs(outward), abs=0.01)


def test_coupling_lets_landmarks_slide_along_the_contour() -> None:
    angles = torch.linspace(0.7 * math.pi, 2.2 * math.pi, 11, dtype=torch.float64)
    slid = tensor(CENTRE) + RADIUS * torch.stack([angles.cos(), angles.sin()], dim=1)
    assert float(coupling_error(slid[None], circle_distance(), SPACING)) < 0.01


def test_coupling_teaches_both_heads() -> None:
    points = on_circle(7, RADIUS + 1.5).requires_grad_()
    distance = circle_distance().requires_grad_()
    coupling_error(points, distance, SPACING).sum().backward()
    assert points.grad is not None
    assert distance.grad is not None
    outward = points.detach() - tensor(CENTRE)
    assert (points.grad * outward).sum() > 0  # descent moves the landmarks inward
    assert distance.grad.sum() > 0  # and lowers the map along the curve


def test_gradient_of_the_coupling_is_right() -> None:
    # off the axes of symmetry: where a point lies on a pixel's edge the gradient has two values
    points = (on_circle(5, RADIUS + 1.3) + tensor([0.17, 0.11])).requires_grad_()
    distance = circle_distance()[:, ::8, ::9].clone().requires_grad_()
    spacing = SPACING * tensor([8.0, 9.0])
    assert torch.autograd.gradcheck(lambda p, d: coupling_error(p, d, spacing), (points, distance))


def test_points_outside_the_picture_see_its_edge() -> None:
    found = coupling_error(on_circle(7) + 500.0, circle_distance(), SPACING)
    assert float(found) == pytest.approx(float(circle_distance()[0, -1, -1]))


def test_perfect_heads_cost_nothing() -> None:
    weights = LossWeights(points=1.0, spread=1.0, distance=1.0, coupling=1.0)
    terms = contour_loss(perfect(), on_circle(), circle_distance(), SPACING, weights=weights)
    assert set(terms) == {"points", "spread", "distance", "coupling"}
    assert float(sum(terms.values(), torch.zeros(()))) < 0.02


def test_a_term_counts_as_its_weight_says() -> None:
    maps, wrong = perfect(), on_circle(radius=RADIUS + 2.0)
    one = contour_loss(maps, wrong, circle_distance(), SPACING, weights=LossWeights(points=1.0))
    two = contour_loss(maps, wrong, circle_distance(), SPACING, weights=LossWeights(points=2.0))
    assert float(one["points"]) == pytest.approx(2.0)
    assert float(two["points"]) == pytest.approx(4.0)
    assert float(two["spread"]) == float(one["spread"])


def test_an_unknown_landmark_teaches_nothing() -> None:
    wrong = on_circle(radius=RADIUS + 2.0)
    partly = wrong.clone()
    partly[0, 3:] = math.nan
    maps = perfect()
    points = maps.points_xy_mm_NK2.clone().requires_grad_()
    weights = LossWeights(likelihood=1.0, coupling=0.0)
    terms = contour_loss(
        maps._replace(points_xy_mm_NK2=points), partly, circle_distance(), SPACING, weights=weights
    )
    assert float(terms["points"].detach()) == pytest.approx(2.0)
    (gradient,) = torch.autograd.grad(sum(terms.values(), torch.zeros(())), points)
    assert gradient.isfinite().all()
    assert not gradient[0, 3:].any()
    assert gradient[0, :3].any()


def test_a_few_steps_bring_both_heads_to_a_circle() -> None:
    torch.manual_seed(0)
    model = ContourNet(7, width=8, depth=3)
    distance, points = circle_distance()[:, ::2, ::2].float(), on_circle(7).float()
    spacing, image = 2.0 * SPACING.float(), (distance < 0).float()[:, None]
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    totals = []
    for _ in range(40):
        maps = model(image, spacing)
        terms = contour_loss(maps, points, distance, spacing, weights=LossWeights())
        total = sum(terms.values(), torch.zeros(()))
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
        totals.append(float(total.detach()))
    assert totals[-1] < 0.5 * totals[0]
