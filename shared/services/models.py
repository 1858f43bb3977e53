"""Models by alias: the card with the centre's signature, then the weights in pieces."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

import grpc

from shared.errors import Code, EchoFedError
from shared.files import sha256_hex
from shared.pb import models_pb2 as pb
from shared.pb import models_pb2_grpc as stubs
from shared.rpc.channel import Channel
from shared.rpc.codec import chunks_of_file, join_chunks
from shared.rpc.peer import peer_of
from shared.rpc.server import Service
from shared.services.host import Host
from shared.services.store import ModelStore, StoredModel
from shared.signature import expect_signed


class ModelServicer(stubs.ModelServiceServicer):
    """Sends what its store has."""

    def __init__(self, store: ModelStore) -> None:
        """Keep the store; an alias is looked up at every call, so a promotion shows in the next."""
        self._store = store

    def Fetch(
        self, request: pb.FetchRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.FetchReply]:
        stored = self._store.find(request.alias, caller=peer_of(context))
        return _replies(stored)


def build(host: Host) -> Service:
    """The service; an auditor reads reports and needs no weights."""
    return Service(
        pb.DESCRIPTOR.services_by_name["ModelService"],
        ModelServicer(host.models),
        stubs.add_ModelServiceServicer_to_server,
        roles={"Fetch": frozenset({"site", "operator"})},
    )


@dataclass(frozen=True, slots=True)
class FetchedModel:
    """A model that a centre signed, as it came: card in JSON, signature, weights in safetensors."""

    card: bytes
    signature: bytes
    weights: bytes


def fetch_model(channel: Channel, alias: str, *, ca_pem: bytes, limit_bytes: int) -> FetchedModel:
    """Fetch a model from the service; the card is checked before any weights are taken.

    Args:
        channel: connection to the host.
        alias: what the model is called there.
        ca_pem: certificate of the authority whose signature the card must have.
        limit_bytes: what the weights may have at most.

    Raises:
        EchoFedError: SIGNATURE_INVALID; CHECKPOINT_CORRUPT where the host's weights are not those
            of their card; REQUEST_TOO_LARGE, WIRE_INVALID, and what the host refuses by, such as
            MODEL_UNKNOWN.
    """
    replies = stubs.ModelServiceStub(channel).Fetch(pb.FetchRequest(alias=alias))
    first = next(replies, pb.FetchReply())
    if first.WhichOneof("part") != "card":
        raise EchoFedError(Code.WIRE_INVALID, "a model came without its card", "ask for it again")
    expect_signed(first.card, first.signature, ca_pem=ca_pem)
    weights = join_chunks((reply.weights for reply in replies), limit_bytes=limit_bytes)
    if sha256_hex(weights) != json.loads(first.card).get("weights_sha256"):
        raise EchoFedError(
            Code.CHECKPOINT_CORRUPT,
            f"the weights of {alias!r} do not match their card",
            "let the host's operator restore them",
        )
    return FetchedModel(first.card, first.signature, weights)


def _replies(stored: StoredModel) -> Iterator[pb.FetchReply]:
    card = pb.FetchReply(card=stored.card.read_bytes(), signature=stored.signature)
    weights = (pb.FetchReply(weights=chunk) for chunk in chunks_of_file(stored.weights))
    return chain([card], weights)
