"""A header binds body and blobs to a site; an error travels as its number."""

import json

import pytest

from shared.errors import Code, EchoFedError
from shared.payload import Payload, read_payload, write_header, write_refusal


def test_a_payload_reads_back() -> None:
    payload = Payload({"a": [1, 2.5, None, "x"]}, {"weights": bytes(range(256))})
    assert read_payload(write_header(payload, site="north"), payload.blobs, site="north") == payload


@pytest.mark.parametrize("code", list(Code))
def test_a_refusal_carries_a_number_and_nothing_else(code: Code) -> None:
    header = write_refusal(code, site="north")
    assert json.loads(header) == {"format": 1, "site": "north", "error": int(code)}
    with pytest.raises(EchoFedError) as caught:
        read_payload(header, {}, site="north")
    assert caught.value.code is code


@pytest.mark.parametrize("number", [99999, "text", None, [1], -1])
def test_an_unknown_number_is_an_internal_error(number: object) -> None:
    header = json.dumps({"format": 1, "site": "north", "error": number})
    with pytest.raises(EchoFedError) as caught:
        read_payload(header, {}, site="north")
    assert caught.value.code is Code.INTERNAL


def test_a_message_is_for_one_site() -> None:
    with pytest.raises(EchoFedError) as caught:
        read_payload(write_header(Payload(), site="north"), {}, site="south")
    assert caught.value.code is Code.IDENTITY_MISMATCH


@pytest.mark.parametrize("blobs", [{}, {"w": b"abd"}, {"w": b"abc", "v": b""}, {"v": b"abc"}])
def test_a_blob_changed_on_the_way_is_seen(blobs: dict[str, bytes]) -> None:
    header = write_header(Payload({}, {"w": b"abc"}), site="north")
    with pytest.raises(EchoFedError) as caught:
        read_payload(header, blobs, site="north")
    assert caught.value.code is Code.WIRE_INVALID


@pytest.mark.parametrize("header", ["", "[]", "{}", '{"format": "1"}', '{"format": 2}', "\0"])
def test_a_header_that_cannot_be_read_is_refused(header: str) -> None:
    with pytest.raises(EchoFedError) as caught:
        read_payload(header, {}, site="north")
    assert caught.value.code is Code.WIRE_INVALID


def test_a_number_that_json_lacks_does_not_leave() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_header(Payload({"loss": float("nan")}), site="north")
