"""Masks come with the pictures that they were drawn on, and stay where they were drawn."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from PIL import Image

from shared.echo.annotation import LANDMARKS
from shared.echo.mask import STRUCTURES
from shared.echo.sector import Fan
from shared.errors import Code, EchoFedError
from shared.phantom.hospital import HospitalSpec, HospitalTruth, write_hospital
from shared.phantom.hospital import clips as phantom_clips
from shared.testing.dicom import build_dicom, build_region, draw_speckle
from site_client.datasets.annotations.tracings import read_tracings
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


def run(
    store: SiteStore,
    folder: Path,
    *,
    keep: str = "sector",
    text: str = "quarantine",
    **changes: Any,
) -> IngestReport:
    request = IngestRequest(**{"dataset": "demo", "site": "north", "origin": "real"} | changes)
    settings = IngestSettings(workers=1, keep_pixels=keep, text=text)  # type: ignore[arg-type]
    return ingest(folder, store, request, settings, now=NOW)


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


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> tuple[HospitalSpec, HospitalTruth]:
    spec = HospitalSpec(
        name="north", scanner="borealis", labels={"A4C": "A4C", "A2C": "A2C"}, num_patients=1,
        clips_per_view=1, frames_per_clip=3, size_HW=(120, 160), screen_correlation=1.0, seed=11,
    )  # fmt: skip
    return spec, write_hospital(spec, tmp_path_factory.mktemp("hospital"))


@pytest.mark.parametrize("keep", ["sector", "region", "screen"])
def test_labels_and_landmarks_stay_on_the_anatomy(
    store: SiteStore, hospital: tuple[HospitalSpec, HospitalTruth], keep: str
) -> None:
    spec, truth = hospital
    folder = truth.folder
    manifest = run(
        store, folder / "dicom", keep=keep, text="keep", origin="phantom",
        labels=folder / "labels.csv", masks=folder / "masks",
    ).manifest  # fmt: skip
    phantoms = {clip.view: clip for clip in phantom_clips(spec)}
    assert len(manifest.clips) == len(phantoms)
    for record in manifest.clips:
        clip, phantom = store.clip("demo", record), phantoms[record.label]
        annotation = clip.annotation
        assert annotation is not None
        assert annotation.structures == record.structures == STRUCTURES
        assert annotation.frames == (0, 1, 2)
        assert np.array_equal(annotation.labels_FHW, phantom.labels_THW)
        kept_HW = clip.pixels_THW.any(axis=0)
        assert np.array_equal(clip.pixels_THW[:, kept_HW], phantom.pixels_THW[:, kept_HW])
        assert kept_HW[annotation.labels_FHW[0] > 0].mean() > 0.9
        names = {"base_left": "annulus_left", "apex": "apex", "base_right": "annulus_right"}
        assert annotation.landmarks_xy_px_F32 is not None
        for place, name in enumerate(LANDMARKS):
            points_rc = phantom.landmarks[names[name]]
            points_xy = annotation.landmarks_xy_px_F32[:, place]
            assert np.array_equal(points_xy, points_rc[:, ::-1], equal_nan=True)


def test_landmarks_of_a_two_chamber_view_lie_at_the_cavity_s_ends(
    store: SiteStore, hospital: tuple[HospitalSpec, HospitalTruth]
) -> None:
    folder = hospital[1].folder
    masks, labels = folder / "masks", folder / "labels.csv"
    manifest = run(store, folder / "dicom", origin="phantom", labels=labels, masks=masks).manifest
    (record,) = (clip for clip in manifest.clips if clip.label == "A2C")
    annotation = store.clip("demo", record).annotation
    assert annotation is not None
    assert annotation.landmarks_xy_px_F32 is not None
    for labels_HW, (left, apex, right) in zip(
        annotation.labels_FHW, annotation.landmarks_xy_px_F32, strict=True
    ):
        rows, columns = np.nonzero(labels_HW == STRUCTURES.index("lv"))
        assert abs(apex[1] - rows.min()) < 4
        assert np.hypot(columns - left[0], rows - left[1]).min() < 4
        assert np.hypot(columns - right[0], rows - right[1]).min() < 4
        assert left[0] < apex[0] < right[0]


def write_clips(folder: Path, num_files: int, num_frames: int) -> None:
    region = {"SequenceOfUltrasoundRegions": [build_region((0, 0, *SIZE))]}
    for number in range(num_files):
        elements = {**region, "PatientID": f"MRN{number}"}
        path = folder / "deep" / f"{number:02d}.dcm"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(build_dicom(speckled(num_frames, number), elements=elements))


def test_masks_without_names_of_their_own_need_them_once(store: SiteStore, tmp_path: Path) -> None:
    write_clips(tmp_path / "in", 2, 1)
    for number in range(2):
        write_png(tmp_path / "masks" / "deep" / f"{number:02d}.png", drawn(1, number))
    with pytest.raises(EchoFedError, match="png") as caught:
        run(store, tmp_path / "in", masks=tmp_path / "masks")
    assert caught.value.code is Code.CONFIG_INVALID
    named = ("background", "rv", "la", "aorta")
    report = run(store, tmp_path / "in", masks=tmp_path / "masks", structures=named)
    assert report.document()["annotated"] == 2
    for record in report.manifest.clips:
        annotation = store.clip("demo", record).annotation
        assert annotation is not None
        assert annotation.structures == named
        assert annotation.labels_FHW.tobytes() in {drawn(1, n).tobytes() for n in range(2)}


def test_frames_that_nobody_drew_on_are_not_annotated(store: SiteStore, tmp_path: Path) -> None:
    write_clips(tmp_path / "in", 2, 4)
    labels_THW = drawn(4, 5)
    labels_THW[[0, 2]] = 0
    write_nifti(tmp_path / "masks" / "deep" / "00.nii.gz", labels_THW)
    buffer = tmp_path / "masks" / "deep" / "01.dcm.npz"
    np.savez_compressed(buffer, labels_THW=labels_THW[[0, 3]], frames=[0, 3])
    report = run(store, tmp_path / "in", masks=tmp_path / "masks", structures=NAMES)
    told = [store.clip("demo", record).annotation for record in report.manifest.clips]
    assert {a.frames: a.labels_FHW.tobytes() for a in told if a is not None} == {
        (1, 3): labels_THW[[1, 3]].tobytes(),
        (0, 3): labels_THW[[0, 3]].tobytes(),
    }


def test_landmarks_stay_with_their_frame_in_whatever_order_a_file_has_them(
    store: SiteStore, tmp_path: Path
) -> None:
    write_clips(tmp_path / "in", 1, 4)
    labels_THW = drawn(4, 5)
    places_F32 = np.arange(12.0).reshape(2, 3, 2)
    (tmp_path / "masks" / "deep").mkdir(parents=True)
    np.savez(
        tmp_path / "masks" / "deep" / "00.npz",
        labels_THW=labels_THW[[3, 0]], frames=[3, 0], landmarks_xy_px_T32=places_F32,
    )  # fmt: skip
    report = run(store, tmp_path / "in", masks=tmp_path / "masks", structures=NAMES)
    annotation = store.clip("demo", report.manifest.clips[0]).annotation
    assert annotation is not None
    assert annotation.frames == (0, 3)
    assert np.array_equal(annotation.labels_FHW, labels_THW[[0, 3]])
    assert annotation.landmarks_xy_px_F32 is not None
    assert np.array_equal(annotation.landmarks_xy_px_F32, places_F32[::-1])


FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "another size": ({"labels_THW": np.zeros((2, *SIZE[::-1]), np.uint8)}, "DATA_UNREADABLE"),
    "other frames": ({"labels_THW": np.zeros((3, *SIZE), np.uint8)}, "DATA_UNREADABLE"),
    "a frame that is not there": (
        {"labels_THW": np.zeros((1, *SIZE), np.uint8), "frames": [2]}, "DATA_UNREADABLE",
    ),
    "fractions": ({"labels_THW": np.full((2, *SIZE), 0.5)}, "DATA_UNREADABLE"),
    "no numbers": ({"labels_THW": np.full((2, *SIZE), np.nan)}, "DATA_UNREADABLE"),
    "the same frame twice": (
        {"labels_THW": np.zeros((2, *SIZE)), "frames": [1, 1]}, "LABEL_MAP_INVALID",
    ),
    "objects": ({"labels_THW": np.array([{}])}, "DATA_UNREADABLE"),
    "a number for a map": ({"labels_THW": np.array(3)}, "DATA_UNREADABLE"),
    "a value without a name": ({"labels_THW": np.full((2, *SIZE), 4)}, "LABEL_UNMAPPED"),
    "other names": (
        {"labels_THW": np.zeros((2, *SIZE)), "structures": np.array(["background", "lv"])},
        "LABEL_MAP_INVALID",
    ),
    "landmarks of other frames": (
        {"labels_THW": np.zeros((2, *SIZE)), "landmarks_xy_px_T32": np.zeros((1, 3, 2))},
        "DATA_UNREADABLE",
    ),
}  # fmt: skip


def test_a_clip_whose_masks_do_not_fit_is_dropped_and_counted(
    store: SiteStore, tmp_path: Path
) -> None:
    write_clips(tmp_path / "in", len(FAULTS) + 2, 2)
    (tmp_path / "masks" / "deep").mkdir(parents=True)
    for number, (arrays, _) in enumerate(FAULTS.values()):
        np.savez(tmp_path / "masks" / "deep" / f"{number:02d}.npz", **arrays)
    (tmp_path / "masks" / "deep" / f"{len(FAULTS):02d}.npz").write_bytes(b"PK no")
    report = run(store, tmp_path / "in", masks=tmp_path / "masks", structures=NAMES)
    expected = [*(code for _, code in FAULTS.values()), "DATA_UNREADABLE"]
    assert [drop.code for drop in report.dropped] == expected
    assert "128 x 96 pixels, its picture has 96 x 128" in report.dropped[0].reason
    assert (report.document()["ingested"], report.document()["annotated"]) == (1, 0)


def test_masks_added_later_are_read_and_the_same_again_are_not(
    store: SiteStore, tmp_path: Path
) -> None:
    write_clips(tmp_path / "in", 3, 1)
    bare = run(store, tmp_path / "in")
    write_png(tmp_path / "masks" / "deep" / "01.png", drawn(1, 1))
    told = {"masks": tmp_path / "masks", "structures": NAMES}
    added = run(store, tmp_path / "in", **told)
    assert added.changed
    assert (added.num_known, added.document()["annotated"]) == (2, 1)
    assert added.manifest.content_hash() != bare.manifest.content_hash()
    assert {clip.key for clip in added.manifest.clips} == {clip.key for clip in bare.manifest.clips}
    again = run(store, tmp_path / "in", **told)
    assert not again.changed
    assert again.num_known == 3
    write_png(tmp_path / "masks" / "deep" / "01.png", drawn(1, 2))
    redrawn = run(store, tmp_path / "in", **told)
    assert (redrawn.changed, redrawn.num_known) == (True, 2)


@pytest.mark.parametrize(
    ("changes", "code", "said"),
    [
        ({"structures": NAMES}, Code.CONFIG_INVALID, "no masks"),
        ({"layout": "camus", "masks": Path("masks")}, Code.CONFIG_INVALID, "layout"),
        ({"masks": Path("in/inside"), "structures": NAMES}, Code.CONFIG_INVALID, "folder that is"),
        ({"masks": Path("nowhere"), "structures": NAMES}, Code.CONFIG_MISSING, "does not exist"),
        ({"masks": Path("strange"), "structures": NAMES}, Code.CONFIG_INVALID, "with its name"),
        ({"masks": Path("twice"), "structures": NAMES}, Code.CONFIG_INVALID, "several"),
        ({"masks": Path("twice"), "structures": ("background", "x")}, Code.LABEL_MAP_INVALID, "x"),
    ],
)
def test_masks_that_cannot_be_meant_are_refused_before_anything_is_read(
    store: SiteStore, tmp_path: Path, changes: dict[str, Any], code: Code, said: str
) -> None:
    write_clips(tmp_path / "in", 1, 1)
    for name in ("in/inside/deep/00", "strange/00", "twice/deep/00", "twice/deep/00.dcm"):
        write_png(tmp_path / f"{name}.png", drawn(1, 1))
    if "masks" in changes:
        changes = {**changes, "masks": tmp_path / changes["masks"]}
    with pytest.raises(EchoFedError, match=said) as caught:
        run(store, tmp_path / "in", **changes)
    assert caught.value.code is code
    assert store.datasets() == ()


def test_outlines_of_a_table_become_masks(tmp_path: Path) -> None:
    """A tilted square by its chords, the first of which is the long axis; frames in any order."""
    chords = [(20, 10, 40, 30), *((20 + n, 10 + n, 10 + n, 20 + n) for n in range(0, 21, 5))]
    lines = ["FileName,X1,Y1,X2,Y2,Frame"]
    for frame, shift in ((9, 0.0), (3, 2.0)):
        lines += [f"0XA.avi,{a + shift},{b},{c + shift},{d},{frame}" for a, b, c, d in chords]
    lines += ["0XB.avi,1,1,2,2,0", ""]
    (tmp_path / "VolumeTracings.csv").write_text("\n".join(lines))
    traced = read_tracings(tmp_path / "VolumeTracings.csv")
    assert traced.keys() == {"0XA"}
    annotation = traced["0XA"].annotate((12, 60, 70))
    assert (annotation.frames, annotation.structures) == ((3, 9), ("background", "lv"))
    rows, columns = np.indices((60, 70))
    along, across = columns + rows - 30, columns - rows
    square_HW = (along >= 0) & (along <= 40) & (abs(across) <= 10)
    assert np.array_equal(annotation.labels_FHW[1], square_HW)
    assert np.array_equal(annotation.labels_FHW[0, :, 2:], square_HW[:, :-2])
    with pytest.raises(EchoFedError) as caught:
        traced["0XA"].annotate((9, 60, 70))
    assert caught.value.code is Code.DATA_UNREADABLE
    (tmp_path / "VolumeTracings.csv").write_text("FileName,X,Y,Frame\n0XA,1,1,0\n")
    with pytest.raises(EchoFedError) as caught:
        read_tracings(tmp_path / "VolumeTracings.csv")
    assert caught.value.code is Code.CONFIG_INVALID


def test_real_masks_cover_what_they_name(store: SiteStore, tmp_path: Path, real_data: Path) -> None:
    """Blood is darker than the wall around it, in nearly every picture."""
    folder = tmp_path / "real"
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)
        for name in sorted((real_data / "camus_a4c" / kind).iterdir())[:500:63]:
            (folder / kind / name.name).symlink_to(name)
    (folder / "manifest.csv").symlink_to(real_data / "camus_a4c" / "manifest.csv")
    report = run(store, folder, layout="camus")
    document = report.document()
    assert document["annotated"] == document["ingested"] == 8
    assert document["clips"]["test"] == 1
    darker = 0
    for record in report.manifest.clips:
        clip = store.clip("demo", record)
        assert clip.mm_per_pixel is not None
        assert 0.3 < clip.mm_per_pixel[0] < 1.5
        assert clip.annotation is not None
        labels_HW = clip.annotation.labels_FHW[0]
        cavity_mm2 = (labels_HW == 1).sum() * clip.mm_per_pixel[0] * clip.mm_per_pixel[1]
        assert 500 < cavity_mm2 < 8000
        frame_HW = clip.pixels_THW[0]
        darker += frame_HW[labels_HW == 1].mean() < frame_HW[labels_HW == 2].mean()
    assert darker >= 7
