"""Tissue differs from the screen's black, is not even, and moves in a cine."""

import numpy as np

from shared.echo.tissue import solid_components, tissue_of

SIZE = (120, 160)


def test_an_even_panel_is_no_tissue(seed: int) -> None:
    screen = np.zeros((1, *SIZE), np.uint8)
    screen[0, 20:80, 20:80] = np.random.default_rng(seed).integers(30, 200, (60, 60))
    screen[0, 20:80, 100:150] = 90
    lit = tissue_of(screen).lit_HW
    assert lit[22:78, 22:78].mean() > 0.95
    assert lit[24:76, 104:146].mean() == 0.0


def test_dark_tissue_on_a_grey_screen_is_lit(seed: int) -> None:
    screen = np.full((1, *SIZE), 40, np.uint8)
    screen[0, 20:80, 20:80] = np.random.default_rng(seed).integers(0, 30, (60, 60))
    assert tissue_of(screen).lit_HW[22:78, 22:78].mean() > 0.95


def test_what_stands_still_in_a_cine_is_no_tissue(seed: int) -> None:
    rng = np.random.default_rng(seed)
    cine = np.zeros((6, *SIZE), np.uint8)
    cine[:, 20:80, 20:80] = rng.integers(0, 200, (6, 60, 60))
    cine[:, 20:80, 100:150] = rng.integers(0, 200, (60, 50))
    lit = tissue_of(cine).lit_HW
    assert lit[22:78, 22:78].mean() > 0.95
    assert not lit[:, 100:].any()


def test_joined_pixels_cover_a_large_screen() -> None:
    tissue = tissue_of(np.zeros((1, 600, 800), np.uint8))
    assert tissue.joined == 2
    assert tissue.lit_HW.shape == (300, 400)
    assert max(tissue.share.shape) <= 120


def test_thin_things_are_no_component() -> None:
    share = np.zeros((80, 100))
    share[20:60, 20:70] = 1.0
    share[40:42, 70:95] = 1.0
    largest, _ = solid_components(share, 0.75)
    assert largest[40, 40]
    assert not largest[:, 75:].any()
