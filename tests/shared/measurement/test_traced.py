"""Instants of one cine from contours and from masks."""

import numpy as np
import pytest
from numpy.typing import NDArray

from shared.errors import Code, EchoFedError
from shared.measurement.assess import assess
from shared.measurement.landmarks import contour_of, epicardium_of
from shared.measurement.traced import TracedCine, see, trace_masks
from shared.testing.contours import half_ellipse

MM = 0.8


def _drawn(radius: float, length: float, wall: float = 9.0) -> NDArray[np.uint8]:
    """Half an ellipse with its base at y = 110 mm, its wall and an atrium below."""
    rows, columns = np.mgrid[:180, :130] * MM
    y, x = rows - 110, columns - 52
    labels = np.zeros(rows.shape, np.uint8)
    labels[(y <= 0) & ((x / (radius + wall)) ** 2 + (y / (length + wall)) ** 2 < 1)] = 2
    labels[(y > 0) & (x**2 + y**2 < 30**2)] = 3
    labels[(y <= 0) & ((x / radius) ** 2 + (y / length) ** 2 < 1)] = 1
    return labels


def _masks() -> NDArray[np.uint8]:
    squeeze = np.sin(np.pi * np.arange(20) / 20) ** 2
    return np.stack([_drawn(26 * (1 - 0.2 * s), 90 * (1 - 0.2 * s)) for s in squeeze])


def test_masks_become_instants_and_volumes() -> None:
    cine = trace_masks(_masks(), (MM, MM), view="A4C", frame_time_ms=40.0)
    seen = see(cine)
    assert seen.beat.es == 10
    assert seen.at_ed in (0, 1, 18, 19)
    found = assess([cine])
    assert found.measurements["EF"].value == pytest.approx(100 * (1 - 0.8**3), abs=1.5)
    assert found.measurements["GLS"].value == pytest.approx(-20.0, abs=1.0)
    outer, inner = 35**2 * 99, 26**2 * 90
    mass_g = 1.05 * 2 / 3 * np.pi * (outer - inner) / 1000
    assert found.measurements["LV mass"].value == pytest.approx(mass_g, rel=0.04)


def test_the_outer_face_starts_on_the_line_of_the_base() -> None:
    labels = _drawn(26, 90)
    inner = contour_of(labels, (MM, MM), view="A4C")
    outer = epicardium_of(labels, inner)
    assert outer.long_axis_mm == pytest.approx(99, abs=1.5)
    np.testing.assert_allclose(outer.base_xy_mm[:, 0], [52 - 35, 52 + 35], atol=1.5)
    np.testing.assert_allclose(outer.base_xy_mm[:, 1], inner.base_xy_mm[:, 1], atol=1.5)
    assert outer.area_mm2 == pytest.approx(np.pi * 35 * 99 / 2, rel=0.02)


@pytest.mark.parametrize("seen", ["a cavity below the base line", "nothing"])
def test_a_mask_that_does_not_fit_its_contour_has_no_outer_face(seen: str) -> None:
    inner = contour_of(_drawn(26, 90), (MM, MM), view="A4C")
    nothing = np.zeros((180, 130), np.uint8)
    nothing[170:178, 10:20] = seen != "nothing"
    with pytest.raises(EchoFedError) as caught:
        epicardium_of(nothing, inner)
    assert caught.value.code is Code.LANDMARKS_MISSING


def test_masks_without_spacing_are_refused() -> None:
    with pytest.raises(EchoFedError) as caught:
        trace_masks(_masks(), None, view="A4C", frame_time_ms=40.0)
    assert caught.value.code is Code.SPACING_MISSING


def test_a_still_has_one_instant() -> None:
    seen = see(TracedCine([None, half_ellipse(num_points=41)], "A4C", 40.0))
    assert (seen.at_ed, seen.es, seen.beat.ed) == (1, None, None)
    assert seen.cautions == {"still"}
