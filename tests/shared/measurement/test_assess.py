"""The whole way from contours to a report: closed forms, noise, gaps and what is refused."""

from dataclasses import replace

import numpy as np
import pytest

from shared.echo.assessment import CAUTIONS, Assessment
from shared.echo.contour import Contour
from shared.errors import Code, EchoFedError
from shared.measurement.assess import assess
from shared.measurement.cycle import measure_beat
from shared.measurement.traced import TracedCine
from shared.testing.contours import half_ellipse, moved, scaled

FRAME_MS = 30.0
STRETCH = 0.8  # of every length at end systole


def _sizes(num_frames: int = 60, beat_frames: float = 27.3, end: float = STRETCH) -> np.ndarray:
    """Lengths of a ventricle that contracts alike everywhere, 1 at end diastole."""
    phases = (np.arange(num_frames) / beat_frames + 0.15) % 1
    squeeze = np.sin(np.pi * np.where(phases < 0.4, phases / 0.8, 0.5 + (phases - 0.4) / 1.2)) ** 2
    return (1 - (1 - end**3) * squeeze) ** (1 / 3)


def _cine(
    view: str = "A4C",
    *,
    noise_mm: float = 0.0,
    seed: int = 0,
    sizes: np.ndarray | None = None,
    num_points: int = 81,
) -> TracedCine:
    still = half_ellipse(view=view, num_points=num_points, cut=-0.3)
    generator = np.random.default_rng(seed)
    contours = [
        _rough(scaled(still, size, size, frame=place), noise_mm, generator)
        for place, size in enumerate(_sizes() if sizes is None else sizes)
    ]
    return TracedCine(contours, view, FRAME_MS)


def _rough(contour: Contour, noise_mm: float, generator: np.random.Generator) -> Contour:
    """The contour with its points moved out and in, seven neighbours together."""
    outward = contour.points_xy_mm - [0.0, -30.0]
    outward /= np.hypot(*outward.T)[:, None]
    white = generator.normal(size=len(outward) + 6)
    moves = noise_mm * np.convolve(white, np.full(7, 7**-0.5), "valid")
    return replace(contour, points_xy_mm=contour.points_xy_mm + outward * moves[:, None])


def _values(assessment: Assessment) -> dict[str, float]:
    return {name: measured.value for name, measured in assessment.measurements.items()}


def test_a_uniform_contraction_has_its_closed_forms() -> None:
    found = assess([_cine("A4C"), _cine("A2C"), _cine("A3C")])
    values = _values(found)
    assert values["EF"] == pytest.approx(100 * (1 - STRETCH**3), abs=0.6)
    assert values["GLS"] == pytest.approx(100 * (STRETCH - 1), abs=0.3)
    assert values["FAC A2C"] == pytest.approx(100 * (1 - STRETCH**2), abs=0.5)
    assert values["EF area-length A3C"] == pytest.approx(100 * (1 - STRETCH**3), abs=0.6)
    assert values["SV"] == values["EDV"] - values["ESV"]
    assert found.cautions == ()
    assert found.measurements["EF"].views == ("A4C", "A2C", "A4C", "A2C")
    assert len(found.measurements["GLS"].views) == 6
    assert found.beats[0].period_ms == pytest.approx(27.3 * FRAME_MS, rel=0.01)


def test_one_beat_without_repetition_has_them_too() -> None:
    values = _values(assess([_cine(sizes=_sizes(34))]))
    assert values["EF"] == pytest.approx(100 * (1 - STRETCH**3), abs=0.8)
    assert values["GLS"] == pytest.approx(100 * (STRETCH - 1), abs=0.4)


def test_a_moving_probe_changes_no_shape() -> None:
    generator = np.random.default_rng(2)
    still = _cine(noise_mm=1.0)
    shaken = [
        moved(
            contour, turn_rad=generator.normal() * 0.1, shift_mm=tuple(generator.normal(size=2) * 8)
        )
        for contour in still.contours
        if contour is not None
    ]
    before, after = assess([still]), assess([replace(still, contours=shaken)])
    for name in ("EDV", "ESV", "EF", "GLS", "FAC A4C"):
        assert _values(after)[name] == pytest.approx(_values(before)[name], rel=1e-6)
    turned = replace(
        still, contours=[moved(c, turn_rad=0.4, shift_mm=(5.0, 9.0)) for c in still.contours if c]
    )
    assert _values(assess([turned])) == pytest.approx(_values(before), rel=1e-6)


