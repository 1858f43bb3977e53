"""The pixels of a DICOM object as grey frames, whatever their syntax and colour model.

Grey is the luma of ITU-R BT.601, 0.299 R + 0.587 G + 0.114 B, which the Y of YBR_FULL already is: a
picture kept as YBR is not converted at all, one kept as RGB or by palette once. Of more than 8 bits
the upper 8 stay, signed levels are moved up first, and MONOCHROME1 is turned around; no window is
applied, as it belongs to a viewer. JPEG of 8 bits is asked for its luma alone, which spares most of
the decoding; everything else is decoded by pydicom's plugins.

References: DICOM PS3.3 C.7.6.3 (pixels), PS3.5 8.2 and A.4 (transfer syntaxes).
"""

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.pixels import apply_color_lut, get_decoder
from pydicom.uid import UID, JPEGBaseline8Bit, JPEGExtended12Bit, RLELossless

from site_client.datasets.codestream import declared_shape
from site_client.datasets.modes import chroma_of, frames_to_look_at, thinned
from site_client.datasets.raw import MAX_BYTES, Chroma, unreadable

_MAX_PALETTE_BITS = 16  # PS3.3 C.7.6.3.1.5
Grey = NDArray[np.uint8]
_Picture = tuple[Grey, Callable[[], Chroma | None]]
"""One frame in grey (H, W), and how to have its colours."""


@dataclass(frozen=True, slots=True)
class _Form:
    """How the header says that the pixels are written."""

    syntax: UID
    colour: str
    num_frames: int
    size_HW: tuple[int, int]
    samples: int
    bits: int
    is_signed: bool


def read_pixels(dataset: Dataset) -> tuple[Grey, dict[int, Chroma]]:
    """All frames as uint8 grey (T, H, W), and the colours of a few by the number of the frame.

    Raises:
        EchoFedError: DATA_UNREADABLE where the header claims what cannot be; damaged pixels raise
            what the foreign libraries raise.
    """
    form = _form(dataset)
    if not form.syntax.is_encapsulated and form.colour.startswith("MONOCHROME"):
        return _plain(dataset, form), {}
    pixels_THW = np.empty((form.num_frames, *form.size_HW), dtype=np.uint8)
    colours: dict[int, Chroma] = {}
    wanted = frames_to_look_at(form.num_frames)
    num_read = 0
    for place, (grey_HW, look) in zip(
        range(form.num_frames), _pictures(dataset, form), strict=False
    ):
        if grey_HW.shape != form.size_HW:
            raise unreadable("holds a frame of another size than it says")
        pixels_THW[place] = grey_HW
        num_read += 1
        chroma = look() if place in wanted else None
        if chroma is not None:
            colours[place] = chroma
    if num_read < form.num_frames:
        raise unreadable("holds fewer frames than it says")
    return pixels_THW, colours


def _plain(dataset: Dataset, form: _Form) -> Grey:
    """Grey frames that are not compressed, in one go: bytes are not even copied."""
    array = _native(dataset, form)[0]
    if array.ndim != 3:
        raise unreadable("has a colour model that is not known")
    return _upright(_to_bytes(array, form), form.colour)


def _form(dataset: Dataset) -> _Form:
    form = _Form(
        syntax=dataset.file_meta.TransferSyntaxUID,
        colour=str(dataset.PhotometricInterpretation),
        num_frames=int(dataset.get("NumberOfFrames") or 1),
        size_HW=(int(dataset.Rows), int(dataset.Columns)),
        samples=int(dataset.get("SamplesPerPixel", 1)),
        bits=int(dataset.BitsStored),
        is_signed=int(dataset.get("PixelRepresentation", 0)) == 1,
    )
    pixels = form.num_frames * form.size_HW[0] * form.size_HW[1] * form.samples
    if not 0 < pixels * (int(dataset.BitsAllocated) + 7) // 8 <= MAX_BYTES:
        raise unreadable("claims more pixels than can be read")
    if int(dataset.get("HighBit", form.bits - 1)) != form.bits - 1:
        raise unreadable("keeps its bits in another place than the lowest")
    return form


def _pictures(dataset: Dataset, form: _Form) -> Iterator[_Picture]:
    if not form.syntax.is_encapsulated or form.syntax == RLELossless:
        return _decoded(dataset, form)
    shape = (*form.size_HW, form.samples)
    if any(declared_shape(code) != shape for code in _codes(dataset, form)):
        raise unreadable("holds a frame of another size than it says")
    if _is_luma_known(next(_codes(dataset, form), b""), form):
        return (_luma_of(code, form) for code in _codes(dataset, form))
    return _decoded(dataset, form)


def _codes(dataset: Dataset, form: _Form) -> Iterator[bytes]:
    """The compressed frames; surplus ones are left."""
    tables = [dataset.get(f"ExtendedOffsetTable{of}") for of in ("", "Lengths")]
    codes = generate_frames(
        dataset.PixelData,
        number_of_frames=form.num_frames,
        extended_offsets=tuple(tables) if all(tables) else None,
    )
    yield from islice(codes, form.num_frames)


