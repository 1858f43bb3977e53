import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt

from shared.errors import Code, EchoFedError
from shared.segmentation.distance import Array, distance_from_mask, distance_from_polygon


def circle_map(size_HW: tuple[int, int], mm: tuple[float, float], radius: float) -> Array:
    rows, columns = np.indices(size_HW).astype(np.float64)
    centre = (size_HW[0] / 2 - 0.3, size_HW[1] / 2 + 0.2)
    out: Array = np.hypot((rows - centre[0]) * mm[0], (columns - centre[1]) * mm[1]) - radius
    return out


def polygon(num: int = 5, seed: int = 0) -> Array:
    """A star-shaped polygon about (20, 24) mm."""
    rng = np.random.default_rng(seed)
    angles = np.sort(rng.uniform(0, 2 * np.pi, num))
    radii = rng.uniform(6, 14, num)
    return np.stack([20 + radii * np.cos(angles), 24 + radii * np.sin(angles)], axis=1)


def test_half_a_pixel_on_each_side_halves_the_error_of_a_disk() -> None:
    """V8: the plain transform is up to a pixel off and jumps by two across the edge."""
    exact = circle_map((160, 160), (1.0, 1.0), 60.0)
    disk = exact < 0
    plain = distance_transform_edt(~disk) - distance_transform_edt(disk) - exact
    ours = distance_from_mask(disk, (1.0, 1.0)) - exact
    assert 0.9 < np.abs(plain).max() <= 1.0
    assert np.abs(ours).max() <= 0.5
    assert abs(ours.mean()) < 0.1


@pytest.mark.parametrize("mm", [(0.5, 0.5), (0.3, 0.7), (0.8, 0.2)])
def test_map_of_a_mask_is_within_half_a_pixel_of_the_truth(mm: tuple[float, float]) -> None:
    exact = circle_map((150, 170), mm, 14.0)
    error = distance_from_mask(exact < 0, mm) - exact
    assert np.abs(error).max() <= 0.5 * np.hypot(*mm)


def test_a_straight_edge_is_measured_exactly() -> None:
    """The edge of a half plane lies half a pixel before the first centre on the other side."""
    region = np.zeros((12, 9), bool)
    region[:, :4] = True
    expected = (np.arange(9) - 3.5) * 0.7
    found = distance_from_mask(region, (0.3, 0.7))
    assert np.allclose(found, expected[None, :], rtol=0, atol=1e-12)
    assert np.allclose(distance_from_mask(region.T, (0.7, 0.3)), expected[:, None], atol=1e-12)


def test_inside_is_negative_and_the_complement_is_the_negative() -> None:
    disk = circle_map((60, 70), (0.5, 0.4), 8.0) < 0
    found = distance_from_mask(disk, (0.5, 0.4))
    assert np.array_equal(found < 0, disk)
    assert np.array_equal(distance_from_mask(~disk, (0.5, 0.4)), -found)


def test_a_map_scales_with_the_spacing_and_turns_with_the_picture() -> None:
    disk = circle_map((60, 70), (0.5, 0.4), 8.0) < 0
    found = distance_from_mask(disk, (0.5, 0.4))
    assert np.allclose(distance_from_mask(disk, (1.5, 1.2)), 3 * found, rtol=0, atol=1e-12)
    assert np.allclose(distance_from_mask(disk.T, (0.4, 0.5)), found.T, rtol=0, atol=1e-12)
    assert np.allclose(distance_from_mask(disk[::-1], (0.5, 0.4)), found[::-1], atol=1e-12)


@pytest.mark.parametrize("value", [True, False])
def test_a_region_without_an_edge_is_refused(value: bool) -> None:
    with pytest.raises(EchoFedError) as caught:
        distance_from_mask(np.full((5, 6), value), (1.0, 1.0))
    assert caught.value.code is Code.PIXELS_MISSING


def test_distance_to_a_square_is_exact() -> None:
    square = np.array([[2.0, 1.0], [6.0, 1.0], [6.0, 5.0], [2.0, 5.0]])
    x, y = np.meshgrid(np.arange(20) * 0.5, np.arange(16) * 0.5)
    over_x, over_y = np.abs(x - 4.0) - 2.0, np.abs(y - 3.0) - 2.0
    outside = np.hypot(np.maximum(over_x, 0), np.maximum(over_y, 0))
    expected = outside + np.minimum(np.maximum(over_x, over_y), 0)
    found = distance_from_polygon(square, (16, 20), (0.5, 0.5))
    assert np.allclose(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_polygon_may_begin_anywhere_and_turn_either_way(seed: int) -> None:
    points = polygon(7, seed)
    found = distance_from_polygon(points, (60, 50), (0.8, 0.9))
    for other in (np.roll(points, 3, axis=0), points[::-1], np.concatenate([points, points[:1]])):
        again = distance_from_polygon(other, (60, 50), (0.8, 0.9))
        assert np.allclose(again, found, rtol=0, atol=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_a_distance_map_changes_by_a_millimetre_a_millimetre_at_most(seed: int) -> None:
    found = distance_from_polygon(polygon(7, seed), (60, 50), (0.8, 0.9))
    assert np.abs(np.diff(found, axis=0)).max() <= 0.8 + 1e-12
    assert np.abs(np.diff(found, axis=1)).max() <= 0.9 + 1e-12


def test_polygon_converges_to_its_circle_with_the_square_of_its_sides() -> None:
    exact = circle_map((60, 60), (0.5, 0.5), 11.0)
    centre = np.array([(30 + 0.2) * 0.5, (30 - 0.3) * 0.5])
    errors = []
    for num in (40, 80, 160):
        turns = np.linspace(0, 2 * np.pi, num, endpoint=False)
        points = centre + 11.0 * np.stack([np.cos(turns), np.sin(turns)], axis=1)
        errors.append(np.abs(distance_from_polygon(points, (60, 60), (0.5, 0.5)) - exact).max())
    assert errors[0] < 11.0 * (np.pi / 40) ** 2 / 2 * 1.01
    assert errors[0] / errors[1] == pytest.approx(4.0, abs=0.3)
    assert errors[1] / errors[2] == pytest.approx(4.0, abs=0.3)


def test_mask_of_a_polygon_gives_the_polygon_s_map_to_half_a_pixel() -> None:
    exact = distance_from_polygon(polygon(9, 2), (120, 110), (0.4, 0.4))
    found = distance_from_mask(exact < 0, (0.4, 0.4))
    near = np.abs(exact) < 8.0
    assert np.abs(found - exact)[near].max() < 0.4
