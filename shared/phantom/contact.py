"""The contact sheet: every view on every scanner."""

import numpy as np
import numpy.typing as npt

from shared.phantom.anatomy import Heart, draw_heart
from shared.phantom.overlay import SCREENS, draw_variant, with_screen
from shared.phantom.planes import VIEWS
from shared.phantom.scanner import SCANNERS, render_clip
from shared.seeding import numpy_generator


def contact_sheet(
    seed: int, *, size_HW: tuple[int, int] = (240, 320), has_screen: bool = True
) -> npt.NDArray[np.uint8]:
    """One frame of each view (columns) on each scanner (rows), a new patient in each row.

    Returns:
        Grey levels (scanners x H, views x W).
    """
    rows = []
    for number, name in enumerate(SCANNERS):
        heart = draw_heart(numpy_generator(seed, "contact", number))
        row = [_cell(heart, view, name, (seed, number), size_HW, has_screen) for view in VIEWS]
        rows.append(np.concatenate(row, axis=1))
    return np.concatenate(rows, axis=0)


def _cell(
    heart: Heart,
    view: str,
    scanner: str,
    chance: tuple[int, int],
    size_HW: tuple[int, int],
    has_screen: bool,
) -> npt.NDArray[np.uint8]:
    rng = numpy_generator(chance[0], "contact", chance[1], view)
    clip = render_clip(heart, view, SCANNERS[scanner], num_frames=1, size_HW=size_HW, rng=rng)
    if has_screen:
        screen = SCREENS[SCANNERS[scanner].screen]
        variant = draw_variant(view, 0.0, rng)
        clip = with_screen(clip, screen, variant=variant, banner=f"PHANTOM, {view}")
    pixels_HW: npt.NDArray[np.uint8] = clip.pixels_THW[0]
    return pixels_HW
