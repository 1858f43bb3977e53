"""An increment with real processes: a site and the centre are killed in mid-round, then it resumes.

The sites are furnished in this process; centre, nodes and increments run as the two commands.
"""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import pytest

from aggregator.centre import Centre, open_centre
from aggregator.enrolment import approve, invite
from aggregator.operator import admit
from aggregator.superlink import bundle_hash, find_bundle
from shared.errors import Code
from shared.flower import stop_tree
from shared.phantom.hospital import HospitalSpec, write_hospital
from shared.settings import build_settings, save_settings
from shared.testing.commands import command_line, run_command, set_options, start_command
from site_client.identity import accept_certificate, join
from site_client.ingest import IngestRequest, ingest
from site_client.policy import DatasetPolicy, Policy, save_policy
from site_client.settings import SiteSettings
from site_client.store import SiteStore
from site_client.training.expert import train_expert

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]

LABELS = {"north": {"4CH": "A4C", "2CH": "A2C"}, "south": {"A4C": "A4C", "PLAX": "PLAX"}}
CONSENT = DatasetPolicy(
    purposes=("fusion", "evaluation"),
    recipients=("echofed",),
    artefacts=("rows", "expert_weights"),
    minimum_patients_per_view=2,
)
CENTRE = {
    "federation.port": 0,
    "federation.superlink_port": 0,
    "federation.gather_s": 4,
    "fusion.epochs": 2,
    "fusion.threads": 1,
    "fusion.variants": "[discrepancy]",
}


@dataclass
class Story:
    """What came out, step by step."""

    code_of_killed: int = 0
    status_after_kill: str = ""
    banked_at_kill: int = 0
    resumed: dict[str, Any] = field(default_factory=dict)
    ledger_entries: int = 0
    codes_at_end: list[int] = field(default_factory=list)
    orphans: list[str] = field(default_factory=list)


def kill_all(process: subprocess.Popen[bytes]) -> None:
    """As a power cut: the process and all it started, none of them warned."""
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    for one in family:
        one.send_signal(signal.SIGKILL)
    process.wait()


def await_true(is_so: Callable[[], bool], *, timeout_s: float, log: Path) -> None:
    deadline = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < deadline, log.read_text(errors="replace")[-3000:]
        time.sleep(0.2)


def furnish(centre: Centre, folder: Path, name: str, bundle: str, *, place: int) -> Path:
    """Bring in a site with a dataset of the phantom and an expert; returns its settings file."""
    now, root = datetime.now(UTC), folder / name
    store = SiteStore(root)
    store.create_key()
    federation = centre.settings.federation
    address = f"127.0.0.1:{federation.port}"
    kit = invite(centre.authority, name, address=address, federation=federation.name, now=now)
    request = join(store.identity_folder, kit, now=now)
    entry, certificate = approve(
        centre.authority, request, federation=federation.name, now=datetime.now(UTC)
    )
    admit(centre, entry)
    accept_certificate(store.identity_folder, certificate)
    save_policy(
        Policy(datasets={"echo": CONSENT}, approved_bundles=(bundle,)), root / "policy.yaml"
    )
    settings = build_settings(
        SiteSettings,
        {
            "site": name,
            "centre": {"address": address, "federation": federation.name, "heartbeat_s": 10},
            "ingest": {"val_fraction": 0.25, "test_fraction": 0.25, "text": "keep"},
            "expert": {
                **{"backbone": "test_resnet", "image_size": 32, "epochs": 1, "threads": 1},
                "backmix": {"enabled": False},
            },
            "extract": {"passes": 0, "threads": 1},
        },
    )
    (root / "site.yaml").write_text(save_settings(settings))
    scan_and_train(folder / "data" / name, store, settings, place=place)
    return root / "site.yaml"


def scan_and_train(data: Path, store: SiteStore, settings: SiteSettings, *, place: int) -> None:
    spec = HospitalSpec(
        name=settings.site,
        scanner="aurora",
        labels=LABELS[settings.site],
        num_patients=8,
        clips_per_view=1,
        frames_per_clip=2,
        size_HW=(60, 80),
        screen_correlation=0.0,
        seed=7,
        first_patient=100 * place,
    )
    write_hospital(spec, data)
    label_map = data / "labels.yaml"
    label_map.write_text("".join(f"{name}: {view}\n" for name, view in spec.labels.items()))
    words = IngestRequest(
        "echo", settings.site, "phantom", labels=data / "labels.csv", label_map=label_map
    )
    ingest(data, store, words, settings.ingest, now=datetime.now(UTC))
    train_expert(
        store,
        ["echo"],
        settings.expert,
        site=settings.site,
        now=datetime.now(UTC),
        report=lambda step: None,
    )


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    folder = tmp_path_factory.mktemp("resume")
    before = set(psutil.Process().children(recursive=True))
    told = Story()
    with ExitStack() as stack:
        play(folder, told, stack)
    left = set(psutil.Process().children(recursive=True)) - before
    told.orphans = [" ".join(one.cmdline()) for one in left if one.is_running()]
    return told


