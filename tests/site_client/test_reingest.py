"""Ingest of a folder once more: what is done is not read again, and copies are one clip."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from shared.files import write_bytes
from shared.testing.dicom import build_dicom, build_region, speckled_fan
from site_client.ingest import IngestRequest, ingest
from site_client.settings import IngestSettings
from site_client.store import SiteStore

SIZE = (120, 160)
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def store(tmp_path: Path) -> SiteStore:
    store = SiteStore(tmp_path / "site")
    write_bytes(store.identity_folder / "pseudonym.key", b"5a" * 32)
    return store


def write_stills(folder: Path, count: int, seed: int) -> list[Path]:
    """Clips of patients of their own."""
    folder.mkdir(exist_ok=True)
    region = {"SequenceOfUltrasoundRegions": [build_region((10, 5, 110, 155))]}
    paths = []
    for number in range(count):
        elements = {**region, "PatientID": f"MRN{number}"}
        data = build_dicom(speckled_fan(SIZE, 3, seed + number), elements=elements)
        paths.append(folder / f"{number}.dcm")
        paths[-1].write_bytes(data)
    return paths


def spoil(path: Path) -> None:
    """Make a file unreadable in a way that only reading it tells."""
    before = path.stat()
    path.write_bytes(bytes(before.st_size))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


class Killed(BaseException):
    """Ends the process at a certain file."""


@contextmanager
def killed_at(file: int, num_files: int) -> Iterator[Callable[[int, str], None]]:
    done = iter(range(1, num_files + 1))

    def advance(units: int, note: str) -> None:
        if next(done) == file:
            raise Killed

    yield advance


PLAIN = IngestRequest(dataset="demo", site="north", origin="real")


def test_after_a_kill_no_finished_file_is_read_again(
    store: SiteStore, tmp_path: Path, seed: int
) -> None:
    paths = write_stills(tmp_path / "in", 6, seed)
    shutil.copytree(tmp_path / "in", tmp_path / "unharmed")
    show = partial(killed_at, 4)
    with pytest.raises(Killed):
        ingest(tmp_path / "in", store, PLAIN, IngestSettings(), now=NOW, show=show)
    assert store.datasets() == ()
    for path in paths[:4]:
        spoil(path)
    report = ingest(tmp_path / "in", store, PLAIN, IngestSettings(), now=NOW)
    assert (report.num_known, len(report.manifest.clips), report.dropped) == (4, 6, ())
    whole = SiteStore(tmp_path / "whole")
    write_bytes(whole.identity_folder / "pseudonym.key", b"5a" * 32)
    at_once = ingest(tmp_path / "unharmed", whole, PLAIN, IngestSettings(), now=NOW)
    assert at_once.manifest == report.manifest


@pytest.mark.slow
def test_a_process_that_was_killed_goes_on_where_it_stood(tmp_path: Path, seed: int) -> None:
    write_stills(tmp_path / "in", 60, seed)
    home = tmp_path / "site"
    site = ["--config", str(home / "site.yaml")]
    command = [sys.executable, "-c", "from site_client.cli import main; main()"]
    subprocess.run([*command, "init", "--standalone", str(home)], check=True, capture_output=True)
    words = [*command, "ingest", str(tmp_path / "in"), "--dataset", "demo", *site, "--json"]
    journal = SiteStore(home).dataset_folder("demo") / "journal.jsonl"
    with subprocess.Popen(words, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None and not (
            journal.is_file() and journal.read_bytes().count(b"\n") > 5
        ):
            time.sleep(0.01)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert SiteStore(home).datasets() == ()
    said = subprocess.run(words, check=True, capture_output=True)
    report = json.loads(said.stdout)
    assert 5 < report["known"] < 60
    assert report["ingested"] + report["held"] == 60


def test_a_line_that_a_kill_cut_off_costs_one_file(
    store: SiteStore, tmp_path: Path, seed: int
) -> None:
    write_stills(tmp_path / "in", 3, seed)
    first = ingest(tmp_path / "in", store, PLAIN, IngestSettings(), now=NOW)
    journal = store.dataset_folder("demo") / "journal.jsonl"
    whole = journal.read_bytes()
    journal.write_bytes(whole[:-30])
    again = ingest(tmp_path / "in", store, PLAIN, IngestSettings(), now=NOW)
    assert (again.num_known, again.manifest) == (2, first.manifest)
    assert sorted(journal.read_bytes().splitlines()) == sorted(whole.splitlines())


def test_a_file_that_changed_or_shall_be_kept_otherwise_is_read_again(
    store: SiteStore, tmp_path: Path, seed: int
) -> None:
    paths = write_stills(tmp_path / "in", 3, seed)
    ingest(tmp_path / "in", store, PLAIN, IngestSettings(), now=NOW)
    paths[0].write_bytes(paths[1].read_bytes())
    changed = ingest(tmp_path / "in", store, PLAIN, IngestSettings(), now=NOW)
    assert (changed.num_known, len(changed.manifest.clips)) == (2, 2)
    region = IngestSettings(keep_pixels="region")
    assert ingest(tmp_path / "in", store, PLAIN, region, now=NOW).num_known == 0


def test_a_picture_without_a_sector_is_looked_at_once(
    store: SiteStore, tmp_path: Path, seed: int
) -> None:
    (path, *_) = write_stills(tmp_path / "in", 2, seed)
    path.write_bytes(build_dicom(np.zeros((2, *SIZE), np.uint8)))
    for _ in range(2):
        report = ingest(tmp_path / "in", store, PLAIN, IngestSettings(), now=NOW)
        assert [drop.code for drop in report.dropped] == ["SECTOR_EMPTY"]
        spoil(path)


def test_the_same_pixels_under_another_name_and_banner_are_one_clip(
    store: SiteStore, tmp_path: Path, seed: int
) -> None:
    region = {"SequenceOfUltrasoundRegions": [build_region((10, 5, 110, 155))]}
    pixels = speckled_fan(SIZE, 3, seed)
    for number, (name, patient) in enumerate((("b", "1"), ("c", "1"), ("d", "2"))):
        pixels[:, :4, 10 * number :] = 250  # outside the region: another banner, another file
        data = build_dicom(pixels, elements={**region, "PatientID": patient})
        (tmp_path / f"{name}.dcm").write_bytes(data)
    labels = tmp_path / "labels.csv"
    labels.write_text("file,label\na.dcm,A4C\nb.dcm,A4C\nc.dcm,A2C\nd.dcm,A4C\n")
    words = replace(PLAIN, labels=labels)
    report = ingest(tmp_path, store, words, IngestSettings(), now=NOW)
    (clip,) = report.manifest.clips
    assert clip.label == "A4C"
    copies = {drop.position: drop.reason for drop in report.dropped if drop.position >= 0}
    assert report.document()["copies"] == len(copies) == 2
    assert "another label" in copies[1]
    assert "another patient" in copies[2]
    (tmp_path / "a.dcm").write_bytes((tmp_path / "d.dcm").read_bytes())
    again = ingest(tmp_path, store, words, IngestSettings(), now=NOW)
    assert again.manifest.clips == (clip,)
    assert len(list(store.clip_path("demo", "x").parent.iterdir())) == 1


def test_progress_knows_how_many_files_there_are(
    store: SiteStore, tmp_path: Path, seed: int
) -> None:
    write_stills(tmp_path / "in", 3, seed)
    told: list[int] = []

    def show(num_files: int) -> AbstractContextManager[Callable[[int, str], None]]:
        told.append(num_files)
        return nullcontext(lambda units, note: told.append(units))

    ingest(tmp_path / "in", store, PLAIN, IngestSettings(), now=NOW, show=show)
    assert told == [3, 1, 1, 1]
