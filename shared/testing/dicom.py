"""Small ultrasound DICOM files in any pixel form, with a planted identity, for tests of readers."""

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import (
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    UltrasoundMultiFrameImageStorage,
    generate_uid,
)
from scipy.ndimage import gaussian_filter

PLANTED = "Verdichio"
"""A name that must not be found anywhere after de-identification."""


def build_dicom(
    pixels: NDArray[Any],
    *,
    colour: str = "MONOCHROME2",
    bits_stored: int = 0,
    syntax: UID = ExplicitVRLittleEndian,
    elements: dict[str, Any] | None = None,
) -> bytes:
    """A multi-frame ultrasound object.

    Args:
        pixels: (T, H, W) or (T, H, W, 3), uint8, uint16 or int16.
        colour: photometric interpretation.
        bits_stored: 0 for all bits of the array.
        syntax: transfer syntax to write in or to compress to.
        elements: further elements by keyword; None removes one.
    """
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UltrasoundMultiFrameImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian if syntax.is_compressed else syntax
    dataset = FileDataset(
        "",
        {},
        file_meta=meta,
        preamble=b"\0" * 128,
        is_implicit_VR=syntax.is_implicit_VR,
        is_little_endian=syntax.is_little_endian,
    )
    dataset.SOPClassUID = UltrasoundMultiFrameImageStorage
    dataset.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    dataset.StudyInstanceUID = generate_uid()
    dataset.Modality = "US"
    dataset.PatientName, dataset.PatientID = f"{PLANTED}^Ada", f"MRN-{PLANTED}"
    dataset.NumberOfFrames, dataset.Rows, dataset.Columns = pixels.shape[:3]
    dataset.SamplesPerPixel = 3 if pixels.ndim == 4 else 1
    dataset.PhotometricInterpretation = colour
    dataset.BitsAllocated = pixels.itemsize * 8
    dataset.BitsStored = bits_stored or dataset.BitsAllocated
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    if pixels.ndim == 4:
        dataset.PlanarConfiguration = 0
    data = (pixels.byteswap() if syntax == ExplicitVRBigEndian else pixels).tobytes()
    dataset.PixelData = data + b"\0" * (len(data) % 2)
    dataset["PixelData"].VR = "OB" if pixels.itemsize == 1 else "OW"
    if syntax.is_compressed and syntax.is_encapsulated:
        dataset.compress(syntax, generate_instance_uid=False)
    for keyword, value in (elements or {}).items():
        if value is None:
            del dataset[keyword]
        else:
            setattr(dataset, keyword, value)
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def build_region(box: tuple[int, int, int, int], *, spatial: int = 1, kind: int = 1) -> Dataset:
    """An ultrasound region.

    Args:
        box: first row, first column, last row, last column, all inside.
        spatial: spatial format, 1 is 2-D.
        kind: data type, 1 is tissue.
    """
    region = Dataset()
    region.RegionSpatialFormat, region.RegionDataType, region.RegionFlags = spatial, kind, 0
    region.RegionLocationMinY0, region.RegionLocationMinX0 = box[:2]
    region.RegionLocationMaxY1, region.RegionLocationMaxX1 = box[2:]
    region.PhysicalUnitsXDirection = region.PhysicalUnitsYDirection = 3
    region.PhysicalDeltaX, region.PhysicalDeltaY = 0.03, 0.05
    return region


def speckled_fan(size_HW: tuple[int, int], num_frames: int, seed: int) -> NDArray[np.uint8]:
    """Moving speckle in a fan, (T, H, W); the screen around it is black."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[0 : size_HW[0], 0 : size_HW[1]]
    down, right = rows - 0.08 * size_HW[0], columns - 0.5 * size_HW[1]
    inside = (np.hypot(down, right) < 0.8 * size_HW[0]) & (np.abs(right) < 0.7 * down)
    fan: NDArray[np.uint8] = draw_speckle(rng, (num_frames, *size_HW)) * inside
    return fan


def draw_speckle(rng: np.random.Generator, size_THW: tuple[int, ...]) -> NDArray[np.uint8]:
    """Speckle that moves, and is as smooth as a beam makes it: plain noise looks like letters."""
    noise = gaussian_filter(rng.normal(size=size_THW), (0, 1.0, 2.0))
    return np.asarray((130 + 40 * noise / noise.std()).clip(30, 250).astype(np.uint8))
