"""Intervals: exact for a linear formula, the truth covered at the stated rate, none without."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest

from shared.echo.contour import Contour, Points
from shared.echo.measurement import Measurement
from shared.measurement.interval import measure
from shared.measurement.mass import Calipers, measure_linear_mass, measure_rwt
from shared.measurement.simpson import measure_ejection, measure_fac, measure_volume
from shared.measurement.strain import measure_gls, measure_mapse
from shared.testing.contours import half_ellipse, scaled, with_noise

NUM_DRAWS = 100


def _width(found: Measurement) -> float:
    assert found.interval is not None
    return found.interval[1] - found.interval[0]


def test_a_sum_of_coordinates_has_the_interval_of_its_variance(seed: int) -> None:
    noise = np.random.default_rng(seed).normal(size=(18, 18))
    covariance = noise @ noise.T
    contour = replace(half_ellipse(num_points=9), covariance=covariance)
    weights = np.arange(18.0).reshape(9, 2)
    found = measure("sum", "1", lambda p: float((weights * p[0]).sum()), [contour], method="test")
    sd = np.sqrt(weights.ravel() @ covariance @ weights.ravel())
    assert _width(found) == pytest.approx(2 * 1.959964 * sd, rel=1e-6)
    assert found.level == 0.95


def test_outlines_err_independently() -> None:
    contour = with_noise(half_ellipse(num_points=9), 1.0)

    def first_x(points: Sequence[Points]) -> float:
        return float(sum(part[0, 0] for part in points))

    one = measure("x", "mm", first_x, [contour], method="test")
    two = measure("x", "mm", first_x, [contour, contour], method="test")
    assert _width(two) == pytest.approx(np.sqrt(2) * _width(one), rel=1e-6)


def test_without_a_covariance_there_is_no_interval() -> None:
    known, unknown = with_noise(half_ellipse(num_points=41), 1.0), half_ellipse(view="A2C")
    assert measure_volume([known, unknown]).interval is None
    assert measure_volume([known]).interval is not None


def _modes(num: int) -> Points:
    """Six ways (2P, 6) in which a smooth contour errs by about a millimetre."""
    places = np.linspace(-1, 1, num)
    waves = np.stack([np.ones(num), np.sin(np.pi * places), np.cos(np.pi * places)], axis=1)
    return np.kron(waves, np.eye(2))


def _draw(truth: Contour, modes: Points, rng: np.random.Generator) -> Contour:
    noise = (modes @ rng.normal(size=modes.shape[1])).reshape(-1, 2)
    points = truth.points_xy_mm + noise
    return replace(truth, points_xy_mm=points, covariance=modes @ modes.T)


CASES: dict[str, Callable[[list[Contour], list[Contour]], Measurement]] = {
    "EDV": lambda ed, es: measure_volume(ed),
    "EDV by basal disks": lambda ed, es: measure_volume(ed, "basal disks"),
    "EF": lambda ed, es: measure_ejection(ed[:1], es[:1])["EF"],
    "FAC": lambda ed, es: measure_fac(ed[0], es[0]),
    "GLS": measure_gls,
    "MAPSE": measure_mapse,
}


@pytest.mark.parametrize("name", list(CASES))
def test_intervals_cover_the_truth_at_their_level(name: str, seed: int) -> None:
    # unlike lengths, so that the longer axis is never in doubt
    ed = [
        half_ellipse(25, 90, num_points=21),
        half_ellipse(23, 84, view="A2C", num_points=21),
    ]
    es = [scaled(contour, 0.8, 0.85) for contour in ed]
    truth = CASES[name](ed, es).value
    modes, rng = _modes(21), np.random.default_rng(seed)
    covered = 0
    for _ in range(NUM_DRAWS):
        drawn = [[_draw(contour, modes, rng) for contour in part] for part in (ed, es)]
        low, high = CASES[name](drawn[0], drawn[1]).interval or (np.nan, np.nan)
        covered += low <= truth <= high
    # three binomial standard deviations about 0.95
    assert abs(covered / NUM_DRAWS - 0.95) < 3 * np.sqrt(0.95 * 0.05 / NUM_DRAWS)


def test_intervals_of_mass_and_wall_thickness_cover_the_truth(seed: int) -> None:
    points = np.array([[0.0, 0.0], [0.0, 9.0], [0.0, 56.0], [0.0, 65.0]])
    truth, rng = Calipers(points, "PLAX", 0, (0.5, 0.5)), np.random.default_rng(seed)
    covariance = 0.25 * np.eye(8)
    for formula in (measure_linear_mass, measure_rwt):
        covered = 0
        for _ in range(NUM_DRAWS):
            noise = rng.normal(0, 0.5, (4, 2))
            found = formula(replace(truth, points_xy_mm=points + noise, covariance=covariance))
            low, high = found.interval or (np.nan, np.nan)
            covered += low <= formula(truth).value <= high
        assert abs(covered / NUM_DRAWS - 0.95) < 3 * np.sqrt(0.95 * 0.05 / NUM_DRAWS)
