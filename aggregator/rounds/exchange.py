"""One request to each site and its reply: the only place where rounds meet Flower's messages."""

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid

from shared.errors import Code, EchoFedError
from shared.payload import Payload, read_payload, write_header

log = logging.getLogger(__name__)

POLL_S = 1.0
_HEADER = "header"
_BLOBS = "blobs"
_BYTES = "echofed.bytes"  # serialisation type of our arrays: the data is the blob itself
# Flower's error codes that have a meaning of ours; all others are faults inside the site's app.
_FLOWER_CODES = {
    3: Code.SITE_UNREACHABLE,  # expired, or its upload ended half-way: the site was lost
    4: Code.SITE_UNREACHABLE,  # the reply expired
    5: Code.SITE_UNREACHABLE,
    7: Code.BUNDLE_UNAPPROVED,
}


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a site gave no usable reply.

    Args:
        code: SITE_UNREACHABLE (absent or late), BUNDLE_UNAPPROVED, DUPLICATE_REPLY,
            IDENTITY_MISMATCH, WIRE_INVALID, or what the site reported by number.
        message: for the operator; never a text that the site wrote.
    """

    code: Code
    message: str


Outcome = Payload | Failure


def ask(
    grid: Grid,
    message_type: str,
    per_site: Mapping[str, Payload],
    *,
    timeout_s: float,
    on_reply: Callable[[str, Outcome], None] | None = None,
) -> dict[str, Outcome]:
    """Send one request to each site and collect the replies.

    Args:
        grid: Flower's grid of the running ServerApp.
        message_type: ``query.<action>``, ``train.<action>`` or ``evaluate.<action>``.
        per_site: site code -> request.
        timeout_s: seconds after which a missing reply is a SITE_UNREACHABLE; the message dies with
            it.
        on_reply: called for each site as soon as its outcome is known, so that a round can store
            what has arrived before the slowest site answers.

    Returns:
        An outcome for every site asked: its Payload, or a Failure that says why there is none.
    """
    outcomes: dict[str, Outcome] = {}

    def settle(site: str, outcome: Outcome) -> None:
        outcomes[site] = outcome
        if on_reply is not None:
            on_reply(site, outcome)

    nodes = online_sites(grid)
    for site in per_site.keys() - nodes.keys():
        settle(site, Failure(Code.SITE_UNREACHABLE, f"site {site!r} is not connected"))
    asked = {site: nodes[site] for site in per_site if site in nodes}
    waiting = _send(grid, message_type, {site: per_site[site] for site in asked}, asked, timeout_s)
    deadline = time.monotonic() + timeout_s
    while waiting and time.monotonic() < deadline:
        for site, outcome in _collect(grid, waiting, asked).items():
            settle(site, outcome)
        waiting = {message: site for message, site in waiting.items() if site not in outcomes}
        if waiting:
            time.sleep(POLL_S)
    for site in waiting.values():
        settle(
            site,
            Failure(
                Code.SITE_UNREACHABLE, f"site {site!r} did not answer within {timeout_s:.0f} s"
            ),
        )
    return outcomes


def online_sites(grid: Grid) -> dict[str, int]:
    """Site code -> node id of every node that is connected now, by its registered name."""
    return {node.name: node.node_id for node in grid.get_nodes() if node.name}


def _send(
    grid: Grid,
    message_type: str,
    requests: Mapping[str, Payload],
    nodes: Mapping[str, int],
    timeout_s: float,
) -> dict[str, str]:
    """Push one message per site, one by one so that no request grows with the number of sites.

    Returns:
        Message id -> site.
    """
    waiting: dict[str, str] = {}
    for site, payload in requests.items():
        content = to_records(write_header(payload, site=site), payload.blobs)
        message = Message(content, nodes[site], message_type, ttl=timeout_s)
        for message_id in grid.push_messages([message]):
            waiting[message_id] = site
    return waiting


def _collect(
    grid: Grid, waiting: Mapping[str, str], nodes: Mapping[str, int]
) -> dict[str, Outcome]:
    replies: dict[str, list[Message]] = {}
    for reply in grid.pull_messages(list(waiting)):
        site = waiting.get(reply.metadata.reply_to_message_id)
        if site is None:
            log.warning("dropped a reply to a message that nobody sent")
            continue
        replies.setdefault(site, []).append(reply)
    return {site: _read(found, site, nodes[site]) for site, found in replies.items()}


def _read(replies: list[Message], site: str, node_id: int) -> Outcome:
    if len(replies) > 1:
        return Failure(
            Code.DUPLICATE_REPLY, f"site {site!r} answered {len(replies)} times; none is used"
        )
    reply = replies[0]
    if reply.has_error():
        code = _FLOWER_CODES.get(reply.error.code, Code.INTERNAL)
        return Failure(code, f"site {site!r}: Flower error {reply.error.code}")
    if reply.metadata.src_node_id != node_id:
        return Failure(Code.IDENTITY_MISMATCH, f"the reply of site {site!r} came from another node")
    try:
        return read_payload(*from_records(reply.content), site=site)
    except EchoFedError as error:
        return Failure(error.code, error.message)


def to_records(header: str, blobs: Mapping[str, bytes]) -> RecordDict:
    """Header and blobs as Flower records; a blob is an array, because arrays travel in chunks."""
    arrays = {name: Array("uint8", (len(blob),), _BYTES, blob) for name, blob in blobs.items()}
    return RecordDict({_HEADER: ConfigRecord({"json": header}), _BLOBS: ArrayRecord(arrays)})


def from_records(records: RecordDict) -> tuple[str, dict[str, bytes]]:
    """Header and blobs of a message.

    Raises:
        EchoFedError: WIRE_INVALID where a record is missing or one too many.
    """
    _expect_records(records.keys())
    header, blobs = records[_HEADER], records[_BLOBS]
    if not isinstance(header, ConfigRecord) or not isinstance(blobs, ArrayRecord):
        raise EchoFedError(
            Code.WIRE_INVALID, "a message has records of the wrong kind", "ask for it again"
        )
    return str(header.get("json", "")), {name: array.data for name, array in blobs.items()}


def _expect_records(names: Iterable[str]) -> None:
    if set(names) != {_HEADER, _BLOBS}:
        raise EchoFedError(
            Code.WIRE_INVALID, "a message has other records than it should", "ask for it again"
        )
