"""What is said of a frame goes where its pixels go."""

import numpy as np
import pytest
import torch

from site_client.augment.warp import WarpReach, draw_warp, shade, warp_maps, warp_points

REACH = WarpReach(rotation_deg=25.0, zoom=0.3, shift=0.1, brightness=0.2, gamma=0.4)
STILL = WarpReach(0.0, 0.0, 0.0, 0.0, 0.0)
SIDE = 64


def spots(places: np.ndarray) -> torch.Tensor:
    """Smooth spots (N, S, S) about one place (column, row) each."""
    y, x = np.mgrid[:SIDE, :SIDE]
    right, down = (places[:, axis, None, None] for axis in (0, 1))
    return torch.from_numpy(np.exp(-((x - right) ** 2 + (y - down) ** 2) / 18.0))


def centre_of(maps: torch.Tensor) -> np.ndarray:
    y, x = np.mgrid[:SIDE, :SIDE]
    mass = maps.numpy()
    total = mass.sum(axis=(1, 2))
    return np.stack([(mass * x).sum((1, 2)) / total, (mass * y).sum((1, 2)) / total], axis=1)


def test_points_go_where_the_pixels_go(seed: int) -> None:
    generator = np.random.default_rng(seed)
    places = generator.uniform(26, 38, (6, 2))
    warp = draw_warp(REACH, 6, generator)
    moved = warp_maps(spots(places), warp, is_nearest=False, repeats_edge=False)
    points = warp_points(torch.from_numpy(places)[:, None], warp, SIDE)[:, 0].numpy()
    assert np.abs(points - places).max() > 3
    assert np.abs(centre_of(moved) - points).max() < 0.05


def test_a_zoom_changes_lengths_by_itself(seed: int) -> None:
    generator = np.random.default_rng(seed)
    warp = draw_warp(REACH, 5, generator)
    pair = torch.from_numpy(generator.uniform(10, 50, (5, 2, 2)))
    moved = warp_points(pair, warp, SIDE)
    before, after = ((p[:, 1] - p[:, 0]).norm(dim=1).numpy() for p in (pair, moved))
    assert np.allclose(after / before, warp.zoom_N)


def test_an_unknown_point_stays_unknown_alone(seed: int) -> None:
    warp = draw_warp(REACH, 1, np.random.default_rng(seed))
    points = torch.tensor([[[3.0, 4.0], [np.nan, np.nan]]], dtype=torch.float64)
    known = warp_points(points, warp, SIDE).isfinite().all(dim=2)
    assert known.tolist() == [[True, False]]


def test_labels_stay_labels(seed: int) -> None:
    generator = np.random.default_rng(seed)
    labels = torch.from_numpy(generator.integers(0, 4, (3, SIDE, SIDE)))
    warp = draw_warp(REACH, 3, generator)
    moved = warp_maps(labels, warp, is_nearest=True, repeats_edge=False)
    assert set(moved.unique().tolist()) <= {0.0, 1.0, 2.0, 3.0}


@pytest.mark.parametrize("is_nearest", [True, False])
def test_no_change_changes_nothing(seed: int, is_nearest: bool) -> None:
    generator = np.random.default_rng(seed)
    maps = torch.from_numpy(generator.uniform(0, 255, (2, SIDE, SIDE))).float()
    warp = draw_warp(STILL, 2, generator)
    still = warp_maps(maps, warp, is_nearest=is_nearest, repeats_edge=True)
    assert torch.allclose(still, maps, atol=0.02)
    assert torch.allclose(shade(maps, warp), maps, atol=1e-3)


def test_black_stays_black_and_white_is_the_most(seed: int) -> None:
    generator = np.random.default_rng(seed)
    maps = torch.from_numpy(generator.integers(0, 256, (4, 8, 8))).float()
    maps[:, :4] = 0
    shaded = shade(maps, draw_warp(REACH, 4, generator))
    assert (shaded[:, :4] == 0).all()
    assert 0 <= shaded.min() <= shaded.max() <= 255
