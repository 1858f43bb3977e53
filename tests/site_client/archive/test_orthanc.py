"""Against a real Orthanc: what the archive holds comes once, whole, and into the right hands."""

import csv
import json
import os
import signal
import stat
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import Result
from pydicom import dcmread
from typer.testing import CliRunner

from shared.echo.manifest import DatasetManifest
from shared.errors import Code, EchoFedError
from shared.rpc.authority import Authority
from shared.testing.orthanc import Orthanc
from site_client.archive.access import PASSWORD, USER, open_client
from site_client.archive.dicomweb import DicomWeb
from site_client.archive.fetch import fetch
from site_client.archive.inbox import Inbox, open_inbox
from site_client.archive.receive import receiving
from site_client.archive.tls import TlsFiles, open_tls
from site_client.cli import build_app
from site_client.ingest import IngestRequest, ingest
from site_client.settings import IngestSettings
from site_client.store import SiteStore

RUNNER = CliRunner()
NUM_STUDIES, NUM_CLIPS = 5, 10  # of the fixture's hospital
FAST = "--per-second=1000"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    result = RUNNER.invoke(build_app(), ["init", "--standalone", str(tmp_path / "site")])
    assert result.exit_code == 0, result.output
    return tmp_path / "site" / "site.yaml"


@pytest.fixture
def store(config: Path) -> SiteStore:
    return SiteStore(config.parent)


@pytest.fixture
def inbox(tmp_path: Path, store: SiteStore) -> Inbox:
    return open_inbox(tmp_path / "inbox", store.key(), site_root=store.root)


def run_fetch(orthanc: Orthanc, config: Path, out: Path, *more: str, password: str = "") -> Result:
    return RUNNER.invoke(
        build_app(),
        ["fetch", orthanc.dicomweb, "--out", str(out), "--config", str(config), FAST, *more],
        env={USER: orthanc.user, PASSWORD: password or orthanc.password},
    )


@contextmanager
def opened(orthanc: Orthanc, address: str = "") -> Iterator[DicomWeb]:
    credentials = {USER: orthanc.user, PASSWORD: orthanc.password}
    with open_client(address or orthanc.dicomweb, credentials) as client:
        yield DicomWeb(client, per_second=1000)


@pytest.fixture
def archive(orthanc: Orthanc) -> Iterator[DicomWeb]:
    with opened(orthanc) as found:
        yield found


def bytes_in(folder: Path) -> Counter[bytes]:
    return Counter(path.read_bytes() for path in folder.rglob("*.dcm"))


def ingested(folder: Path, root: Path) -> DatasetManifest:
    store = SiteStore(root)
    store.identity_folder.mkdir(parents=True)
    (store.identity_folder / "pseudonym.key").write_text("07" * 32)
    request = IngestRequest("echo", "north", "phantom")
    ingest(folder, store, request, IngestSettings(), now=datetime(2026, 1, 1, tzinfo=UTC))
    return store.manifest("echo")


@pytest.fixture(scope="module")
def direct(hospital: Path, tmp_path_factory: pytest.TempPathFactory) -> DatasetManifest:
    """What the files make when they are ingested without any archive."""
    return ingested(hospital, tmp_path_factory.mktemp("direct"))


def test_all_ultrasound_comes_byte_for_byte_and_only_once(
    orthanc: Orthanc, hospital: Path, config: Path, tmp_path: Path
) -> None:
    first = run_fetch(orthanc, config, tmp_path / "inbox", "--json")
    assert first.exit_code == 0, first.output
    report = json.loads(first.stdout)
    assert (report["studies"], report["fetched"], report["failed"]) == (NUM_STUDIES, NUM_CLIPS, 0)
    assert bytes_in(tmp_path / "inbox") == bytes_in(hospital)
    again = json.loads(run_fetch(orthanc, config, tmp_path / "inbox", "--json").stdout)
    assert (again["fetched"], again["already"]) == (0, NUM_CLIPS)


