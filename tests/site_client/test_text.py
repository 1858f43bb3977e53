"""Words inside the sector are found and covered; hearts and plain pictures are no words."""

import numpy as np
import pytest

from shared.phantom.anatomy import draw_heart
from shared.phantom.scanner import SCANNERS, PhantomClip, render_clip
from shared.testing.burn import burn_word
from site_client.text import find_text

SIZES = ((60, 80), (120, 160))


def phantom(scanner: str, size_HW: tuple[int, int], num_frames: int) -> PhantomClip:
    generator = np.random.default_rng(size_HW[0] + num_frames + 2)
    return render_clip(
        draw_heart(generator), "A4C", SCANNERS[scanner],
        num_frames=num_frames, size_HW=size_HW, rng=generator,
    )  # fmt: skip


@pytest.mark.parametrize("size_HW", SIZES)
@pytest.mark.parametrize("num_frames", [1, 4])
@pytest.mark.parametrize("scanner", SCANNERS)
def test_a_word_is_found_where_it_is_and_a_heart_is_none(
    scanner: str, num_frames: int, size_HW: tuple[int, int], seed: int
) -> None:
    clip = phantom(scanner, size_HW, num_frames)
    mask_HW = clip.sector.mask_HW
    assert find_text(clip.pixels_THW, mask_HW) == ()
    generator = np.random.default_rng(seed)
    burnt = burn_word(clip.pixels_THW, mask_HW, generator, word="VERDI 1954")
    assert burnt is not None
    boxes = find_text(burnt.pixels_THW, mask_HW)
    covered = np.zeros(size_HW, dtype=np.bool_)
    for box in boxes:
        covered[box.slices()] = True
    first_row, first_column, end_row, end_column = burnt.box
    assert covered[first_row:end_row, first_column:end_column].mean() > 0.8
    assert all(0.5 < box.confidence <= 1 for box in boxes)


def test_a_word_stands_still_on_a_moving_heart_and_is_found(seed: int) -> None:
    clip = phantom("cirrus", (240, 320), 6)
    generator = np.random.default_rng(seed)
    burnt = burn_word(clip.pixels_THW, clip.sector.mask_HW, generator, word="VERDICHIO 1954")
    assert burnt is not None
    assert find_text(burnt.pixels_THW, clip.sector.mask_HW)


def test_a_frame_without_the_word_does_not_hide_it(seed: int) -> None:
    clip = phantom("aurora", (120, 160), 6)
    generator = np.random.default_rng(seed)
    burnt = burn_word(clip.pixels_THW, clip.sector.mask_HW, generator, word="VERDICHIO 1954")
    assert burnt is not None
    pixels_THW = burnt.pixels_THW.copy()
    pixels_THW[0] = 0
    assert find_text(pixels_THW, clip.sector.mask_HW)


def test_a_stack_of_bright_wavy_lines_is_no_word(seed: int) -> None:
    rows, columns = np.mgrid[0:240, 0:320]
    picture_HW = 40.0 + 15 * np.random.default_rng(seed).random((240, 320))
    for place, turns in enumerate((9, 13, 17)):
        distance = rows - 60 - 12 * place - 0.1 * columns - 3 * np.sin(columns / turns)
        picture_HW += 180 * np.exp(-((distance / 2) ** 2))
    pixels_THW = picture_HW.clip(0, 255).astype(np.uint8)[None]
    assert find_text(pixels_THW, np.ones((240, 320), dtype=np.bool_)) == ()


def test_where_there_is_nothing_to_look_at_nothing_is_found() -> None:
    pixels_THW = np.full((2, 60, 80), 255, dtype=np.uint8)
    assert find_text(pixels_THW, np.zeros((60, 80), dtype=np.bool_)) == ()
    assert find_text(pixels_THW, np.ones((60, 80), dtype=np.bool_)) == ()
    assert find_text(pixels_THW[:, :7, :9], np.ones((7, 9), dtype=np.bool_)) == ()


def test_the_same_clip_gives_the_same_boxes(seed: int) -> None:
    clip = phantom("ember", (120, 160), 2)
    burnt = burn_word(clip.pixels_THW, clip.sector.mask_HW, np.random.default_rng(seed))
    assert burnt is not None
    boxes = find_text(burnt.pixels_THW, clip.sector.mask_HW)
    assert boxes == find_text(burnt.pixels_THW.copy(), clip.sector.mask_HW)
