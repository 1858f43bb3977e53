"""A folder becomes a dataset, whole or not at all; nobody's name comes with it."""

import errno
import hashlib
import json
import os
import shutil
import stat
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pytest
from pydicom.uid import MediaStorageDirectoryStorage

from shared.echo.manifest import SPLITS
from shared.echo.ontology import load_ontology
from shared.errors import Code, EchoFedError
from shared.files import write_bytes
from shared.ledger import Ledger
from shared.phantom.hospital import HospitalSpec, HospitalTruth, write_hospital
from shared.phantom.overlay import tissue_box
from shared.testing.dicom import build_dicom, build_region, speckled_fan
from site_client.ingest import IngestRequest, ingest
from site_client.ingested import IngestReport
from site_client.receipts import KIND as RECEIPT
from site_client.settings import IngestSettings
from site_client.store import SiteStore, file_sha256

SIZE = (120, 160)
NOW = datetime(2026, 1, 1, tzinfo=UTC)
MAP = "AP4: A4C\nLAX: [PLAX]\nother: []\n"
SIGNED_MAP = (
    f"labels: {{AP4: A4C, LAX: [PLAX], other: []}}\nsigned: {{by: Ada, date: {NOW:%Y-%m-%d}}}\n"
)


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> HospitalTruth:
    spec = HospitalSpec(
        name="north",
        scanner="borealis",
        labels={"AP4": "A4C", "LAX": "PLAX"},
        num_patients=4,
        clips_per_view=1,
        frames_per_clip=4,
        size_HW=SIZE,
        screen_correlation=1.0,
        seed=11,
        is_colour=True,
        is_compressed=True,
    )
    return write_hospital(spec, tmp_path_factory.mktemp("hospital"))


@pytest.fixture
def store(tmp_path: Path) -> SiteStore:
    store = SiteStore(tmp_path / "site")
    write_bytes(store.identity_folder / "pseudonym.key", b"5a" * 32)
    return store


def request(hospital: HospitalTruth, **changes: object) -> IngestRequest:
    label_map = hospital.folder / "map.yaml"
    label_map.write_text(SIGNED_MAP)
    fields = {
        "dataset": "demo",
        "site": "north",
        "origin": "phantom",
        "labels": hospital.folder / "labels.csv",
        "label_map": label_map,
    }
    return IngestRequest(**{**fields, **changes})  # type: ignore[arg-type]


def run(
    hospital: HospitalTruth,
    store: SiteStore,
    *,
    keep: str = "sector",
    text: str = "quarantine",
    workers: int = 1,
    **changes: object,
) -> IngestReport:
    settings = IngestSettings(keep_pixels=keep, text=text, workers=workers)  # type: ignore[arg-type]
    return ingest(hospital.folder, store, request(hospital, **changes), settings, now=NOW)


def everything_under(folder: Path) -> bytes:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    names = "\n".join(str(path.relative_to(folder)) for path in files).encode()
    return names + b"\n".join(path.read_bytes() for path in files)


def test_a_hospital_becomes_a_dataset(hospital: HospitalTruth, store: SiteStore) -> None:
    report = run(hospital, store)
    manifest = store.manifest("demo")
    assert report.manifest == manifest
    assert len(manifest.clips) == len(hospital.clips) == 8
    assert manifest.labels == {"AP4": ("A4C",), "LAX": ("PLAX",)}
    assert manifest.num_patients() == 4
    assert {clip.split for clip in manifest.clips} == {"train", "val", "test"}
    assert all(clip.has_mask and clip.num_frames == 4 for clip in manifest.clips)
    assert report.dropped == ()
    assert report.num_ignored > 0  # labels, masks and the truth lie beside the clips


def test_pixels_scale_and_mask_are_the_phantom_s(hospital: HospitalTruth, store: SiteStore) -> None:
    manifest = run(hospital, store).manifest
    spacing = {round(truth["mm_per_pixel"][0], 4) for truth in hospital.clips}
    for record in manifest.clips:
        clip = store.clip("demo", record)
        assert clip.mm_per_pixel is not None
        assert round(clip.mm_per_pixel[0], 4) in spacing
        assert clip.frame_time_ms == pytest.approx(hospital.clips[0]["frame_time_ms"], abs=1e-3)
        assert clip.mask_HW is not None
        assert clip.pixels_THW[:, clip.mask_HW].mean() > 20
        assert not clip.pixels_THW[:, ~clip.mask_HW].any()