def play(folder: Path, told: Story, stack: ExitStack) -> None:
    config = folder / "aggregator.yaml"
    run_command("echofed-aggregator", "init", *set_options(CENTRE), config=config)
    centre = open_centre(config)
    stack.callback(centre.state.close)
    bundle = bundle_hash(find_bundle())
    sites = {
        name: furnish(centre, folder, name, bundle, place=place)
        for place, name in enumerate(LABELS)
    }
    federate = start_command(folder / "centre.log", "echofed-aggregator", "federate", config=config)
    stack.callback(stop_tree, federate)
    nodes = {}
    for name, path in sites.items():
        nodes[name] = start_command(folder / f"{name}.log", "echofed-site", "federate", config=path)
        stack.callback(stop_tree, nodes[name])
    superlink_log = folder / "superlink" / "superlink.log"

    def activations() -> int:
        return superlink_log.read_text(errors="replace").count("Activated node_id=")

    await_true(lambda: activations() == 2, timeout_s=120, log=folder / "north.log")
    with (folder / "increment.log").open("wb") as log:
        increment = subprocess.Popen(
            command_line("echofed-aggregator", "increment", config=config), stdout=log, stderr=log
        )
    stack.callback(stop_tree, increment)
    await_true(
        lambda: centre.state.increments()[-1:] != () and step_of(centre) == "features",
        timeout_s=120,
        log=folder / "increment.log",
    )
    kill_all(nodes["south"])
    await_true(lambda: len(centre.bank.entries()) >= 2, timeout_s=90, log=folder / "increment.log")
    kill_all(federate)
    told.banked_at_kill = len(centre.bank.entries())
    told.code_of_killed = increment.wait(timeout=90)
    told.status_after_kill = centre.state.increments()[-1].status

    federate = start_command(folder / "centre.log", "echofed-aggregator", "federate", config=config)
    seen = activations()
    stack.callback(stop_tree, federate)
    await_true(lambda: activations() > seen or is_online(centre), timeout_s=120, log=superlink_log)
    told.resumed = run_command("echofed-aggregator", "increment", config=config)
    told.ledger_entries = run_command("echofed-aggregator", "audit", "verify", config=config)[
        "ledger_entries"
    ]
    for process in (nodes["north"], federate):
        os.kill(process.pid, signal.SIGTERM)
        told.codes_at_end.append(process.wait(60))


def step_of(centre: Centre) -> str:
    return str(centre.state.increments()[-1].step)


def is_online(centre: Centre) -> bool:
    from aggregator.operator import superlink_of
    from aggregator.superlink import list_nodes

    return "online" in list_nodes(superlink_of(centre)).values()


def test_the_command_of_a_killed_centre_ends_with_a_code_and_leaves_it_open(story: Story) -> None:
    assert story.code_of_killed in (int(Code.CENTRE_UNREACHABLE), int(Code.RUN_FAILED))
    assert story.status_after_kill == "running"


def test_what_arrived_before_the_kill_is_not_asked_for_again(story: Story) -> None:
    assert story.banked_at_kill == 2
    (features,) = [
        step
        for step in story.resumed["steps"]
        if (step["attempt"], step["step"]) == (2, "features")
    ]
    assert features["bytes_in"] == 0
    assert [one["kind"] for one in story.resumed["arrived"]].count("export") == 0


def test_the_resumed_increment_is_the_same_one_and_ends_with_a_fusion(story: Story) -> None:
    assert (story.resumed["increment"], story.resumed["attempt"]) == ("i0001", 2)
    assert story.resumed["fusion"].startswith("fusion-")
    scores = story.resumed["report"]["id_scores"]["discrepancy"]["north/echo"]
    assert {expert.split("-")[0] for expert in scores} == {"north", "south"}


def test_the_site_killed_in_mid_round_is_named(story: Story) -> None:
    assert story.resumed["absent"] == {"south": "SITE_UNREACHABLE"}
    assert story.resumed["report"]["missing"] == ["south/echo"]
    assert [one["site"] for one in story.resumed["at_sites"]] == ["north"]


def test_the_ledger_holds_after_both_kills(story: Story) -> None:
    assert story.ledger_entries > 0


def test_nodes_and_centre_end_in_order_and_leave_no_process(story: Story) -> None:
    assert story.codes_at_end == [0, 0]
    assert story.orphans == []
