"""Masks come with the pictures that they were drawn on, and stay where they were drawn."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from PIL import Image

from shared.echo.sector import Fan
from shared.testing.dicom import draw_speckle
from site_client.ingest import IngestRequest, ingest
from site_client.ingested import IngestReport
from site_client.settings import IngestSettings
from site_client.store import SiteStore

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SIZE = (96, 128)
FAN = Fan((0.0, 64.0), -40.0, 40.0, 4.0, 88.0)
NAMES = ("background", "lv", "myocardium", "la")


@pytest.fixture
def store(tmp_path: Path) -> SiteStore:
    store = SiteStore(tmp_path / "site")
    store.create_key()
    return store


def run(store: SiteStore, folder: Path, **changes: Any) -> IngestReport:
    request = IngestRequest(**{"dataset": "demo", "site": "north", "origin": "real"} | changes)
    return ingest(folder, store, request, IngestSettings(workers=1), now=NOW)


def speckled(num_frames: int, seed: int) -> np.ndarray:
    return draw_speckle(np.random.default_rng(seed), (num_frames, *SIZE)) * FAN.mask(SIZE)


def drawn(num_frames: int, seed: int) -> np.ndarray:
    """Maps of all four values, different in each frame and along both axes."""
    generator = np.random.default_rng(seed)
    labels_THW = np.zeros((num_frames, *SIZE), np.uint8)
    labels_THW[:, 40:60, 50:90] = generator.integers(1, 4, (num_frames, 20, 40))
    return labels_THW


def write_nifti(path: Path, values_THW: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(values_THW.T, np.diag([0.3, 0.15, 1, 1])), path)


def write_mhd(path: Path, values_THW: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    num, height, width = values_THW.shape
    path.with_suffix(".raw").write_bytes(values_THW.tobytes())
    path.write_text(
        f"NDims = 3\nDimSize = {width} {height} {num}\nElementSpacing = 0.3 0.15 1\n"
        f"ElementType = MET_UCHAR\nElementDataFile = {path.with_suffix('.raw').name}\n"
    )


def write_png(path: Path, values_THW: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values_THW[0]).save(path)


Write = Callable[[Path, np.ndarray], None]


@pytest.mark.parametrize(
    ("write", "suffix", "num_frames", "phase"),
    [
        (write_nifti, ".nii.gz", 1, "ED"),
        (write_nifti, ".nii.gz", 4, "half_sequence"),
        (write_mhd, ".mhd", 1, "ES"),
    ],
)
def test_masks_of_camus_lie_on_their_pictures(
    store: SiteStore, tmp_path: Path, write: Write, suffix: str, num_frames: int, phase: str
) -> None:
    stem = tmp_path / "camus" / "patient0001" / f"patient0001_4CH_{phase}"
    pixels_THW, labels_THW = speckled(num_frames, 1), drawn(num_frames, 2)
    write(Path(f"{stem}{suffix}"), pixels_THW)
    write(Path(f"{stem}_gt{suffix}"), labels_THW)
    (record,) = run(store, tmp_path / "camus", layout="camus").manifest.clips
    clip = store.clip("demo", record)
    assert clip.annotation is not None
    assert clip.annotation.structures == record.structures == NAMES
    assert clip.annotation.frames == tuple(range(num_frames))
    assert np.array_equal(clip.annotation.labels_FHW, labels_THW)
    inside_HW = clip.mask_HW
    assert np.array_equal(clip.pixels_THW[:, inside_HW], pixels_THW[:, inside_HW])


def test_a_sequence_has_the_masks_of_its_two_phases(store: SiteStore, tmp_path: Path) -> None:
    folder = tmp_path / "camus" / "training" / "patient0001"
    labels_THW = drawn(2, 3)
    write_mhd(folder / "patient0001_2CH_sequence.mhd", speckled(6, 1))
    for place, phase in enumerate(("ES", "ED")):
        write_mhd(folder / f"patient0001_2CH_{phase}.mhd", speckled(1, place))
        write_mhd(folder / f"patient0001_2CH_{phase}_gt.mhd", labels_THW[place : place + 1])
    (folder / "Info_2CH.cfg").write_text("ED: 5\nES: 2\nNbFrame: 6\nSex: F\n")
    (record,) = run(store, tmp_path / "camus", layout="camus").manifest.clips
    annotation = store.clip("demo", record).annotation
    assert annotation is not None
    assert annotation.frames == (1, 4)
    assert np.array_equal(annotation.labels_FHW, labels_THW)


def test_an_extract_of_pictures_has_its_scale_and_masks(store: SiteStore, tmp_path: Path) -> None:
    lines = ["file,patient,spacing_mm"]
    for number in (1, 201):
        name = f"patient{number:04d}_4CH_ED.png"
        write_png(tmp_path / "camus" / "images" / name, speckled(1, number))
        write_png(tmp_path / "camus" / "masks" / name, drawn(1, number))
        lines.append(f"{name},patient{number:04d},0.{number}")
    (tmp_path / "camus" / "manifest.csv").write_text("\n".join(lines))
    report = run(store, tmp_path / "camus", layout="camus")
    assert (report.document()["ingested"], report.document()["annotated"]) == (2, 2)
    told = {}
    for record in report.manifest.clips:
        clip = store.clip("demo", record)
        assert clip.annotation is not None
        told[record.split] = (clip.mm_per_pixel, clip.annotation.labels_FHW.tobytes())
    assert told["test"] == ((0.201, 0.201), drawn(1, 201).tobytes())
    assert told["train"] == ((0.1, 0.1), drawn(1, 1).tobytes())
