import math

import pytest
import torch
from torch import Tensor

from shared.models import SEGMENTERS
from shared.models.contour_net import ContourMaps, ContourNet, read_points

SPACING = torch.tensor([[0.5, 0.5]], dtype=torch.float64)


def gaussian(
    x: float, y: float, *, sigma: float = 4.0, size_HW: tuple[int, int] = (256, 256)
) -> Tensor:
    """Log-probabilities (1, 1, H, W) about (column, row)."""
    rows = torch.arange(size_HW[0], dtype=torch.float64)[:, None]
    columns = torch.arange(size_HW[1], dtype=torch.float64)[None, :]
    exponent = -((rows - y) ** 2 + (columns - x) ** 2) / (2 * sigma**2)
    return exponent.flatten().log_softmax(0).view(1, 1, *size_HW)


def read(log_heat: Tensor, row_mm: float = 1.0, column_mm: float = 1.0) -> tuple[Tensor, Tensor]:
    points, covariance = read_points(
        log_heat, torch.tensor([[row_mm, column_mm]], dtype=torch.float64)
    )
    return points[0, 0], covariance[0, 0]


def network(num_points: int = 7) -> ContourNet:
    torch.manual_seed(0)
    return ContourNet(num_points, width=8, depth=3).double()


def frames(num: int, height: int, width: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(num, 1, height, width, generator=generator, dtype=torch.float64)


def look(image: Tensor, row_mm: float, column_mm: float) -> ContourMaps:
    spacing = torch.tensor([[row_mm, column_mm]], dtype=torch.float64).expand(len(image), 2)
    with torch.no_grad():
        maps: ContourMaps = network()(image, spacing)
    return maps


@pytest.mark.parametrize("place", [128.0, 20.0, 77.3])
def test_a_gaussian_well_inside_is_read_exactly(place: float) -> None:
    points, covariance = read(gaussian(place, 100.0))
    torch.testing.assert_close(
        points, torch.tensor([place, 100.0], dtype=torch.float64), rtol=0, atol=1e-4
    )
    torch.testing.assert_close(covariance, 16.0 * torch.eye(2).double(), rtol=0, atol=1e-3)


def test_a_gaussian_cut_by_the_edge_is_drawn_inward() -> None:
    points, _ = read(gaussian(5.0, 128.0))
    assert float(points[0]) - 5.0 == pytest.approx(0.68, abs=0.005)


def test_mass_leaking_over_the_picture_draws_to_its_centre() -> None:
    heat = 0.95 * gaussian(40.0, 128.0).exp() + 0.05 / 256**2
    points, _ = read(heat.log())
    assert float(points[0]) - 40.0 == pytest.approx(0.05 * (127.5 - 40.0), abs=1e-6)


def test_spacing_scales_points_and_covariance_by_axis() -> None:
    points, covariance = read(gaussian(60.0, 90.0), row_mm=0.5, column_mm=0.3)
    torch.testing.assert_close(points, torch.tensor([18.0, 45.0]).double(), rtol=0, atol=1e-9)
    expected = torch.diag(torch.tensor([16.0 * 0.09, 16.0 * 0.25], dtype=torch.float64))
    torch.testing.assert_close(covariance, expected, rtol=0, atol=1e-9)


def test_covariance_knows_a_slant() -> None:
    angle, wide, narrow = 0.6, 6.0, 2.0
    turn = torch.tensor(
        [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]],
        dtype=torch.float64,
    )
    expected = turn @ torch.diag(torch.tensor([wide**2, narrow**2]).double()) @ turn.T
    rows, columns = torch.meshgrid(torch.arange(256.0), torch.arange(256.0), indexing="ij")
    offsets = torch.stack([columns - 130.0, rows - 120.0], dim=-1).double()
    exponent = -0.5 * torch.einsum("hwi,ij,hwj->hw", offsets, expected.inverse(), offsets)
    _, covariance = read(exponent.flatten().log_softmax(0).view(1, 1, 256, 256))
    torch.testing.assert_close(covariance, expected, rtol=0, atol=1e-6)


def test_gradients_of_the_readout_are_right() -> None:
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(1, 2, 5, 4, generator=generator, dtype=torch.float64, requires_grad=True)

    def places(logits: Tensor) -> tuple[Tensor, Tensor]:
        return read_points(logits.flatten(2).log_softmax(2).view_as(logits), SPACING)

    assert torch.autograd.gradcheck(places, (logits,))


def test_heads_have_a_map_per_landmark_and_one_distance() -> None:
    maps = look(frames(2, 37, 50), 0.5, 0.4)
    assert maps.log_heat_NKHW.shape == (2, 7, 37, 50)
    assert maps.points_xy_mm_NK2.shape == (2, 7, 2)
    assert maps.covariance_mm2_NK22.shape == (2, 7, 2, 2)
    assert maps.distance_mm_NHW.shape == (2, 37, 50)
    torch.testing.assert_close(
        maps.log_heat_NKHW.exp().sum(dim=(2, 3)), torch.ones(2, 7).double(), rtol=0, atol=1e-12
    )


def test_twice_the_spacing_is_twice_the_size() -> None:
    image = frames(2, 40, 48)
    one, two = look(image, 0.5, 0.4), look(image, 1.0, 0.8)
    for small, large, factor in zip(one, two, (1.0, 2.0, 4.0, 2.0), strict=True):
        torch.testing.assert_close(factor * small, large, rtol=1e-12, atol=1e-12)


def test_first_landmarks_are_in_the_middle() -> None:
    maps = look(frames(1, 41, 41), 1.0, 1.0)
    assert (maps.points_xy_mm_NK2 - 20.0).abs().max() < 2.0


@pytest.mark.parametrize("num_points", [7, 9, 11])
def test_table_builds_it_for_any_number_of_landmarks(num_points: int) -> None:
    model = SEGMENTERS["contour_net"](num_points, width=8, depth=2)
    maps = model(frames(1, 16, 16).float(), torch.ones(1, 2))
    assert maps.points_xy_mm_NK2.shape == (1, num_points, 2)
