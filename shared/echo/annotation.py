"""An annotation: what a person, or the phantom, says of some frames of a clip, pixel by pixel."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.echo.mask import STRUCTURES
from shared.errors import Code, EchoFedError
from shared.shapes import expect

LANDMARKS = ("base_left", "apex", "base_right")
"""Both ends of the endocardial contour as they lie in the picture, and its apex."""


@dataclass(frozen=True, slots=True, eq=False)
class Annotation:
    """Label maps, and where known landmarks, of some frames of one clip.

    Args:
        frames: index of each annotated frame in the clip, ascending.
        labels_FHW: uint8, of the clip's rows and columns; each value is a place in ``structures``.
        structures: what was annotated, background first; what is not named was not looked for, so
            it hides in the background.
        landmarks_xy_px_F32: float64 (column, row) of ``LANDMARKS`` from the centre of the first
            pixel, NaN where one is unknown; None where nobody gave any.
    """

    frames: tuple[int, ...]
    labels_FHW: NDArray[np.uint8]
    structures: tuple[str, ...]
    landmarks_xy_px_F32: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        """Refuse what does not fit together."""
        num = expect(self.labels_FHW, "F H W", F=len(self.frames))["F"]
        if self.landmarks_xy_px_F32 is not None:
            expect(self.landmarks_xy_px_F32, "F L xy", F=num, L=len(LANDMARKS), xy=2)
        if not num or list(self.frames) != sorted(set(self.frames)) or self.frames[0] < 0:
            raise _invalid(f"names the frames {self.frames}", "name each frame once, in order")
        if self.structures[:1] != STRUCTURES[:1] or not set(self.structures) <= set(STRUCTURES):
            raise _invalid(
                f"names the structures {self.structures}",
                f"begin with {STRUCTURES[0]}; known: {', '.join(STRUCTURES)}",
            )
        if len(set(self.structures)) != len(self.structures):
            raise _invalid(f"names the structures {self.structures}", "name each structure once")
        highest = int(self.labels_FHW.max(initial=0))
        if highest >= len(self.structures):
            raise EchoFedError(
                Code.LABEL_UNMAPPED,
                f"value {highest} of an annotation has no name; "
                f"it names {len(self.structures)} structures",
                "give the names of the collection that the masks come from",
            )


def _invalid(what: str, hint: str) -> EchoFedError:
    return EchoFedError(Code.LABEL_MAP_INVALID, f"an annotation {what}", hint)
