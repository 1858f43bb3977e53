"""A file is de-identified as at ingest, its header kept apart, and what is no cine is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread

from shared.errors import Code, EchoFedError
from shared.testing.dicom import build_dicom, build_region, speckled_fan
from site_client.deidentify import Pseudonyms
from site_client.segment.source import expect_one_patient, open_source
from site_client.store import SiteStore

SIZE = (120, 160)
REGION = {"SequenceOfUltrasoundRegions": [build_region((10, 5, 110, 155))]}


@pytest.fixture
def store(tmp_path: Path) -> SiteStore:
    store = SiteStore(tmp_path / "site")
    store.create_key()
    return store


def refusal(path: Path, store: SiteStore) -> Code:
    with pytest.raises(EchoFedError) as caught:
        open_source(path, store)
    assert "Verdichio" not in str(caught.value)
    assert str(path) not in str(caught.value)
    return caught.value.code


def test_networks_see_the_fan_alone(store: SiteStore, two_views: tuple[Path, Path]) -> None:
    source = open_source(two_views[0], store)
    mask_HW = source.stored.mask_HW
    assert mask_HW is not None
    assert source.clip.pixels_THW[:, mask_HW].any()
    assert not source.clip.pixels_THW[:, ~mask_HW].any()
    assert dcmread(two_views[0]).pixel_array[:, ~mask_HW].any()


def test_key_is_that_of_ingest_and_nothing_is_stored(
    store: SiteStore, two_views: tuple[Path, Path]
) -> None:
    source = open_source(two_views[0], store)
    assert source.clip.key == Pseudonyms(store.key()).clip(two_views[0].read_bytes(), "sector")
    assert {path.name for path in store.root.iterdir()} == {"identity"}
    assert source.original is not None
    assert source.original.PatientID == "MRN7654321"


def test_a_picture_has_no_header(store: SiteStore, two_views: tuple[Path, Path]) -> None:
    picture = store.root / "still.png"
    Image.fromarray(dcmread(two_views[0]).pixel_array[0]).save(picture)
    source = open_source(picture, store)
    assert (source.original, source.clip.mm_per_pixel) == (None, None)
    assert len(source.clip.pixels_THW) == 1


def flow(size_THW: tuple[int, ...]) -> bytes:
    grey = speckled_fan(size_THW[1:], size_THW[0], 1)  # type: ignore[arg-type]
    colours = np.repeat(grey[..., None], 3, axis=3)
    colours[:, 50:80, 60:100] = (220, 20, 20)
    return build_dicom(colours, colour="RGB", elements=REGION)


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"no picture at all", Code.DATA_UNREADABLE),
        (build_dicom(speckled_fan(SIZE, 2, 1), elements=REGION)[:-9000], Code.DATA_UNREADABLE),
        (build_dicom(np.zeros((2, *SIZE), np.uint8)), Code.SECTOR_EMPTY),
        (build_dicom(speckled_fan(SIZE, 1, 1), elements={"PixelData": None}), Code.PIXELS_MISSING),
        (flow((2, *SIZE)), Code.MODE_UNWANTED),
        (
            build_dicom(
                speckled_fan(SIZE, 2, 1),
                elements={
                    "SequenceOfUltrasoundRegions": [
                        build_region((10, 5, 60, 155)),
                        build_region((60, 5, 110, 155), spatial=3, kind=3),
                    ]
                },
            ),
            Code.MODE_UNWANTED,
        ),
    ],
)
def test_what_is_no_cine_of_tissue_is_refused(store: SiteStore, content: bytes, code: Code) -> None:
    path = store.root / "Verdichio.dcm"
    path.write_bytes(content)
    assert refusal(path, store) is code


def test_a_file_that_is_not_there(store: SiteStore) -> None:
    assert refusal(store.root / "Verdichio.dcm", store) is Code.DATA_UNREADABLE


def test_files_of_two_patients_are_no_examination(
    store: SiteStore, two_views: tuple[Path, Path]
) -> None:
    mine, theirs = (open_source(path, store) for path in two_views)
    expect_one_patient([mine, theirs])
    stranger: Any = dcmread(two_views[1])
    stranger.PatientID = "MRN1111111"
    other = store.root / "other.dcm"
    stranger.save_as(other)
    with pytest.raises(EchoFedError) as caught:
        expect_one_patient([mine, open_source(other, store)])
    assert caught.value.code is Code.VIEWS_UNFIT