@pytest.mark.parametrize(("keep", "text"), [("sector", "quarantine"), ("region", "blank")])
def test_no_planted_identity_is_left_anywhere(
    hospital: HospitalTruth, store: SiteStore, keep: str, text: str
) -> None:
    manifest = run(hospital, store, keep=keep, text=text, origin="real").manifest
    stored = everything_under(store.root).lower()
    for person in hospital.people.values():
        for text in (person.family, person.given, person.number, person.number[3:], person.born):
            assert text.lower().encode() not in stored
    for words in (b"north hospital", b"grapher", b"1.2.826", b"patient^", b"dicom/", b".dcm"):
        assert words not in stored
    banner_rows = tissue_box(SIZE)[1]
    for record in manifest.clips:
        assert not store.clip("demo", record).pixels_THW[:, :banner_rows].any()


def test_ingesting_again_changes_nothing(hospital: HospitalTruth, store: SiteStore) -> None:
    run(hospital, store)
    before = everything_under(store.root)
    again = run(hospital, store)
    assert not again.changed
    assert everything_under(store.root) == before


def test_several_workers_store_the_same(
    hospital: HospitalTruth, store: SiteStore, tmp_path: Path
) -> None:
    other = SiteStore(tmp_path / "other")
    shutil.copytree(store.root, other.root)
    alone, together = run(hospital, store), run(hospital, other, workers=2)
    assert together.manifest == alone.manifest
    assert together.removed == alone.removed


def test_the_ledger_gets_counts_only(hospital: HospitalTruth, store: SiteStore) -> None:
    report = run(hospital, store)
    *receipts, entry = Ledger(store.ledger_path).entries()
    assert entry.kind == "dataset.ingested"
    assert entry.body["ingested"] == 8
    assert [receipt.kind for receipt in receipts] == ["study.deidentified"] * 4
    clips = report.manifest.clips
    keys = {key for clip in clips for key in (clip.key, clip.patient, clip.study, clip.date)}
    told = json.dumps([receipt.body for receipt in receipts] + [entry.body])
    assert not any(key in told for key in keys)