def test_the_inbox_is_private_and_its_names_say_nothing(
    orthanc: Orthanc, config: Path, tmp_path: Path
) -> None:
    assert run_fetch(orthanc, config, tmp_path / "inbox", "--limit=1").exit_code == 0
    folder = tmp_path / "inbox"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    files = list(folder.iterdir())
    assert len(files) == 2
    for path in files:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert len(path.stem) == 32
        assert "." not in path.stem


def test_dates_choose_the_studies(orthanc: Orthanc, config: Path, tmp_path: Path) -> None:
    none = run_fetch(orthanc, config, tmp_path / "inbox", "--study-date=20200101-", "--json")
    assert json.loads(none.stdout)["studies"] == NUM_STUDIES
    none = run_fetch(orthanc, config, tmp_path / "inbox", "--study-date=-20200101", "--json")
    assert json.loads(none.stdout)["studies"] == 0


@pytest.mark.parametrize("page", [1, 2, 3, 100])
def test_pages_of_any_size_bring_every_study(archive: DicomWeb, page: int) -> None:
    studies = list(archive.studies(modality="US", page=page))
    assert len(set(studies)) == len(studies) == NUM_STUDIES
    clips = list(archive.instances(studies[0], modality="US", page=page))
    assert len({clip.instance for clip in clips}) == len(clips) == NUM_CLIPS // NUM_STUDIES


def test_an_interrupted_run_goes_on(archive: DicomWeb, hospital: Path, inbox: Inbox) -> None:
    studies = list(archive.studies(modality="US"))
    stopped = iter((False, True))

    def interrupt(units: int, note: str) -> None:
        if next(stopped):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(archive, inbox, studies, modality="US", advance=interrupt)
    assert len(list(inbox.folder.iterdir())) == 4
    report = fetch(archive, inbox, studies, modality="US", advance=lambda units, note: None)
    assert (report.fetched, report.already) == (NUM_CLIPS - 4, 4)
    assert bytes_in(inbox.folder) == bytes_in(hospital)


def test_a_wrong_password_has_a_code_and_is_not_repeated(
    orthanc: Orthanc, config: Path, tmp_path: Path
) -> None:
    result = run_fetch(orthanc, config, tmp_path / "inbox", password="wrong-words")
    assert isinstance(result.exception, EchoFedError)
    assert result.exception.code is Code.ARCHIVE_REFUSED
    assert "wrong-words" not in f"{result.exception} {result.output}"


def test_an_address_beside_the_services_is_refused(orthanc: Orthanc) -> None:
    with (
        opened(orthanc, f"{orthanc.root}/nowhere") as archive,
        pytest.raises(EchoFedError) as caught,
    ):
        list(archive.studies(modality="US"))
    assert caught.value.code is Code.ARCHIVE_REFUSED


def test_the_inbox_makes_the_same_dataset_as_the_files(
    archive: DicomWeb, direct: DatasetManifest, inbox: Inbox, tmp_path: Path
) -> None:
    studies = list(archive.studies(modality="US"))
    fetch(archive, inbox, studies, modality="US", advance=lambda units, note: None)
    fetched = ingested(inbox.folder, tmp_path / "fetched")
    assert len(fetched.clips) == NUM_CLIPS
    assert fetched.content_hash() == direct.content_hash()


def test_labels_by_instance_find_their_files_in_the_inbox(
    archive: DicomWeb, inbox: Inbox, hospital: Path, config: Path, tmp_path: Path
) -> None:
    studies = list(archive.studies(modality="US"))
    fetch(archive, inbox, studies, modality="US", advance=lambda units, note: None)
    with (hospital.parent / "labels.csv").open(newline="") as file:
        said = {row["file"]: row["label"] for row in csv.DictReader(file)}
    uids = {name: dcmread(hospital.parent / name).SOPInstanceUID for name in said}
    lines = [f"{uids[name]},{label}" for name, label in said.items()]
    labels, label_map = tmp_path / "labels.csv", tmp_path / "map.yaml"
    labels.write_text("\n".join(["sop_uid,label", *lines, "1.2.3.4,4CH"]))
    label_map.write_text("4CH: A4C\n2CH: A2C\n")
    options = ["--labels", str(labels), "--label-map", str(label_map), "--origin", "phantom"]
    result = RUNNER.invoke(
        build_app(),
        ["ingest", str(inbox.folder), *options, "--config", str(config), "--dataset=e", "--json"],
    )
    assert result.exit_code == 0, result.output
    done = json.loads(result.stdout)
    assert done["labels"] == dict(Counter(said.values()))
    assert done["unlabelled"] == 0
    assert [drop["position"] for drop in done["dropped_files"]] == [-1]
    assert not any(uid in result.output for uid in uids.values())


