"""The main job with real processes: two hospitals, one fusion; a recorder reads what one sends.

Both commands run as they would at two hospitals and a centre, over TLS on loopback, on DICOM of the
phantom. All of it takes some 150 seconds of CPU.
"""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pydicom
import pytest
import yaml
from numpy.typing import NDArray

from shared.files import read_json, write_json
from shared.ledger import Ledger
from shared.phantom.hospital import HospitalSpec, write_hospital
from shared.rpc.authority import Authority
from shared.testing.commands import run_command, serving, set_options
from shared.testing.declared import examine
from shared.testing.recorder import Crossing, SentBody, decode, recording
from site_client.federate import free_port
from site_client.identity import Identity
from site_client.store import SiteStore

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

VIEWS = {
    "north": {"4CH": "A4C", "2CH": "A2C"},
    "south": {"apical four": "A4C", "long axis": "PLAX"},
}
SCANNER = "aurora"
PATIENTS = 12
SMALL = {
    "expert.backbone": "test_resnet",
    "expert.image_size": 32,
    "expert.epochs": 2,
    "expert.threads": 1,
    "extract.passes": 1,
}
FUSION = {"fusion.epochs": 2, "fusion.threads": 1, "fusion.variants": "[sum, discrepancy]"}


@dataclass
class Told:
    """What came out of the story."""

    increment: dict[str, Any] = field(default_factory=dict)
    verdict: dict[str, Any] = field(default_factory=dict)
    recorded: list[SentBody] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)
    departures: list[str] = field(default_factory=list)
    orphans: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Told:
    folder = tmp_path_factory.mktemp("federation")
    before = set(psutil.Process().children(recursive=True))
    story = Told()
    with ExitStack() as stack:
        play(folder, story, stack)
    left = set(psutil.Process().children(recursive=True)) - before
    story.orphans = [" ".join(one.cmdline()) for one in left if one.is_running()]
    return story


def play(folder: Path, story: Told, stack: ExitStack) -> None:
    """The steps of the story, in their order."""
    centre = folder / "aggregator.yaml"
    ports = {"federation.port": 0, "federation.superlink_port": 0}
    made = run_command(
        "echofed-aggregator", "init", *set_options({**ports, **FUSION}), config=centre
    )
    stack.enter_context(
        serving(folder / "centre.log", "echofed-aggregator", "federate", config=centre)
    )
    recorder_port = free_port()
    for place, name in enumerate(VIEWS):
        through = recorder_port if name == "north" else None
        enrol(folder, name, centre, str(made["bundle"]), recorder_port=through)
        furnish(folder, name, place)
    story.recorded = stack.enter_context(record(folder, made["address"], recorder_port))
    for name in VIEWS:
        stack.enter_context(
            serving(
                folder / f"{name}.log",
                "echofed-site",
                "federate",
                config=folder / name / "site.yaml",
            )
        )
    wait_online(folder)
    story.increment = run_command("echofed-aggregator", "increment", config=centre)
    run_command("echofed-aggregator", "promote", "--reason", "first", config=centre)
    unseen = sorted((folder / "data" / "south").rglob("*.dcm"))[0]
    story.verdict = run_command(
        "echofed-site",
        *("predict", unseen, "--out", folder / "verdict.png"),
        config=folder / "north" / "site.yaml",
    )
    story.findings = examine(story.recorded, frames_of(folder), words_of(folder))
    ledger = Ledger(SiteStore(folder / "north").ledger_path)
    story.departures = [entry.kind for entry in ledger.entries()]


def enrol(folder: Path, name: str, centre: Path, bundle: str, *, recorder_port: int | None) -> None:
    """Bring a site in with kit, request and certificate, and let its features go."""
    home, config = folder / name, folder / name / "site.yaml"
    home.mkdir()
    out = ("--out", home)
    run_command("echofed-aggregator", "enrol", name, *out, config=centre)
    kit = read_json(home / f"{name}.kit")
    if recorder_port is not None:
        write_json(home / f"{name}.kit", {**kit, "address": f"127.0.0.1:{recorder_port}"})
    run_command("echofed-site", "init", home / f"{name}.kit", *set_options(SMALL), config=config)
    run_command(
        "echofed-aggregator",
        *("enrol", "--approve", home / f"{name}.request", *out),
        config=centre,
    )
    run_command("echofed-site", "init", home / f"{name}.certificate", config=config)
    consent = {
        "purposes": ["fusion", "evaluation"],
        "recipients": ["echofed"],
        "artefacts": ["rows", "expert_weights", "logits"],
        "minimum_patients_per_view": 2,
    }
    policy = {
        "version": 1,
        "revision": 2,
        "datasets": {f"{name}-echo": consent},
        "approved_bundles": [bundle],
    }
    (home / "policy.yaml").write_text(yaml.safe_dump(policy))


