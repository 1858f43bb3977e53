"""Damage to datasets, ledger, policy, disk, decoders and packages is found and told."""

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from pydicom.pixels import get_decoder
from pydicom.uid import JPEGLossless

from shared.echo.schema import to_document
from shared.errors import Code, EchoFedError
from shared.files import write_json
from shared.ledger import Ledger
from site_client.doctor import consent, datasets, decoders, disk, packages, record
from site_client.doctor.finding import Premises
from site_client.policy import DatasetPolicy, Policy, save_policy
from site_client.quarantine import HeldClip

Look = Callable[..., list[tuple[str, str]]]
CORRUPT = ("fault", "CHECKPOINT_CORRUPT")


def clip_paths(premises: Premises) -> list[Path]:
    return sorted(premises.store.clip_path("demo", "x").parent.iterdir())


def test_missing_and_altered_clips_are_counted_and_not_named(
    premises: Premises, faults: Look
) -> None:
    assert faults(datasets.check, premises) == []
    first, second = clip_paths(premises)[:2]
    first.unlink()
    assert faults(datasets.check, premises) == [CORRUPT]
    second.write_bytes(second.read_bytes()[:-1] + b"\x7f")
    assert faults(datasets.check, premises) == [CORRUPT, CORRUPT]
    said = " ".join(finding.what for finding in datasets.check(premises))
    assert "1 of 24 clips are missing" in said
    assert first.stem not in said


def test_only_a_full_look_surely_finds_one_altered_clip(
    premises: Premises, faults: Look, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets, "_SAMPLE", 3)
    clip_paths(premises)[0].write_bytes(b"")
    assert faults(datasets.check, replace(premises, is_full=True)) == [CORRUPT]
    (finding,) = datasets.check(premises)
    assert "3" in finding.what


def test_a_damaged_manifest_does_not_hide_the_other_dataset(
    premises: Premises, faults: Look
) -> None:
    folder = premises.store.root / "datasets"
    shutil.copytree(folder / "demo", folder / "zeta")
    (folder / "demo" / "manifest.json").write_text("{")
    assert faults(datasets.check, premises) == [CORRUPT]
    assert any("zeta" in finding.what for finding in datasets.check(premises))


def test_labels_of_real_pictures_that_nobody_signed_are_a_warning(
    premises: Premises, faults: Look
) -> None:
    manifest = replace(premises.store.manifest("demo"), origin="real", label_map_sha256="0" * 64)
    premises.store.save_manifest(manifest)
    assert faults(datasets.check, premises) == [("warning", "")]
    premises.store.save_manifest(replace(manifest, is_signed=True))
    assert faults(datasets.check, premises) == []


def test_an_ingest_that_never_ended_is_a_warning(premises: Premises, faults: Look) -> None:
    (premises.store.dataset_folder("open") / "clips").mkdir(parents=True)
    assert faults(datasets.check, premises) == [("warning", "")]


def test_clips_that_wait_for_a_person_are_a_warning(premises: Premises, faults: Look) -> None:
    waits, kept = (HeldClip(key, "p", "demo", 1, ()) for key in "ab")
    for note in (waits, replace(kept, decision="keep")):
        write_json(premises.store.root / "quarantine" / f"{note.key}.json", to_document(note))
    assert faults(datasets.check, premises) == [("warning", "")]
    (finding,) = [found for found in datasets.check(premises) if found.state == "warning"]
    assert finding.what.startswith("1 ")


@pytest.mark.parametrize("damage", ["missing", "altered", "no database"])
def test_a_ledger_that_does_not_hold_is_a_fault(
    premises: Premises, faults: Look, damage: str
) -> None:
    path = premises.store.ledger_path
    if damage == "missing":
        path.unlink()
    elif damage == "no database":
        path.write_bytes(b"x" * 4096)
    else:
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("UPDATE entries SET body = replace(body, 'north', 'south')")
        with pytest.raises(EchoFedError) as caught:
            list(record.check(premises))
        assert caught.value.code is Code.LEDGER_BROKEN
        return
    assert faults(record.check, premises) == [("fault", "LEDGER_BROKEN")]
    assert path.exists() == (damage != "missing")