def send_all(
    orthanc: Orthanc, port: int, title: str, *, called: str = "ECHOFED", tls: bool = False
) -> None:
    """Let Orthanc call itself so and send every instance, going on after refusals."""
    peer = {"AET": called, "Host": "127.0.0.1", "Port": port, "UseDicomTls": tls}
    with orthanc.client() as client:
        client.put("/modalities/site", json=peer).raise_for_status()
        instances = client.get("/instances").json()
        job = {"Resources": instances, "LocalAet": title, "Synchronous": True, "Permissive": True}
        client.post("/modalities/site/store", json=job)


def test_what_is_sent_arrives_whole_and_other_classes_do_not(
    orthanc: Orthanc, direct: DatasetManifest, inbox: Inbox, tmp_path: Path
) -> None:
    with receiving(inbox, title="ECHOFED", host="127.0.0.1", port=0) as receiver:
        send_all(orthanc, receiver.port, "ORTHANC")
        send_all(orthanc, receiver.port, "ORTHANC")
        with orthanc.client() as client:
            assert client.post("/modalities/site/echo", json={}).is_success
    assert (receiver.received, receiver.already) == (NUM_CLIPS, NUM_CLIPS)
    received = ingested(inbox.folder, tmp_path / "received")
    pairs = [
        sorted((clip.patient, clip.sha256) for clip in manifest.clips)
        for manifest in (received, direct)
    ]
    assert pairs[0] == pairs[1]


def test_strangers_and_wrong_names_are_refused(orthanc: Orthanc, inbox: Inbox) -> None:
    with receiving(inbox, title="ECHOFED", host="127.0.0.1", port=0, allow=["PACS"]) as receiver:
        send_all(orthanc, receiver.port, "STRANGER")
        send_all(orthanc, receiver.port, "PACS", called="OTHER")
        assert receiver.received == 0
        send_all(orthanc, receiver.port, "PACS")
        assert receiver.received == NUM_CLIPS


def test_an_archive_sends_over_tls_with_its_certificate(
    orthanc: Orthanc, authority: Authority, inbox: Inbox
) -> None:
    tls = open_tls(TlsFiles(authority.server_pem, authority.server_key, authority.ca_pem))
    with receiving(inbox, title="ECHOFED", host="127.0.0.1", port=0, tls=tls) as receiver:
        send_all(orthanc, receiver.port, "ORTHANC")
        assert receiver.received == 0
        send_all(orthanc, receiver.port, "ORTHANC", tls=True)
        assert receiver.received == NUM_CLIPS


def test_receive_says_that_it_listens_and_ends_in_order(
    orthanc: Orthanc, config: Path, tmp_path: Path
) -> None:
    out = tmp_path / "inbox"
    command = [sys.executable, "-c", "from site_client.cli import main; main()", "receive"]
    options = ["--port=0", "--out", str(out), "--config", str(config), "--json"]
    process = subprocess.Popen(
        [*command, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        line = json.loads(process.stdout.readline())
        send_all(orthanc, line["port"], "ORTHANC")
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == 0, log
    assert line["aet"] == "ECHOFED"
    assert f"{NUM_CLIPS} received" in log
    assert len(list(out.iterdir())) == NUM_CLIPS
    assert not any(name in log for name in ("1.2.826", os.fspath(out)))