def furnish(folder: Path, name: str, place: int) -> None:
    """Let a virtual hospital scan its patients, and the site ingest them and train its expert."""
    data, config = folder / "data" / name, folder / name / "site.yaml"
    spec = HospitalSpec(
        name=name,
        scanner=SCANNER,
        labels=VIEWS[name],
        num_patients=PATIENTS,
        clips_per_view=1,
        frames_per_clip=3,
        size_HW=(120, 160),
        screen_correlation=0.0,
        seed=5,
        first_patient=1000 * place,
    )
    write_hospital(spec, data)
    (data / "labels.yaml").write_text(yaml.safe_dump(VIEWS[name]))
    files = ("--labels", data / "labels.csv", "--label-map", data / "labels.yaml")
    words = ("--origin", "phantom", "--dataset", f"{name}-echo")
    settings = {"val_fraction": 0.25, "test_fraction": 0.25, "text": "keep"}
    options = set_options({f"ingest.{name}": value for name, value in settings.items()})
    run_command("echofed-site", "ingest", data, *files, *words, *options, config=config)
    run_command("echofed-site", "train", config=config)


@contextmanager
def record(folder: Path, address: str, port: int) -> Iterator[list[SentBody]]:
    """Stand between the north's node and the front."""
    authority, identity = Authority(folder / "ca"), Identity(folder / "north" / "identity")
    crossing = Crossing(
        ca=authority.ca_pem,
        server_pem=authority.server_pem,
        server_key=authority.server_key,
        site_pem=identity.certificate,
        site_key=identity.tls_key,
        upstream=address,
    )
    with recording(crossing, port=port) as bodies:
        yield bodies


def wait_online(folder: Path) -> None:
    log, deadline = folder / "superlink" / "superlink.log", time.monotonic() + 120
    while log.read_text(errors="replace").count("Activated node_id=") < len(VIEWS):
        assert time.monotonic() < deadline, (folder / "north.log").read_text()[-2000:]
        time.sleep(0.3)


def frames_of(folder: Path) -> list[NDArray[np.uint8]]:
    """A frame of each of some clips as the north keeps them."""
    store = SiteStore(folder / "north")
    dataset = store.datasets()[0]
    clips = store.manifest(dataset).clips[:6]
    return [store.clip(dataset, clip).pixels_THW[0] for clip in clips]


def words_of(folder: Path) -> list[str]:
    """Names in the north's files, patient and clip keys, and the site's folder."""
    files = sorted((folder / "data" / "north").rglob("*.dcm"))
    headers = [pydicom.dcmread(file, stop_before_pixels=True) for file in files]
    names = {
        str(part) for one in headers for part in str(one.PatientName).split("^") if len(part) > 3
    }
    ids = {str(one.PatientID) for one in headers}
    store = SiteStore(folder / "north")
    clips = store.manifest(store.datasets()[0]).clips
    keys = {clip.key for clip in clips} | {clip.patient for clip in clips}
    return sorted(names | ids | keys | {str(folder), "Traceback", ".dcm"})


def test_the_increment_ends_with_a_fusion_of_both_experts(told: Told) -> None:
    assert told.increment["fusion"]
    assert told.increment.get("absent", []) in ([], {})


def test_the_promoted_fusion_tells_the_view_of_a_foreign_hospitals_file(told: Told) -> None:
    assert told.verdict["view"] in {"A4C", "A2C", "PLAX"} or told.verdict.get("abstained")


def test_nothing_more_than_declared_has_left(told: Told) -> None:
    assert told.findings == []


def test_every_round_went_through_the_recorder(told: Told) -> None:
    types = {message.message_type for message in decode(told.recorded)}
    assert types >= {"query.describe", "query.experts", "query.features", "evaluate.fusion"}


def test_every_departure_stands_in_the_ledger(told: Told) -> None:
    blobs = sum(len(one.arrays["blobs"]) for one in decode(told.recorded) if one.arrays)
    assert blobs >= 2
    assert len([kind for kind in told.departures if kind.endswith("sent")]) >= blobs


def test_all_processes_are_gone(told: Told) -> None:
    assert told.orphans == []
