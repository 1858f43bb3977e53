"""Burnt-in text inside the sector: lines of small crisp strokes that stand still, unlike speckle.

Patches of 8x8 pixels are compared with a small dictionary, and a linear score of a line of patches
and of what lies above and below it tells text from tissue, at several sizes of letters. The numbers
come from phantoms alone (``tests/bench/fit_text.py``); only NumPy and SciPy are needed.

Reference: Coates et al., Text Detection and Character Recognition in Scene Images with
Unsupervised Feature Learning, ICDAR 2011.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import find_objects, label, uniform_filter

from shared.files import load_arrays

MODEL_FILE = Path(__file__).with_name("text.safetensors")
PATCH, STRIDE = 8, 2  # pixels of a level
LINE_ROWS, LINE_COLUMNS, NEIGHBOUR = (
    3,
    11,
    4,
)  # strides: a line's window, and the next line's offset
ENOUGH = 0.7  # share of a window's patches that must lie in the sector
_MAX_FRAMES = 8  # frames looked at; more change little
_FINEST_ROWS = 400  # rows of the finest level; a letter has six pixels or more there
_COARSEST = 7.0  # largest reduction from the finest level
_MANY_ROWS = 80  # of a sector; below it letters are hardly drawn and false alarms rarer
_RATIO = 1.4  # between levels
_LEAST_SIDE = 24  # pixels of a level that still holds a word
_IN_PATCH = 0.75  # share of a patch's pixels that must lie in the sector
_NOISE = 8.0  # grey levels below which a patch counts as flat
_EDGE = 0.0  # score down to which a found line is followed

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class TextBox:
    """Where text stands on the stored picture; ends are exclusive.

    Args:
        confidence: chance that it is text, by the fit.
    """

    row_start: int
    row_end: int
    column_start: int
    column_end: int
    confidence: float

    def slices(self) -> tuple[slice, slice]:
        """Index of the box in (rows, columns)."""
        return slice(self.row_start, self.row_end), slice(self.column_start, self.column_end)


@dataclass(frozen=True, slots=True, eq=False)
class TextModel:
    """The fitted numbers.

    Args:
        dictionary_PK: whitened patches, one a column.
        weights_F2: of a patch's features in the line, and in the lines above and below.
        offset: threshold of the dictionary's answers.
        bias: of the score.
        thresholds: scores from which a line counts as text, in sectors of few and of many rows.
    """

    dictionary_PK: Floats
    weights_F2: Floats
    offset: float
    bias: float
    thresholds: tuple[float, float]


@dataclass(frozen=True, slots=True, eq=False)
class Level:
    """The still picture at one size, cut to the sector's rectangle.

    Args:
        reduction: pixels of the clip in one of the level's.
    """

    reduction: float
    picture_HW: Floats
    mask_HW: Mask


@cache
def text_model() -> TextModel:
    """The model that comes with this release."""
    arrays, _ = load_arrays(MODEL_FILE)
    offset, bias, few, many = (float(value) for value in arrays["scalars"])
    return TextModel(arrays["dictionary_PK"], arrays["weights_F2"], offset, bias, (few, many))


def find_text(
    pixels_THW: NDArray[np.uint8], mask_HW: Mask, model: TextModel | None = None
) -> tuple[TextBox, ...]:
    """Find lines of text.

    Args:
        pixels_THW: grey frames; text stands still in them.
        mask_HW: where to look.
        model: the release's own by default.

    Returns:
        Boxes that cover the text, most certain first; empty where none was found.
    """
    if not mask_HW.any():
        return ()
    model = model or text_model()
    corner_rc, levels = levels_of(pixels_THW, mask_HW)
    threshold = model.thresholds[int(mask_HW.any(axis=1).sum() >= _MANY_ROWS)]
    found_HW = np.zeros(mask_HW.shape, dtype=np.float32)
    for level in levels:
        scores = score_lines(level, model)
        _paint(found_HW, scores, level.reduction, corner_rc, threshold=threshold)
    boxes = [
        TextBox(*_ends(place), confidence=round(float(found_HW[place].max()), 3))
        for place in find_objects(label(found_HW > 0)[0])
    ]
    return tuple(sorted(boxes, key=lambda box: -box.confidence))


def levels_of(
    pixels_THW: NDArray[np.uint8], mask_HW: Mask
) -> tuple[tuple[int, int], Iterator[Level]]:
    """The first row and column of the sector's rectangle, and its still picture at every size."""
    rows, columns = np.flatnonzero(mask_HW.any(axis=1)), np.flatnonzero(mask_HW.any(axis=0))
    cut = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    still_HW = _still_picture(pixels_THW[(slice(None), *cut)])
    return (int(rows[0]), int(columns[0])), _levels(still_HW, mask_HW[cut])