def test_consent_that_ended_or_names_nothing_is_told(premises: Premises, faults: Look) -> None:
    assert faults(consent.check, premises) == []
    ended = DatasetPolicy(expires=date(2020, 1, 1))
    save_policy(Policy(datasets={"demo": ended, "dema": DatasetPolicy()}), premises.policy)
    assert faults(consent.check, premises) == [("warning", ""), ("warning", "")]
    told = [finding for finding in consent.check(premises) if finding.state == "warning"]
    assert "2020-01-01" in told[0].what
    assert told[1].mend == "did you mean demo?"


def test_a_withdrawn_dataset_is_stated_and_no_fault(premises: Premises, faults: Look) -> None:
    gone = DatasetPolicy(expires=date(2020, 1, 1), withdrawn=date(2019, 1, 1))
    save_policy(Policy(datasets={"demo": gone}), premises.policy)
    assert faults(consent.check, premises) == []
    assert any("2019-01-01" in finding.what for finding in consent.check(premises))


def test_a_member_of_a_federation_is_told_what_keeps_it_silent(
    premises: Premises, faults: Look
) -> None:
    member = replace(premises, address="centre:1")
    assert len(faults(consent.check, member)) == 2  # no dataset allowed, no bundle approved
    policy = Policy(datasets={"demo": DatasetPolicy()}, approved_bundles=("a" * 64,))
    save_policy(policy, premises.policy)
    assert faults(consent.check, member) == []
    ledger = Ledger(premises.store.ledger_path)
    for digest in ("a" * 64, "b" * 64):
        ledger.append("bundle.refused", {"bundle": digest, "reason": ""}, actor="north")
    assert faults(consent.check, member) == [("warning", "")]


def test_a_policy_that_does_not_load_is_a_fault(premises: Premises) -> None:
    premises.policy.write_text("datasetz: {}")
    with pytest.raises(EchoFedError) as caught:
        list(consent.check(premises))
    assert caught.value.code is Code.CONFIG_UNKNOWN_KEY


@pytest.mark.parametrize(
    ("free_gib", "expected"), [(0.5, [("fault", "DISK_FULL")]), (5, [("warning", "")]), (50, [])]
)
def test_room_on_the_disk(
    premises: Premises, faults: Look, monkeypatch: pytest.MonkeyPatch, free_gib: float,
    expected: list[tuple[str, str]],
) -> None:  # fmt: skip
    usage = shutil.disk_usage(premises.store.root)._replace(free=int(free_gib * 2**30))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    assert faults(disk.check, premises) == expected


@pytest.fixture
def without_jpeg_lossless() -> Iterator[None]:
    decoder: Any = get_decoder(JPEGLossless)
    decoder.remove_plugin("pylibjpeg")
    yield
    decoder.add_plugin("pylibjpeg", ("pydicom.pixels.decoders.pylibjpeg", "_decode_frame"))


@pytest.mark.usefixtures("without_jpeg_lossless")
def test_a_missing_decoder_is_named_by_its_syntax(premises: Premises) -> None:
    first = next(decoders.check(premises))
    assert (first.state, first.code) == ("fault", Code.DATA_UNREADABLE)
    assert "JPEG Lossless" in first.what


def test_the_usual_syntaxes_are_decoded_here(premises: Premises) -> None:
    assert next(decoders.check(premises)).state == "ok"


def test_a_stray_package_of_our_name_is_found(
    premises: Premises, faults: Look, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert faults(packages.check, premises) == []
    (tmp_path / "stray" / "shared").mkdir(parents=True)
    monkeypatch.syspath_prepend(str(tmp_path / "stray"))
    assert faults(packages.check, premises) == [("warning", "")]