@pytest.mark.parametrize("share", [0.1, 0.3])
def test_missing_frames_change_little_and_are_told(share: float) -> None:
    generator = np.random.default_rng(3)
    cine = _cine(noise_mm=1.0)
    kept = [None if generator.random() < share else contour for contour in cine.contours]
    whole, holed = assess([cine]), assess([replace(cine, contours=kept)])
    assert _values(holed)["EF"] == pytest.approx(_values(whole)["EF"], abs=1.5)
    assert _values(holed)["GLS"] == pytest.approx(_values(whole)["GLS"], abs=1.0)
    assert "frames_filled" in holed.cautions
    assert set(holed.beats[0].filled) <= {i for i, c in enumerate(kept) if c is None}


def test_contours_too_far_apart_to_smooth_stand_for_themselves() -> None:
    cine = _cine(sizes=_sizes(58, 28.0))
    kept = [None if place % 9 else contour for place, contour in enumerate(cine.contours)]
    found = assess([replace(cine, contours=kept)])
    assert 0 < _values(found)["EF"] < 100 * (1 - STRETCH**3) + 1


def test_frames_far_from_their_neighbours_do_not_count() -> None:
    cine = _cine(noise_mm=0.5)
    broken = list(cine.contours)
    for place in (4, 11, 12, 39):
        contour = broken[place]
        assert contour is not None
        broken[place] = scaled(contour, 0.6, 0.6, frame=place)
    whole, found = assess([cine]), assess([replace(cine, contours=broken)])
    assert found.beats[0].rejected == (4, 11, 12, 39)
    assert "frames_rejected" in found.cautions
    assert _values(found)["EF"] == pytest.approx(_values(whole)["EF"], abs=0.8)


@pytest.mark.parametrize("noise_mm", [1.0, 2.0])
def test_noise_does_not_bias_ejection_as_extremes_of_single_frames_do(noise_mm: float) -> None:
    truth = 100 * (1 - STRETCH**3)
    errors, raw = [], []
    for seed in range(6):
        cine = _cine(noise_mm=noise_mm, seed=seed)
        errors.append(_values(assess([cine]))["EF"] - truth)
        raw.append(measure_beat([[c for c in cine.contours if c]])["EF"].value - truth)
    assert abs(np.mean(errors)) < 0.9 * noise_mm
    assert np.std(errors) < 0.7 * np.std(raw) + 0.2
    assert np.mean(raw) > abs(np.mean(errors)) + noise_mm


@pytest.mark.parametrize("noise_mm", [0.0, 1.0, 2.0])
def test_a_heart_that_stands_still_does_not_eject(noise_mm: float) -> None:
    sizes = np.ones(60)
    for seed in range(3):
        found = assess([_cine(noise_mm=noise_mm, seed=seed, sizes=sizes)])
        assert abs(_values(found)["EF"]) < 0.5
        assert abs(_values(found)["GLS"]) < 0.5
        assert "no_motion" in found.cautions
    still = half_ellipse(num_points=81, cut=-0.3).area_mm2
    assert found.beats[0].contours[7] is not None
    assert found.beats[0].contours[7].area_mm2 == pytest.approx(still, rel=0.06)


def test_a_weak_heart_is_no_still_one() -> None:
    weak = 0.95
    found = assess([_cine(noise_mm=1.0, sizes=_sizes(end=weak))])
    assert _values(found)["EF"] == pytest.approx(100 * (1 - weak**3), abs=2.5)
    assert "no_motion" not in found.cautions


def test_the_interval_holds_the_truth_and_shrinks_with_noise_that_changes() -> None:
    truth, hits, widths = 100 * (1 - STRETCH**3), 0, []
    across = np.convolve(np.ones(7), np.ones(7)) / 7  # what `_rough` correlates
    reach = np.abs(np.subtract.outer(np.arange(31), np.arange(31)))
    shares = np.where(reach < 7, across[np.minimum(reach, 6) + 6], 0.0)
    for seed in range(4):
        cine = _cine(noise_mm=1.0, seed=seed, num_points=31)
        outward = half_ellipse(num_points=31, cut=-0.3).points_xy_mm - [0.0, -30.0]
        outward /= np.hypot(*outward.T)[:, None]
        cover = np.einsum("pq,pi,qj->piqj", shares, outward, outward).reshape(62, 62)
        sure = [replace(contour, covariance=cover) for contour in cine.contours if contour]
        measured = assess([replace(cine, contours=sure)]).measurements["EF"]
        single = measure_beat([sure])["EF"].interval
        assert measured.interval is not None
        assert single is not None
        low, high = measured.interval
        hits += low <= truth <= high
        widths.append((high - low) / (single[1] - single[0]))
    assert hits >= 3
    assert np.mean(widths) < 0.85


