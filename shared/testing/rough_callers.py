"""What every service keeps to under callers who damage, break off or never finish their calls."""

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from functools import partial

import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from shared.errors import Code
from shared.rpc.channel import open_channel
from shared.rpc.peer import Credentials
from shared.rpc.server import Service
from shared.testing.fuzz import Fuzzer
from shared.testing.hosting import (
    LIMITS,
    BadRequest,
    StandIn,
    bare_channel,
    first_role,
    hosting,
    read_everything,
    refusal,
)
from shared.testing.memory import expect_steady_memory
from shared.testing.trickle import begun_request

_CALLS_A_CHANNEL = 20
_PATIENCE_S = 30.0


class RoughCallers:
    """A part of ``ServiceContract``, by the same fixtures."""

    def test_a_request_that_is_never_finished_frees_its_place_at_the_deadline(
        self, service: Service, passes: Mapping[str, Credentials]
    ) -> None:
        reads_all = replace(service, servicer=StandIn(read_everything))
        with hosting(reads_all, passes) as address:
            for method in service.roles:
                caller, name = passes[first_role(service, method)], f"/{service.name}/{method}"
                with open_channel(address, caller) as channel:
                    call = partial(refusal, channel, reads_all, method)
                    _expect_held(partial(begun_request, address, caller, name), call)
                    _wait_for(Code.NOTHING_TO_DO, call)
                    with begun_request(address, caller, name, timeout_ms=300):
                        time.sleep(0.3)
                        _wait_for(Code.NOTHING_TO_DO, call)

    def test_requests_without_a_deadline_that_are_never_finished_hold_nothing(
        self, service: Service, passes: Mapping[str, Credentials]
    ) -> None:
        method = next(iter(service.roles))
        caller, name = passes[first_role(service, method)], f"/{service.name}/{method}"
        reads_all = replace(service, servicer=StandIn(read_everything))
        with hosting(reads_all, passes) as address, ExitStack() as stack:
            for _ in range(LIMITS.num_calls + 8):  # more than there are threads
                stack.enter_context(begun_request(address, caller, name, timeout_ms=None))
            channel = stack.enter_context(open_channel(address, caller))
            _wait_for(Code.NOTHING_TO_DO, partial(refusal, channel, reads_all, method))

    def test_no_bad_call_brings_a_service_down(
        self,
        service: Service,
        passes: Mapping[str, Credentials],
        bad_requests: Sequence[BadRequest],
        seed: int,
    ) -> None:
        for _ in _bad_calls(service, passes, bad_requests, seed=seed, count=200):
            pass

    @pytest.mark.slow
    def test_two_thousand_bad_calls_take_no_memory(
        self,
        service: Service,
        passes: Mapping[str, Credentials],
        bad_requests: Sequence[BadRequest],
        seed: int,
    ) -> None:
        calls = _bad_calls(service, passes, bad_requests, seed=seed + 1, count=2000)
        expect_steady_memory(calls, first=500)


def _bad_calls(
    service: Service,
    passes: Mapping[str, Credentials],
    bad_requests: Sequence[BadRequest],
    *,
    seed: int,
    count: int,
) -> Iterator[None]:
    """Make bad calls of all methods; each must be answered, and by no incident."""
    generator = random.Random(seed)
    fuzzer = Fuzzer(service, [(method, one) for method, one, _ in bad_requests], generator)
    limits = replace(LIMITS, num_calls=8, num_per_caller=8)
    methods = list(service.roles)
    with hosting(service, passes, limits=limits) as address:
        for first in range(0, count, _CALLS_A_CHANNEL):
            method = methods[first // _CALLS_A_CHANNEL % len(methods)]
            with bare_channel(address, passes[first_role(service, method)]) as channel:
                for place in range(first, min(first + _CALLS_A_CHANNEL, count)):
                    code = fuzzer.call(channel, method)
                    assert code not in (Code.INTERNAL, Code.NAME_UNKNOWN), f"call {place}"
                    yield
        with open_channel(address, passes["site"]) as channel:
            state = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
            assert state.status == health_pb2.HealthCheckResponse.SERVING


def _expect_held(
    begin: Callable[..., AbstractContextManager[object]], call: Callable[[], Code]
) -> None:
    """Check that a caller whose only place is held is sent away.

    Args:
        begin: holds it, unless a call of before is still there; so it is tried again.
        call: calls, and tells the code.
    """
    give_up = time.monotonic() + _PATIENCE_S
    while time.monotonic() < give_up:
        with begin(timeout_ms=60_000):
            for _ in range(20):
                if call() is Code.SERVICE_BUSY:
                    return
                time.sleep(0.02)
    raise AssertionError("the place was never held")


def _wait_for(code: Code, call: Callable[[], Code]) -> None:
    give_up = time.monotonic() + _PATIENCE_S
    while call() is not code:
        assert time.monotonic() < give_up
        time.sleep(0.02)