def patch_features(level: Level, dictionary_PK: Floats, offset: float) -> tuple[Mask, Floats]:
    """What the dictionary says to every patch.

    Returns:
        Which patches of the grid lie in the sector, and their features (N, 2K + 2).
    """
    is_inside, patches_NP, spread_N, mean_N = standard_patches(level)
    answers_NK = patches_NP @ dictionary_PK
    features = [
        np.maximum(answers_NK - offset, 0.0),
        np.maximum(-answers_NK - offset, 0.0),
        np.log(spread_N)[:, None] / 4,
        mean_N[:, None] / 255,
    ]
    return is_inside, np.concatenate(features, axis=1)


def standard_patches(level: Level) -> tuple[Mask, Floats, Floats, Floats]:
    """Patches inside the sector, without their mean and contrast, which come beside them."""
    picture = sliding_window_view(level.picture_HW, (PATCH, PATCH))[::STRIDE, ::STRIDE]
    mask = sliding_window_view(level.mask_HW, (PATCH, PATCH))[::STRIDE, ::STRIDE]
    is_inside = mask.sum(axis=(2, 3)) >= _IN_PATCH * PATCH**2
    known_NP = mask[is_inside].reshape(-1, PATCH**2).astype(np.float32)
    patches_NP = picture[is_inside].reshape(-1, PATCH**2) * known_NP
    count_N = known_NP.sum(axis=1)
    mean_N = patches_NP.sum(axis=1) / count_N
    patches_NP = (patches_NP - mean_N[:, None]) * known_NP
    spread_N = np.sqrt((patches_NP**2).sum(axis=1) / count_N + _NOISE**2)
    return is_inside, patches_NP / spread_N[:, None], spread_N, mean_N


def score_lines(level: Level, model: TextModel) -> Floats:
    """Score of a line of text around every patch of the grid; -inf too near the sector's edge."""
    is_inside, features_NF = patch_features(level, model.dictionary_PK, model.offset)
    votes = np.zeros((*is_inside.shape, 2), dtype=np.float32)
    votes[is_inside] = features_NF @ model.weights_F2
    share = window_mean(is_inside.astype(np.float32))
    line, around = (window_mean(votes[..., which]) / np.maximum(share, 1e-3) for which in (0, 1))
    line[NEIGHBOUR:] += around[:-NEIGHBOUR]
    line[:-NEIGHBOUR] += around[NEIGHBOUR:]
    return np.where(share > ENOUGH, line + np.float32(model.bias), np.float32(-np.inf))


def window_mean(grid: Floats) -> Floats:
    """Mean of the grid over a line's window; what lies outside the grid counts as zero."""
    size = (LINE_ROWS, LINE_COLUMNS)
    return np.asarray(uniform_filter(grid, size, mode="constant"), dtype=np.float32)


def _still_picture(pixels_THW: NDArray[np.uint8]) -> Floats:
    """Mean less deviation over time: what moves grows dark, what stands still stays crisp."""
    count = min(_MAX_FRAMES, len(pixels_THW))
    chosen = np.linspace(0, len(pixels_THW) - 1, count).round().astype(int)
    frames_THW = pixels_THW[chosen].astype(np.float32)
    still_HW = frames_THW.mean(axis=0)
    return np.asarray(still_HW - frames_THW.std(axis=0) if count > 2 else still_HW)


def _levels(still_HW: Floats, mask_HW: Mask) -> Iterator[Level]:
    finest = max(1.0, mask_HW.shape[0] / _FINEST_ROWS)
    reduction = finest
    while reduction <= finest * _COARSEST:
        size = round(mask_HW.shape[1] / reduction), round(mask_HW.shape[0] / reduction)
        if min(size) < _LEAST_SIDE:
            return
        mask = Image.fromarray(mask_HW.astype(np.uint8) * 255)
        picture = Image.fromarray(still_HW)
        yield Level(
            reduction,
            np.asarray(picture.resize(size, Image.Resampling.BOX), dtype=np.float32),
            np.asarray(mask.resize(size, Image.Resampling.BOX)) > 200,
        )
        reduction *= _RATIO


def _paint(
    found_HW: Floats,
    scores: Floats,
    reduction: float,
    corner_rc: tuple[int, int],
    *,
    threshold: float,
) -> None:
    """Write the confidence of every line that holds a sure window onto the pixels it covers."""
    groups, _ = label(scores > _EDGE)
    sure = np.unique(groups[scores > threshold])
    for number, place in enumerate(find_objects(groups), start=1):
        if number not in sure:
            continue
        best = float(scores[place][groups[place] == number].max())
        reach = LINE_ROWS // 2, LINE_COLUMNS // 2
        ends: list[Any] = []
        for axis in (0, 1):
            first = (place[axis].start - reach[axis]) * STRIDE
            last = (place[axis].stop - 1 + reach[axis]) * STRIDE + PATCH
            ends.append(
                slice(
                    corner_rc[axis] + max(0, int(first * reduction)),
                    corner_rc[axis] + int(np.ceil(last * reduction)),
                )
            )
        box = found_HW[tuple(ends)]
        np.maximum(box, 1.0 / (1.0 + np.exp(-best)), out=box)


def _ends(place: tuple[slice, ...]) -> tuple[int, int, int, int]:
    rows, columns = place
    return rows.start, rows.stop, columns.start, columns.stop
