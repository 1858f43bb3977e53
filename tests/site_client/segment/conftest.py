"""A phantom's cine with its exact masks, their contours and what follows, and its DICOM file."""

from copy import deepcopy
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from pydicom.dataset import FileDataset

from shared.echo.frame import Clip
from shared.echo.mask import STRUCTURES, Mask
from shared.measurement.cycle import area_curve_mm2, find_ed_es, measure_beat
from shared.measurement.landmarks import contours_of
from shared.phantom.anatomy import draw_heart
from shared.phantom.scanner import SCANNERS, PhantomClip, render_clip
from shared.phantom.study import Person, StudyTags, dicom_of
from shared.seeding import numpy_generator
from site_client.segment.cine import ModelName, SegmentedCine

PERSON = Person("Verdichio", "Ada", "MRN7654321", "19440203", "F")
KEY = "c0ffee42"
MODELS = (
    ModelName("north-unet-0a1b2c3d", "0a" * 32),
    ModelName("north-contour-4e5f6a7b", "4e" * 32),
)


@cache
def phantom_clip(num_frames: int = 8, size_HW: tuple[int, int] = (120, 160)) -> PhantomClip:
    heart = draw_heart(numpy_generator(20240715, "heart"))
    return render_clip(
        heart,
        "A4C",
        next(iter(SCANNERS.values())),
        num_frames=num_frames,
        size_HW=size_HW,
        rng=numpy_generator(20240715, "clip"),
    )


@cache
def segment_phantom(num_frames: int = 8, size_HW: tuple[int, int] = (120, 160)) -> SegmentedCine:
    phantom = phantom_clip(num_frames, size_HW)
    clip = Clip(phantom.pixels_THW, phantom.mm_per_pixel, phantom.frame_time_ms, KEY, "patient0")
    masks = tuple(
        Mask(labels_HW, STRUCTURES, phantom.mm_per_pixel, f"{KEY}:{frame}")
        for frame, labels_HW in enumerate(phantom.labels_THW)
    )
    found = contours_of(phantom.labels_THW, phantom.mm_per_pixel, view="A4C").contours
    contours = tuple(
        None if one is None else replace(one, covariance=0.25 * np.eye(one.points_xy_mm.size))
        for one in found
    )
    known = [contour for contour in contours if contour is not None]
    ed, es = (known[place].frame for place in find_ed_es(area_curve_mm2(known)))
    rows, columns = np.mgrid[0 : size_HW[0], 0 : size_HW[1]]
    doubt_HW = np.exp(-((rows - 60) ** 2 + (columns - 60) ** 2) / 400).astype(np.float32)
    return SegmentedCine(
        clip,
        "A4C",
        masks,
        contours,
        tuple(measure_beat([known]).values()),
        MODELS,
        tuple(doubt_HW for _ in masks),
        ed,
        es,
    )


@pytest.fixture(scope="session")
def segmented() -> SegmentedCine:
    return segment_phantom()


@pytest.fixture(scope="session")
def untouched_source() -> FileDataset:
    return dicom_of(phantom_clip(), PERSON, StudyTags("North", "study", "20240312", 1))


@pytest.fixture
def source(untouched_source: FileDataset) -> FileDataset:
    return deepcopy(untouched_source)
