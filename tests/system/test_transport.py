"""One federation of real processes over TLS: who gets in, what runs, leaves and survives a kill.

The steps share one deployment, because starting Flower's processes is what takes the time; each
test then asks for one thing that must have come out of it.
"""

import json
import os
import shutil
import signal
import threading
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from flwr.cli.build import build_fab_from_disk

from aggregator.enrolment import approve, invite
from aggregator.front import running_front
from aggregator.superlink import (
    SuperLink,
    find_bundle,
    flwr,
    register_node,
    run_bundle,
    running_superlink,
)
from shared.errors import Code, EchoFedError
from shared.files import read_json, sha256_hex
from shared.ledger import Ledger
from shared.rpc.authority import Authority, create_authority, ensure_server_certificate
from shared.testing.leaks import find_words
from shared.testing.recorder import Crossing, SentBody, SentMessage, decode, parse, recording
from site_client.federate import federate, free_port
from site_client.identity import Identity, accept_certificate, join
from site_client.launch import NodeLaunch, client_context
from site_client.policy import Policy, save_policy

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]

HEARTBEAT_S = 10  # the shortest that Flower takes; a killed node is missed after twice that
TRIAL_BYTES = 6 * 1024 * 1024  # two of Flower's chunks


@dataclass
class Site:
    """A site of the test with its node held in a thread."""

    launch: NodeLaunch
    public_key: str
    stop: threading.Event = field(default_factory=threading.Event)
    error: EchoFedError | None = None
    thread: threading.Thread | None = None

    def start(self) -> None:
        self.thread = threading.Thread(target=self._hold)
        self.thread.start()

    def end(self) -> None:
        self.stop.set()
        if self.thread is not None:
            self.thread.join(60)

    def _hold(self) -> None:
        try:
            federate(self.launch, stop=self.stop)
        except EchoFedError as error:
            self.error = error


@dataclass
class Story:
    """What came out of the steps."""

    unregistered: EchoFedError | None = None
    expired: EchoFedError | None = None
    control: dict[str, int] = field(default_factory=dict)
    command_line: EchoFedError | None = None
    interrupted: dict[str, Any] = field(default_factory=dict)
    first: dict[str, Any] = field(default_factory=dict)
    altered: dict[str, Any] = field(default_factory=dict)
    returned_after_s: float = float("inf")
    ledger_north: list[tuple[str, str]] = field(default_factory=list)
    ledger_south: list[tuple[str, str]] = field(default_factory=list)
    recorded: list[SentBody] = field(default_factory=list)
    orphans: list[str] = field(default_factory=list)
    hashes: dict[str, str] = field(default_factory=dict)


@dataclass
class Deployment:
    """The centre of the test."""

    folder: Path
    authority: Authority
    link: SuperLink
    front_port: int

    def enrol(self, name: str, *, approved: tuple[str, ...], valid_s: float = 86400) -> Site:
        folder = self.folder / name
        now = datetime.now(UTC)
        address = f"127.0.0.1:{self.front_port}"
        kit = invite(self.authority, name, address=address, federation="test", now=now)
        request = join(folder / "identity", kit, now=now)
        entry, document = approve(
            self.authority,
            request,
            federation="test",
            now=now,
            valid=timedelta(seconds=valid_s),
        )
        accept_certificate(folder / "identity", document)
        save_policy(Policy(approved_bundles=approved), folder / "policy.yaml")
        launch = NodeLaunch(
            site=name,
            address=address,
            config=folder / "site.yaml",
            policy=folder / "policy.yaml",
            identity=folder / "identity",
            ledger=folder / "ledger.sqlite",
            home=folder / "flower",
            runtime_port=free_port(),
            heartbeat_s=HEARTBEAT_S,
        )
        return Site(launch, entry.public_key)

    def register(self, site: Site) -> str:
        return register_node(self.link, site=site.launch.site, public_key=site.public_key)

    def roll_call(
        self, bundle: Path, *, blob_bytes: int = 0, timeout_s: int = 90
    ) -> dict[str, Any]:
        outcome = self.folder / f"outcome-{time.monotonic_ns()}.json"
        request = {"sites": ["north", "south"], "blob_bytes": blob_bytes, "timeout_s": timeout_s}
        run_bundle(
            self.link,
            bundle,
            {
                "config": str(self.folder / "aggregator.yaml"),
                "action": "roll_call",
                "request": json.dumps(request),
                "outcome": str(outcome),
            },
        )
        await_true(outcome.is_file, timeout_s=timeout_s + 60)
        return dict(read_json(outcome)["result"])


def await_true(condition: Callable[[], bool], *, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.2)


