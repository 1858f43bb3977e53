"""How overlays look: colours that colour-blind people tell apart, fonts and sizes.

The structures' colours are those of Okabe and Ito (Color Universal Design, 2008).
"""

from functools import cache

from PIL import ImageFont

Rgb = tuple[int, int, int]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

STRUCTURE_COLOURS: dict[str, Rgb] = {
    "lv": (86, 180, 233),
    "myocardium": (230, 159, 0),
    "la": (0, 158, 115),
    "rv": (213, 94, 0),
    "ra": (204, 121, 167),
    "aorta": (0, 114, 178),
}
STRUCTURE_NAMES = {
    "lv": "left ventricle",
    "myocardium": "myocardium",
    "la": "left atrium",
    "rv": "right ventricle",
    "ra": "right atrium",
    "aorta": "aorta",
}
CONTOUR: Rgb = (240, 228, 66)
DOUBT: Rgb = (255, 255, 255)
BACK: Rgb = (13, 17, 22)
PANEL: Rgb = (21, 27, 34)
LINE: Rgb = (44, 54, 65)
INK: Rgb = (242, 245, 247)
SOFT: Rgb = (138, 151, 163)
WARNING: Rgb = (230, 159, 0)

PICTURE_HEIGHT = 560  # px of a frame
GAP = 16
SUPERSAMPLING = 3


@cache
def font(size: int) -> Font:
    """The font that Pillow carries, so that a picture is the same on every machine."""
    return ImageFont.load_default(size)