def _is_luma_known(code: bytes, form: _Form) -> bool:
    """Whether libjpeg knows from the stream, or we from the header, what its luma is.

    A stream without markers whose header says RGB is not: libjpeg would take it for YCbCr.
    """
    if form.syntax not in {JPEGBaseline8Bit, JPEGExtended12Bit} or form.bits != 8:
        return False
    if form.samples == 1:
        return form.colour.startswith("MONOCHROME")
    with _jpeg(code) as picture:
        is_marked = "jfif" in picture.info or "adobe" in picture.info
    return form.colour.startswith("YBR_FULL") or (form.colour == "RGB" and is_marked)


def _jpeg(code: bytes) -> Image.Image:
    return Image.open(io.BytesIO(code), formats=("JPEG",))


def _luma_of(code: bytes, form: _Form) -> _Picture:
    """The luma of a JPEG frame, decoded without its colours."""
    with _jpeg(code) as picture:
        picture.draft("L", picture.size)
        grey_HW = np.asarray(picture)
    if form.samples == 1:
        return _upright(grey_HW, form.colour), _colourless
    return grey_HW, partial(_jpeg_colours, code)


def _jpeg_colours(code: bytes) -> Chroma:
    with _jpeg(code) as picture:
        return chroma_of(thinned(np.asarray(picture.convert("RGB"))))


def _colourless() -> None:
    return None


def _decoded(dataset: Dataset, form: _Form) -> Iterator[_Picture]:
    """Frames as pydicom decodes them."""
    palette_P3 = _palette(dataset) if form.colour == "PALETTE COLOR" else np.zeros((1, 3), np.uint8)
    palette_P = _luma(palette_P3)
    for frame, colour in _arrays(dataset, form):
        if form.colour == "PALETTE COLOR":
            yield palette_P[frame], partial(_palette_colours, palette_P3, frame)
        elif frame.ndim == 2:
            yield _upright(_to_bytes(frame, form), form.colour), _colourless
        else:
            yield _of_colours(frame, colour, form)


def _arrays(dataset: Dataset, form: _Form) -> Iterator[tuple[NDArray[Any], str]]:
    """Frames (H, W) or (H, W, 3) and their colour model; compressed ones one at a time."""
    if not form.syntax.is_encapsulated:
        array, colour = _native(dataset, form)
        yield from ((frame, colour) for frame in array)
        return
    decoder = get_decoder(form.syntax)
    for frame, meta in decoder.iter_array(dataset, raw=True, allow_excess_frames=False):
        yield frame, str(meta["photometric_interpretation"])


def _native(dataset: Dataset, form: _Form) -> tuple[NDArray[Any], str]:
    """A view of all frames that are not compressed; pydicom's iterator loses those of 4:2:2."""
    array, meta = get_decoder(form.syntax).as_array(
        dataset, raw=True, allow_excess_frames=False, view_only=True
    )
    return array if form.num_frames > 1 else array[None], str(meta["photometric_interpretation"])


def _of_colours(frame_HW3: NDArray[Any], colour: str, form: _Form) -> _Picture:
    if colour.startswith("YBR_FULL"):
        return _to_bytes(frame_HW3[..., 0], form), partial(_ybr_colours, frame_HW3, form)
    if colour != "RGB":
        raise unreadable("has a colour model that is not known")
    rgb_HW3 = _to_bytes(frame_HW3, form)
    return _luma(rgb_HW3), lambda: chroma_of(thinned(rgb_HW3))


def _ybr_colours(frame_HW3: NDArray[Any], form: _Form) -> Chroma:
    levels = _to_bytes(thinned(frame_HW3)[..., 1:], form)
    return (levels.astype(np.int16) - 128).astype(np.int8)


def _palette(dataset: Dataset) -> NDArray[np.uint8]:
    """Colour of every index (P, 3)."""
    bits = int(dataset.BitsAllocated)
    if bits > _MAX_PALETTE_BITS:
        raise unreadable("claims more colours than a palette can hold")
    indices = np.arange(1 << bits, dtype=np.uint16 if bits > 8 else np.uint8)
    rgb = apply_color_lut(indices[None], dataset)[0]
    return np.asarray(rgb if rgb.dtype == np.uint8 else rgb >> 8, dtype=np.uint8)


def _palette_colours(palette_P3: NDArray[np.uint8], frame: NDArray[Any]) -> Chroma:
    return chroma_of(palette_P3[thinned(frame)])


def _luma(rgb: NDArray[np.uint8]) -> Grey:
    """Brightness of colours (..., 3), rounded."""
    flat = np.ascontiguousarray(rgb).reshape(-1, rgb.shape[-2], 3)
    grey = np.asarray(Image.fromarray(flat).convert("L"))
    return grey.reshape(rgb.shape[:-1])


def _upright(grey_HW: Grey, colour: str) -> Grey:
    """Dark is low."""
    return 255 - grey_HW if colour == "MONOCHROME1" else grey_HW


def _to_bytes(levels: NDArray[Any], form: _Form) -> NDArray[np.uint8]:
    """Scale the stored bits to 8; signed levels are moved up first."""
    if form.is_signed:
        levels = levels.astype(np.int32) + (1 << (form.bits - 1))
    if form.bits == 8 and levels.dtype == np.uint8:
        return np.asarray(levels, dtype=np.uint8)
    wide = levels.astype(np.uint32) & ((1 << form.bits) - 1)
    shift = form.bits - 8
    return (wide >> shift if shift > 0 else wide << -shift).astype(np.uint8)
