"""Burnt-in text inside the sector: lines of small crisp strokes that stand still, unlike speckle.

Patches of 8x8 pixels are compared with a small dictionary, and a linear score of a line of patches
and of what lies above and below it tells text from tissue, at several sizes of letters. The numbers
come from phantoms alone (``tests/bench/fit_text.py``); only NumPy and SciPy are needed.

Reference: Coates et al., Text Detection and Character Recognition in Scene Images with
Unsupervised Feature Learning, ICDAR 2011.
"""

from bisect import bisect
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache, reduce
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import find_objects, label, maximum_filter, uniform_filter

from shared.files import load_arrays

MODEL_FILE = Path(__file__).with_name("text.safetensors")
PATCH, STRIDE = 8, 2  # pixels of a level
LINE_ROWS, LINE_COLUMNS = 3, 11  # strides: the window of a line
NEIGHBOUR = 4  # strides to the next line
_ENOUGH = 0.7  # share of a window's patches that must lie in the sector
_MAX_FRAMES = 8  # frames looked at; more change little
_FINEST_ROWS = 400  # rows of the finest level; a letter has six pixels or more there
_COARSEST = 7.0  # largest reduction from the finest level
_SIZES = (64, 256)  # rows of a sector from which it counts as middling, as large
_RATIO = 1.4  # between levels
_LEAST_SIDE = 24  # pixels of a level that still holds a word
_IN_PATCH = 0.75  # share of a patch's pixels that must lie in the sector
_IN_PIXEL = 200  # of 255: share of a level's pixel that must lie in the sector
_NOISE = 8.0  # grey levels below which a patch counts as flat
_EDGE = -2.0  # score down to which a found line is followed

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
        least_strokes: strokes that a line of text has at least; lines with less are not scored.
        thresholds: scores from which a line counts as text, in small, middling and large sectors.
    """

    dictionary_PK: Floats
    weights_F2: Floats
    offset: float
    bias: float
    least_strokes: float
    thresholds: tuple[float, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Level:
    """The still picture at one size, cut to the sector's rectangle.

    Args:
        reduction: pixels of the clip in one of the level's.
    """

    reduction: float
    picture_HW: Floats
    mask_HW: Mask


@dataclass(frozen=True, slots=True, eq=False)
class Patches:
    """All patches of a level, on a grid of strides.

    Args:
        is_inside: most of the patch lies in the sector.
        count: pixels of the patch in the sector; what follows is of them.
        spread: deviation of the grey levels, with a floor.
        strokes: how much the grey level turns from pixel to pixel along the row, in grey levels.
    """

    is_inside: Mask
    count: Floats
    mean: Floats
    spread: Floats
    strokes: Floats


@cache
def text_model() -> TextModel:
    """The model that comes with this release."""
    arrays, _ = load_arrays(MODEL_FILE)
    offset, bias, least, *thresholds = (float(value) for value in arrays["scalars"])
    words_PK, weights_F2 = arrays["dictionary_PK"], arrays["weights_F2"]
    return TextModel(words_PK, weights_F2, offset, bias, least, tuple(thresholds))


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
    threshold = model.thresholds[bisect(_SIZES, int(mask_HW.any(axis=1).sum()))]
    found_HW: Floats | None = None
    for level in levels:
        scores = score_lines(level, model)
        if scores.max(initial=-np.inf) <= threshold:
            continue
        found_HW = np.zeros(mask_HW.shape, dtype=np.float32) if found_HW is None else found_HW
        _paint(found_HW, scores, level.reduction, corner_rc, threshold=threshold)
    if found_HW is None:
        return ()
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


def patches_of(level: Level) -> Patches:
    """Count, mean, contrast and strokes of all patches."""
    known_HW = level.mask_HW.astype(np.float32)
    picture_HW = level.picture_HW * known_HW
    count: Floats = np.maximum(_patch_sums(known_HW), np.float32(1))
    mean = _patch_sums(picture_HW) / count
    variance = np.maximum(_patch_sums(picture_HW**2) / count - mean**2, 0.0)
    spread = np.sqrt(variance + _NOISE**2)
    turns_HW = np.zeros_like(picture_HW)
    turns_HW[:, 1:-1] = np.abs(np.diff(level.picture_HW, n=2, axis=1))
    turns_HW[:, 1:-1] *= known_HW[:, :-2] * known_HW[:, 1:-1] * known_HW[:, 2:]
    strokes = _patch_sums(turns_HW) / count
    return Patches(count >= _IN_PATCH * PATCH**2, count, mean, spread, strokes)


def patch_features(
    level: Level, patches: Patches, chosen: Mask, dictionary_PK: Floats, offset: float
) -> Floats:
    """What the dictionary says to the chosen patches of the grid: features (N, 2K + 2)."""
    answers_NK = standard_patches(level, patches, chosen) @ dictionary_PK
    num_patches, num_words = answers_NK.shape
    features_NF = np.empty((num_patches, 2 * num_words + 2), dtype=np.float32)
    above, below = features_NF[:, :num_words], features_NF[:, num_words:-2]
    np.maximum(np.subtract(answers_NK, offset, out=above), 0, out=above)
    np.maximum(np.subtract(-offset, answers_NK, out=below), 0, out=below)
    features_NF[:, -2] = np.log(patches.spread[chosen]) / 4
    features_NF[:, -1] = patches.mean[chosen] / 255
    return features_NF


def standard_patches(level: Level, patches: Patches, chosen: Mask) -> Floats:
    """The chosen patches (N, P) without their mean and contrast; zero outside the sector."""
    size = (PATCH, PATCH)
    picture = sliding_window_view(level.picture_HW, size)[::STRIDE, ::STRIDE]
    known = sliding_window_view(level.mask_HW, size)[::STRIDE, ::STRIDE]
    found_NP: Floats = picture[chosen].reshape(-1, PATCH**2)
    found_NP -= patches.mean[chosen][:, None]
    found_NP /= patches.spread[chosen][:, None]
    is_cut = patches.count[chosen] < PATCH**2
    found_NP[is_cut] *= known[chosen][is_cut].reshape(-1, PATCH**2)
    return found_NP


def window_share(patches: Patches) -> Floats:
    """Share of each line's window that lies in the sector."""
    return np.maximum(window_mean(patches.is_inside.astype(np.float32)), np.float32(1e-3))


