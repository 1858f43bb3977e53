"""A server ends without losing a call, keeps its port and takes up renewed certificates."""

import contextlib
import os
import shutil
import signal
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

from shared.errors import Code, EchoFedError
from shared.pb import models_pb2 as pb
from shared.pb import models_pb2_grpc as stubs
from shared.rpc.channel import open_channel
from shared.rpc.gate import Limits
from shared.rpc.peer import Credentials, expect_admitted, peer_of
from shared.rpc.server import Service, Watch, running_server, stop_signals
from shared.testing.hosting import StandIn, ask, hosting, refusal

NAME = "echofed.v1.ModelService"


def service_of(behaviour: Any) -> Service:
    return Service(
        pb.DESCRIPTOR.services_by_name["ModelService"],
        StandIn(behaviour),
        stubs.add_ModelServiceServicer_to_server,
        roles={"Fetch": frozenset({"site"})},
    )


def greet(request: pb.FetchRequest, context: Any) -> Any:
    yield pb.FetchReply(card=request.alias.encode())


def test_sigterm_lets_calls_under_way_finish_and_takes_no_more(
    passes: Mapping[str, Credentials],
) -> None:
    inside, codes, cards = threading.Event(), [], []

    def slowly(request: pb.FetchRequest, context: Any) -> Any:
        inside.set()
        time.sleep(0.5)
        yield pb.FetchReply(card=b"done")

    service = service_of(slowly)

    def call_and_stop(address: str) -> None:
        with open_channel(address, passes["site"]) as channel:
            early = threading.Thread(target=lambda: cards.extend(ask(channel, service, "Fetch")))
            early.start()
            inside.wait(5.0)
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.2)
            codes.append(refusal(channel, service, "Fetch"))
            early.join(5.0)

    before = signal.getsignal(signal.SIGTERM)
    limits = Limits(drain_s=5.0)
    with stop_signals() as stop, hosting(service, passes, limits=limits) as address:
        caller = threading.Thread(target=call_and_stop, args=(address,))
        caller.start()
        assert stop.wait(5.0)
    caller.join(5.0)
    assert [one.card for one in cards] == [b"done"]
    assert codes == [Code.CENTRE_UNREACHABLE]
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_call_that_does_not_end_is_broken_off_when_the_drain_is_over(
    passes: Mapping[str, Credentials],
) -> None:
    inside, codes = threading.Event(), []

    def forever(request: pb.FetchRequest, context: Any) -> Any:
        inside.set()
        while context.is_active():
            time.sleep(0.01)
        raise grpc.RpcError

    service = service_of(forever)
    with hosting(service, passes, limits=Limits(drain_s=0.2)) as address:

        def call() -> None:
            with open_channel(address, passes["site"]) as channel:
                codes.append(refusal(channel, service, "Fetch"))

        caller = threading.Thread(target=call)
        caller.start()
        assert inside.wait(5.0)
    caller.join(5.0)
    assert codes == [Code.CENTRE_UNREACHABLE]


def test_health_says_that_the_server_stops_before_it_does(
    passes: Mapping[str, Credentials],
) -> None:
    told: list[int] = []

    def watch(channel: Any, begun: threading.Event) -> None:
        request = health_pb2.HealthCheckRequest(service=NAME)
        states = health_pb2_grpc.HealthStub(channel).Watch(request, timeout=10.0)
        with contextlib.suppress(EchoFedError):  # the server goes
            for state in states:
                told.append(state.status)
                begun.set()

    begun = threading.Event()
    with hosting(service_of(greet), passes, limits=Limits(drain_s=0.2)) as address:
        channel = open_channel(address, passes["site"])
        watcher = threading.Thread(target=watch, args=(channel.__enter__(), begun))
        watcher.start()
        assert begun.wait(5.0)
    watcher.join(5.0)
    channel.__exit__(None, None, None)
    kinds = health_pb2.HealthCheckResponse
    assert told == [kinds.SERVING, kinds.NOT_SERVING]


