from dataclasses import replace

import numpy as np
import pytest

from shared.errors import Code, EchoFedError
from shared.phantom.anatomy import Heart, draw_heart, volume_ml
from shared.phantom.beam import scatter
from shared.phantom.fan import converter, place_fan
from shared.phantom.planes import CONTRAST_VIEWS, PLANES, Plane, pose_of
from shared.phantom.scanner import SCANNERS, PhantomClip, render_clip
from shared.phantom.tissue import cut
from shared.phantom.truth import follow, landmarks_rc, pixel_rc


def heart_of(seed: int) -> Heart:
    return draw_heart(np.random.default_rng(seed))


def clip_of(
    seed: int, view: str = "A4C", scanner: str = "aurora", num_frames: int = 2
) -> PhantomClip:
    return render_clip(
        heart_of(seed),
        view,
        SCANNERS[scanner],
        num_frames=num_frames,
        size_HW=(112, 112),
        rng=np.random.default_rng(seed),
    )


@pytest.mark.parametrize("scanner", SCANNERS)
def test_same_seed_same_picture(scanner: str) -> None:
    first, second = clip_of(5, scanner=scanner), clip_of(5, scanner=scanner)
    assert np.array_equal(first.pixels_THW, second.pixels_THW)
    assert np.array_equal(first.labels_THW, second.labels_THW)
    assert not np.array_equal(first.pixels_THW, clip_of(6, scanner=scanner).pixels_THW)


@pytest.mark.parametrize("scanner", SCANNERS)
def test_all_energy_lies_in_the_sector(scanner: str) -> None:
    clip = clip_of(1, scanner=scanner)
    outside = ~clip.sector.mask_HW
    assert not clip.pixels_THW[:, outside].any()
    assert not clip.labels_THW[:, outside].any()
    # and the whole sector is imaged: no empty border
    rows = clip.pixels_THW.max(axis=0) > 0
    assert (rows & clip.sector.mask_HW).sum() > 0.6 * clip.sector.mask_HW.sum()
    assert np.array_equal(clip.sector.mask_HW, clip.fan.mask((112, 112)))


@pytest.mark.parametrize("scanner", SCANNERS)
@pytest.mark.parametrize("size_HW", [(112, 112), (240, 320), (600, 800)])
def test_fan_lies_on_the_screen(scanner: str, size_HW: tuple[int, int]) -> None:
    for width_deg in SCANNERS[scanner].widths_deg:
        fan = place_fan(replace(SCANNERS[scanner].layout, width_deg=width_deg), size_HW)
        half = np.radians(width_deg / 2)
        assert fan.apex_rc[0] + fan.radius_max_px < size_HW[0]
        assert fan.apex_rc[1] - fan.radius_max_px * np.sin(half) >= 0
        assert fan.apex_rc[1] + fan.radius_max_px * np.sin(half) <= size_HW[1] - 1


def test_scan_conversion_keeps_a_ramp() -> None:
    convert = converter(SCANNERS["aurora"].layout, (112, 112))
    samples, lines = convert.shape
    ramp = np.broadcast_to(np.arange(samples, dtype=np.float32)[:, None], (samples, lines))
    rows, columns = np.nonzero(convert.sector.mask_HW)
    fan = convert.fan
    radius = np.hypot(rows - fan.apex_rc[0], columns - fan.apex_rc[1])
    span = fan.radius_max_px - fan.radius_min_px
    expected = (radius - fan.radius_min_px) / span * (samples - 1)
    assert np.allclose(convert.to_pixels(ramp), expected, atol=1e-3)


def test_unknown_view_names_the_choices() -> None:
    with pytest.raises(EchoFedError) as caught:
        clip_of(0, view="A9C")
    assert caught.value.code is Code.VIEW_UNKNOWN
    assert "A4C" in caught.value.hint


