"""What every service keeps to: a suite that the tests of a service inherit."""

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from grpc_health.v1 import health_pb2, health_pb2_grpc

from shared.errors import Code, EchoFedError
from shared.rpc.channel import Channel, open_channel
from shared.rpc.deadline import expect_wanted
from shared.rpc.peer import ROLES, Credentials
from shared.rpc.server import Service
from shared.rpc.translate import error_of
from shared.testing.hosting import (
    LIMITS,
    BadRequest,
    StandIn,
    ask,
    bare_channel,
    first_role,
    hosting,
    read_everything,
    refusal,
)
from shared.testing.rough_callers import RoughCallers

SECRET = "studies/MUELLER^HANS/1.dcm"


class ServiceContract(RoughCallers):
    """Inherit, and give ``service``, ``bad_requests`` and ``passes`` as fixtures.

    ``bad_requests`` names a method, a request and the code that refuses it. ``passes`` are the
    credentials ``server``, ``foreign`` (of another authority) and one for each role.
    """

    def test_health_is_told_for_the_service_and_for_all(
        self, service: Service, passes: Mapping[str, Credentials]
    ) -> None:
        with hosting(service, passes) as address, open_channel(address, passes["site"]) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            for name in ("", service.name):
                state = stub.Check(health_pb2.HealthCheckRequest(service=name))
                assert state.status == health_pb2.HealthCheckResponse.SERVING

    def test_a_bad_request_is_refused_by_its_code(
        self,
        service: Service,
        passes: Mapping[str, Credentials],
        bad_requests: Sequence[BadRequest],
    ) -> None:
        with hosting(service, passes) as address:
            for method, message, code in bad_requests:
                with open_channel(address, passes[first_role(service, method)]) as channel:
                    assert refusal(channel, service, method, message) is code

    def test_another_role_is_refused(
        self, service: Service, passes: Mapping[str, Credentials]
    ) -> None:
        with hosting(service, passes) as address:
            for role in ROLES:
                with open_channel(address, passes[role]) as channel:
                    for method, allowed in service.roles.items():
                        if role not in allowed:
                            assert refusal(channel, service, method) is Code.ROLE_REFUSED

    @pytest.mark.parametrize("who", ["foreign", "server"])
    def test_a_certificate_that_is_no_callers_reaches_nothing(
        self, service: Service, passes: Mapping[str, Credentials], who: str
    ) -> None:
        shown = replace(passes[who], ca=passes["site"].ca)
        with hosting(service, passes) as address, open_channel(address, shown) as channel:
            for method in service.roles:
                assert refusal(channel, service, method) is Code.CENTRE_UNREACHABLE

    def test_without_a_certificate_nothing_is_reached(
        self, service: Service, passes: Mapping[str, Credentials]
    ) -> None:
        bare = grpc.ssl_channel_credentials(root_certificates=passes["site"].ca.read_bytes())
        with hosting(service, passes) as address, grpc.secure_channel(address, bare) as inner:
            for method in service.roles:
                channel = Channel(inner, deadline_s=10.0)
                assert refusal(channel, service, method) is Code.CENTRE_UNREACHABLE

    def test_a_revoked_key_is_refused(
        self, service: Service, passes: Mapping[str, Credentials]
    ) -> None:
        with (
            hosting(service, passes, revoked_keys=[_key_of(passes["site"])]) as address,
            open_channel(address, passes["site"]) as channel,
        ):
            for method in service.roles:
                assert refusal(channel, service, method) is Code.NODE_REFUSED

    @pytest.mark.parametrize("timeout", [None, 1000.0])
    def test_a_call_must_name_a_deadline(
        self, service: Service, passes: Mapping[str, Credentials], timeout: float | None
    ) -> None:
        with hosting(service, passes) as address:
            for method in service.roles:
                with bare_channel(address, passes[first_role(service, method)]) as inner:
                    with pytest.raises(grpc.RpcError) as refused:
                        ask(inner, service, method, timeout=timeout)
                    error = error_of(refused.value)
                    assert (error.code, "name a deadline" in error.message) == (
                        Code.DEADLINE_EXCEEDED,
                        True,
                    )

    def test_the_deadline_ends_the_work(
        self, service: Service, passes: Mapping[str, Credentials]
    ) -> None:
        ended = threading.Event()

        def work(_: Any, context: Any) -> Any:
            try:
                while True:
                    expect_wanted(context)
                    time.sleep(0.01)
            finally:
                ended.set()

        slow = replace(service, servicer=StandIn(work))
        with hosting(slow, passes) as address:
            for method in service.roles:
                ended.clear()
                with open_channel(address, passes[first_role(service, method)]) as channel:
                    code = refusal(channel, service, method, timeout=0.2)
                assert code is Code.DEADLINE_EXCEEDED
                assert ended.wait(2.0), method

    def test_too_long_a_message_is_refused(
        self, service: Service, passes: Mapping[str, Credentials]
    ) -> None:
        long = bytes(LIMITS.message_bytes + 1)
        with hosting(service, passes) as address:
            for method in service.roles:
                with open_channel(address, passes[first_role(service, method)]) as channel:
                    assert refusal(channel, service, method, long) is Code.REQUEST_TOO_LARGE

    def test_a_damaged_message_is_refused(
        self, service: Service, passes: Mapping[str, Credentials]
    ) -> None:
        reads_all = replace(service, servicer=StandIn(read_everything))
        with hosting(reads_all, passes) as address:
            for method in service.roles:
                with open_channel(address, passes[first_role(service, method)]) as channel:
                    code = refusal(channel, service, method, b"\xff" * 40)
                assert code is Code.WIRE_INVALID

    def test_every_error_arrives_as_it_was_raised(
        self, service: Service, passes: Mapping[str, Credentials]
    ) -> None:
        raised: list[EchoFedError] = []

        def fail(_: Any, __: Any) -> Any:
            raise raised[-1]

        failing = replace(service, servicer=StandIn(fail))
        with hosting(failing, passes) as address:
            for method in service.roles:
                with open_channel(address, passes[first_role(service, method)]) as channel:
                    for code in Code:
                        raised.append(EchoFedError(code, f"größer als {code}", "→ kleiner"))
                        with pytest.raises(EchoFedError) as told:
                            ask(channel, service, method)
                        assert str(told.value) == str(raised[-1])

    def test_the_text_of_a_bug_stays_with_the_host(
        self,
        service: Service,
        passes: Mapping[str, Credentials],
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        def stumble(_: Any, __: Any) -> Any:
            raise FileNotFoundError(SECRET)

        stumbling = replace(service, servicer=StandIn(stumble))
        with caplog.at_level(logging.ERROR), hosting(stumbling, passes) as address:
            for method in service.roles:
                with bare_channel(address, passes[first_role(service, method)]) as inner:
                    with pytest.raises(grpc.RpcError) as refused:
                        ask(inner, service, method)
                    call = refused.value
                    everything = f"{call} {call.trailing_metadata()} {call.debug_error_string()}"
                    assert "MUELLER" not in everything
                    incident = error_of(call).message.rpartition(" ")[2]
                    assert call.code() is grpc.StatusCode.INTERNAL
                    assert f"incident {incident}" in caplog.messages

    def test_a_caller_with_all_its_places_taken_is_sent_away(
        self, service: Service, passes: Mapping[str, Credentials]
    ) -> None:
        method = next(iter(service.roles))
        inside, leave = threading.Event(), threading.Event()

        def stay(_: Any, __: Any) -> Any:
            inside.set()
            leave.wait(5.0)
            raise EchoFedError(Code.NOTHING_TO_DO, "stayed")

        staying = replace(service, servicer=StandIn(stay))
        with (
            hosting(staying, passes) as address,
            open_channel(address, passes[first_role(service, method)]) as channel,
        ):
            codes: list[Code] = []
            first = threading.Thread(target=lambda: codes.append(refusal(channel, service, method)))
            first.start()
            assert inside.wait(5.0)
            assert refusal(channel, service, method) is Code.SERVICE_BUSY
            leave.set()
            first.join(5.0)
            assert codes == [Code.NOTHING_TO_DO]
            assert refusal(channel, service, method) is Code.NOTHING_TO_DO


def _key_of(credentials: Credentials) -> str:
    key = x509.load_pem_x509_certificate(credentials.certificate.read_bytes()).public_key()
    line = key.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return line.decode()