def test_every_study_has_a_receipt_of_what_was_done_to_it(
    store: SiteStore, tmp_path: Path, seed: int
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    region = {"SequenceOfUltrasoundRegions": [build_region((10, 5, 110, 155))]}
    study = {**region, "StudyInstanceUID": "1.2.3", "StudyDate": "20240101"}
    for number in range(2):
        data = build_dicom(speckled_fan(SIZE, 3, seed + number), elements=study)
        (folder / f"{number}.dcm").write_bytes(data)
    (folder / "copy.dcm").write_bytes(data)
    later = {**study, "StudyInstanceUID": "1.2.4", "StudyDate": "20240110"}
    (folder / "empty.dcm").write_bytes(build_dicom(np.zeros((1, *SIZE), np.uint8), elements=later))
    (folder / "later.dcm").write_bytes(build_dicom(speckled_fan(SIZE, 2, seed), elements=later))
    (folder / "cut.dcm").write_bytes(b"cut")
    plain = IngestRequest(dataset="demo", site="north", origin="phantom")
    clips = ingest(folder, store, plain, IngestSettings(text="keep"), now=NOW).manifest.clips
    receipts = [e.body for e in Ledger(store.ledger_path).entries() if e.kind == RECEIPT]
    both, one = sorted(receipts, key=lambda receipt: -int(receipt["files"]))
    assert (both["files"], both["clips"], both["frames"]) == (3, 2, 6)
    assert (one["files"], one["clips"], one["frames"]) == (2, 1, 2)
    assert (both["dropped"], one["dropped"]) == ({"ALREADY_EXISTS": 1}, {"SECTOR_EMPTY": 1})
    assert both["header_elements_removed"]["names"] == 3
    stored = {clip.sha256: store.clip("demo", clip) for clip in clips}
    blanked = {key: int((~c.mask_HW).sum()) * len(c.pixels_THW) for key, c in stored.items()
               if c.mask_HW is not None}  # fmt: skip
    assert both["pixels_blanked"] + one["pixels_blanked"] == sum(blanked.values())
    days = sorted(date.fromisoformat(clip.date) for clip in clips)
    assert (days[-1] - days[0]).days == 9
    assert days[-1] < date(2024, 1, 1)
    assert len({clip.study for clip in clips}) == 2
    ingest(folder, store, plain, IngestSettings(text="keep"), now=NOW)
    assert len(list(Ledger(store.ledger_path).entries())) == 3
    assert b"20240101" not in everything_under(store.root)


def test_an_unknown_label_stops_before_anything_is_stored(
    hospital: HospitalTruth, store: SiteStore, tmp_path: Path
) -> None:
    short = tmp_path / "short.yaml"
    short.write_text("AP4: A4C\n")
    before = everything_under(store.root)
    with pytest.raises(EchoFedError, match="'LAX'") as caught:
        run(hospital, store, label_map=short)
    assert caught.value.code is Code.LABEL_UNMAPPED
    assert everything_under(store.root) == before


def test_splits_in_the_labels_are_honoured_and_a_torn_patient_refused(
    hospital: HospitalTruth, store: SiteStore, tmp_path: Path
) -> None:
    sides = {"0000": "test", "0001": "val", "0002": "train", "0003": "train"}
    rows = [
        f"{clip['file']},{clip['label']},{sides[clip['patient'][-4:]]}" for clip in hospital.clips
    ]
    path = hospital.folder / "split.csv"
    path.write_text("\n".join(["file,label,split", *rows]))
    manifest = run(hospital, store, labels=path).manifest
    splits = [clip.split for clip in manifest.clips]
    assert [splits.count(split) for split in SPLITS] == [4, 2, 2]
    path.write_text("\n".join(["file,label,split", rows[0].replace("test", "train"), *rows[1:]]))
    with pytest.raises(EchoFedError) as caught:
        run(hospital, store, labels=path)
    assert caught.value.code is Code.PATIENT_IN_TWO_SPLITS
    assert store.manifest("demo") == manifest


def mixed_folder(folder: Path, seed: int) -> None:
    """One good file, four bad ones and a copy, all in the name of one patient."""
    region = {"SequenceOfUltrasoundRegions": [build_region((10, 5, 110, 155))]}
    good = build_dicom(speckled_fan(SIZE, 4, seed), elements=region)
    empty = {"SequenceOfUltrasoundRegions": [build_region((9, 9, 3, 3))]}
    files = {
        "Verdichio 1.dcm": good,
        "Verdichio 2.dcm": good[: len(good) // 2],
        "Verdichio 3.dcm": build_dicom(speckled_fan(SIZE, 1, seed), elements={"PixelData": None}),
        "Verdichio 4.dcm": build_dicom(speckled_fan(SIZE, 1, seed), elements={"NumberOfFrames": 0}),
        "Verdichio 5.dcm": build_dicom(speckled_fan(SIZE, 1, seed), elements=empty),
        "Verdichio 6.dcm": build_dicom(np.zeros((4, *SIZE), np.uint8)),
        "Verdichio 7.dcm": good,
        "notes.txt": b"Verdichio",
    }
    for name, data in files.items():
        (folder / name).write_bytes(data)


def test_bad_files_are_listed_with_their_reason_and_without_a_name(
    store: SiteStore, tmp_path: Path, seed: int
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    mixed_folder(folder, seed)
    plain = IngestRequest(dataset="demo", site="north", origin="real")
    report = ingest(folder, store, plain, IngestSettings(), now=NOW)
    assert [(drop.position, drop.code) for drop in report.dropped] == [
        (1, "DATA_UNREADABLE"),
        (2, "PIXELS_MISSING"),
        (3, "FRAMES_MISSING"),
        (4, "SECTOR_EMPTY"),
        (5, "SECTOR_EMPTY"),
        (6, "ALREADY_EXISTS"),
    ]
    assert len(report.manifest.clips) == 1
    assert "Verdichio" not in json.dumps(report.document()) + str(report.dropped)
    assert b"verdichio" not in everything_under(store.root).lower()


def test_a_disc_with_other_modalities_gives_its_ultrasound(
    store: SiteStore, tmp_path: Path, seed: int
) -> None:
    """Directory under two names, one study in two folders, a CT with pixels, a report."""
    region = {"SequenceOfUltrasoundRegions": [build_region((10, 5, 110, 155))]}
    directory = {"SOPClassUID": MediaStorageDirectoryStorage, "PixelData": None, "Modality": None}
    files: dict[str, dict[str, object]] = {
        "DICOMDIR": directory,
        "index.dcm": directory,
        "PAT1/STU1/IM1": region,
        "PAT1/STU1/more/IM2": region,
        "PAT1/CT/IM3": {"Modality": "CT"},
        "PAT1/SR/IM4": {"Modality": "SR", "PixelData": None},
    }
    for number, (name, changes) in enumerate(files.items()):
        path = tmp_path / "disc" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        elements = {"StudyInstanceUID": "1.2.3", **changes}
        path.write_bytes(build_dicom(speckled_fan(SIZE, 2, seed + number), elements=elements))
    plain = IngestRequest(dataset="demo", site="north", origin="phantom")
    report = ingest(tmp_path / "disc", store, plain, IngestSettings(text="keep"), now=NOW)
    assert len(report.manifest.clips) == 2
    assert report.manifest.num_patients() == 1
    assert report.num_ignored == 1
    assert sorted(drop.code for drop in report.dropped) == [
        "PIXELS_MISSING", "PIXELS_MISSING", "SECTOR_EMPTY",
    ]  # fmt: skip


def test_labels_by_instance_find_files_of_any_name(
    store: SiteStore, tmp_path: Path, seed: int
) -> None:
    region = {"SequenceOfUltrasoundRegions": [build_region((10, 5, 110, 155))]}
    folder = tmp_path / "in"
    (folder / "deep").mkdir(parents=True)
    for number, name in enumerate(("a.dcm", "deep/b", "c.dcm")):
        elements = {**region, "SOPInstanceUID": f"1.2.{number}"}
        data = build_dicom(speckled_fan(SIZE, 1, seed + number), elements=elements)
        (folder / name).write_bytes(data)
    labels = tmp_path / "l.csv"
    labels.write_text("sop_uid,file,label,patient\n1.2.1,,A2C,4711\n,c.dcm,A4C,\n1.9,,A4C,\n")
    plain = IngestRequest(dataset="demo", site="north", origin="phantom", labels=labels)
    report = ingest(folder, store, plain, IngestSettings(text="keep"), now=NOW)
    assert sorted(clip.label for clip in report.manifest.clips) == ["", "A2C", "A4C"]
    assert report.manifest.num_patients() == 2
    assert [drop.position for drop in report.dropped] == [-1]
    assert b"1.2.1" not in everything_under(store.root)
    labels.write_text("sop_uid,file,label\n1.2.1,,A2C\n,deep/b,A4C\n")
    with pytest.raises(EchoFedError, match="differ") as caught:
        ingest(folder, store, plain, IngestSettings(text="keep"), now=NOW)
    assert caught.value.code is Code.CONFIG_INVALID
    with pytest.raises(EchoFedError, match="images"):
        ingest(folder, store, replace(plain, source="images"), IngestSettings(text="keep"), now=NOW)


def test_an_unsigned_map_of_real_data_is_refused_and_a_signed_one_recorded(
    hospital: HospitalTruth, store: SiteStore, tmp_path: Path
) -> None:
    flat = tmp_path / "flat.yaml"
    flat.write_text(MAP)
    with pytest.raises(EchoFedError) as caught:
        run(hospital, store, origin="real", label_map=flat)
    assert caught.value.code is Code.LABEL_MAP_UNSIGNED
    assert store.datasets() == ()
    text = "labels: {AP4: A4C, LAX: PLAX}\nnever_images: [doppler]\nfolds: {A5C: AP4}\n"
    signed = tmp_path / "signed.yaml"
    signed.write_text(text + "signed: {by: Ada Verdichio, date: 2026-01-31}\n")
    report = run(hospital, store, origin="real", label_map=signed)
    manifest = store.manifest("demo")
    assert manifest.is_signed
    assert manifest.never_images == ("doppler",)
    assert manifest.folds == {"A5C": "AP4"}
    assert set(manifest.annotated) == {
        *load_ontology().leaves("A4C"), *load_ontology().leaves("PLAX")
    }  # fmt: skip
    assert manifest.label_map_sha256 == file_sha256(signed)
    assert report.document()["label_map_sha256"] == file_sha256(signed)
    assert b"verdichio" not in everything_under(store.root).lower()


def test_a_folder_with_nothing_good_is_an_error(store: SiteStore, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    plain = IngestRequest(dataset="demo", site="north", origin="real")
    for data in (None, b"not DICOM"):
        if data:
            (folder / "a.dcm").write_bytes(data)
        with pytest.raises(EchoFedError) as caught:
            ingest(folder, store, plain, IngestSettings(), now=NOW)
        assert caught.value.code is Code.NOTHING_INGESTED
    assert "DATA_UNREADABLE: 1" in caught.value.message
    assert store.datasets() == ()


def test_whole_screens_of_real_patients_are_refused(
    hospital: HospitalTruth, store: SiteStore
) -> None:
    with pytest.raises(EchoFedError) as caught:
        run(hospital, store, keep="screen", origin="real")
    assert caught.value.code is Code.CONFIG_INVALID
    assert run(hospital, store, keep="screen").manifest.kept_pixels == "screen"


def test_a_full_disk_loses_nothing(
    hospital: HospitalTruth, store: SiteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        calls = iter(range(100))
        sync = os.fsync

        def fill_up(descriptor: int) -> None:
            if stat.S_ISREG(os.fstat(descriptor).st_mode) and next(calls) >= 3:
                raise OSError(errno.ENOSPC, "no space")
            sync(descriptor)

        patch.setattr(os, "fsync", fill_up)
        with pytest.raises(EchoFedError) as caught:
            run(hospital, store)
    assert caught.value.code is Code.DISK_FULL
    assert store.datasets() == ()
    clips = store.clip_path("demo", "x").parent
    written = {path.name: path.stat().st_mtime_ns for path in clips.iterdir()}
    assert len(written) == 3
    run(hospital, store)
    assert len(list(clips.iterdir())) == 8
    assert all((clips / name).stat().st_mtime_ns == time for name, time in written.items())


def test_a_damaged_clip_is_written_again(hospital: HospitalTruth, store: SiteStore) -> None:
    manifest = run(hospital, store).manifest
    path = store.dataset_folder("demo") / manifest.clips[0].file
    whole = path.read_bytes()
    path.write_bytes(whole[:100])
    run(hospital, store)
    assert path.read_bytes() == whole


def test_a_growing_dataset_keeps_its_patients_sides(
    store: SiteStore, tmp_path: Path, seed: int
) -> None:
    region = {"SequenceOfUltrasoundRegions": [build_region((10, 5, 110, 155))]}
    plain = IngestRequest(dataset="demo", site="north", origin="real")
    sides: list[dict[str, str]] = []
    for patients in (range(4), range(4, 16)):
        for patient in patients:
            elements = {**region, "PatientID": f"MRN{patient}"}
            data = build_dicom(speckled_fan(SIZE, 3, seed + patient), elements=elements)
            (tmp_path / f"{patient}.dcm").write_bytes(data)
        clips = ingest(tmp_path, store, plain, IngestSettings(), now=NOW).manifest.clips
        sides.append({clip.patient: clip.split for clip in clips})
    before, after = sides
    assert len(after) == 16
    assert all(after[patient] == split for patient, split in before.items())


def flow_beside_tissue(folder: Path, seed: int) -> None:
    """A plain clip, one with flow, and a spectrum below a small fan."""
    tissue = build_region((10, 5, 110, 155))
    kinds = {
        "plain": [tissue],
        "flow": [tissue, build_region((30, 40, 90, 120), kind=2)],
        "spectrum": [tissue, build_region((112, 5, 118, 155), spatial=3, kind=3)],
    }
    for place, (name, regions) in enumerate(kinds.items()):
        elements = {"SequenceOfUltrasoundRegions": regions, "PatientID": name}
        data = build_dicom(speckled_fan(SIZE, 2, seed + place) | 1, elements=elements)
        (folder / f"{name}.dcm").write_bytes(data)


def test_only_wanted_kinds_of_clips_are_kept_and_the_others_listed(
    store: SiteStore, tmp_path: Path, seed: int
) -> None:
    flow_beside_tissue(tmp_path, seed)
    plain = IngestRequest(dataset="demo", site="north", origin="real")
    choices: dict[tuple[str, ...], list[str]] = {
        ("b_mode", "colour", "spectral"): [],
        ("b_mode",): ["a file shows flow in colour", "a file shows a Doppler spectrum"],
        ("b_mode", "spectral"): ["a file shows flow in colour"],
    }
    for modes, reasons in choices.items():
        words = {"modes": modes, "keep_pixels": "region", "text": "blank"}
        settings = IngestSettings(**words)  # type: ignore[arg-type]
        report = ingest(tmp_path, store, plain, settings, now=NOW)
        assert [drop.reason for drop in report.dropped] == reasons
        assert {drop.code for drop in report.dropped} <= {"MODE_UNWANTED"}
        clips = [store.clip("demo", record).pixels_THW for record in report.manifest.clips]
        assert len(clips) == len(modes)
    has_trace = [bool(clip[:, 112:118, 5:155].all()) for clip in clips]
    assert sorted(has_trace) == [False, True]
    assert not clips[has_trace.index(False)][:, 112:118].any()


def test_one_broken_file_in_a_hundred_costs_itself_alone(
    store: SiteStore, tmp_path: Path, seed: int
) -> None:
    broken = {40: lambda data: data[: len(data) // 2], 140: lambda data: data[:200]}
    for number in range(200):
        elements = {"PatientID": f"MRN{number // 2}"}
        data = build_dicom(speckled_fan((48, 64), 1, seed + number), elements=elements)
        damaged = broken[number](data) if number in broken else data
        (tmp_path / f"{number:03d}.dcm").write_bytes(damaged)
    plain = IngestRequest(dataset="demo", site="north", origin="real")
    report = ingest(tmp_path, store, plain, IngestSettings(text="blank"), now=NOW)
    assert len(report.manifest.clips) == 198
    assert [drop.position for drop in report.dropped] == [40, 140]
    hashes = [hashlib.sha256((tmp_path / f"{n:03d}.dcm").read_bytes()).hexdigest() for n in broken]
    assert [drop.sha256 for drop in report.dropped] == [digest[:12] for digest in hashes]


def test_a_stored_clip_is_named_by_its_content(hospital: HospitalTruth, store: SiteStore) -> None:
    for record in run(hospital, store).manifest.clips:
        assert record.file == f"clips/{record.sha256}.safetensors"
        assert store.holds("demo", record)


def test_labelled_files_that_are_not_there_are_listed(
    store: SiteStore, tmp_path: Path, seed: int
) -> None:
    region = {"SequenceOfUltrasoundRegions": [build_region((10, 5, 110, 155))]}
    (tmp_path / "a.dcm").write_bytes(build_dicom(speckled_fan(SIZE, 4, seed), elements=region))
    labels = tmp_path / "l.csv"
    labels.write_text("file,label\na.dcm,A4C\nb.dcm,A4C\n")
    plain = IngestRequest(dataset="demo", site="north", origin="real", labels=labels)
    report = ingest(tmp_path, store, plain, IngestSettings(), now=NOW)
    assert [drop.position for drop in report.dropped] == [-1]


def test_real_files_are_ingested_and_their_names_stay_behind(
    real_data: Path, store: SiteStore
) -> None:
    plain = IngestRequest(dataset="demo", site="north", origin="real")
    settings = IngestSettings(modes=("b_mode", "colour"))
    report = ingest(real_data / "dicom_us", store, plain, settings, now=NOW)
    assert len(report.manifest.clips) >= 3
    held = [drop for drop in report.dropped if drop.code == "TEXT_FOUND"]
    assert len(held) >= 2  # two show the scanner's own words inside what is taken for the sector
    codes = {drop.code for drop in report.dropped}
    assert codes <= {"SECTOR_EMPTY", "TEXT_FOUND", "MODE_UNWANTED"}
    stored = everything_under(store.root).lower()
    for text in (b"compressedsamples", b"98279", b"11-05-25", b"name^", b"aloka", b"pla^"):
        assert text not in stored
