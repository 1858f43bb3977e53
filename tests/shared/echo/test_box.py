"""A rectangle is one only if tissue begins all along its four edges."""

import numpy as np
from numpy.typing import NDArray

from shared.echo.box import fit_box

SIZE = (200, 260)


def noise(seed: int) -> NDArray[np.bool_]:
    return np.random.default_rng(seed).random(SIZE) < 0.7


def test_its_edges_are_found_to_the_pixel(seed: int) -> None:
    tissue = np.zeros(SIZE, dtype=np.bool_)
    tissue[20:150, 40:210] = noise(seed)[20:150, 40:210]
    found = fit_box(tissue)
    assert found is not None
    assert np.abs(found[0] - [19.5, 149.5, 39.5, 209.5]).max() <= 0.5
    assert found[1] > 0.75


def test_a_ragged_edge_is_none(seed: int) -> None:
    tissue = np.zeros(SIZE, dtype=np.bool_)
    ends = np.random.default_rng(seed).integers(120, 210, 130)
    ends[::2] = 210
    for row, end in enumerate(ends, start=20):
        tissue[row, 40:end] = noise(seed)[row, 40:end]
    assert fit_box(tissue) is None


def test_an_empty_picture_has_no_rectangle() -> None:
    assert fit_box(np.zeros(SIZE, dtype=np.bool_)) is None
