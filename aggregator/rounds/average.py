"""One round of federated averaging: weights go out, come back learnt, and Flower averages them.

FedAvg of McMahan et al. 2017 (arXiv 1602.05629), as ``flwr`` has it. Its own loop waits for nodes
for ever, names none and keeps nothing, so that our rounds ask, and it averages what has come.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, Message, Metadata, MetricRecord, RecordDict
from flwr.app.message import make_message
from flwr.serverapp.strategy import FedAvg
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from aggregator.averages import Agreement, Share
from aggregator.rounds.round import Round
from shared.errors import Code, EchoFedError
from shared.files import arrays_from_bytes, arrays_to_bytes, shapes_of
from shared.payload import Payload

TRAIN = "train.segmenter"
EVALUATE = "evaluate.segmenter"
WEIGHTS = "weights"
_WEIGHT = "num-examples"
_SHARE = TypeAdapter(Share)
_FIGURES = TypeAdapter(dict[str, float])


@dataclass(frozen=True, slots=True)
class Update:
    """What a site gave to a round."""

    share: Share
    weights: bytes


def collect_updates(
    current: Round, agreement: Agreement, settings: Mapping[str, Any], weights: bytes
) -> dict[str, Update]:
    """Let every site of the agreement learn from the weights; who gives nothing usable is told.

    Args:
        current: the round.
        agreement: whom to ask, and for which datasets.
        settings: what the sites take from the centre.
        weights: of the last average.

    Returns:
        What came, by site in alphabetical order.
    """
    updates: dict[str, Update] = {}

    def take(site: str, reply: Payload) -> None:
        current.tally.note_kept(TRAIN, site, current.tally.note_receipt(site, reply))
        if not reply.blobs:
            return  # every dataset was refused, which the receipt has told
        share = _read_share(site, reply.body, agreement)
        learnt = reply.blobs.get(WEIGHTS, b"")
        _expect_like(site, learnt, weights)
        current.tally.note_arrival("segmenter_update", site, learnt)
        updates[site] = Update(share, learnt)

    current.collect(TRAIN, _requests(agreement, settings, weights), take)
    return dict(sorted(updates.items()))


def collect_figures(
    current: Round, agreement: Agreement, settings: Mapping[str, Any], weights: bytes
) -> dict[str, dict[str, float]]:
    """Validation figures of the weights at every site that tells them, in alphabetical order."""
    figures: dict[str, dict[str, float]] = {}

    def take(site: str, reply: Payload) -> None:
        current.tally.note_kept(EVALUATE, site, current.tally.note_receipt(site, reply))
        if "came" in reply.body:
            figures[site] = _read_figures(site, reply.body["came"])

    current.collect(EVALUATE, _requests(agreement, settings, weights), take)
    return dict(sorted(figures.items()))


def average_updates(updates: Mapping[str, Update], *, server_round: int) -> bytes:
    """Flower's FedAvg of the sites' weights, each counted by the frames that it learnt from.

    Args:
        updates: by site, at least one.
        server_round: number of the round, from 1.
    """
    replies = [_reply(one) for one in updates.values()]
    arrays, _ = FedAvg(weighted_by_key=_WEIGHT).aggregate_train(server_round, replies)
    assert arrays is not None
    averaged: dict[str, NDArray[Any]] = {name: one.numpy() for name, one in arrays.items()}
    return arrays_to_bytes(averaged, {})


def _reply(update: Update) -> Message:
    """What came as a message of Flower's; only its content counts in an average."""
    arrays, _ = arrays_from_bytes(update.weights)
    content = RecordDict(
        {
            "arrays": ArrayRecord({name: Array(array) for name, array in arrays.items()}),
            "metrics": MetricRecord({_WEIGHT: update.share.num_frames}),
        }
    )
    metadata = Metadata(
        run_id=0,
        message_id="",
        src_node_id=0,
        dst_node_id=0,
        reply_to_message_id="",
        group_id="",
        created_at=0.0,
        ttl=1.0,
        message_type=TRAIN,
    )
    return make_message(metadata, content)


def _requests(
    agreement: Agreement, settings: Mapping[str, Any], weights: bytes
) -> dict[str, Payload]:
    said = {**settings, "structures": list(agreement.structures[1:]), "views": agreement.views}
    return {
        site: Payload(
            {"datasets": {one.dataset: one.hash for one in offered}, "settings": said},
            {WEIGHTS: weights},
        )
        for site, offered in agreement.sites.items()
    }


def _read_share(site: str, body: Mapping[str, Any], agreement: Agreement) -> Share:
    told = {name: body.get(name) for name in ("datasets", "num_frames", "came", "learnt")}
    try:
        share = _SHARE.validate_python(told)
    except ValidationError as error:
        raise _misfit(site) from error
    asked = {one.dataset for one in agreement.sites[site]}
    figures = [*share.came.values(), *share.learnt.values()]
    if share.num_frames < 1 or not set(share.datasets) <= asked or not np.isfinite(figures).all():
        raise _misfit(site)
    return share


def _read_figures(site: str, document: object) -> dict[str, float]:
    try:
        figures = _FIGURES.validate_python(document)
    except ValidationError as error:
        raise _misfit(site) from error
    if not np.isfinite([*figures.values()]).all():
        raise _misfit(site)
    return figures


def _misfit(site: str) -> EchoFedError:
    return EchoFedError(
        Code.WIRE_INVALID,
        f"site {site!r} answers a round of averaging with what does not fit",
        "both ends should run the same release",
    )


def _expect_like(site: str, learnt: bytes, sent: bytes) -> None:
    """Names, shapes and types as sent, and all numbers finite: one NaN would end the average."""
    arrays, _ = arrays_from_bytes(learnt)
    if shapes_of(arrays) != shapes_of(arrays_from_bytes(sent)[0]):
        raise _misfit(site)
    if any(not np.isfinite(array).all() for array in arrays.values()):
        raise EchoFedError(
            Code.FEATURES_NOT_FINITE, f"weights of site {site!r} are not finite", "look at its log"
        )
