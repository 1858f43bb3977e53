"""Words burnt into the pictures of a clip, as a scanner or an operator would, for tests."""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

READABLE = 50, 1.5
"""Grey levels, and deviations, by which ink lies above what it is written on; below, none reads."""
SMALLEST = 7
"""Font size in pixels; strokes of smaller letters fall between the pixels."""
INKS = (150, 170, 190, 205, 225, 255)
"""Grey levels of the scanners' screens, and white."""
_TRIES = 300


@dataclass(frozen=True, slots=True, eq=False)
class Burnt:
    """A clip with a word in it.

    Args:
        box: first row, first column, end row, end column of the word.
        size: of the font, in pixels.
    """

    pixels_THW: NDArray[np.uint8]
    box: tuple[int, int, int, int]
    size: int
    ink: int


def draw_word(generator: np.random.Generator) -> str:
    """Something that names a person who does not exist: a name, a number or a date."""
    family = "".join(_syllable(generator) for _ in range(int(generator.integers(2, 4))))
    given = _syllable(generator).title() + "a"
    number = int(generator.integers(10**5, 10**7))
    day, month, year = (int(generator.integers(*span)) for span in ((1, 29), (1, 13), (1931, 2003)))
    forms = (
        family.upper(),
        f"{family.upper()}, {given}",
        f"{family.title()} {number % 100000}",
        f"MRN{number}",
        f"{day:02d}.{month:02d}.{year}",
    )
    return forms[int(generator.integers(len(forms)))]


def burn_word(
    pixels_THW: NDArray[np.uint8],
    mask_HW: NDArray[np.bool_],
    generator: np.random.Generator,
    *,
    word: str = "",
    smallest: int = SMALLEST,
) -> Burnt | None:
    """Write a word anywhere inside the mask where its ink can be read.

    Args:
        pixels_THW: grey frames; all get the same word.
        mask_HW: the word lies wholly in it.
        generator: place, size, ink and, where none is given, the word.
        word: what to write.
        smallest: font size, where the picture's height asks for less.

    Returns:
        None where no such place was found.
    """
    height, width = mask_HW.shape
    for _ in range(_TRIES):
        text = word or draw_word(generator)
        low, high = max(smallest, round(0.025 * height)), max(8, round(0.06 * height))
        size = int(generator.integers(low, high + 1))
        ink = int(generator.choice(INKS))
        font = _font(size)
        left, top, right, bottom = font.getbbox(text)
        rows, columns = int(bottom - top) + 1, int(right - left) + 1
        if rows >= height or columns >= width:
            continue
        row = int(generator.integers(height - rows))
        column = int(generator.integers(width - columns))
        box = slice(row, row + rows), slice(column, column + columns)
        if not mask_HW[box].all() or not _is_readable(ink, pixels_THW[(slice(None), *box)]):
            continue
        layer = Image.new("L", (width, height))
        ImageDraw.Draw(layer).text((column - left, row - top), text, fill=255, font=font)
        cover_HW = np.asarray(layer, dtype=np.float32) / 255
        burnt = np.rint(pixels_THW * (1 - cover_HW) + cover_HW * ink).astype(np.uint8)
        return Burnt(burnt, (row, column, row + rows, column + columns), size, ink)
    return None


def _is_readable(ink: int, under_THW: NDArray[np.uint8]) -> bool:
    levels, deviations = READABLE
    return bool(ink - under_THW.mean() >= max(levels, deviations * under_THW.std()))


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=size)


def _syllable(generator: np.random.Generator) -> str:
    letters = ("bdfghklmnprstvz", "aeiou", "lmnrst")
    return "".join(part[int(generator.integers(len(part)))] for part in letters)
