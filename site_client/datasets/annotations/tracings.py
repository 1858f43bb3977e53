"""Outlines that a public set keeps in one table, ``VolumeTracings.csv``, as areas of the cavity.

FileName, X1, Y1, X2, Y2, Frame: chords across the left ventricle in pixels, the first of each frame
its long axis, the others from one end to the other. Their left ends one way and their right ends
back are the outline, as the authors' own reader takes them. Frames count from zero.
"""

import csv
import hashlib
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from shared.echo.annotation import Annotation
from shared.errors import Code, EchoFedError
from shared.segmentation.distance import distance_from_polygon
from site_client.datasets.raw import unreadable

_COLUMNS = ["FileName", "X1", "Y1", "X2", "Y2", "Frame"]
_LEAST_CHORDS = 3  # the long axis and two others enclose an area
_STRUCTURES = ("background", "lv")


@dataclass(frozen=True, slots=True, eq=False)
class Tracings:
    """The outlines of one clip.

    Args:
        outlines_xy_px_P2: by frame, from the centre of the first pixel; closed by themselves.
    """

    outlines_xy_px_P2: dict[int, NDArray[np.float64]]

    def mark(self) -> str:
        """Hash of the points."""
        digest = hashlib.sha256()
        for frame, outline_xy_px_P2 in sorted(self.outlines_xy_px_P2.items()):
            digest.update(f"{frame} ".encode() + outline_xy_px_P2.tobytes())
        return digest.hexdigest()

    def annotate(self, size_THW: tuple[int, ...]) -> Annotation:
        """Every pixel whose centre lies in the outline or on it.

        Raises:
            EchoFedError: DATA_UNREADABLE for an outline of a frame that is not there.
        """
        frames = tuple(sorted(self.outlines_xy_px_P2))
        if not 0 <= frames[0] <= frames[-1] < size_THW[0]:
            raise unreadable(f"has outlines of frames that are not among its {size_THW[0]}")
        size_HW = (size_THW[1], size_THW[2])
        labels = [
            distance_from_polygon(self.outlines_xy_px_P2[frame], size_HW, (1.0, 1.0)) <= 0
            for frame in frames
        ]
        return Annotation(frames, np.stack(labels).astype(np.uint8), _STRUCTURES)


def read_tracings(table: Path) -> dict[str, Tracings]:
    """Outlines by the name of their clip without suffix; a frame of less than an area is left out.

    Raises:
        EchoFedError: CONFIG_INVALID for a table of another form.
    """
    chords = _read_chords(table)
    outlines: defaultdict[str, dict[int, NDArray[np.float64]]] = defaultdict(dict)
    for (name, frame), ends in chords.items():
        if len(ends) >= _LEAST_CHORDS:
            outlines[name][frame] = _outline(np.array(ends).reshape(-1, 2, 2))
    return {name: Tracings(frames) for name, frames in outlines.items()}


def _read_chords(table: Path) -> dict[tuple[str, int], list[list[float]]]:
    """Ends (x1, y1, x2, y2) of the chords of each clip and frame, in the table's order."""
    chords: defaultdict[tuple[str, int], list[list[float]]] = defaultdict(list)
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            lines = csv.reader(file)
            if next(lines, []) != _COLUMNS:
                raise ValueError("other columns")
            for name, *ends, frame in filter(None, lines):
                x1, y1, x2, y2 = map(float, ends)
                chords[PurePosixPath(name).stem, int(frame)].append([x1, y1, x2, y2])
    except (OSError, ValueError, csv.Error) as error:
        raise EchoFedError(
            Code.CONFIG_INVALID,
            f"{table.name} is no table of {', '.join(_COLUMNS)}",
            "unpack the set again",
        ) from error
    return chords


def _outline(chords_xy_px_P22: NDArray[np.float64]) -> NDArray[np.float64]:
    """From chords (chord, end, xy), the long axis first, to points (P, 2)."""
    across = chords_xy_px_P22[1:]
    outline: NDArray[np.float64] = np.concatenate([across[:, 0], across[::-1, 1]])
    return outline