def window_strokes(patches: Patches, share: Floats) -> Floats:
    """Mean strokes in each line's window; zero too near the sector's edge."""
    strokes = window_mean(patches.strokes * patches.is_inside) / share
    return np.where(share > _ENOUGH, strokes, np.float32(0))


def score_lines(level: Level, model: TextModel) -> Floats:
    """Score of a line of text around every patch of the grid.

    It is -inf near the sector's edge, and where letters would have more strokes: the dictionary is
    asked about the patches around the other places only.
    """
    patches = patches_of(level)
    share = window_share(patches)
    is_place = window_strokes(patches, share) > model.least_strokes
    if not is_place.any():
        return np.full(is_place.shape, -np.inf, dtype=np.float32)
    chosen = _around(is_place) & patches.is_inside
    votes = np.zeros((*is_place.shape, 2), dtype=np.float32)
    features_NF = patch_features(level, patches, chosen, model.dictionary_PK, model.offset)
    votes[chosen] = features_NF @ model.weights_F2
    line, around = (window_mean(votes[..., which]) / share for which in (0, 1))
    line[NEIGHBOUR:] += around[:-NEIGHBOUR]
    line[:-NEIGHBOUR] += around[NEIGHBOUR:]
    return np.where(is_place, line + np.float32(model.bias), np.float32(-np.inf))


def window_mean(grid: Floats) -> Floats:
    """Mean of the grid over a line's window; what lies outside the grid counts as zero."""
    size = (LINE_ROWS, LINE_COLUMNS)
    return np.asarray(uniform_filter(grid, size, mode="constant"), dtype=np.float32)


def _around(is_place: Mask) -> Mask:
    """Patches that the score of any of the places depends on."""
    reach = 2 * (NEIGHBOUR + LINE_ROWS // 2) + 1, LINE_COLUMNS
    return np.asarray(maximum_filter(is_place, reach, mode="constant"), dtype=np.bool_)


def _patch_sums(image_HW: Floats) -> Floats:
    """Sum over every patch of the grid: first over squares of a stride, then over runs of them."""
    rows, columns = (side // STRIDE * STRIDE for side in image_HW.shape)
    cut_HW = image_HW[:rows, :columns]
    sums = _total(cut_HW[row::STRIDE, column::STRIDE] for row, column in np.ndindex(STRIDE, STRIDE))
    run = PATCH // STRIDE
    ends = sums.shape[0] - run + 1, sums.shape[1] - run + 1
    sums = _total(sums[place : place + ends[0]] for place in range(run))
    return _total(sums[:, place : place + ends[1]] for place in range(run))


def _total(parts: Iterable[Floats]) -> Floats:
    return reduce(np.add, parts)


def _still_picture(pixels_THW: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The second lowest of up to eight frames: what moves grows dark, what stands still stays.

    One frame in which text is not yet, or not any more, does not hide it.
    """
    count = min(_MAX_FRAMES, len(pixels_THW))
    chosen = np.linspace(0, len(pixels_THW) - 1, count).round().astype(int)
    lowest_HW = still_HW = pixels_THW[chosen[0]]
    for place, frame in enumerate(chosen[1:]):
        higher_HW = np.maximum(lowest_HW, pixels_THW[frame])
        still_HW = np.minimum(still_HW, higher_HW) if place else higher_HW
        lowest_HW = np.minimum(lowest_HW, pixels_THW[frame])
    return np.asarray(still_HW)


def _levels(still_HW: NDArray[np.uint8], mask_HW: Mask) -> Iterator[Level]:
    """From fine to coarse, as long as a word has room; all are made of the finest."""
    pictures = [Image.fromarray(still_HW), Image.fromarray(mask_HW.astype(np.uint8) * 255)]
    finest = max(1.0, mask_HW.shape[0] / _FINEST_ROWS)
    reduction = finest
    while reduction <= finest * _COARSEST:
        size = round(mask_HW.shape[1] / reduction), round(mask_HW.shape[0] / reduction)
        if min(size) < _LEAST_SIDE:
            return
        resized = [picture.resize(size, Image.Resampling.BOX) for picture in pictures]
        pictures = resized if reduction == finest else pictures
        picture_HW, share_HW = (np.asarray(picture, dtype=np.float32) for picture in resized)
        yield Level(reduction, picture_HW, share_HW > _IN_PIXEL)
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
