"""The model service sends what the store has under an alias now, whole or not at all."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from shared.errors import Code, EchoFedError
from shared.files import sha256_hex
from shared.pb import models_pb2 as pb
from shared.rpc.authority import Authority, sign_model_card
from shared.rpc.channel import Channel, open_channel
from shared.rpc.codec import CHUNK_BYTES
from shared.rpc.peer import Credentials, Peer
from shared.rpc.server import Service
from shared.services import SERVICES
from shared.services.host import Host
from shared.services.models import FetchedModel, fetch_model
from shared.services.store import StoredModel
from shared.signature import expect_signed
from shared.testing.contracts import ServiceContract
from shared.testing.hosting import BadRequest, hosting
from shared.testing.memory import expect_steady_memory

WEIGHTS = np.random.default_rng(0).bytes(2 * CHUNK_BYTES + 17)


@dataclass
class FolderStore:
    """Models in folders that are called as their alias."""

    root: Path
    sign: Callable[[bytes], bytes]
    callers: list[str] = field(default_factory=list)

    def find(self, alias: str, *, caller: Peer) -> StoredModel:
        self.callers.append(f"{caller.name}.{caller.role}")
        if alias not in ("serving", "candidate"):
            raise EchoFedError(Code.MODEL_UNKNOWN, f"no model is called {alias!r}")
        card = self.root / alias / "card.json"
        return StoredModel(card, self.root / alias / "weights", self.sign(card.read_bytes()))

    def put(self, alias: str, weights: bytes) -> dict[str, str]:
        card = {"id": alias, "weights_sha256": sha256_hex(weights)}
        (self.root / alias).mkdir(exist_ok=True)
        (self.root / alias / "weights").write_bytes(weights)
        (self.root / alias / "card.json").write_text(json.dumps(card))
        return card


@pytest.fixture
def store(tmp_path: Path, passes: Mapping[str, Credentials]) -> FolderStore:
    return FolderStore(tmp_path, signed_by(passes["site"]))


def signed_by(credentials: Credentials) -> Callable[[bytes], bytes]:
    """Signs as the authority of these credentials does."""
    authority = Authority(credentials.ca.parent)
    return lambda card: sign_model_card(authority, card)


@pytest.fixture
def service(store: FolderStore) -> Service:
    return SERVICES["models"](Host(store.root, store))


class TestModelService(ServiceContract):
    @pytest.fixture
    def bad_requests(self) -> Sequence[BadRequest]:
        return [
            ("Fetch", pb.FetchRequest(alias="severing"), Code.MODEL_UNKNOWN),
            ("Fetch", pb.FetchRequest(), Code.MODEL_UNKNOWN),
        ]


def fetch(address: str, shown: Credentials, alias: str, *, limit_bytes: int) -> FetchedModel:
    with open_channel(address, shown) as channel:
        ca_pem = shown.ca.read_bytes()
        return fetch_model(channel, alias, ca_pem=ca_pem, limit_bytes=limit_bytes)


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES, len(WEIGHTS)])
def test_a_model_arrives_as_it_is_stored(
    store: FolderStore, service: Service, passes: Mapping[str, Credentials], size: int
) -> None:
    card = store.put("serving", WEIGHTS[:size])
    with hosting(service, passes) as address:
        model = fetch(address, passes["site"], "serving", limit_bytes=len(WEIGHTS))
    assert (json.loads(model.card), model.weights) == (card, WEIGHTS[:size])
    assert store.callers == ["the-site.site"]
    expect_signed(model.card, model.signature, ca_pem=passes["site"].ca.read_bytes())


def test_a_promotion_shows_in_the_next_call(
    store: FolderStore, service: Service, passes: Mapping[str, Credentials]
) -> None:
    with hosting(service, passes) as address:
        for weights in (b"old", b"new"):
            store.put("serving", weights)
            model = fetch(address, passes["site"], "serving", limit_bytes=3)
            assert model.weights == weights


def refused(address: str, shown: Credentials, *, limit_bytes: int = 100) -> Code:
    with pytest.raises(EchoFedError) as caught:
        fetch(address, shown, "serving", limit_bytes=limit_bytes)
    return caught.value.code


def test_weights_that_are_not_those_of_their_card_are_refused(
    store: FolderStore, service: Service, passes: Mapping[str, Credentials]
) -> None:
    store.put("serving", b"right")
    (store.root / "serving" / "weights").write_bytes(b"wrong")
    with hosting(service, passes) as address:
        assert refused(address, passes["site"]) is Code.CHECKPOINT_CORRUPT


def test_a_model_longer_than_the_caller_takes_is_broken_off(
    store: FolderStore, service: Service, passes: Mapping[str, Credentials]
) -> None:
    store.put("serving", WEIGHTS)
    with hosting(service, passes) as address:
        code = refused(address, passes["site"], limit_bytes=CHUNK_BYTES)
    assert code is Code.REQUEST_TOO_LARGE


@pytest.mark.parametrize("forged", ["altered", "unsigned", "foreign"])
def test_a_card_that_the_centre_did_not_sign_is_refused(
    store: FolderStore, service: Service, passes: Mapping[str, Credentials], forged: str
) -> None:
    signs = {
        "altered": lambda card: store_sign(card + b" "),
        "unsigned": lambda _: b"",
        "foreign": signed_by(passes["foreign"]),
    }
    store_sign, store.sign = store.sign, signs[forged]
    store.put("serving", b"weights")
    with hosting(service, passes) as address:
        assert refused(address, passes["site"]) is Code.SIGNATURE_INVALID


@pytest.mark.slow
def test_ten_thousand_fetches_take_no_memory(
    store: FolderStore, service: Service, passes: Mapping[str, Credentials]
) -> None:
    store.put("serving", WEIGHTS[:10_000])

    def fetches(channel: Channel) -> Iterator[None]:
        ca_pem = passes["site"].ca.read_bytes()
        for _ in range(10_000):
            fetch_model(channel, "serving", ca_pem=ca_pem, limit_bytes=10_000)
            store.callers.clear()
            yield

    with hosting(service, passes) as address, open_channel(address, passes["site"]) as channel:
        expect_steady_memory(fetches(channel), first=1000)
