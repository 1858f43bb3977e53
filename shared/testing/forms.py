"""One small fan as DICOM in every transfer syntax, colour model and depth that readers may meet."""

import base64
import io
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from PIL import Image
from pydicom import dcmread
from pydicom.encaps import encapsulate
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from shared.testing.dicom import build_dicom, build_region

_SIZE = (48, 64)
LOSSY = {"jpeg_baseline", "jpeg_colour", "jpeg_extended", "jpeg_extended_12", "jpeg_ls_near"}
"""Forms that show it within a few grey levels."""
_NATIVE = {
    "implicit": ImplicitVRLittleEndian,
    "explicit": ExplicitVRLittleEndian,
    "deflated": DeflatedExplicitVRLittleEndian,
    "big_endian": ExplicitVRBigEndian,
    "rle": RLELossless,
    "jpeg_2000": JPEG2000Lossless,
}
_STREAMS = {
    "jpeg_lossless": JPEGLossless,
    "jpeg_lossless_sv1": JPEGLosslessSV1,
    "jpeg_ls": JPEGLSLossless,
    "jpeg_ls_near": JPEGLSNearLossless,
    "htj2k": HTJ2KLossless,
}


def _fan() -> NDArray[np.uint8]:
    """Noise in a fan; codestreams.yaml holds it too, so it stays as it is."""
    rows, columns = np.mgrid[0 : _SIZE[0], 0 : _SIZE[1]]
    down, right = rows - 0.08 * _SIZE[0], columns - 0.5 * _SIZE[1]
    inside = (np.hypot(down, right) < 0.8 * _SIZE[0]) & (np.abs(right) < 0.7 * down)
    noise = np.random.default_rng(0).integers(30, 250, (1, *_SIZE))
    return np.asarray(noise * inside, dtype=np.uint8)


FAN = _fan()
"""The grey that every form shows, (1, H, W)."""


@cache
def forms() -> dict[str, bytes]:
    """Files by the name of their form."""
    streams = _streams()
    made = {name: build_dicom(FAN, syntax=syntax) for name, syntax in _NATIVE.items()}
    made |= {name: _encapsulated([streams[name]], syntax, FAN) for name, syntax in _STREAMS.items()}
    made["htj2k_rpcl"] = _encapsulated([streams["htj2k"]], HTJ2KLosslessRPCL, FAN)
    made["htj2k_any"] = _encapsulated([streams["htj2k"]] * 2, HTJ2K, np.tile(FAN, (2, 1, 1)))
    made["jpeg_2000_any"] = _encapsulated(_codes(made["jpeg_2000"]), JPEG2000, FAN)
    regions = [build_region((2, 2, 46, 62)), build_region((40, 2, 46, 62), spatial=3, kind=3)]
    made["regions"] = build_dicom(FAN, elements={"SequenceOfUltrasoundRegions": regions})
    deep = FAN.astype(np.uint16) << 4
    extended = [streams["jpeg_extended_12"]]
    made["jpeg_extended_12"] = _encapsulated(extended, JPEGExtended12Bit, deep, bits_stored=12)
    return made | _jpegs() | _colours() | _depths(deep)


def _streams() -> dict[str, bytes]:
    text = (Path(__file__).parent / "codestreams.yaml").read_text()
    return {name: base64.b64decode(packed) for name, packed in yaml.safe_load(text).items()}


def _encapsulated(codes: Sequence[bytes], syntax: UID, like: NDArray[Any], **changes: Any) -> bytes:
    """A file of compressed frames; ``like`` has their shape and depth."""
    dataset = dcmread(io.BytesIO(build_dicom(like, **changes)))
    dataset.PixelData = encapsulate(list(codes))
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = syntax
    stream = io.BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def _codes(data: bytes) -> list[bytes]:
    """The one compressed frame of a file."""
    packed = dcmread(io.BytesIO(data)).PixelData
    table = 8 + int.from_bytes(packed[4:8], "little")
    length = int.from_bytes(packed[table + 4 : table + 8], "little")
    return [packed[table + 8 : table + 8 + length]]


