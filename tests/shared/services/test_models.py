"""The model service sends what the store has under an alias now, whole or not at all."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from shared.errors import Code, EchoFedError
from shared.files import sha256_hex
from shared.pb import models_pb2 as pb
from shared.rpc.channel import Channel, open_channel
from shared.rpc.codec import CHUNK_BYTES
from shared.rpc.peer import Credentials, Peer
from shared.rpc.server import Service
from shared.services import SERVICES
from shared.services.models import fetch_model
from shared.services.store import StoredModel
from shared.testing.contracts import ServiceContract
from shared.testing.hosting import BadRequest, hosting
from shared.testing.memory import expect_steady_memory

WEIGHTS = np.random.default_rng(0).bytes(2 * CHUNK_BYTES + 17)


@dataclass
class FolderStore:
    """Models in folders that are called as their alias."""

    root: Path
    callers: list[str] = field(default_factory=list)

    def find(self, alias: str, *, caller: Peer) -> StoredModel:
        self.callers.append(f"{caller.name}.{caller.role}")
        if alias not in ("serving", "candidate"):
            raise EchoFedError(Code.MODEL_UNKNOWN, f"no model is called {alias!r}")
        return StoredModel(self.root / alias / "card.json", self.root / alias / "weights")

    def put(self, alias: str, weights: bytes) -> dict[str, str]:
        card = {"id": alias, "weights_sha256": sha256_hex(weights)}
        (self.root / alias).mkdir(exist_ok=True)
        (self.root / alias / "weights").write_bytes(weights)
        (self.root / alias / "card.json").write_text(json.dumps(card))
        return card


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path)


@pytest.fixture
def service(store: FolderStore) -> Service:
    return SERVICES["models"](store)


class TestModelService(ServiceContract):
    @pytest.fixture
    def bad_requests(self) -> Sequence[BadRequest]:
        return [
            ("Fetch", pb.FetchRequest(alias="severing"), Code.MODEL_UNKNOWN),
            ("Fetch", pb.FetchRequest(), Code.MODEL_UNKNOWN),
        ]


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES, len(WEIGHTS)])
def test_a_model_arrives_as_it_is_stored(
    store: FolderStore, service: Service, passes: Mapping[str, Credentials], size: int
) -> None:
    card = store.put("serving", WEIGHTS[:size])
    with hosting(service, passes) as address, open_channel(address, passes["site"]) as channel:
        got, weights = fetch_model(channel, "serving", limit_bytes=len(WEIGHTS))
    assert (json.loads(got), weights) == (card, WEIGHTS[:size])
    assert store.callers == ["the-site.site"]


def test_a_promotion_shows_in_the_next_call(
    store: FolderStore, service: Service, passes: Mapping[str, Credentials]
) -> None:
    with hosting(service, passes) as address, open_channel(address, passes["site"]) as channel:
        for weights in (b"old", b"new"):
            store.put("serving", weights)
            assert fetch_model(channel, "serving", limit_bytes=3)[1] == weights


def test_weights_that_are_not_those_of_their_card_are_refused(
    store: FolderStore, service: Service, passes: Mapping[str, Credentials]
) -> None:
    store.put("serving", b"right")
    (store.root / "serving" / "weights").write_bytes(b"wrong")
    with (
        hosting(service, passes) as address,
        open_channel(address, passes["site"]) as channel,
        pytest.raises(EchoFedError) as refused,
    ):
        fetch_model(channel, "serving", limit_bytes=100)
    assert refused.value.code is Code.CHECKPOINT_CORRUPT


def test_a_model_longer_than_the_caller_takes_is_broken_off(
    store: FolderStore, service: Service, passes: Mapping[str, Credentials]
) -> None:
    store.put("serving", WEIGHTS)
    with (
        hosting(service, passes) as address,
        open_channel(address, passes["site"]) as channel,
        pytest.raises(EchoFedError) as refused,
    ):
        fetch_model(channel, "serving", limit_bytes=CHUNK_BYTES)
    assert refused.value.code is Code.REQUEST_TOO_LARGE


@pytest.mark.slow
def test_ten_thousand_fetches_take_no_memory(
    store: FolderStore, service: Service, passes: Mapping[str, Credentials]
) -> None:
    store.put("serving", WEIGHTS[:10_000])

    def fetches(channel: Channel) -> Iterator[None]:
        for _ in range(10_000):
            fetch_model(channel, "serving", limit_bytes=10_000)
            store.callers.clear()
            yield

    with hosting(service, passes) as address, open_channel(address, passes["site"]) as channel:
        expect_steady_memory(fetches(channel), first=1000)