def test_one_frame_gives_a_volume_and_no_more() -> None:
    still = half_ellipse(num_points=401, radius_mm=25.0, length_mm=90.0)
    found = assess([TracedCine([None, still], "A4C", None)])
    values = _values(found)
    assert set(values) == {"LV volume", "LV volume area-length A4C"}
    assert values["LV volume"] == pytest.approx(2 / 3 * np.pi * 25**2 * 90 / 1000, rel=1e-3)
    assert set(found.cautions) == {"still", "single_plane"}
    assert found.beats[0].es is None


def test_two_stills_give_an_ejection_of_part_of_a_beat() -> None:
    still = half_ellipse()
    cine = TracedCine([still, scaled(still, 0.8, 0.8)], "A4C", None)
    found = assess([cine])
    assert _values(found)["EF"] == pytest.approx(100 * (1 - 0.8**3))
    assert "part_of_beat" in found.cautions


def test_less_than_a_beat_is_told() -> None:
    assert "part_of_beat" in assess([_cine(sizes=_sizes(60)[2:16])]).cautions
    assert "part_of_beat" not in assess([_cine(sizes=_sizes(60)[23:52])]).cautions


def test_of_a_plane_seen_twice_the_larger_section_counts() -> None:
    cines = [_cine(sizes=0.9 * _sizes()), _cine(), _cine(sizes=0.8 * _sizes())]
    found = assess(cines)
    assert "repeated_view" in found.cautions
    assert _values(found)["EDV"] == pytest.approx(_values(assess(cines[1:2]))["EDV"])
    assert len(found.beats) == 1


def test_a_shorter_view_is_foreshortened() -> None:
    assert "foreshortened" in assess([_cine("A4C"), _cine("A2C", sizes=0.85 * _sizes())]).cautions
    assert (
        "foreshortened" not in assess([_cine("A4C"), _cine("A2C", sizes=0.95 * _sizes())]).cautions
    )


def test_pixels_need_not_be_square() -> None:
    uneven = [replace(c, mm_per_pixel=(0.154, 0.308)) for c in _cine().contours if c]
    found = assess([TracedCine(uneven, "A4C", FRAME_MS)])
    assert _values(found) == pytest.approx(_values(assess([_cine()])))
    assert found.measurements["EF"].mm_per_pixel == ((0.154, 0.308),) * 2


def test_an_unknown_frame_time_is_told_and_costs_little() -> None:
    found = assess([replace(_cine(), frame_time_ms=None)])
    assert _values(found)["EF"] == pytest.approx(100 * (1 - STRETCH**3), abs=0.8)
    assert found.cautions == ("single_plane", "frame_time_missing")
    assert found.beats[0].period_ms is None


def test_only_tracked_contours_tell_segments() -> None:
    tracked = _values(assess([replace(_cine(), is_tracked=True)]))
    segments = [value for name, value in tracked.items() if name.startswith("strain ")]
    assert len(segments) == 6
    np.testing.assert_allclose(segments, 100 * (STRETCH - 1), atol=0.4)
    assert not any(name.startswith("strain ") for name in _values(assess([_cine()])))


def test_the_frames_of_the_clip_are_named() -> None:
    later = [replace(c, frame=100 + 2 * c.frame) for c in _cine().contours if c]
    beat = assess([TracedCine(later, "A4C", FRAME_MS)])
    ed, es = beat.beats[0].ed, beat.beats[0].es
    assert ed is not None
    assert es is not None
    assert beat.measurements["EF"].frames == (100 + 2 * ed, 100 + 2 * es)


def test_what_cannot_be_measured_is_left_out_or_refused() -> None:
    other = [replace(c, view="PLAX") for c in _cine().contours if c]
    unfit = TracedCine(other, "PLAX", FRAME_MS)
    empty = TracedCine([None] * 9, "A2C", FRAME_MS)
    found = assess([unfit, _cine(), empty])
    assert set(found.cautions) == {"view_unfit", "no_contour", "single_plane"}
    for cines in ([], [unfit, empty]):
        with pytest.raises(EchoFedError) as caught:
            assess(cines)
        assert caught.value.code is Code.LANDMARKS_MISSING
    with pytest.raises(EchoFedError) as caught:
        assess([replace(unfit, view="A9C")])
    assert caught.value.code is Code.VIEW_UNKNOWN


def test_cautions_come_in_their_order() -> None:
    found = assess([replace(_cine(sizes=_sizes(14)), frame_time_ms=None)])
    assert list(found.cautions) == sorted(found.cautions, key=CAUTIONS.index)
