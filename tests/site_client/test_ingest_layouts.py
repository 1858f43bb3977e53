"""Public sets become datasets by the name of their layout alone."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import av
import nibabel
import numpy as np
import pytest
from PIL import Image

from shared.echo.sector import Fan
from shared.errors import Code, EchoFedError
from shared.testing.dicom import build_dicom, draw_speckle
from site_client.ingest import IngestRequest, ingest
from site_client.ingested import IngestReport
from site_client.settings import IngestSettings
from site_client.store import SiteStore

NOW = datetime(2026, 1, 1, tzinfo=UTC)
FAN = Fan((0.0, 64.0), -40.0, 40.0, 4.0, 88.0)


@pytest.fixture
def store(tmp_path: Path) -> SiteStore:
    store = SiteStore(tmp_path / "site")
    store.create_key()
    return store


def run(store: SiteStore, folder: Path, **changes: Any) -> IngestReport:
    request = IngestRequest(**{"dataset": "demo", "site": "north", "origin": "real"} | changes)
    settings = IngestSettings(workers=1, modes=("b_mode", "colour"))
    return ingest(folder, store, request, settings, now=NOW)


def speckled(seed: int) -> np.ndarray:
    return draw_speckle(np.random.default_rng(seed), (1, 96, 128))[0] * FAN.mask((96, 128))


def write_camus(folder: Path, num_patients: int) -> Path:
    for number in range(1, num_patients + 1):
        inside = folder / f"patient{number:04d}"
        inside.mkdir(parents=True)
        for place, view in enumerate(("2CH", "4CH")):
            image = nibabel.Nifti1Image(speckled(2 * number + place).T, np.eye(4))
            nibabel.save(image, inside / f"{inside.name}_{view}_ED.nii.gz")
    return folder


def everything(store: SiteStore) -> bytes:
    files = (path for path in store.root.rglob("*") if path.is_file())
    return b"".join(path.name.encode() + path.read_bytes() for path in files)


def test_a_layout_brings_labels_patients_views_and_licence(
    store: SiteStore, tmp_path: Path
) -> None:
    report = run(store, write_camus(tmp_path / "camus", 3), layout="camus")
    manifest = store.manifest("demo")
    assert not report.dropped
    assert manifest.labels == {"2CH": ("A2C",), "4CH": ("A4C",)}
    assert manifest.num_patients() == 3
    assert "CC BY-NC-SA" in manifest.licence
    assert manifest.source == "cropped-nifti"
    assert b"patient0001" not in everything(store)


def test_equal_ids_of_two_sets_are_two_patients(store: SiteStore, tmp_path: Path) -> None:
    folder = write_camus(tmp_path / "camus", 1)
    run(store, folder, layout="camus")
    (tmp_path / "labels.csv").write_text(
        "file,label,patient\n"
        "patient0001/patient0001_2CH_ED.nii.gz,A2C,patient0001\n"
        "patient0001/patient0001_4CH_ED.nii.gz,A4C,patient0001\n"
    )
    run(store, folder, dataset="own", source="nifti", labels=tmp_path / "labels.csv")
    public, own = (store.manifest(name) for name in ("demo", "own"))
    assert {clip.patient for clip in public.clips}.isdisjoint(clip.patient for clip in own.clips)


def test_nothing_is_added_to_a_published_test_part(store: SiteStore, tmp_path: Path) -> None:
    folder = write_camus(tmp_path / "camus", 6)
    (folder / "subgroup_testing.txt").write_text("patient0006\n")
    manifest = run(store, folder, layout="camus").manifest
    splits = {clip.patient: clip.split for clip in manifest.clips}
    assert sorted(splits.values()).count("test") == 1
    assert "val" in splits.values()


def write_video(path: Path, seed: int) -> None:
    """Six frames of moving speckle in a fan of 112 by 112, as the EchoNet sets are stored."""
    speckle_THW = draw_speckle(np.random.default_rng(seed), (6, 112, 112))
    fan = Fan((2.0, 56.0), -42.0, 42.0, 2.0, 104.0).mask((112, 112))
    with av.open(str(path), "w") as file:
        track = file.add_stream("mjpeg", rate=50)
        track.height = track.width = 112
        track.pix_fmt = "yuvj420p"
        for speckle_HW in speckle_THW * fan:
            rgb = np.repeat(speckle_HW[..., None], 3, axis=-1)
            file.mux(track.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))
        file.mux(track.encode())


def test_small_videos_in_a_fan_become_clips_with_published_splits(
    store: SiteStore, tmp_path: Path
) -> None:
    videos = tmp_path / "EchoNet-Dynamic" / "Videos"
    videos.mkdir(parents=True)
    lines = [f"0X{seed},60,{split}" for seed, split in enumerate(("TRAIN", "VAL", "TEST"))]
    (videos.parent / "FileList.csv").write_text("\n".join(["FileName,EF,Split", *lines]))
    chords = ("56,20,56,80", "40,30,72,30", "36,50,76,50", "40,80,72,80")
    traced = [f"0X2.avi,{chord},{frame}" for frame in (4, 1) for chord in chords]
    table = "\n".join(["FileName,X1,Y1,X2,Y2,Frame", *traced])
    (videos.parent / "VolumeTracings.csv").write_text(table)
    for seed in range(3):
        write_video(videos / f"0X{seed}.avi", seed)
    report = run(store, videos.parent, layout="echonet_dynamic")
    assert not report.dropped
    assert sorted(clip.split for clip in report.manifest.clips) == ["test", "train", "val"]
    clip = store.clip("demo", report.manifest.clips[0])
    assert clip.frame_time_ms == pytest.approx(20.0)
    assert clip.fan is not None
    assert len(clip.pixels_THW) == 6
    (outlined,) = (clip for clip in report.manifest.clips if clip.structures)
    annotation = store.clip("demo", outlined).annotation
    assert outlined.split == "test"
    assert annotation is not None
    assert annotation.frames == (1, 4)
    assert annotation.labels_FHW[0, 50, 36:77].all()
    assert annotation.labels_FHW.sum() < 2 * 41 * 51


def write_pictures(folder: Path, num_files: int) -> Path:
    folder.mkdir()
    for number in range(num_files):
        Image.fromarray(speckled(number)).save(folder / f"{number}.png")
    return folder


def test_pictures_of_a_patient_stay_together_and_unnamed(store: SiteStore, tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "pictures", 6)
    lines = [f"{number}.png,A4C,,Mueller{number // 3}" for number in range(6)]
    (tmp_path / "labels.csv").write_text("\n".join(["file,label,split,patient", *lines]))
    report = run(store, folder, source="images", labels=tmp_path / "labels.csv")
    patients = [clip.patient for clip in report.manifest.clips]
    assert sorted(patients.count(patient) for patient in set(patients)) == [3, 3]
    assert b"Mueller" not in everything(store)


def test_pictures_join_the_dicom_of_the_same_patient(store: SiteStore, tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "pictures", 1)
    (tmp_path / "labels.csv").write_text("file,label,patient\n0.png,A4C,4711\n")
    run(store, folder, source="images", labels=tmp_path / "labels.csv")
    clinic = tmp_path / "clinic"
    clinic.mkdir()
    (clinic / "IM_0001").write_bytes(build_dicom(speckled(3)[None], elements={"PatientID": "4711"}))
    (clinic / "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM")
    report = run(store, clinic, dataset="clinic")
    assert report.num_ignored == 1
    keys = {clip.patient for name in ("demo", "clinic") for clip in store.manifest(name).clips}
    assert len(keys) == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"layout": "camus", "source": "nifti"},
        {"layout": "camus", "licence": "mine"},
        {"layout": "camus", "labels": Path("labels.csv")},
        {"source": "cropped-images"},
    ],
)
def test_options_that_would_be_ignored_or_unsafe_are_refused(
    store: SiteStore, tmp_path: Path, changes: dict[str, Any]
) -> None:
    with pytest.raises(EchoFedError) as caught:
        run(store, write_camus(tmp_path / "camus", 1), **changes)
    assert caught.value.code is Code.CONFIG_INVALID


def test_an_unknown_layout_names_the_nearest(store: SiteStore, tmp_path: Path) -> None:
    with pytest.raises(EchoFedError, match="camuss") as caught:
        run(store, write_camus(tmp_path / "camus", 1), layout="camuss")
    assert caught.value.code is Code.NAME_UNKNOWN
    assert "'camus'" in caught.value.hint
