import numpy as np
import pytest

from shared.phantom.anatomy import (
    aortic_opening,
    cavity_volume_ml,
    contraction,
    draw_heart,
    mitral_opening,
    volume_ml,
)
from shared.phantom.motion import beat_at, displacement_mm, to_material, to_space
from shared.phantom.tissue import cut


@pytest.mark.parametrize("seed", range(5))
def test_ejection_fraction_is_the_stroke_share_of_the_volume_curve(seed: int) -> None:
    heart = draw_heart(np.random.default_rng(seed))
    volumes = [volume_ml(heart, phase) for phase in np.linspace(0, 1, 400, endpoint=False)]
    ejection_fraction = (max(volumes) - min(volumes)) / max(volumes)
    assert ejection_fraction == pytest.approx(heart.ejection_fraction, abs=1e-3)
    assert volumes[0] == heart.edv_ml
    assert volume_ml(heart, heart.end_systole) == pytest.approx(heart.esv_ml)


def test_patients_cover_the_promised_ranges() -> None:
    hearts = [draw_heart(np.random.default_rng(seed)) for seed in range(300)]
    fractions = [heart.ejection_fraction for heart in hearts]
    rates = [heart.heart_rate_bpm for heart in hearts]
    assert min(fractions) >= 0.25
    assert max(fractions) <= 0.70
    assert np.ptp(fractions) > 0.40
    assert min(rates) >= 50
    assert max(rates) <= 100
    for heart in hearts:
        assert cavity_volume_ml(heart.radius_mm, heart.long_axis_mm) == pytest.approx(heart.edv_ml)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("phase", [0.0, 0.2, 0.37, 0.8])
def test_cavity_volume_in_space_follows_the_curve(seed: int, phase: float) -> None:
    heart = draw_heart(np.random.default_rng(seed))
    rng = np.random.default_rng(9)
    low, high = np.array([-45.0, -45.0, -5.0]), np.array([45.0, 45.0, 120.0])
    x, y, z = (rng.uniform(low, high, size=(400_000, 3))).T
    material = to_material(beat_at(heart, phase), (x, y, z))
    height = heart.long_axis_mm - heart.centre_mm
    along = (material[2] - heart.centre_mm) / height
    radius = np.hypot(material[0], material[1]) / heart.radius_mm
    inside = (along**2 + radius**2 < 1) & (material[2] > 0)
    volume = inside.mean() * np.prod(high - low) / 1000
    # 400k darts on about 10 % of the box: standard error below 1 %
    assert volume == pytest.approx(volume_ml(heart, phase), rel=0.03)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("phase", [0.0, 0.15, 0.37, 0.6])
def test_tissue_map_and_its_inverse_meet(seed: int, phase: float) -> None:
    heart = draw_heart(np.random.default_rng(seed))
    rng = np.random.default_rng(seed)
    points = rng.uniform([-50, -50, -40], [50, 50, heart.long_axis_mm + 5], size=(4000, 3)).T
    beat = beat_at(heart, phase)
    material = to_material(beat, (points[0], points[1], points[2]))
    back = np.stack(to_space(beat, material))
    error = np.linalg.norm(back - points, axis=0)
    assert np.quantile(error, 0.999) < 1e-3


def test_wall_keeps_its_volume() -> None:
    heart = draw_heart(np.random.default_rng(4))
    rng = np.random.default_rng(0)
    angle = rng.uniform(0, 2 * np.pi, 500)
    z = rng.uniform(0.15, 0.8, 500) * heart.long_axis_mm
    radius = heart.radius_mm + 0.5 * heart.wall_mm
    # points just outside the endocardium and inside the epicardium
    inner = heart.radius_mm * np.sqrt(
        1 - ((z - heart.centre_mm) / (heart.long_axis_mm - heart.centre_mm)) ** 2
    )
    radius = inner + 0.5 * heart.wall_mm
    point = np.stack([radius * np.cos(angle), radius * np.sin(angle), z])
    step = 1e-4
    beat = beat_at(heart, heart.end_systole)
    columns = []
    for axis in range(3):
        shifts = np.zeros((3, 1))
        shifts[axis] = step
        ahead = np.stack(to_space(beat, tuple(point + shifts)))
        behind = np.stack(to_space(beat, tuple(point - shifts)))
        columns.append((ahead - behind) / (2 * step))
    determinant = np.linalg.det(np.stack(columns, axis=-1).transpose(1, 0, 2))
    assert np.allclose(determinant, 1.0, atol=1e-4)


def test_base_descends_and_wall_moves_in_during_systole() -> None:
    heart = draw_heart(np.random.default_rng(1))
    radius = heart.radius_mm + 1.0
    moved = displacement_mm(
        heart,
        heart.end_systole,
        (np.array([0.0, radius]), np.array([0.0, 0.0]), np.array([0.0, heart.centre_mm])),
    )
    assert moved[2][0] == pytest.approx(heart.descent_mm, rel=1e-6)
    assert moved[0][1] < -2.0


def test_valves_are_never_both_open() -> None:
    heart = draw_heart(np.random.default_rng(2))
    for phase in np.linspace(0, 1, 200, endpoint=False):
        assert min(mitral_opening(heart, phase), aortic_opening(heart, phase)) < 0.05
    assert contraction(heart, 0.0) == 0.0


def test_chambers_do_not_overlap() -> None:
    heart = draw_heart(np.random.default_rng(3))
    points = np.random.default_rng(3).uniform(-80, 110, size=(3, 60_000))
    chambers = cut(heart, 0.3, (points[0], points[1], points[2])).chambers
    inside = np.stack([distance < -0.5 for distance in chambers])
    names = ["cavity", "wall", "left_atrium", "right_ventricle", "right_atrium", "aorta"]
    for a in range(6):
        for b in range(a):
            share = (inside[a] & inside[b]).sum() / min(inside[a].sum(), inside[b].sum())
            assert share < 0.03, (names[a], names[b])
