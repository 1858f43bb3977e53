"""A clip with a word in its sector waits for a person; what the person says is done, once."""

import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from shared.errors import Code, EchoFedError
from shared.phantom.anatomy import draw_heart
from shared.phantom.scanner import SCANNERS, render_clip
from shared.testing.burn import burn_word
from shared.testing.dicom import build_dicom, build_region, speckled_fan
from site_client.forget import forget, patient_key
from site_client.ingest import IngestReport, IngestRequest, ingest
from site_client.quarantine import decide, held_clip, held_clips, held_pixels, waiting_clips
from site_client.settings import IngestSettings
from site_client.store import SiteStore

SIZE = (120, 160)
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def store(tmp_path: Path) -> SiteStore:
    store = SiteStore(tmp_path / "site")
    store.create_key()
    return store


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two clips, one with a word."""
    folder = tmp_path / "in"
    folder.mkdir()
    region = {"SequenceOfUltrasoundRegions": [build_region((0, 0, 119, 159))]}
    generator = np.random.default_rng(4)
    for number, scanner in enumerate(("aurora", "delta")):
        clip = render_clip(
            draw_heart(generator), "PLAX", SCANNERS[scanner],
            num_frames=3, size_HW=SIZE, rng=generator,
        )  # fmt: skip
        burnt = burn_word(clip.pixels_THW, clip.sector.mask_HW, generator, word="VERDICHIO")
        assert burnt is not None
        pixels = burnt.pixels_THW if number else clip.pixels_THW
        elements = {**region, "PatientID": f"MRN{number}"}
        (folder / f"Verdichio {number}.dcm").write_bytes(build_dicom(pixels, elements=elements))
    return folder


def run(
    folder: Path,
    store: SiteStore,
    *,
    text: str = "quarantine",
    origin: str = "real",
    keep: str = "sector",
) -> IngestReport:
    request = IngestRequest("demo", "north", origin)  # type: ignore[arg-type]
    settings = IngestSettings(text=text, keep_pixels=keep)  # type: ignore[arg-type]
    return ingest(folder, store, request, settings, now=NOW)


def states(store: SiteStore) -> list[str]:
    return sorted(store.clip("demo", record).text for record in store.manifest("demo").clips)


def test_a_word_holds_its_clip_back_and_is_told_by_number_only(
    folder: Path, store: SiteStore
) -> None:
    report = run(folder, store)
    (note,) = held_clips(store)
    assert [drop.code for drop in report.dropped] == ["TEXT_FOUND"]
    assert report.document()["held"] == 1
    assert note.key not in json.dumps(report.document())
    assert states(store) == ["none"]
    clip = held_pixels(store, note)
    assert clip.mask_HW is not None
    assert not clip.pixels_THW[:, ~clip.mask_HW].any()
    files = {path.name for path in (store.root / "quarantine").iterdir()}
    assert files == {f"{note.key}.json", f"{note.key}.safetensors"}
    assert not run(folder, store).changed
    assert len(held_clips(store)) == 1


@pytest.mark.parametrize(
    ("decision", "expected"),
    [("keep", ["kept", "none"]), ("blank", ["blanked", "none"]), ("drop", ["none"])],
)
def test_a_decision_holds_at_every_later_ingest(
    folder: Path, store: SiteStore, decision: str, expected: list[str]
) -> None:
    run(folder, store)
    (note,) = held_clips(store)
    decided = decide(store, note, decision)  # type: ignore[arg-type]
    assert held_clips(store) == (decided,)
    assert not list((store.root / "quarantine").glob("*.safetensors"))
    run(folder, store)
    assert states(store) == expected
    again = run(folder, store)
    assert not again.changed
    assert again.document()["held"] == (decision == "drop")


def test_a_changed_decision_is_obeyed(folder: Path, store: SiteStore) -> None:
    run(folder, store)
    note = decide(store, held_clip(store, held_clips(store)[0].key[:8]), "keep")
    run(folder, store)
    decide(store, note, "drop")
    run(folder, store)
    assert states(store) == ["none"]


def test_blanking_makes_the_boxes_zero_and_leaves_the_rest(folder: Path, store: SiteStore) -> None:
    run(folder, store)
    (note,) = held_clips(store)
    before = held_pixels(store, note)
    run(folder, store, text="blank")
    assert held_clips(store) == ()
    (record,) = [
        record
        for record in store.manifest("demo").clips
        if store.clip("demo", record).text == "blanked"
    ]
    after = store.clip("demo", record)
    inside = np.zeros(SIZE, dtype=np.bool_)
    for box in note.boxes:
        inside[box.slices()] = True
    assert not after.pixels_THW[:, inside].any()
    unchanged = (after.pixels_THW == before.pixels_THW).all(axis=0)
    assert unchanged[~inside].mean() > 0.95


def test_a_forgotten_patient_leaves_nothing_in_quarantine(folder: Path, store: SiteStore) -> None:
    run(folder, store)
    (note,) = held_clips(store)
    assert waiting_clips(store) == (note,)
    assert note.patient == patient_key(store.key(), "MRN1", "")
    decide(store, note, "keep")
    assert waiting_clips(store) == ()
    run(folder, store)
    (done,) = forget(store, note.patient, ["demo"], site="north")
    assert (done.num_clips, done.num_held) == (1, 1)
    assert held_clips(store) == ()
    assert list((store.root / "quarantine").iterdir()) == []


def test_a_patient_that_the_labels_name_is_the_one_of_the_note(
    folder: Path, store: SiteStore, tmp_path: Path
) -> None:
    run(folder, store)
    labels = tmp_path / "labels.csv"
    labels.write_text("file,label,patient\nVerdichio 1.dcm,,Z7\nVerdichio 0.dcm,,Z8\n")
    request = IngestRequest("demo", "north", "real", labels=labels)
    ingest(folder, store, request, IngestSettings(), now=NOW)
    (note,) = held_clips(store)
    assert note.patient == patient_key(store.key(), "Z7", "")


def test_a_clip_whose_pictures_were_not_written_any_more_is_looked_at_again(
    folder: Path, store: SiteStore
) -> None:
    run(folder, store)
    (note,) = held_clips(store)
    path = store.root / "quarantine" / f"{note.key}.safetensors"
    before = path.read_bytes()
    path.unlink()
    run(folder, store)
    assert held_clips(store) == (note,)
    assert path.read_bytes() == before


def test_where_the_region_is_kept_words_beside_the_sector_are_found_too(
    store: SiteStore, tmp_path: Path
) -> None:
    pixels_THW = speckled_fan(SIZE, 3, seed=1)
    outside_HW = ~pixels_THW.any(axis=0)
    burnt = burn_word(pixels_THW, outside_HW, np.random.default_rng(2), word="VERDICHIO")
    assert burnt is not None
    region = {"SequenceOfUltrasoundRegions": [build_region((0, 0, 119, 159))]}
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "0.dcm").write_bytes(build_dicom(burnt.pixels_THW, elements=region))
    assert run(tmp_path / "in", store).document()["held"] == 0
    with pytest.raises(EchoFedError) as caught:
        run(tmp_path / "in", store, keep="region")
    assert "TEXT_FOUND: 1" in caught.value.message


def test_only_phantoms_may_keep_their_text_unseen(folder: Path, store: SiteStore) -> None:
    with pytest.raises(EchoFedError) as caught:
        run(folder, store, text="keep")
    assert caught.value.code is Code.CONFIG_INVALID
    run(folder, store, text="keep", origin="phantom")
    assert states(store) == ["unchecked", "unchecked"]
    run(folder, store)
    assert states(store) == ["none"]
    assert len(held_clips(store)) == 1


def test_an_unknown_or_too_short_key_is_refused(folder: Path, store: SiteStore) -> None:
    run(folder, store)
    key = held_clips(store)[0].key
    for wrong in ("f" * 32, key[:3], ""):
        with pytest.raises(EchoFedError) as caught:
            held_clip(store, wrong)
        assert caught.value.code is Code.NAME_UNKNOWN
