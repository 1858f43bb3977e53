"""Every code has a status, and what gRPC says by itself becomes one of ours."""

from dataclasses import dataclass

import grpc
import pytest

from shared.errors import Code, EchoFedError
from shared.rpc.translate import CODE_KEY, STATUS, error_of, refusal_of


@dataclass
class Call(grpc.RpcError):
    """A failed call as a stub raises it."""

    status: grpc.StatusCode
    text: str = ""
    trailers: tuple[tuple[str, str | bytes], ...] = ()

    def code(self) -> grpc.StatusCode:
        return self.status

    def details(self) -> str:
        return self.text

    def trailing_metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        return self.trailers


def test_every_code_has_a_status_that_is_no_success() -> None:
    assert set(STATUS) == set(Code)
    assert grpc.StatusCode.OK not in STATUS.values()


@pytest.mark.parametrize("code", list(Code))
def test_an_error_comes_back_as_it_was(code: Code) -> None:
    error = EchoFedError(code, "größer", "→ kleiner")
    told = refusal_of(error)
    back = error_of(Call(told.status, told.details, told.trailers))
    assert (back.code, back.message, back.hint) == (code, "größer", "→ kleiner")


def test_a_long_error_is_cut_to_what_a_trailer_holds() -> None:
    told = refusal_of(EchoFedError(Code.WIRE_INVALID, "m" * 10_000, "ü" * 10_000))
    assert len(told.details) + sum(len(value) for _, value in told.trailers) < 4096


def test_two_incidents_have_two_numbers_and_no_text() -> None:
    told = [refusal_of(ValueError("Mueller")) for _ in range(2)]
    assert told[0].details != told[1].details
    assert "Mueller" not in str(told)


def test_a_code_of_a_newer_release_is_an_internal_error_with_the_way_out() -> None:
    error = error_of(Call(grpc.StatusCode.NOT_FOUND, "no such moon", ((CODE_KEY, "255"),)))
    assert (error.code, "update" in error.hint) == (Code.INTERNAL, True)


@pytest.mark.parametrize("status", [one for one in grpc.StatusCode if one.value[0]])
def test_whatever_grpc_says_has_a_code_and_a_way_out(status: grpc.StatusCode) -> None:
    assert error_of(Call(status, "text of a library")).hint


@pytest.mark.parametrize(
    ("status", "text", "code"),
    [
        ("RESOURCE_EXHAUSTED", "SERVER: Received message larger than max (5 vs. 4)", 93),
        ("RESOURCE_EXHAUSTED", "Concurrent RPC limit exceeded!", 90),
        ("UNAVAILABLE", "failed to connect", 64),
        ("DEADLINE_EXCEEDED", "Deadline Exceeded", 91),
        ("UNIMPLEMENTED", "Method not found!", 13),
        ("UNKNOWN", "Exception calling application: /data/Mueller.dcm", 1),
    ],
)
def test_what_grpc_says_by_itself(status: str, text: str, code: int) -> None:
    error = error_of(Call(grpc.StatusCode[status], text))
    assert (error.code, "Mueller" in str(error)) == (Code(code), False)
