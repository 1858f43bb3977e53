"""The guard lets in what the site approved, and no code; Flower is as the guard expects it."""

import hashlib
import inspect
import io
import json
import sys
import time
import warnings
import zipfile
from pathlib import Path
from typing import Any

import flwr
import pytest
from flwr.app import Error, Message, Metadata, RecordDict
from flwr.app.message import make_message
from flwr.cli.build import build_fab_from_disk
from flwr.supercore import heartbeat
from flwr.supercore.fab import Fab
from flwr.supernode import fleet_http_connection, start_client_internal
from flwr.supernode.cli.flower_supernode import flower_supernode
from flwr.supernode.fleet_http_client import FleetHttpClient

from aggregator.superlink import find_bundle
from shared.ledger import Ledger
from site_client.launch import NodeLaunch, read_launch, write_launch
from site_client.policy import Policy, save_policy
from site_client.supernode import Guard, scrub

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # Flower's own use of pathspec
    BUNDLE = build_fab_from_disk(find_bundle())


def repacked(extra: dict[str, str], *, client_app: str = "site_client.app:app") -> bytes:
    """Our bundle with other files in it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(BUNDLE)) as old, zipfile.ZipFile(buffer, "w") as new:
        for name in old.namelist():
            text = old.read(name).replace(b"site_client.app:app", client_app.encode())
            new.writestr(name, text)
        for name, content in extra.items():
            new.writestr(name, content)
    return buffer.getvalue()


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def fab(content: bytes) -> Fab:
    return Fab(digest(content), content, {})


@pytest.fixture
def launch(tmp_path: Path) -> NodeLaunch:
    save_policy(Policy(approved_bundles=(digest(BUNDLE),)), tmp_path / "policy.yaml")
    return NodeLaunch(
        site="north",
        address="127.0.0.1:1",
        config=tmp_path / "site.yaml",
        policy=tmp_path / "policy.yaml",
        identity=tmp_path / "identity",
        ledger=tmp_path / "ledger.sqlite",
        home=tmp_path / "flower",
        runtime_port=1,
    )


@pytest.fixture
def guard(launch: NodeLaunch) -> Guard:
    ledger = Ledger(launch.ledger)

    def record(kind: str, body: dict[str, Any]) -> None:
        ledger.append(kind, body, actor="north")

    return Guard(launch.approved, record)


def test_an_approved_bundle_passes_flowers_verifier(guard: Guard) -> None:
    attested = guard.attest(fab(BUNDLE))
    assert attested.verifications["valid_license"]
    assert start_client_internal._verify_fab(attested, guard.trusted_entities())


def test_an_altered_bundle_is_refused_and_noted(guard: Guard, launch: NodeLaunch) -> None:
    altered = repacked({})
    assert guard.attest(fab(altered)).verifications == {}
    entry = list(Ledger(launch.ledger).entries())[-1]
    assert (entry.kind, entry.body["bundle"]) == ("bundle.refused", digest(altered))


def test_a_signature_of_the_centre_counts_for_nothing(guard: Guard) -> None:
    foreign = Guard(lambda: frozenset({digest(repacked({}))}), lambda kind, body: None)
    signed = foreign.attest(fab(repacked({})))
    assert signed.verifications
    assert guard.attest(signed).verifications == {}
    assert not start_client_internal._verify_fab(signed, guard.trusted_entities())


def test_approval_and_its_withdrawal_count_at_once(guard: Guard, launch: NodeLaunch) -> None:
    assert guard.attest(fab(BUNDLE)).verifications
    save_policy(Policy(), launch.policy)
    assert guard.attest(fab(BUNDLE)).verifications == {}


def request_message() -> Message:
    metadata = Metadata(
        run_id=5,
        message_id="m1",
        src_node_id=1,
        dst_node_id=7,
        reply_to_message_id="",
        group_id="",
        created_at=time.time(),
        ttl=60.0,
        message_type="query.presence",
    )
    return make_message(metadata, RecordDict())


def test_an_error_leaves_as_its_number(guard: Guard) -> None:
    planted = "<class 'OSError'>:<'no file /data/Muster_Anna/1.dcm'>"
    reply = Message(Error(2, planted), reply_to=request_message())
    reply.metadata.__dict__["_message_id"] = reply.object_id
    sent: list[Message] = []
    pushed: dict[str, bytes] = {}

    def send(message: Message, tree: Any, seconds: float) -> tuple[set[str], str]:
        sent.append(message)
        return {tree.object_id}, "session"

    def push(run_id: int, session: str, object_id: str, content: bytes) -> None:
        pushed[object_id] = content

    wrapped = guard.guard((1, None, send, None, None, None, push, None))
    left, session = wrapped[2](reply, None, 0.1)
    assert (left, session) == (set(), "session")
    assert (sent[0].error.code, sent[0].error.reason) == (2, "")
    assert pushed.keys() == {sent[0].metadata.message_id}
    assert not [content for content in pushed.values() if b"Muster" in content]


def test_a_scrubbed_error_still_answers_its_request() -> None:
    reply = Message(Error(1, "text"), reply_to=request_message())
    plain = scrub(reply)
    assert plain.metadata.reply_to_message_id == "m1"
    assert plain.metadata.message_id == plain.object_id
    assert hashlib.sha256(plain.deflate()).hexdigest() == plain.object_id


def test_a_launch_file_reads_back(launch: NodeLaunch, tmp_path: Path) -> None:
    write_launch(launch, tmp_path / "launch.json")
    assert read_launch(tmp_path / "launch.json") == launch
    assert json.loads((tmp_path / "launch.json").read_text())["site"] == "north"


class TestFlowerIsAsTheGuardExpects:
    """Contract with the private names of Flower that are wrapped."""

    def test_the_version_is_the_one_that_was_read(self) -> None:
        assert flwr.__version__.startswith("1.41."), (
            "read supernode.py against the new release first"
        )

    def test_a_connection_yields_the_eight_functions_in_their_order(self) -> None:
        source = inspect.getsource(start_client_internal.start_client_internal)
        names = source.split("as conn:")[1].split(") = conn")[0].strip().lstrip("(").split(",")
        assert [name.strip() for name in names if name.strip()] == [
            *("node_id", "receive", "send", "get_run", "get_fab"),
            *("pull_object", "push_object", "confirm_message_received"),
        ]

    def test_the_node_opens_its_connection_by_the_wrapped_name(self) -> None:
        assert "with _init_connection(" in inspect.getsource(
            start_client_internal.start_client_internal
        )
        assert "FleetHttpClient.from_server_address(" in inspect.getsource(
            fleet_http_connection.http_request_response
        )

    def test_a_bundle_is_fetched_and_verified_before_it_is_stored(self) -> None:
        source = inspect.getsource(start_client_internal._pull_and_store_message)
        steps = [
            "fab = get_fab(",
            'fab.verifications.get("valid_license"',
            "_verify_fab(",
            "state.store_fab(",
        ]
        places = [source.index(step) for step in steps]
        assert places == sorted(places)

    def test_a_refused_bundle_is_answered_with_seven(self) -> None:
        assert start_client_internal.FAB_VERIFICATION_ERROR.code == 7

    def test_a_reply_goes_through_send_and_its_objects_after_it(self) -> None:
        source = inspect.getsource(start_client_internal._push_messages)
        assert "send(message, object_tree, clientapp_runtime)" in source

    def test_the_client_is_made_with_these_arguments(self) -> None:
        signature = inspect.signature(FleetHttpClient.from_server_address)
        assert list(signature.parameters) == [
            *("server_address", "insecure", "root_certificates", "interceptors", "retry_invoker")
        ]
        assert list(inspect.signature(FleetHttpClient.ActivateNode).parameters) == [
            "self",
            "request",
        ]

    def test_the_heartbeat_is_read_from_the_names_we_set(self) -> None:
        assert (
            heartbeat.HEARTBEAT_DEFAULT_INTERVAL == fleet_http_connection.HEARTBEAT_DEFAULT_INTERVAL
        )
        assert "HEARTBEAT_DEFAULT_INTERVAL" in inspect.getsource(heartbeat.HeartbeatSender._run)

    def test_the_node_takes_these_options(self) -> None:
        parser = sys.modules[flower_supernode.__module__]._parse_args_run_supernode()
        options = {name for action in parser._actions for name in action.option_strings}
        assert options >= {
            *("--superlink", "--root-certificates", "--auth-supernode-private-key"),
            *("--trusted-entities", "--node-config", "--host", "--port"),
        }
