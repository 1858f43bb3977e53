"""One request, one reply of the right site, or a named reason why not."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import pytest
from flwr.app import ConfigRecord, Error, Message, RecordDict
from flwr.proto.node_pb2 import NodeInfo
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

from aggregator.rounds.exchange import Failure, ask, from_records, to_records
from shared.errors import Code
from shared.payload import Payload, read_payload, write_header, write_refusal

Reply = Callable[[Message], Iterable[Message]]


@dataclass
class DeskGrid(Grid):
    """A grid within this process: every node answers by a function, as late as it likes."""

    nodes: dict[str, int]
    answers: dict[int, Reply] = field(default_factory=dict)
    posted: dict[str, Message] = field(default_factory=dict)
    ready: list[Message] = field(default_factory=list)

    def set_run(self, run: Run) -> None:
        raise NotImplementedError

    @property
    def run(self) -> Run:
        raise NotImplementedError

    def create_message(self, *args: object, **kwargs: object) -> Message:
        raise NotImplementedError

    def get_node_ids(self) -> Iterable[int]:
        return list(self.nodes.values())

    def get_nodes(self) -> Iterable[NodeInfo]:
        return [NodeInfo(node_id=node, name=name) for name, node in self.nodes.items()]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        ids = []
        for message in messages:
            message.metadata.__dict__["_message_id"] = message.object_id
            ids.append(message.metadata.message_id)
            self.posted[message.metadata.message_id] = message
            answer = self.answers.get(message.metadata.dst_node_id)
            self.ready.extend(answer(message) if answer else ())
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        wanted = set(message_ids)
        found = [one for one in self.ready if one.metadata.reply_to_message_id in wanted]
        self.ready = [one for one in self.ready if one not in found]
        return found

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        raise NotImplementedError


@pytest.fixture(autouse=True)
def task() -> Iterator[None]:
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 1, 1
    return


def answer_as(site: str, payload: Payload) -> Reply:
    def answer(message: Message) -> list[Message]:
        records = to_records(write_header(payload, site=site), payload.blobs)
        return [Message(records, reply_to=message)]

    return answer


def failure_of(grid: DeskGrid, site: str = "north") -> Failure:
    outcome = ask(grid, "query.presence", {site: Payload()}, timeout_s=0.3)[site]
    assert isinstance(outcome, Failure)
    return outcome


def test_every_site_gets_its_own_request_and_gives_its_own_reply() -> None:
    grid = DeskGrid({"north": 11, "south": 22})
    grid.answers = {
        11: answer_as("north", Payload({"n": 1}, {"w": b"\0\1"})),
        22: answer_as("south", Payload({"n": 2})),
    }
    outcomes = ask(
        grid,
        "query.presence",
        {"north": Payload({"to": "n"}), "south": Payload({"to": "s"})},
        timeout_s=5,
    )
    assert outcomes == {"north": Payload({"n": 1}, {"w": b"\0\1"}), "south": Payload({"n": 2}, {})}
    for message in grid.posted.values():
        site = {11: "north", 22: "south"}[message.metadata.dst_node_id]
        header, blobs = from_records(message.content)
        assert read_payload(header, blobs, site=site).body == {"to": site[0]}


def test_a_missing_node_is_named_at_once() -> None:
    started = time.monotonic()
    outcome = ask(DeskGrid({}), "query.presence", {"north": Payload()}, timeout_s=60)["north"]
    assert isinstance(outcome, Failure)
    assert outcome.code is Code.SITE_UNREACHABLE
    assert time.monotonic() - started < 5


def test_a_late_node_is_named_and_the_others_count() -> None:
    grid = DeskGrid({"north": 11, "south": 22}, {22: answer_as("south", Payload({"n": 2}))})
    outcomes = ask(grid, "query.presence", {"north": Payload(), "south": Payload()}, timeout_s=0.3)
    assert outcomes["south"] == Payload({"n": 2}, {})
    assert isinstance(outcomes["north"], Failure)
    assert outcomes["north"].code is Code.SITE_UNREACHABLE


def test_a_slow_reply_within_the_time_counts() -> None:
    grid = DeskGrid({"north": 11})

    def later(message: Message) -> list[Message]:
        replies = list(answer_as("north", Payload({"n": 1}))(message))
        threading.Timer(0.3, lambda: grid.ready.extend(replies)).start()
        return []

    grid.answers = {11: later}
    assert ask(grid, "query.presence", {"north": Payload()}, timeout_s=10)["north"] == Payload(
        {"n": 1}, {}
    )


def test_a_second_reply_spoils_both() -> None:
    first, second = answer_as("north", Payload({"n": 1})), answer_as("north", Payload({"n": 2}))
    grid = DeskGrid({"north": 11}, {11: lambda one: [*first(one), *second(one)]})
    assert failure_of(grid).code is Code.DUPLICATE_REPLY


def test_a_reply_in_another_sites_name_is_not_used() -> None:
    grid = DeskGrid({"north": 11}, {11: answer_as("south", Payload({"n": 1}))})
    assert failure_of(grid).code is Code.IDENTITY_MISMATCH


def test_a_reply_from_another_node_is_not_used() -> None:
    def foreign(message: Message) -> list[Message]:
        reply = next(iter(answer_as("north", Payload())(message)))
        reply.metadata.__dict__["_src_node_id"] = 99
        return [reply]

    assert failure_of(DeskGrid({"north": 11}, {11: foreign})).code is Code.IDENTITY_MISMATCH


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (7, Code.BUNDLE_UNAPPROVED),
        (5, Code.SITE_UNREACHABLE),
        (2, Code.INTERNAL),
        (3, Code.SITE_UNREACHABLE),
        (4, Code.SITE_UNREACHABLE),
    ],
)
def test_flowers_errors_become_ours_without_their_text(number: int, code: Code) -> None:
    grid = DeskGrid(
        {"north": 11}, {11: lambda one: [Message(Error(number, "Muster_Anna"), reply_to=one)]}
    )
    failure = failure_of(grid)
    assert failure.code is code
    assert "Muster" not in failure.message


def test_a_refusal_arrives_as_its_number() -> None:
    records = to_records(write_refusal(Code.TOO_FEW_PATIENTS, site="north"), {})
    grid = DeskGrid({"north": 11}, {11: lambda one: [Message(records, reply_to=one)]})
    assert failure_of(grid).code is Code.TOO_FEW_PATIENTS


@pytest.mark.parametrize(
    "records",
    [
        RecordDict(),
        RecordDict({"header": ConfigRecord({"json": "{}"}), "blobs": ConfigRecord()}),
        to_records("no json", {}),
        to_records('{"format": 2, "site": "north"}', {}),
        to_records('{"format": 1, "site": "north", "body": {}, "blobs": {"w": "00"}}', {"w": b"x"}),
        to_records('{"format": 1, "site": "north", "body": {}, "blobs": {}}', {"w": b"x"}),
        RecordDict({**to_records("{}", {}), "more": ConfigRecord()}),
    ],
)
def test_a_damaged_reply_is_refused(records: RecordDict) -> None:
    grid = DeskGrid({"north": 11}, {11: lambda one: [Message(records, reply_to=one)]})
    assert failure_of(grid).code is Code.WIRE_INVALID


def test_outcomes_are_told_one_by_one() -> None:
    grid = DeskGrid({"north": 11}, {11: answer_as("north", Payload({"n": 1}))})
    told: list[tuple[str, object]] = []
    outcomes = ask(
        grid,
        "query.presence",
        {"north": Payload(), "south": Payload()},
        timeout_s=5,
        on_reply=lambda site, outcome: told.append((site, outcome)),
    )
    assert dict(told) == outcomes
    assert len(told) == 2