def test_labelled_cavity_gives_the_true_volume() -> None:
    """Area-length on textbook apical planes of an upright heart meets the closed form."""
    heart = heart_of(1)
    areas = []
    for angle in (30.0, 90.0):
        pose = pose_of(Plane("apical", angle - heart.rotation_deg), heart)
        right, down = np.meshgrid(np.arange(-60.0, 60.0, 0.5), np.arange(0.0, 150.0, 0.5))
        points = tuple(
            pose.origin_mm[k] + right * pose.right[k] + down * pose.down[k] for k in range(3)
        )
        cavity = cut(heart, 0.0, points).chambers.cavity < 0
        areas.append(cavity.sum() * 0.25)
    volume = 8 * areas[0] * areas[1] / (3 * np.pi * heart.long_axis_mm) / 1000
    # area-length assumes an ellipsoid cut through its middle; ours is cut nearer the base, which
    # it overrates by 4 %, and the outflow tract adds a little more
    assert volume == pytest.approx(volume_ml(heart, 0.0), rel=0.10)


def test_smaller_cavity_at_end_systole() -> None:
    clip = clip_of(3, num_frames=30)
    area = (clip.labels_THW == 1).sum(axis=(1, 2))
    volumes = np.array([volume_ml(clip.heart, phase) for phase in clip.phases_T])
    assert np.corrcoef(area, volumes)[0, 1] > 0.97


def test_speckle_of_uniform_tissue_is_rayleigh() -> None:
    grid = np.random.default_rng(0).uniform(-60, 60, size=(3, 200_000)).astype(np.float32)
    field = scatter((grid[0], grid[1], grid[2]))
    amplitude = np.hypot(field[0], field[1])
    # sqrt(pi / (4 - pi)) for fully developed speckle
    assert amplitude.mean() / amplitude.std() == pytest.approx(1.913, abs=0.03)
    assert field.var() == pytest.approx(1.0, rel=0.05)


def test_speckle_moves_with_the_tissue() -> None:
    still = np.random.default_rng(1).uniform(-30, 30, size=(3, 1000)).astype(np.float32)
    at_rest = scatter((still[0], still[1], still[2]))
    again = scatter((still[0], still[1], still[2]))
    elsewhere = scatter((still[0] + 3.0, still[1], still[2]))
    assert np.array_equal(at_rest, again)
    assert abs(np.corrcoef(at_rest.ravel(), elsewhere.ravel())[0, 1]) < 0.2


def test_landmarks_lie_where_the_labels_say() -> None:
    heart = heart_of(7)
    pose = pose_of(PLANES["A4C"], heart)
    clip = clip_of(7)
    found = landmarks_rc(heart, (0.0,), pose, fan=clip.fan, mm_per_pixel=1.0)
    apex, left, right = (found[name][0] for name in ("apex", "annulus_left", "annulus_right"))
    assert apex[0] < left[0]
    assert left[1] < right[1]
    length = np.hypot(*(apex - (left + right) / 2))
    assert length == pytest.approx(heart.long_axis_mm, rel=0.1)


def test_followed_points_come_back_after_a_beat() -> None:
    heart = heart_of(2)
    wall = np.array([[heart.radius_mm, 0.0, heart.centre_mm]])
    path = follow(heart, (0.0, heart.end_systole, 0.999), wall)
    assert np.linalg.norm(path[0] - path[2]) < 0.1
    assert np.linalg.norm(path[0] - path[1]) > 3.0


def test_pixel_of_the_probe_is_the_apex_of_the_fan() -> None:
    clip = clip_of(4)
    point = pixel_rc(clip.pose.origin_mm[None], clip.pose, fan=clip.fan, mm_per_pixel=0.5)
    assert np.allclose(point[0], clip.fan.apex_rc)


@pytest.mark.parametrize("view", CONTRAST_VIEWS)
def test_contrast_turns_blood_brighter_than_muscle_and_changes_no_anatomy(view: str) -> None:
    filled = clip_of(3, view=view, scanner="fjord")
    plain = clip_of(3, view=view.removesuffix("-contrast"), scanner="fjord")
    assert np.array_equal(filled.labels_THW, plain.labels_THW)
    for clip, sign in ((filled, 1.0), (plain, -1.0)):
        blood = clip.pixels_THW[clip.labels_THW == 1].mean()
        muscle = clip.pixels_THW[clip.labels_THW == 2].mean()
        assert sign * (blood - muscle) > 10
