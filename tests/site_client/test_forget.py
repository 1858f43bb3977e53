"""A forgotten patient is gone from clips, manifest and exports; cut off, it can be done again."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from shared.echo.expert import ExpertCard, save_checkpoint
from shared.echo.features import FeatureExport
from shared.echo.schema import to_document
from shared.echo.synthesizer import save_synthesizer
from shared.errors import Code, EchoFedError
from shared.files import sha256_hex, write_bytes, write_json
from shared.ledger import Ledger
from shared.testing.synthesizers import untrained_synthesizer
from site_client.deidentify import Pseudonyms
from site_client.forget import forget, patient_key
from site_client.journal import JournalEntry
from site_client.quarantine import HeldClip, held_clips
from site_client.rounds.exports import kept_export
from site_client.store import SiteStore

StripedSite = Callable[..., SiteStore]
PATIENT = "demo-p3"


def card_of(store: SiteStore, name: str, dataset: str, content: str, site: str) -> ExpertCard:
    weights = name.encode()
    card = ExpertCard(
        id=name, site=site, datasets=(dataset,), dataset_hashes=(content,), origin="phantom",
        backbone="b", image_size=32, views=("A4C", "A2C"), feature_width=1, layers=(),
        weights_sha256=sha256_hex(weights), parent="", seed=1, settings_hash="", settings={},
        metrics={}, created="2026-01-01T00:00:00+00:00",
    )  # fmt: skip
    save_checkpoint(store.expert_folder(name), card, weights)
    return card


@pytest.fixture
def store(striped_site: StripedSite, feature_export: FeatureExport) -> SiteStore:
    """A site with two datasets, experts and kept exports of both."""
    store = striped_site()
    striped_site(dataset="more", num_patients=2)
    hashes = {name: store.manifest(name).content_hash() for name in store.datasets()}
    cards = [
        card_of(store, "north-demo", "demo", hashes["demo"], "north"),
        card_of(store, "north-demo-old", "demo", "0" * 64, "north"),
        card_of(store, "north-more", "more", hashes["more"], "north"),
        card_of(store, "south-demo", "demo", hashes["demo"], "south"),
    ]
    for name in store.datasets():
        kept_export(store, hashes[name], cards[0], "2-1", lambda: feature_export)
    return store


def hold(store: SiteStore, key: str, patient: str, dataset: str) -> None:
    """A clip that waits in quarantine."""
    folder = store.root / "quarantine"
    note = HeldClip(key, patient, dataset, num_frames=3, boxes=())
    write_json(folder / f"{key}.json", to_document(note))
    write_bytes(folder / f"{key}.safetensors", b"pixels of " + key.encode())


def files_of(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and not path.name.startswith("ledger")
    }


def forgotten_entries(store: SiteStore) -> list[dict[str, Any]]:
    entries = Ledger(store.ledger_path).entries()
    return [entry.body for entry in entries if entry.kind == "patient.forgotten"]


def test_clips_manifest_and_exports_of_the_patient_go_and_the_rest_stays(store: SiteStore) -> None:
    hold(store, "a" * 32, PATIENT, "demo")
    hold(store, "b" * 32, "demo-p1", "demo")
    before, kept = store.manifest("demo"), files_of(store.dataset_folder("more"))
    (done,) = forget(store, PATIENT, store.datasets(), site="north")
    after = store.manifest("demo")
    assert after.clips == tuple(clip for clip in before.clips if clip.patient != PATIENT)
    stored = {path.stem for path in store.clip_path("demo", "x").parent.iterdir()}
    assert stored == {clip.key for clip in after.clips}
    assert files_of(store.dataset_folder("more")) == kept
    assert (done.num_clips, done.num_frames, done.num_held, done.num_exports) == (2, 6, 1, 1)
    assert [note.patient for note in held_clips(store)] == ["demo-p1"]
    (left,) = (store.root / "exports").iterdir()
    assert left.name.startswith(store.manifest("more").content_hash()[:32])
    assert PATIENT.encode() not in b"".join(files_of(store.root).values())


def test_the_ledger_tells_counts_and_contents_and_not_who(store: SiteStore) -> None:
    before = store.manifest("demo").content_hash()
    forget(store, PATIENT, ["demo"], site="north")
    (entry,) = forgotten_entries(store)
    assert entry["clips"] == 2
    assert entry["content_before"] == before
    assert entry["content_after"] == store.manifest("demo").content_hash() != before
    assert PATIENT not in json.dumps(entry)
    assert Ledger(store.ledger_path).verify() == 1


def test_experts_of_the_content_and_of_earlier_contents_are_told_apart(store: SiteStore) -> None:
    (done,) = forget(store, PATIENT, ["demo"], site="north")
    assert done.experts == ("north-demo",)
    assert done.experts_earlier == ("north-demo-old",)


def test_pictures_of_training_go_and_models_are_told(store: SiteStore) -> None:
    for name, dataset in (("one", "demo"), ("other", "more")):
        card, weights = untrained_synthesizer(len(name), dataset=dataset)
        folder = store.synthesizer_folder(name)
        save_synthesizer(folder, replace(card, id=name), weights)
        write_bytes(folder / "pictures" / "step-000001.png", b"maps")
    write_bytes(store.root / "runs" / "synthesize-0" / "pictures" / "step-000001.png", b"maps")
    (done,) = forget(store, PATIENT, ["demo"], site="north")
    assert done.models == ("one",)
    left = [path.parent.parent.name for path in store.root.rglob("step-*.png")]
    assert left == ["other"]


def test_a_damaged_expert_does_not_keep_a_patient(store: SiteStore) -> None:
    (store.expert_folder("north-demo") / "card.json").write_text("{")
    (done,) = forget(store, PATIENT, ["demo"], site="north")
    assert done.experts == ()


def test_an_unknown_patient_changes_nothing(store: SiteStore) -> None:
    before = files_of(store.root)
    with pytest.raises(EchoFedError) as caught:
        forget(store, "nobody", store.datasets(), site="north")
    assert caught.value.code is Code.PATIENT_UNKNOWN
    assert "nobody" not in str(caught.value)
    assert files_of(store.root) == before
    assert forgotten_entries(store) == []


def test_a_patient_with_held_clips_only_goes_too(store: SiteStore) -> None:
    before = files_of(store.root)
    hold(store, "a" * 32, "guest", "demo")
    hold(store, "b" * 32, "guest", "unfinished")
    hold(store, "c" * 32, "other", "elsewhere")
    done = forget(store, "guest", ["demo", "more", "unfinished", "elsewhere"], site="north")
    assert [(one.dataset, one.num_clips, one.num_held) for one in done] == [
        ("demo", 0, 1), ("unfinished", 0, 1),
    ]  # fmt: skip
    assert [note.key for note in held_clips(store)] == ["c" * 32]
    assert [entry["held"] for entry in forgotten_entries(store)] == [1, 1]
    assert files_of(store.root).keys() - before.keys() == {
        f"quarantine/{'c' * 32}.json", f"quarantine/{'c' * 32}.safetensors",
    }  # fmt: skip
    with pytest.raises(EchoFedError) as caught:
        forget(store, "nobody", ["demo", "unknown"], site="north")
    assert caught.value.code is Code.DATASET_UNKNOWN


def test_the_last_patient_of_a_dataset_can_go(store: SiteStore) -> None:
    for patient in ("more-p0", "more-p1"):
        forget(store, patient, ["more"], site="north")
    assert store.manifest("more").clips == ()


def test_a_patient_in_two_datasets_goes_from_both(store: SiteStore) -> None:
    manifest = store.manifest("more")
    clips = tuple(
        replace(c, patient=PATIENT) if c.patient == "more-p0" else c for c in manifest.clips
    )
    store.save_manifest(replace(manifest, clips=clips))
    done = forget(store, PATIENT, store.datasets(), site="north")
    assert [one.dataset for one in done] == ["demo", "more"]


@contextmanager
def power_cut(monkeypatch: pytest.MonkeyPatch, step: int) -> Iterator[list[int]]:
    """Fail at the given change of the disk, and tell how many were tried."""
    made: list[int] = []

    def failing(change: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **options: Any) -> Any:
            made.append(1)
            if len(made) == step + 1:
                raise OSError("cut")
            return change(*arguments, **options)

        return wrapped

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", failing(os.replace))
        patch.setattr(Path, "unlink", failing(Path.unlink))
        yield made


def test_cut_off_at_any_step_it_can_be_done_again(
    store: SiteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold(store, "a" * 32, PATIENT, "demo")
    whole = SiteStore(tmp_path / "whole")
    shutil.copytree(store.root, whole.root)
    forget(whole, PATIENT, whole.datasets(), site="north")
    for step in range(6):  # a held clip, two clips, an export, the note, the manifest
        cut = SiteStore(tmp_path / f"cut{step}")
        shutil.copytree(store.root, cut.root)
        with power_cut(monkeypatch, step) as made, pytest.raises(OSError, match="cut"):
            forget(cut, PATIENT, cut.datasets(), site="north")
        assert len(made) > step
        forget(cut, PATIENT, cut.datasets(), site="north")
        assert files_of(cut.root) == files_of(whole.root)
        assert forgotten_entries(cut)


def test_leftovers_of_an_ingest_that_was_killed_go_too(store: SiteStore) -> None:
    folder = store.clip_path("demo", "x").parent
    write_bytes(folder / "stray.safetensors", b"of whom?")
    forget(store, PATIENT, ["demo"], site="north")
    assert not (folder / "stray.safetensors").exists()


def test_the_journal_keeps_files_of_staying_clips_only(store: SiteStore) -> None:
    journal = store.journal("demo")
    clips = {clip.patient: clip for clip in store.manifest("demo").clips}
    stays = JournalEntry("stays", clips["demo-p4"], pixels="a")
    for entry in (
        stays,
        JournalEntry("goes", clips[PATIENT], pixels="b"),
        JournalEntry("copy", replace(clips[PATIENT], key="elsewhere"), pixels="a"),
        JournalEntry("left out", code="SECTOR_EMPTY", reason="no sector"),
    ):
        journal.add(entry)
    forget(store, PATIENT, ["demo"], site="north")
    assert journal.entries() == {"stays": stays}


def test_an_id_has_the_pseudonym_that_ingest_gives_it() -> None:
    pseudonyms = Pseudonyms(b"k" * 32)
    assert pseudonyms.patient("id  4711") == patient_key(b"k" * 32, " 4711\n", "")
    assert pseudonyms.patient("id ward 4711") == patient_key(b"k" * 32, "4711", "ward")
    with pytest.raises(EchoFedError) as caught:
        patient_key(b"k" * 32, " \n", "")
    assert caught.value.code is Code.CONFIG_INVALID
