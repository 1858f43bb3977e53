"""Contours to learn from lie on the masks, and on what a person marked."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from shared.errors import Code, EchoFedError
from site_client.annotated import AnnotatedFrames
from site_client.training.outlines import as_extracted, outlines_of

Make = Callable[..., AnnotatedFrames]


def test_annotated_ends_and_apex_count_and_the_others_lie_on_the_edge(ventricles: Make) -> None:
    frames = ventricles((90, 80), (80, 96))
    _, outlines, failures = outlines_of(frames, 7)
    assert not failures
    assert np.array_equal(outlines.points_xy_px_NK2[:, [0, 3, 6]], frames.landmarks_xy_px_N32)
    for place, points in enumerate(outlines.points_xy_px_NK2):
        columns, rows = np.rint(points[[1, 2, 4, 5]]).astype(int).T
        assert np.abs(outlines.distance_mm_NSS[place, rows, columns]).max() < 1.5 * 1.5


def test_landmarks_that_nobody_marked_are_found_on_the_mask(ventricles: Make) -> None:
    frames = ventricles((90, 80))
    unknown = frames.landmarks_xy_px_N32.copy()
    unknown[:, 1:] = np.nan
    _, outlines, _ = outlines_of(replace(frames, landmarks_xy_px_N32=unknown), 9)
    assert np.array_equal(outlines.points_xy_px_NK2[0, 0], frames.landmarks_xy_px_N32[0, 0])
    apart = outlines.points_xy_px_NK2[0, [4, 8]] - frames.landmarks_xy_px_N32[0, 1:]
    assert np.abs(apart).max() < 3


def test_distances_are_in_mm_negative_inside_and_zero_on_the_edge(ventricles: Make) -> None:
    frames = ventricles((90, 80), mm=1.5)
    twice = replace(frames, mm_per_pixel_N2=2 * frames.mm_per_pixel_N2)
    (near, far) = (outlines_of(one, 7)[1].distance_mm_NSS for one in (frames, twice))
    np.testing.assert_allclose(far, 2 * near, rtol=1e-6)
    is_cavity_NSS = frames.labels_NSS == 1
    assert np.array_equal(near < 0, is_cavity_NSS)
    assert np.abs(near).min() == pytest.approx(0.75)  # half a pixel from the next one outside


def test_frames_without_a_contour_are_left_out_and_counted(ventricles: Make) -> None:
    frames = ventricles((90, 80), (90, 80), (80, 90), (80, 80))
    labels_NSS, spacing_N2 = frames.labels_NSS.copy(), frames.mm_per_pixel_N2.copy()
    labels_NSS[1][labels_NSS[1] == 1] = 0
    spacing_N2[2] = np.nan
    kept, outlines, failures = outlines_of(
        replace(frames, labels_NSS=labels_NSS, mm_per_pixel_N2=spacing_N2), 7
    )
    assert failures == {"LANDMARKS_MISSING": 1, "SPACING_MISSING": 1}
    assert kept.clip_N.tolist() == [0, 3]
    alone = outlines_of(frames.take(np.array([3])), 7)[1]
    assert np.array_equal(outlines.points_xy_px_NK2[1], alone.points_xy_px_NK2[0])
    with pytest.raises(EchoFedError) as caught:
        outlines_of(replace(frames, labels_NSS=np.zeros_like(labels_NSS)), 7)
    assert caught.value.code is Code.LANDMARKS_MISSING


def test_the_order_of_structures_does_not_matter_and_others_are_anything() -> None:
    names = ("background", "la", "rv", "myocardium", "lv")
    labels_HW = np.arange(5, dtype=np.uint8)[None]
    assert as_extracted(labels_HW, names).tolist() == [[0, 3, 4, 2, 1]]