def activations(link: SuperLink, node_id: str) -> int:
    return link.log.read_text(errors="replace").count(f"Activated node_id={node_id}")


def bundle_with_own_code(folder: Path) -> Path:
    """Our bundle with a ``site_client`` of its own in it, as a tampered centre would send it."""
    bundle = folder / "bundle"
    shutil.copytree(find_bundle(), bundle)
    package = bundle / "site_client"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "app.py").write_text("from flwr.clientapp import ClientApp\napp = ClientApp()\n")
    settings = bundle / "pyproject.toml"
    settings.write_text(
        settings.read_text().replace('["LICENSE"]', '["LICENSE", "site_client/*.py"]')
    )
    return bundle


def control_answers(identity: Identity, port: int) -> dict[str, int]:
    """What a site gets when it uses its kit, key and certificate on the operator's paths."""
    calls = (
        "start-run",
        "list-runs",
        "stop-run",
        "register-node",
        "list-nodes",
        "list-federations",
    )
    with httpx.Client(verify=client_context(identity)) as client:
        return {
            call: client.post(f"https://127.0.0.1:{port}/v1/control/{call}").status_code
            for call in calls
        }


def own_processes() -> set[psutil.Process]:
    return set(psutil.Process().children(recursive=True))


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    folder = tmp_path_factory.mktemp("federation")
    now = datetime.now(UTC)
    authority = create_authority(folder / "ca", "test", now=now)
    ensure_server_certificate(authority, [], now=now)
    link = SuperLink(folder / "superlink", free_port(), authority)
    centre = Deployment(folder, authority, link, free_port())
    told = Story()
    before = own_processes()
    with ExitStack() as stack:
        play(centre, told, stack)
    time.sleep(0.5)
    told.orphans = [" ".join(one.cmdline()) for one in own_processes() - before if one.is_running()]
    return told


