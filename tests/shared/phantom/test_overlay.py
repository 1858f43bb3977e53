from dataclasses import replace

import numpy as np
import pytest

from shared.phantom.anatomy import draw_heart
from shared.phantom.fan import place_fan
from shared.phantom.overlay import (
    SCREENS,
    draw_variant,
    strip_box,
    tissue_box,
    with_screen,
)
from shared.phantom.planes import VIEWS
from shared.phantom.scanner import SCANNERS, PhantomClip, render_clip


def bare_clip(scanner: str, size_HW: tuple[int, int] = (240, 320)) -> PhantomClip:
    return render_clip(
        draw_heart(np.random.default_rng(1)),
        "A4C",
        SCANNERS[scanner],
        num_frames=2,
        size_HW=size_HW,
        rng=np.random.default_rng(1),
    )


@pytest.mark.parametrize("scanner", SCANNERS)
@pytest.mark.parametrize("size_HW", [(112, 112), (240, 320)])
def test_screen_never_touches_the_fan(scanner: str, size_HW: tuple[int, int]) -> None:
    bare = bare_clip(scanner, size_HW)
    screen = SCREENS[SCANNERS[scanner].screen]
    for variant in range(len(VIEWS)):
        shown = with_screen(bare, screen, variant=variant, banner="PLANTED, Ada")
        inside = bare.sector.mask_HW
        assert np.array_equal(shown.pixels_THW[:, inside], bare.pixels_THW[:, inside])
        assert shown.pixels_THW[:, ~inside].any()


@pytest.mark.parametrize("scanner", SCANNERS)
@pytest.mark.parametrize("size_HW", [(112, 112), (240, 320), (600, 800)])
def test_fan_lies_inside_the_tissue_region(scanner: str, size_HW: tuple[int, int]) -> None:
    rows, columns = np.nonzero(place_fan(SCANNERS[scanner].layout, size_HW).mask(size_HW))
    x0, y0, x1, y1 = tissue_box(size_HW)
    assert y0 <= rows.min()
    assert rows.max() <= y1
    assert x0 <= columns.min()
    assert columns.max() <= x1
    assert strip_box(size_HW)[1] == y1 + 1


def test_banner_is_outside_every_region_and_depends_on_the_name() -> None:
    bare = bare_clip("aurora")
    first = with_screen(bare, SCREENS["aurora"], variant=0, banner="PLANTED, Ada")
    other = with_screen(bare, SCREENS["aurora"], variant=0, banner="HOFWINDT, Jorin")
    changed = (first.pixels_THW != other.pixels_THW).any(axis=(0, 2))
    rows = np.flatnonzero(changed)
    assert len(rows) > 0
    assert rows.max() < tissue_box((240, 320))[1]


def test_variants_differ_by_a_lot_inside_the_tissue_region() -> None:
    bare = bare_clip("borealis", (112, 112))
    screens = [
        with_screen(bare, SCREENS["borealis"], variant=v, banner="").pixels_THW[0].astype(float)
        for v in range(len(VIEWS))
    ]
    for a in range(len(screens)):
        for b in range(a):
            assert np.abs(screens[a] - screens[b]).sum() > 20 * 255 / 2


def test_full_correlation_names_the_view() -> None:
    rng = np.random.default_rng(0)
    assert [draw_variant(view, 1.0, rng) for view in VIEWS] == list(range(len(VIEWS)))


def test_no_correlation_is_independent_of_the_view() -> None:
    counts = np.zeros((2, len(VIEWS)))
    for row, view in enumerate(("A4C", "PLAX")):
        rng = np.random.default_rng(row)
        for _ in range(5000):
            counts[row, draw_variant(view, 0.0, rng)] += 1
    # each variant has one chance in ten; four standard errors of a share over 5000 draws
    assert np.abs(counts / 5000 - 0.1).max() < 4 * np.sqrt(0.09 / 5000)


def test_partial_correlation_is_the_share_of_telling_screens() -> None:
    rng = np.random.default_rng(3)
    told = np.mean([draw_variant("A2C", 0.5, rng) == 1 for _ in range(4000)])
    assert told == pytest.approx(0.55, abs=0.04)


def test_nothing_but_the_badge_depends_on_the_view() -> None:
    bare = bare_clip("cirrus")
    renamed = replace(bare, view="PLAX")
    one = with_screen(bare, SCREENS["cirrus"], variant=3, banner="X")
    two = with_screen(renamed, SCREENS["cirrus"], variant=3, banner="X")
    assert np.array_equal(one.pixels_THW, two.pixels_THW)
