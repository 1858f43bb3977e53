"""A scrape over HTTP tells what was called, by which role and how it ended, and nobody's name."""

import socket
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from shared.errors import Code, EchoFedError
from shared.pb import models_pb2 as pb
from shared.pb import models_pb2_grpc as stubs
from shared.rpc.channel import Channel, open_channel
from shared.rpc.gate import Limits
from shared.rpc.metrics import CallMetrics, running_metrics
from shared.rpc.peer import Credentials
from shared.rpc.server import Service, Watch, running_server
from shared.rpc.worker import Statistics
from shared.testing.hosting import StandIn, ask, refusal

METHOD = "echofed.v1.ModelService/Fetch"
CARD = b"card" * 100


def answer(request: pb.FetchRequest, context: Any) -> Iterator[pb.FetchReply]:
    if request.alias == "none":
        raise EchoFedError(Code.MODEL_UNKNOWN, "no such model")
    if request.alias == "endless":
        while True:
            yield pb.FetchReply(card=CARD)
    yield pb.FetchReply(card=CARD)


SERVICE = Service(
    pb.DESCRIPTOR.services_by_name["ModelService"],
    StandIn(answer),
    stubs.add_ModelServiceServicer_to_server,
    roles={"Fetch": frozenset({"site"})},
)


class Host:
    """A host whose numbers are scraped as Prometheus does."""

    def __init__(self, metrics: CallMetrics, address: str, port: int) -> None:
        self.metrics = metrics
        self.address = address
        self.port = port

    def page(self) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=10) as reply:
            return str(reply.read().decode())

    def values(self) -> dict[tuple[str, ...], float]:
        """Values by name and the values of their labels."""
        return {
            (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(self.page())
            for sample in family.samples
        }

    def wait_for(self, *key: str, value: float = 1.0) -> None:
        """A call is counted when its thread ends, a little after the caller has the answer."""
        give_up = time.monotonic() + 20.0
        while self.values().get(key, 0.0) != value:
            assert time.monotonic() < give_up, self.page()
            time.sleep(0.02)


@pytest.fixture
def host(passes: Mapping[str, Credentials]) -> Iterator[Host]:
    metrics = CallMetrics()
    with (
        running_server(
            [SERVICE],
            passes["server"],
            address="127.0.0.1:0",
            limits=Limits(),
            revoked_keys=tuple,
            watch=Watch(metrics=metrics),
        ) as port,
        running_metrics(metrics, port=0) as metrics_port,
    ):
        yield Host(metrics, f"127.0.0.1:{port}", metrics_port)


@pytest.fixture
def channel(host: Host, passes: Mapping[str, Credentials]) -> Iterator[Channel]:
    with open_channel(host.address, passes["site"]) as opened:
        yield opened


def test_answers_and_refusals_are_told_apart(
    host: Host, channel: Channel, passes: Mapping[str, Credentials]
) -> None:
    request = pb.FetchRequest(alias="serving")
    for _ in range(3):
        ask(channel, SERVICE, "Fetch", request)
    assert refusal(channel, SERVICE, "Fetch", pb.FetchRequest(alias="none")) is Code.MODEL_UNKNOWN
    assert refusal(channel, SERVICE, "Fetch", b"\xff" * 9) is Code.WIRE_INVALID
    with open_channel(host.address, passes["auditor"]) as other:
        assert refusal(other, SERVICE, "Fetch", request) is Code.ROLE_REFUSED
    host.wait_for("echofed_calls_total", METHOD, "site", "OK", value=3.0)
    host.wait_for("echofed_calls_total", METHOD, "site", "NOT_FOUND")
    host.wait_for("echofed_calls_total", METHOD, "site", "INVALID_ARGUMENT")
    host.wait_for("echofed_calls_total", METHOD, "auditor", "PERMISSION_DENIED")
    values = host.values()
    refused = {key[1]: value for key, value in values.items() if key[0] == "echofed_refused_total"}
    assert refused == {"MODEL_UNKNOWN": 1.0, "WIRE_INVALID": 1.0, "ROLE_REFUSED": 1.0}
    assert values["echofed_call_seconds_count", METHOD] == 6.0
    assert values["echofed_calls_under_way", METHOD] == 0.0


def test_bytes_are_those_of_the_messages(host: Host, channel: Channel) -> None:
    request = pb.FetchRequest(alias="serving")
    ask(channel, SERVICE, "Fetch", request)
    host.wait_for("echofed_calls_total", METHOD, "site", "OK")
    values = host.values()
    assert values["echofed_received_bytes_total", METHOD] == request.ByteSize()
    assert values["echofed_sent_bytes_total", METHOD] == pb.FetchReply(card=CARD).ByteSize()


def test_a_call_under_way_shows_and_ends_as_cancelled_when_the_caller_leaves(
    host: Host, channel: Channel
) -> None:
    replies = stubs.ModelServiceStub(channel).Fetch(pb.FetchRequest(alias="endless"))
    next(replies)
    host.wait_for("echofed_calls_under_way", METHOD)
    replies.close()
    host.wait_for("echofed_calls_under_way", METHOD, value=0.0)
    host.wait_for("echofed_calls_total", METHOD, "site", "CANCELLED")


def test_nobody_is_named(host: Host, channel: Channel) -> None:
    ask(channel, SERVICE, "Fetch", pb.FetchRequest(alias="serving"))
    host.wait_for("echofed_calls_total", METHOD, "site", "OK")
    assert "the-site" not in host.page()
    assert "serving" not in host.page()


def test_a_worker_is_asked_at_every_scrape(host: Host) -> None:
    restarts = iter(range(100))

    def read() -> dict[str, Statistics]:
        return {"masks": Statistics(5, 40, 8, num_restarts=next(restarts), num_waiting=3)}

    host.metrics.watch_workers(read)
    for expected in (0.0, 1.0):
        values = {key[0]: value for key, value in host.values().items() if "_worker_" in key[0]}
        assert values == {
            "echofed_worker_waiting": 3.0,
            "echofed_worker_requests_total": 5.0,
            "echofed_worker_rows_total": 40.0,
            "echofed_worker_batches_total": 8.0,
            "echofed_worker_restarts_total": expected,
        }


def test_two_hosts_in_one_process_count_apart() -> None:
    one, other = CallMetrics(), CallMetrics()
    one.received("a", 5)
    assert other.registry.get_sample_value("echofed_received_bytes_total", {"method": "a"}) is None


def test_calls_of_many_threads_are_all_counted() -> None:
    metrics = CallMetrics()

    def call() -> None:
        for _ in range(200):
            with metrics.counting("a"):
                metrics.sent("a", 2)

    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    read = metrics.registry.get_sample_value
    assert read("echofed_sent_bytes_total", {"method": "a"}) == 1600.0
    assert read("echofed_call_seconds_count", {"method": "a"}) == 800.0


def test_a_taken_port_is_told(host: Host) -> None:
    with pytest.raises(EchoFedError) as refused, running_metrics(CallMetrics(), port=host.port):
        pass
    assert refused.value.code is Code.CENTRE_UNREACHABLE


def test_only_this_machine_can_ask() -> None:
    with running_metrics(CallMetrics(), port=0) as port, socket.socket() as other:
        other.bind(("127.0.0.2", port))  # free, for the server has 127.0.0.1 alone
