import numpy as np
import pytest

from shared.errors import Code, EchoFedError
from shared.phantom.anatomy import draw_heart
from shared.phantom.labels import draw_labels, sector_labels
from shared.phantom.scanner import SCANNERS, render_clip

SIZE = (96, 96)


@pytest.mark.parametrize("scanner", ["aurora", "delta"])
def test_labels_are_those_of_the_rendered_picture(scanner: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    heart = draw_heart(rng)
    clip = render_clip(heart, "A4C", SCANNERS[scanner], num_frames=1, size_HW=SIZE, rng=rng)
    seen = sector_labels(
        heart,
        clip.phases_T[0],
        clip.pose,
        fan=clip.fan,
        mm_per_pixel=clip.mm_per_pixel[0],
        size_HW=SIZE,
    )
    assert np.array_equal(seen.sector_HW, clip.sector.mask_HW)
    # the picture's borders are interpolated between beams, these are exact
    assert (seen.labels_HW == clip.labels_THW[0])[seen.sector_HW].mean() > 0.97


def test_labels_stay_inside_the_sector_and_repeat_under_a_seed(seed: int) -> None:
    first, again = (draw_labels("A2C", SIZE, np.random.default_rng(seed)) for _ in range(2))
    assert np.array_equal(first.labels_HW, again.labels_HW)
    assert first.mm_per_pixel == again.mm_per_pixel
    assert {1, 2, 3} <= set(np.unique(first.labels_HW).tolist())
    assert not first.labels_HW[~first.sector_HW].any()


def test_unknown_view_is_refused(seed: int) -> None:
    with pytest.raises(EchoFedError) as caught:
        draw_labels("A9C", SIZE, np.random.default_rng(seed))
    assert caught.value.code is Code.VIEW_UNKNOWN
