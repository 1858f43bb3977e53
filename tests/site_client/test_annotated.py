"""Annotated frames in squares: picture, labels, sector and landmarks stay on each other."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from shared.echo.annotation import Annotation
from shared.echo.manifest import ClipRecord, DatasetManifest, Split
from shared.errors import Code, EchoFedError
from shared.segmentation.fit import resized
from site_client.annotated import AnnotatedFrames, Wanted, load_annotated
from site_client.clip_file import StoredClip, save_clip
from site_client.store import SiteStore

SIZE = (48, 40)
NAMES = ("background", "lv", "myocardium")
Add = Callable[..., SiteStore]


def clip_of(seed: int, *, mm: tuple[float, float] | None = (1.0, 1.0)) -> StoredClip:
    """Four frames, of which the first and the last but one are annotated."""
    generator = np.random.default_rng(seed)
    labels_FHW = np.zeros((2, *SIZE), np.uint8)
    labels_FHW[:, 10:30, 8:20], labels_FHW[:, 30:40, 8:20] = 1, 2
    pixels_THW = generator.integers(1, 255, (4, *SIZE)).astype(np.uint8)
    sector_HW = np.zeros(SIZE, bool)
    sector_HW[4:44, 6:36] = True
    landmarks = generator.uniform(0, 39, (2, 3, 2))
    annotation = Annotation((0, 2), labels_FHW, NAMES, landmarks)
    return StoredClip(pixels_THW, sector_HW, mm, None, annotation=annotation)


@pytest.fixture
def add(tmp_path: Path) -> Add:
    """Make, or add to, a site: a dataset of clips by patient, each of a patient and a split."""

    def build(
        *clips: tuple[str, Split, StoredClip], dataset: str = "a", words: tuple[str, ...] = ("A4C",)
    ) -> SiteStore:
        store = SiteStore(tmp_path / "site")
        records = []
        for number, (patient, split, clip) in enumerate(clips):
            key = f"{dataset}-{number}"
            sha256 = save_clip(store.clip_path(dataset, key), clip)
            names = clip.annotation.structures if clip.annotation else ()
            records.append(
                ClipRecord(
                    key, patient, "view", split, 4, f"clips/{key}.safetensors", sha256,
                    clip.mask_HW is not None, structures=names,
                )
            )  # fmt: skip
        views = {"view": words}
        store.save_manifest(
            DatasetManifest(dataset, "north", "phantom", "x", views, tuple(records), "screen")
        )
        return store

    return build


def frames_of(store: SiteStore, side: int = 64, **wanted: object) -> AnnotatedFrames:
    return load_annotated(store, store.datasets(), Wanted(side, **wanted))  # type: ignore[arg-type]


def refusal(store: SiteStore, **wanted: object) -> Code:
    with pytest.raises(EchoFedError) as caught:
        frames_of(store, **wanted)
    return caught.value.code


@pytest.mark.parametrize("mm", [None, (1.0, 1.0), (0.5, 1.5)])
def test_a_square_holds_the_resized_picture_and_nothing_else(
    add: Add, mm: tuple[float, float] | None
) -> None:
    clip = clip_of(1, mm=mm)
    frames = frames_of(add(("p", "train", clip)))
    rows, columns = frames.size_N2[0].tolist()
    assert max(rows, columns) == 64
    wanted = np.rint(resized(clip.pixels_THW[[0, 2]], (rows, columns)))
    assert np.array_equal(frames.pixels_NSS[:, :rows, :columns], wanted)
    for squares in (frames.pixels_NSS, frames.labels_NSS, frames.sector_NSS):
        outside = squares.copy()
        outside[:, :rows, :columns] = 0
        assert not outside.any()
    if mm is not None:
        covered = frames.mm_per_pixel_N2[0] * [rows, columns]
        np.testing.assert_allclose(covered, np.multiply(SIZE, mm))
        assert frames.mm_per_pixel_N2[0, 0] == pytest.approx(frames.mm_per_pixel_N2[0, 1], rel=0.02)
    else:
        assert np.isnan(frames.mm_per_pixel_N2).all()


@pytest.mark.parametrize("factor", [2, 3])
def test_labels_sector_and_landmarks_grow_with_their_pixels(add: Add, factor: int) -> None:
    """By a whole factor the nearest pixel is known, and so is a place: corners stay corners."""
    clip = clip_of(2)
    assert clip.annotation is not None
    assert clip.mask_HW is not None
    assert clip.annotation.landmarks_xy_px_F32 is not None
    frames = frames_of(add(("p", "train", clip)), side=factor * SIZE[0])
    block = np.ones((factor, factor), np.uint8)
    shown = frames.labels_NSS[:, :, : factor * SIZE[1]]
    assert np.array_equal(shown, np.kron(clip.annotation.labels_FHW, block[None]))
    sector = frames.sector_NSS[:, :, : factor * SIZE[1]]
    assert np.array_equal(sector[0], np.kron(clip.mask_HW, block))
    # the centre of the first pixel is half a pixel from its corner, in both pictures
    corners = (clip.annotation.landmarks_xy_px_F32 + 0.5) * factor
    np.testing.assert_allclose(frames.landmarks_xy_px_N32 + 0.5, corners)


def test_frames_that_nobody_annotated_are_left_out(add: Add) -> None:
    bare = replace(clip_of(3), annotation=None)
    frames = frames_of(add(("p", "train", clip_of(1)), ("q", "train", bare)))
    assert frames.time_N.tolist() == [0, 2]
    assert len(set(frames.clip_N.tolist())) == 1
    assert refusal(add(("p", "train", bare))) is Code.FRAMES_MISSING


def test_a_clip_whose_label_names_two_views_is_left_out(add: Add) -> None:
    assert refusal(add(("p", "train", clip_of(1)), words=("A4C", "A2C"))) is Code.FRAMES_MISSING


def test_what_is_not_wanted_joins_the_background(add: Add) -> None:
    frames = frames_of(add(("p", "train", clip_of(1))), side=48, structures=("myocardium",))
    assert frames.structures == ("background", "myocardium")
    assert np.array_equal(frames.labels_NSS[0, 30:40, 8:20], np.ones((10, 12)))
    assert frames.labels_NSS[0].sum() == 120
    assert frames.annotated_NS.all()


def test_a_structure_that_only_others_annotated_is_marked(add: Add) -> None:
    add(("p", "train", clip_of(1)))
    other = clip_of(2)
    assert other.annotation is not None
    labels_FHW = (other.annotation.labels_FHW == 1).astype(np.uint8)
    annotation = replace(other.annotation, labels_FHW=labels_FHW, structures=("background", "la"))
    frames = frames_of(add(("q", "train", replace(other, annotation=annotation)), dataset="b"))
    assert frames.structures == ("background", "lv", "myocardium", "la")
    assert frames.annotated_NS.tolist() == 2 * [[True, True, True, False]] + 2 * [
        [True, False, False, True]
    ]
    assert set(np.unique(frames.labels_NSS[2:])) == {0, 3}


def test_a_wanted_view_that_no_clip_shows_is_refused(add: Add) -> None:
    store = add(("p", "train", clip_of(1)))
    assert len(frames_of(store, views=("A4C",))) == 2
    assert refusal(store, views=("A4C", "A2C")) is Code.VIEW_UNKNOWN


@pytest.mark.parametrize("other", ["val", "test"])
def test_a_patient_who_stands_in_two_splits_of_pooled_datasets_is_refused(
    add: Add, other: Split
) -> None:
    """Each dataset draws its splits alone; pooled, one would be judged by what it learnt from."""
    add(("p", "train", clip_of(1)), ("q", "val", clip_of(2)))
    store = add(("p", other, clip_of(3)), ("r", "train", clip_of(4)), dataset="b")
    assert refusal(store, splits=("train", "val")) is Code.PATIENT_IN_TWO_SPLITS
    add(("p", "train", clip_of(3)), dataset="b")
    assert len(frames_of(store)) == 6
