"""V13 for strain: closed forms, no strain from rigid motion, segments add up to the whole."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import ellipe

from shared.errors import Code, EchoFedError
from shared.measurement.strain import (
    SEGMENTS,
    arc_strains,
    measure_gls,
    measure_mapse,
    measure_regional_strain,
    strain_curve,
    tangent_strain,
)
from shared.testing.contours import half_ellipse, moved, scaled


def test_uniform_contraction_is_its_own_strain() -> None:
    ed = [half_ellipse(view=view) for view in ("A4C", "A2C", "A3C")]
    found = measure_gls(ed, [scaled(contour, 0.8, 0.8) for contour in ed])
    assert found.value == pytest.approx(-20.0, rel=1e-12)
    assert found.views == ("A4C", "A2C", "A3C") * 2
    assert found.frames == (0, 0, 0, 1, 1, 1)


def _arc_mm(across: float, along: float) -> float:
    long, short = max(across, along), min(across, along)
    return float(2 * long * ellipe(1 - (short / long) ** 2))


@pytest.mark.parametrize(("across", "along"), [(1.0, 0.8), (0.75, 1.0), (0.9, 0.85)])
def test_shortening_and_thickening_of_an_ellipse_are_elliptic_integrals(
    across: float, along: float
) -> None:
    ed = half_ellipse(25, 90, num_points=1001)
    truth = 100 * (_arc_mm(25 * across, 90 * along) / _arc_mm(25, 90) - 1)
    found = measure_gls([ed], [scaled(ed, across, along)])
    assert found.value == pytest.approx(truth, abs=1e-3)


def test_the_mean_over_views_is_of_their_strains() -> None:
    ed = [half_ellipse(view="A4C"), half_ellipse(30, 60, view="A2C")]
    es = [scaled(ed[0], 0.9, 0.9), scaled(ed[1], 0.7, 0.7)]
    assert measure_gls(ed, es).value == pytest.approx(-20.0, rel=1e-12)


def test_rigid_motion_is_no_strain() -> None:
    ed = half_ellipse()
    es = replace(moved(ed, turn_rad=0.4, shift_mm=(12, -7)), frame=1)
    assert measure_gls([ed], [es]).value == pytest.approx(0.0, abs=1e-10)
    for found in measure_regional_strain(ed, es).values():
        assert found.value == pytest.approx(0.0, abs=1e-10)


def _field(matrix: np.ndarray, shift: tuple[float, float]) -> np.ndarray:
    """Displacement u = (F - I) x + shift on a picture of 0.5 x 0.4 mm."""
    rows, columns = np.mgrid[:240, :200]
    places = np.stack([columns * 0.4, rows * 0.5], axis=-1)
    return np.asarray(places @ (matrix - np.eye(2)).T + shift)


def test_a_displacement_field_gives_the_strain_of_its_gradient() -> None:
    contour = moved(half_ellipse(25, 80), shift_mm=(40, 100))
    turn = np.array([[np.cos(0.3), -np.sin(0.3)], [np.sin(0.3), np.cos(0.3)]])
    rigid = tangent_strain(_field(turn, (5, -3)), contour, (0.5, 0.4))
    np.testing.assert_allclose(rigid, 0.0, atol=1e-9)
    stretch = np.array([[0.9, 0.0], [0.0, 0.8]])
    strains = tangent_strain(_field(turn @ stretch, (5, -3)), contour, (0.5, 0.4))
    assert strains[contour.apex] == pytest.approx(-10.0, abs=1e-2)
    assert strains[0] == pytest.approx(-20.0, abs=1e-2)


def test_segments_are_equally_long_and_average_to_the_whole() -> None:
    ed = half_ellipse(num_points=601)
    points = ed.points_xy_mm * [0.9, 0.75]
    points[:, 0] += 0.02 * ed.points_xy_mm[:, 1]
    strains = arc_strains(ed.points_xy_mm, points)
    es = replace(ed, points_xy_mm=points, frame=1)
    assert strains.mean() == pytest.approx(measure_gls([ed], [es]).value, rel=1e-12)
    found = measure_regional_strain(ed, es)
    assert tuple(m.name.removeprefix("strain ") for m in found.values()) == SEGMENTS["A4C"]
    np.testing.assert_allclose([m.value for m in found.values()], strains)


def test_a_wall_that_stands_still_shows_in_its_segments_only() -> None:
    ed = half_ellipse(num_points=601)
    points = ed.points_xy_mm.copy()
    left = points[:, 0] < 0
    points[left, 1] *= 0.8
    points[left, 1] += ed.apex_xy_mm[1] * 0.2
    strains = arc_strains(ed.points_xy_mm, points)
    assert (strains[:3] < -5).all()
    np.testing.assert_allclose(strains[3:], 0.0, atol=1e-9)


def test_the_curve_starts_from_end_diastole() -> None:
    ed = half_ellipse()
    cine = [scaled(ed, s, s, frame=i) for i, s in enumerate((0.9, 1.0, 0.8))]
    np.testing.assert_allclose(strain_curve(cine, 1), [-10.0, 0.0, -20.0], atol=1e-9)
    with pytest.raises(EchoFedError) as caught:
        strain_curve(cine[:1], 0)
    assert caught.value.code is Code.FRAMES_MISSING


def test_mapse_is_the_way_of_the_base_along_the_axis() -> None:
    ed = half_ellipse()
    points = ed.points_xy_mm * [1.0, 0.85] + [0.0, -13.5]
    es = replace(ed, points_xy_mm=points, frame=1)
    assert measure_mapse([ed], [es]).value == pytest.approx(13.5, rel=1e-12)
    both = measure_mapse(
        [moved(ed, turn_rad=0.7), replace(ed, view="A2C")],
        [moved(es, turn_rad=0.7), replace(ed, view="A2C")],
    )
    assert both.value == pytest.approx(13.5 / 2, rel=1e-12)
    assert both.unit == "mm"


def test_views_and_points_that_do_not_fit_are_refused() -> None:
    four, plax = half_ellipse(num_points=41), half_ellipse(view="PLAX")
    with pytest.raises(EchoFedError) as caught:
        measure_gls([plax], [plax])
    assert caught.value.code is Code.VIEWS_UNFIT
    with pytest.raises(EchoFedError) as caught:
        measure_gls([four, four], [four, four])
    assert caught.value.code is Code.VIEWS_UNFIT
    with pytest.raises(EchoFedError) as caught:
        measure_regional_strain(plax, plax)
    assert caught.value.code is Code.VIEWS_UNFIT
    with pytest.raises(EchoFedError) as caught:
        measure_regional_strain(four, half_ellipse(num_points=43))
    assert caught.value.code is Code.CONTOUR_INVALID
    with pytest.raises(EchoFedError) as caught:
        measure_mapse([four], [replace(four, view="A2C")])
    assert caught.value.code is Code.VIEWS_UNFIT
