"""Whatever happens at a site, what leaves in its place is a number."""

import json
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
from flwr.app import ConfigRecord, Context, Message, Metadata, RecordDict
from flwr.app.message import make_message

from shared.errors import Code
from shared.payload import Payload, write_header
from shared.testing.leaks import find_words
from site_client.app import HANDLERS, app
from site_client.app import _to_records as to_records

NAME = "Muster_Anna"
EMPTY = Payload()


def send(message_type: str, records: RecordDict, config: Path) -> Message:
    metadata = Metadata(
        run_id=5,
        message_id="m1",
        src_node_id=1,
        dst_node_id=7,
        reply_to_message_id="",
        group_id="",
        created_at=time.time(),
        ttl=60.0,
        message_type=message_type,
    )
    node_config: Mapping[str, str] = {"site": "north", "config": str(config)}
    context = Context(5, 7, dict(node_config), RecordDict(), {})
    return app(make_message(metadata, records), context)


def request(payload: Payload = EMPTY, *, site: str = "north") -> RecordDict:
    return to_records(write_header(payload, site=site), payload)


def header_of(reply: Message) -> dict[str, object]:
    assert reply.has_content()
    assert set(reply.content.keys()) == {"header", "blobs"}
    assert set(reply.content["header"].keys()) == {"json"}
    document = json.loads(reply.content["header"]["json"])
    assert isinstance(document, dict)
    return document


@pytest.mark.parametrize("message_type", sorted(HANDLERS.names()))
def test_every_request_has_a_function_at_its_name(message_type: str) -> None:
    assert callable(HANDLERS[message_type])


def test_a_roll_call_is_answered(tmp_path: Path) -> None:
    reply = send("query.presence", request(Payload({}, {"t": b"abc"})), tmp_path / "site.yaml")
    document = header_of(reply)
    assert document["site"] == "north"
    assert document["blobs"] == {}


@pytest.mark.parametrize("message_type", sorted(set(HANDLERS.names()) - {"query.presence"}))
def test_a_failure_leaves_as_a_number_without_its_text(message_type: str, tmp_path: Path) -> None:
    config = tmp_path / NAME / f"{NAME}.yaml"  # there is no such file, and the error says which
    reply = send(message_type, request(), config)
    document = header_of(reply)
    assert document.keys() == {"format", "site", "error"}
    assert document["error"] in list(Code)
    parts = [reply.deflate(), reply.content["header"].deflate(), reply.content["blobs"].deflate()]
    assert not find_words(b"".join(parts), [NAME, "Traceback", "exception", "yaml"])


@pytest.mark.parametrize(
    ("records", "code"),
    [
        (RecordDict(), Code.WIRE_INVALID),
        (RecordDict({"header": ConfigRecord({"json": "{}"})}), Code.WIRE_INVALID),
        (request(site="south"), Code.IDENTITY_MISMATCH),
        (to_records('{"format": 2, "site": "north"}', Payload()), Code.WIRE_INVALID),
        (to_records("", Payload()), Code.WIRE_INVALID),
    ],
)
def test_a_damaged_request_is_refused_by_number(
    records: RecordDict, code: Code, tmp_path: Path
) -> None:
    document = header_of(send("query.presence", records, tmp_path / "site.yaml"))
    assert document == {"format": 1, "site": "north", "error": int(code)}
