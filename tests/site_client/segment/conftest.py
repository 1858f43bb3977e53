"""A phantom's cine with its exact masks, their contours and what follows, and its DICOM file."""

from copy import deepcopy
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import FileDataset

from shared.echo.annotation import Annotation
from shared.echo.frame import Clip
from shared.echo.manifest import SPLITS, ClipRecord, DatasetManifest, Split
from shared.echo.mask import STRUCTURES, Mask
from shared.measurement.cycle import area_curve_mm2, find_ed_es, measure_beat
from shared.measurement.landmarks import contours_of
from shared.phantom.anatomy import draw_heart
from shared.phantom.scanner import SCANNERS, PhantomClip, render_clip
from shared.phantom.study import Person, StudyTags, dicom_of
from shared.seeding import numpy_generator
from shared.settings import build_settings
from site_client.clip_file import StoredClip
from site_client.policy import Policy, save_policy
from site_client.segment.cine import ModelName, SegmentedCine
from site_client.settings import SegmenterSettings
from site_client.store import SiteStore
from site_client.training.segmenter import train_segmenter

PERSON = Person("Verdichio", "Ada", "MRN7654321", "19440203", "F")
KEY = "c0ffee42"
QUICK = {
    "width": 8, "depth": 3, "patch": 1, "image_size": 96, "epochs": 8, "batch_size": 4,
    "learning_rate": 0.01, "threads": 1, "rotation_deg": 3.0, "zoom": 0.03, "shift": 0.02,
    "backmix": False, "gamma": 0.1,
}  # fmt: skip
MODELS = (
    ModelName("north-unet-0a1b2c3d", "0a" * 32),
    ModelName("north-contour-4e5f6a7b", "4e" * 32),
)


@cache
def phantom_clip(
    num_frames: int = 8, size_HW: tuple[int, int] = (120, 160), view: str = "A4C"
) -> PhantomClip:
    heart = draw_heart(numpy_generator(20240715, "heart"))
    return render_clip(
        heart,
        view,
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


@pytest.fixture(scope="session")
def two_views(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A4C and A2C of one patient as a scanner exports them."""
    folder = tmp_path_factory.mktemp("scanner")
    for number, view in enumerate(("A4C", "A2C"), start=1):
        tags = StudyTags("North", "study", "20240312", number)
        file = dicom_of(phantom_clip(view=view), PERSON, tags)
        file.save_as(folder / f"{view}.dcm", enforce_file_format=True)
    return folder / "A4C.dcm", folder / "A2C.dcm"


@pytest.fixture(scope="session")
def trained_site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The settings of a site with a segmenter that knows this heart, and no other, by heart."""
    config = tmp_path_factory.mktemp("trained") / "site.yaml"
    config.write_text("{site: north, segmenter: {threads: 1}}")
    save_policy(Policy(), config.parent / "policy.yaml")
    store = SiteStore(config.parent)
    store.create_key()
    clips = [
        _traced(store, view, split)
        for view in ("A4C", "A2C")
        for split in (SPLITS[0], SPLITS[1], SPLITS[2])
    ]
    words = {view: (view,) for view in ("A4C", "A2C")}
    store.save_manifest(
        DatasetManifest("heart", "north", "phantom", "traced", words, tuple(clips), "sector")
    )
    settings = build_settings(SegmenterSettings, QUICK)
    now = datetime(2026, 1, 1, tzinfo=UTC)
    card = train_segmenter(
        store, ["heart"], settings, site="north", now=now, report=lambda step: None
    )
    store.set_alias("segmentation-masks", card.id)
    return config


def _traced(store: SiteStore, view: str, split: Split) -> ClipRecord:
    phantom, names = phantom_clip(view=view), STRUCTURES[:4]
    labels_THW = np.where(phantom.labels_THW < len(names), phantom.labels_THW, 0).astype(np.uint8)
    annotation = Annotation(tuple(range(len(labels_THW))), labels_THW, names, None)
    mask_HW = phantom.sector.mask_HW
    clip = StoredClip(
        phantom.pixels_THW * mask_HW, mask_HW, phantom.mm_per_pixel, phantom.frame_time_ms,
        annotation=annotation,
    )  # fmt: skip
    key = f"{view}-{split}"
    file, sha256 = store.add_clip("heart", clip)
    return ClipRecord(
        key, split, view, split, len(labels_THW), file, sha256, has_mask=True, structures=names
    )
