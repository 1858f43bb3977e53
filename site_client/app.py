"""The site's Flower app: one message, one call; whatever goes wrong leaves as a number.

An exception inside a Flower handler would travel to the centre with its class and text, and a text
of ours may name a patient's file. Nothing here lets one through.
"""

import logging
from collections.abc import Callable
from pathlib import Path

from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from shared.errors import Code, EchoFedError
from shared.payload import Payload, read_payload, write_header, write_refusal
from shared.registry import Registry

log = logging.getLogger(__name__)

Handler = Callable[[Path, Payload], Payload]

HANDLERS: Registry[Handler] = Registry(
    "request",
    {
        "query.presence": "site_client.presence:answer",
        "query.describe": "site_client.rounds.describe:answer",
        "query.experts": "site_client.rounds.experts:answer",
        "query.features": "site_client.rounds.features:answer",
        "evaluate.fusion": "site_client.rounds.evaluate:answer",
        "query.deliver": "site_client.rounds.deliver:answer",
        "query.annotations": "site_client.rounds.annotations:answer",
        "train.segmenter": "site_client.rounds.average:train",
        "evaluate.segmenter": "site_client.rounds.average:evaluate",
    },
)
"""Message type -> plain function of the site's settings file and the request."""

_HEADER = "header"
_BLOBS = "blobs"
_BYTES = "echofed.bytes"

app = ClientApp()


def answer(message: Message, context: Context) -> Message:
    """Answer one message of the centre.

    The node configuration holds ``site`` (site code) and ``config`` (path of ``site.yaml``); the
    centre sees neither.
    """
    site = str(context.node_config["site"])
    try:
        payload = _call(message, Path(str(context.node_config["config"])), site)
        records = _to_records(write_header(payload, site=site), payload)
    except EchoFedError as error:
        log.error("%s refused: %s", message.metadata.message_type, error)
        records = _to_records(write_refusal(error.code, site=site), Payload())
    except Exception:
        log.exception("%s failed", message.metadata.message_type)
        records = _to_records(write_refusal(Code.INTERNAL, site=site), Payload())
    return Message(records, reply_to=message)


def _call(message: Message, config: Path, site: str) -> Payload:
    records = message.content
    if set(records.keys()) != {_HEADER, _BLOBS}:
        raise EchoFedError(Code.WIRE_INVALID, "a request has other records than it should")
    header, blobs = records[_HEADER], records[_BLOBS]
    if not isinstance(header, ConfigRecord) or not isinstance(blobs, ArrayRecord):
        raise EchoFedError(Code.WIRE_INVALID, "a request has records of the wrong kind")
    request = read_payload(
        str(header.get("json", "")), {name: array.data for name, array in blobs.items()}, site=site
    )
    return HANDLERS[message.metadata.message_type](config, request)


def _to_records(header: str, payload: Payload) -> RecordDict:
    arrays = {
        name: Array("uint8", (len(blob),), _BYTES, blob) for name, blob in payload.blobs.items()
    }
    return RecordDict({_HEADER: ConfigRecord({"json": header}), _BLOBS: ArrayRecord(arrays)})


for _name in HANDLERS.names():
    _category, _action = _name.split(".")
    getattr(app, _category)(_action)(answer)
