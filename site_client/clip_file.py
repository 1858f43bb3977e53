"""A clip on disk: a safetensors file of packed frames, mask and a head of facts.

Frames are packed one by one, so that the head, or one frame, is read without the others.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from shared.echo.annotation import Annotation
from shared.echo.frame import MillimetresPerPixel
from shared.echo.manifest import TextState
from shared.echo.sector import Fan
from shared.echo.synthesis import Synthesis
from shared.errors import Code, EchoFedError
from shared.files import arrays_to_bytes, load_arrays, sha256_hex, write_bytes
from site_client.packing import pack_frames, unpack_frame, unpack_frames

CLIP_VERSION = 2  # 1 kept the frames as they were


@dataclass(frozen=True, slots=True, eq=False)
class StoredClip:
    """A de-identified clip as it lies on disk.

    Args:
        pixels_THW: uint8 grey.
        mask_HW: True inside the sector, None where no sector was found.
        mm_per_pixel: spacing of (rows, columns), None where no calibration is known.
        frame_time_ms: time between frames, None where unknown.
        fan: geometry of the sector, None where none could be fitted.
        confidence: of the mask; 0 where there is none.
        num_blanked: pixels of all frames that de-identification made zero, None where it was not
            counted.
        text: what is known of text inside the sector; ``kept`` and ``blanked`` tell of some.
        annotation: label maps of some frames, None where nobody made any.
        synthesis: how it was drawn; None for what was imaged.
    """

    pixels_THW: NDArray[np.uint8]
    mask_HW: NDArray[np.bool_] | None
    mm_per_pixel: MillimetresPerPixel | None
    frame_time_ms: float | None
    fan: Fan | None = None
    confidence: float = 0.0
    num_blanked: int | None = None
    text: TextState = "unchecked"
    annotation: Annotation | None = None
    synthesis: Synthesis | None = None


@dataclass(frozen=True, slots=True)
class ClipFacts:
    """What is known of a clip on disk without its pixels; see ``StoredClip``."""

    size_THW: tuple[int, int, int]
    has_mask: bool
    mm_per_pixel: MillimetresPerPixel | None
    frame_time_ms: float | None
    fan: Fan | None


def pack_clip(clip: StoredClip) -> bytes:
    """A clip as the bytes of its file; equal clips give equal bytes."""
    packed, ends_T = pack_frames(clip.pixels_THW)
    header = {
        "version": CLIP_VERSION,
        "size": clip.pixels_THW.shape[1:],
        "mm_per_pixel": clip.mm_per_pixel,
        "frame_time_ms": clip.frame_time_ms,
        "fan": asdict(clip.fan) if clip.fan else None,
        "confidence": clip.confidence,
        **({} if clip.num_blanked is None else {"num_blanked": clip.num_blanked}),
        **({"text": clip.text} if clip.text != "unchecked" else {}),
        **({"synthesis": asdict(clip.synthesis)} if clip.synthesis else {}),
    }
    arrays: dict[str, NDArray[Any]] = {"frames_packed": packed, "frame_ends": ends_T}
    if clip.mask_HW is not None:
        arrays["mask_packed"] = np.packbits(clip.mask_HW)
    if clip.annotation is not None:
        header["structures"] = clip.annotation.structures
        arrays |= _annotation_arrays(clip.annotation)
    return arrays_to_bytes(arrays, {"clip": json.dumps(header, sort_keys=True)})


def save_clip(path: Path, clip: StoredClip) -> str:
    """Write a clip atomically and return the SHA-256 of the file."""
    data = pack_clip(clip)
    write_bytes(path, data)
    return sha256_hex(data)


def load_clip(path: Path) -> StoredClip:
    """Read a clip.

    Raises:
        EchoFedError: CHECKPOINT_CORRUPT, or CARD_NEWER for one that a later release wrote.
    """
    arrays, metadata = load_arrays(path)
    header = _header(metadata)
    if header["version"] == 1:
        pixels_THW = arrays["pixels_THW"]
    else:
        size_HW = header["size"][0], header["size"][1]
        pixels_THW = unpack_frames(arrays["frames_packed"], arrays["frame_ends"], size_HW)
    mask_HW = None
    if "mask_packed" in arrays:
        size = pixels_THW.shape[1] * pixels_THW.shape[2]
        bits = np.unpackbits(arrays["mask_packed"], count=size)
        mask_HW = bits.reshape(pixels_THW.shape[1:]).astype(np.bool_)
    return StoredClip(
        pixels_THW=pixels_THW,
        mask_HW=mask_HW,
        mm_per_pixel=_spacing(header),
        frame_time_ms=header["frame_time_ms"],
        fan=_fan(header),
        confidence=header["confidence"],
        num_blanked=header.get("num_blanked"),
        text=header.get("text", "unchecked"),
        annotation=_annotation(arrays, header, pixels_THW.shape[1:]),
        synthesis=Synthesis(**header["synthesis"]) if "synthesis" in header else None,
    )


def read_facts(path: Path) -> ClipFacts:
    """What a clip is, without its pixels.

    Raises:
        EchoFedError: CHECKPOINT_CORRUPT, CARD_NEWER.
    """
    with _opened(path) as file:
        header, names = _header(file.metadata() or {}), set(file.keys())
        if header["version"] == 1:
            num_frames, height, width = file.get_slice("pixels_THW").get_shape()
        else:
            (num_frames,), (height, width) = (
                file.get_slice("frame_ends").get_shape(),
                header["size"],
            )
    return ClipFacts(
        (num_frames, height, width),
        has_mask="mask_packed" in names,
        mm_per_pixel=_spacing(header),
        frame_time_ms=header["frame_time_ms"],
        fan=_fan(header),
    )


def read_middle_frame(path: Path) -> NDArray[np.uint8]:
    """The frame in the middle of a clip (H, W), without the others.

    Raises:
        EchoFedError: CHECKPOINT_CORRUPT, CARD_NEWER.
    """
    with _opened(path) as file:
        header = _header(file.metadata() or {})
        if header["version"] == 1:
            pixels = file.get_slice("pixels_THW")
            frame_HW: NDArray[np.uint8] = pixels[pixels.get_shape()[0] // 2]
            return frame_HW
        ends_T = file.get_tensor("frame_ends")
        place = len(ends_T) // 2
        start, end = int(ends_T[place - 1]) if place else 0, int(ends_T[place])
        packed = file.get_slice("frames_packed")[start:end]
    return unpack_frame(packed, (header["size"][0], header["size"][1]))


def _annotation_arrays(annotation: Annotation) -> dict[str, NDArray[Any]]:
    packed, ends_F = pack_frames(annotation.labels_FHW)
    arrays: dict[str, NDArray[Any]] = {
        "labels_packed": packed,
        "labels_ends": ends_F,
        "labels_frames": np.array(annotation.frames, np.int32),
    }
    if annotation.landmarks_xy_px_F32 is not None:
        arrays["landmarks_xy_px"] = annotation.landmarks_xy_px_F32
    return arrays


def _annotation(
    arrays: Mapping[str, NDArray[Any]], header: Mapping[str, Any], size_HW: tuple[int, ...]
) -> Annotation | None:
    if "labels_packed" not in arrays:
        return None
    return Annotation(
        tuple(arrays["labels_frames"].tolist()),
        unpack_frames(arrays["labels_packed"], arrays["labels_ends"], (size_HW[0], size_HW[1])),
        tuple(header["structures"]),
        arrays.get("landmarks_xy_px"),
    )


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """A file of arrays of which only parts are read."""
    try:
        with safe_open(path, "numpy") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise EchoFedError(
            Code.CHECKPOINT_CORRUPT, "a clip does not open", "ingest the dataset again"
        ) from error


def _header(metadata: Mapping[str, str]) -> dict[str, Any]:
    header: dict[str, Any] = json.loads(metadata["clip"])
    if header["version"] > CLIP_VERSION:
        raise EchoFedError(
            Code.CARD_NEWER,
            f"a clip of version {header['version']} is newer than this release",
            "upgrade",
        )
    return header


def _spacing(header: Mapping[str, Any]) -> MillimetresPerPixel | None:
    spacing = header["mm_per_pixel"]
    return (spacing[0], spacing[1]) if spacing else None


def _fan(header: Mapping[str, Any]) -> Fan | None:
    fan = header["fan"]
    return Fan(**{**fan, "apex_rc": tuple(fan["apex_rc"])}) if fan else None