def play(centre: Deployment, told: Story, stack: ExitStack) -> None:
    """The steps of the story, in their order."""
    ours, theirs = find_bundle(), bundle_with_own_code(centre.folder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Flower's own use of pathspec
        told.hashes = {
            "ours": sha256_hex(build_fab_from_disk(ours)),
            "theirs": sha256_hex(build_fab_from_disk(theirs)),
        }
    superlink = stack.enter_context(running_superlink(centre.link))
    stack.enter_context(running_front(centre.link, host="127.0.0.1", port=centre.front_port))
    north = centre.enrol("north", approved=(told.hashes["ours"],))
    south = centre.enrol("south", approved=(told.hashes["theirs"],))
    node_north = centre.register(north)
    centre.register(south)

    recorder_port = free_port()
    crossing = Crossing(
        ca=centre.authority.ca_pem,
        server_pem=centre.authority.server_pem,
        server_key=centre.authority.server_key,
        site_pem=Identity(south.launch.identity).certificate,
        site_key=Identity(south.launch.identity).tls_key,
        upstream=south.launch.address,
    )
    told.recorded = stack.enter_context(recording(crossing, port=recorder_port))
    south.launch = replace(south.launch, address=f"127.0.0.1:{recorder_port}")
    for site in (north, south):
        stack.callback(site.end)
        site.start()
    await_true(lambda: activations(centre.link, node_north) == 1, timeout_s=90)

    with ThreadPoolExecutor(1) as pool:
        round_ = pool.submit(centre.roll_call, ours)
        await_true(lambda: is_answering(node_of(north)), timeout_s=120)
        killed = time.monotonic()
        os.kill(node_of(north).pid, signal.SIGKILL)
        outsiders(centre, told)
        told.interrupted = round_.result()
    await_true(lambda: activations(centre.link, node_north) == 2, timeout_s=180)
    told.returned_after_s = time.monotonic() - killed

    os.kill(superlink.pid, signal.SIGKILL)
    superlink.wait()
    stack.enter_context(running_superlink(centre.link))
    told.first = centre.roll_call(ours, blob_bytes=TRIAL_BYTES)
    told.altered = centre.roll_call(theirs)
    told.ledger_north = entries(north)
    told.ledger_south = entries(south)


def node_of(site: Site) -> psutil.Process:
    """The process of a site's node; its supervisor is a thread of this test."""
    launch_file = str(site.launch.home / "launch.json")
    return next(
        process
        for process in psutil.Process().children(recursive=True)
        if launch_file in words_of(process)
    )


def is_answering(node: psutil.Process) -> bool:
    """Whether the app that answers a message runs at a node."""
    return any("flwr-clientapp" in " ".join(words_of(one)) for one in node.children(recursive=True))


def words_of(process: psutil.Process) -> list[str]:
    """The command line of a process, empty if it has just ended."""
    try:
        return list(process.cmdline())
    except psutil.NoSuchProcess:
        return []


def outsiders(centre: Deployment, told: Story) -> None:
    """Those who must stay outside: not registered, expired, or a site that plays operator."""
    stranger = centre.enrol("stranger", approved=())
    stranger.launch = replace(stranger.launch, patience_s=1.0)
    stranger.start()
    late = centre.enrol("late", approved=(), valid_s=-1.0)
    late.start()
    identity = Identity(stranger.launch.identity)
    told.control = control_answers(identity, centre.front_port)
    disguised = replace(centre.link, folder=centre.folder / "disguise", port=centre.front_port)
    disguised.folder.mkdir()
    (disguised.home).mkdir()
    shutil.copy(centre.link.home / "config.toml", disguised.home / "config.toml")
    text = (disguised.home / "config.toml").read_text()
    (disguised.home / "config.toml").write_text(
        text.replace(str(centre.link.port), str(centre.front_port))
    )
    try:
        flwr(disguised, "list", "centre")
    except EchoFedError as error:
        told.command_line = error
    for site in (stranger, late):
        assert site.thread is not None
        site.thread.join(90)
    told.unregistered, told.expired = stranger.error, late.error


def entries(site: Site) -> list[tuple[str, str]]:
    return [
        (entry.kind, str(entry.body["bundle"])) for entry in Ledger(site.launch.ledger).entries()
    ]


def messages(story: Story) -> list[SentMessage]:
    return decode(story.recorded)


def test_a_site_that_approved_the_bundle_answers_with_the_installed_app(story: Story) -> None:
    answer = story.first["north"]
    assert answer["received"] == {"trial": sha256_hex(bytes(TRIAL_BYTES))}
    assert answer["release"]


def test_a_site_that_did_not_approve_the_bundle_runs_nothing(story: Story) -> None:
    assert story.first["south"] == {"error": int(Code.BUNDLE_UNAPPROVED)}


def test_an_altered_bundle_is_refused_by_its_hash(story: Story) -> None:
    assert story.altered["north"] == {"error": int(Code.BUNDLE_UNAPPROVED)}
    assert story.ledger_north == [("bundle.refused", story.hashes["theirs"])]


def test_a_bundle_with_its_own_site_client_is_refused_though_approved(story: Story) -> None:
    assert story.altered["south"] == {"error": int(Code.BUNDLE_UNAPPROVED)}
    assert story.ledger_south == [
        ("bundle.refused", story.hashes["ours"]),
        ("bundle.refused", story.hashes["ours"]),
        ("bundle.refused", story.hashes["theirs"]),
    ]


def test_an_unregistered_node_is_refused(story: Story) -> None:
    assert story.unregistered is not None
    assert story.unregistered.code is Code.NODE_REFUSED
    assert story.unregistered.hint


def test_an_ended_certificate_has_its_own_code(story: Story) -> None:
    assert story.expired is not None
    assert story.expired.code is Code.CERTIFICATE_EXPIRED


def test_a_site_cannot_start_or_list_runs_or_register_nodes(story: Story) -> None:
    assert set(story.control.values()) == {403}


def test_the_operators_command_line_ends_at_the_front(story: Story) -> None:
    assert story.command_line is not None


def test_a_site_killed_in_mid_round_is_named_and_the_round_ends(story: Story) -> None:
    assert story.interrupted == {
        "north": {"error": int(Code.SITE_UNREACHABLE)},
        "south": {"error": int(Code.BUNDLE_UNAPPROVED)},
    }


def test_the_sites_are_back_after_the_superlink_was_killed(story: Story) -> None:
    assert "received" in story.first["north"]  # the very answer of the second SuperLink


def test_a_killed_node_comes_back_within_three_minutes(story: Story) -> None:
    assert story.returned_after_s < 180


def test_nothing_is_left_running(story: Story) -> None:
    assert story.orphans == []


def test_every_body_of_a_site_decodes_to_what_is_declared(story: Story) -> None:
    for sent in story.recorded:
        parse(sent)
    left = messages(story)
    assert [(one.message_type, one.error_code, one.error_text) for one in left] == [
        ("query.presence", 7, ""),
        ("query.presence", 7, ""),
        ("query.presence", 7, ""),
    ]


def test_no_body_names_the_site_folder(
    story: Story, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = str(tmp_path_factory.getbasetemp())
    assert story.recorded
    assert not [
        sent.path for sent in story.recorded if find_words(sent.body, [folder, "Traceback"])
    ]