def test_a_taken_port_is_not_shared(passes: Mapping[str, Credentials]) -> None:
    with hosting(service_of(greet), passes) as address:
        second = running_server(
            [],
            passes["server"],
            address=address,
            limits=Limits(),
            revoked_keys=tuple,
        )
        with pytest.raises(EchoFedError) as refused, second:
            pass
    assert refused.value.code is Code.CENTRE_UNREACHABLE


def test_a_renewed_certificate_is_shown_to_the_next_caller(
    tmp_path: Path, passes: Mapping[str, Credentials]
) -> None:
    ours = Credentials(passes["server"].ca, tmp_path / "server.pem", tmp_path / "server.key")
    for end in ("certificate", "key"):
        shutil.copy(getattr(passes["foreign"], end), getattr(ours, end))
    service = service_of(greet)
    with hosting(service, {**passes, "server": ours}) as address:
        with open_channel(address, passes["site"]) as channel:
            assert refusal(channel, service, "Fetch") is Code.CENTRE_UNREACHABLE
        for end in ("key", "certificate"):
            shutil.copy(getattr(passes["server"], end), getattr(ours, end))
        with open_channel(address, passes["site"]) as channel:
            assert ask(channel, service, "Fetch")[0].card == b""


@pytest.mark.parametrize("on", [False, True])
def test_reflection_is_there_only_where_it_was_asked_for(
    passes: Mapping[str, Credentials], on: bool
) -> None:
    with (
        running_server(
            [service_of(greet)],
            passes["server"],
            address="127.0.0.1:0",
            limits=Limits(),
            revoked_keys=tuple,
            watch=Watch(reflection=on),
        ) as port,
        open_channel(f"127.0.0.1:{port}", passes["site"]) as channel,
    ):
        database = ProtoReflectionDescriptorDatabase(channel)
        if on:
            found = DescriptorPool(database).FindServiceByName(NAME)
            assert list(found.methods_by_name) == ["Fetch"]
        else:
            with pytest.raises(EchoFedError) as refused:
                database.get_services()
            assert refused.value.code is Code.NAME_UNKNOWN


def test_a_service_that_is_not_hosted_is_named_so(passes: Mapping[str, Credentials]) -> None:
    service = service_of(greet)
    other = replace(service, add=lambda servicer, server: None)
    with hosting(other, passes) as address, open_channel(address, passes["site"]) as channel:
        assert refusal(channel, service, "Fetch") is Code.NAME_UNKNOWN


def test_a_method_without_roles_is_no_service() -> None:
    with pytest.raises(AssertionError, match="no roles"):
        replace(service_of(greet), roles={})


class Shown:
    """The context of a call over a connection that one certificate opened."""

    def __init__(self, *names: str, valid: timedelta = timedelta(days=1)) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        subject, now = x509.Name([]), datetime.now(UTC)
        builder = x509.CertificateBuilder(subject, subject, key.public_key(), 1)
        builder = builder.not_valid_before(now - timedelta(days=9)).not_valid_after(now + valid)
        if names:
            found = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
            builder = builder.add_extension(found, critical=False)
        signed = builder.sign(key, hashes.SHA256())
        self.pem = signed.public_bytes(serialization.Encoding.PEM)

    def auth_context(self) -> Mapping[str, list[bytes]]:
        return {"x509_pem_cert": [self.pem]}


def test_name_and_role_are_read_off_the_certificate() -> None:
    peer = peer_of(Shown("dr.lee.auditor"))
    assert (peer.name, peer.role) == ("dr.lee", "auditor")


@pytest.mark.parametrize(
    ("context", "code"),
    [
        (Shown(), Code.NODE_REFUSED),
        (Shown("north"), Code.NODE_REFUSED),
        (Shown("north.king"), Code.NODE_REFUSED),
        (Shown("north.site", "north.operator"), Code.NODE_REFUSED),
        (Shown("north.site", valid=-timedelta(days=1)), Code.CERTIFICATE_EXPIRED),
    ],
)
def test_a_certificate_without_one_role_or_run_out_is_refused(context: Shown, code: Code) -> None:
    with pytest.raises(EchoFedError) as refused:
        expect_admitted(context, revoked_keys=(), now=datetime.now(UTC))
    assert refused.value.code is code