def _jpegs() -> dict[str, bytes]:
    cine = np.tile(FAN, (3, 1, 1))
    grey = _jpeg(Image.fromarray(FAN[0]))
    colour = _jpeg(Image.fromarray(np.repeat(FAN[0][..., None], 3, axis=-1)), subsampling="4:2:2")
    halved = {"colour": "YBR_FULL_422"}
    return {
        "jpeg_baseline": _encapsulated([grey] * 3, JPEGBaseline8Bit, cine),
        "jpeg_colour": _encapsulated([colour] * 3, JPEGBaseline8Bit, _in_rgb(cine), **halved),
        "jpeg_extended": _encapsulated([grey], JPEGExtended12Bit, FAN),
    }


def _jpeg(picture: Image.Image, **options: Any) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=97, **options)
    return stream.getvalue()


def _in_rgb(grey: NDArray[Any]) -> NDArray[Any]:
    return np.repeat(grey[..., None], 3, axis=-1)


def _in_ybr(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.stack([grey, *[np.full_like(grey, 128)] * 2], axis=-1)


def _planes(colours: NDArray[np.uint8]) -> bytes:
    """Colour by plane, as planar configuration 1."""
    return np.moveaxis(colours, -1, 1).tobytes()


def _colours() -> dict[str, bytes]:
    rgb, ybr = _in_rgb(FAN), _in_ybr(FAN)
    planar: dict[str, Any] = {"PlanarConfiguration": 1}
    pairs = FAN.reshape(1, 48, 32, 2)
    halved = np.concatenate([pairs, np.full_like(pairs, 128)], axis=-1)  # Y Y Cb Cr
    as_422 = {
        "Columns": 64, "SamplesPerPixel": 3, "PlanarConfiguration": 0,
        "PhotometricInterpretation": "YBR_FULL_422",
    }  # fmt: skip
    return {
        "inverted": build_dicom(255 - FAN, colour="MONOCHROME1"),
        "rgb": build_dicom(rgb, colour="RGB"),
        "rgb_planes": build_dicom(rgb, colour="RGB", elements=planar | {"PixelData": _planes(rgb)}),
        "rgb_rle": build_dicom(rgb, colour="RGB", syntax=RLELossless),
        "rgb_jpeg_2000": build_dicom(rgb, colour="RGB", syntax=JPEG2000Lossless),
        "ybr": build_dicom(ybr, colour="YBR_FULL"),
        "ybr_planes": build_dicom(
            ybr, colour="YBR_FULL", elements=planar | {"PixelData": _planes(ybr)}
        ),
        "ybr_halved": build_dicom(halved.reshape(1, 48, 128), elements=as_422),
        "palette": build_dicom(255 - FAN, colour="PALETTE COLOR", elements=_palette(256)),
        "palette_deep": build_dicom(
            255 - FAN.astype(np.uint16), colour="PALETTE COLOR", elements=_palette(256)
        ),
    }


def _palette(size: int) -> dict[str, Any]:
    """A palette that turns grey around."""
    table = ((size - 1 - np.arange(size, dtype=np.uint16)) << 8).tobytes()
    names = ("Red", "Green", "Blue")
    data = {f"{name}PaletteColorLookupTableData": table for name in names}
    return data | {f"{name}PaletteColorLookupTableDescriptor": [size, 0, 16] for name in names}


def _depths(deep: NDArray[Any]) -> dict[str, bytes]:
    return {
        "12_bits": build_dicom(deep, bits_stored=12),
        "16_bits": build_dicom(deep << 4),
        "16_bits_big_endian": build_dicom(deep << 4, syntax=ExplicitVRBigEndian),
        "16_bits_signed": build_dicom(((deep << 4).astype(np.int32) - (1 << 15)).astype(np.int16)),
        "16_bits_rle": build_dicom(deep << 4, syntax=RLELossless),
        "16_bits_jpeg_2000": build_dicom(deep << 4, syntax=JPEG2000Lossless),
    }
