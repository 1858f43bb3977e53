"""Register segmenters: check what a site brought, keep it, and let an alias stand for it."""

import logging
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from aggregator.cards import withdrawn_datasets
from aggregator.centre import Centre, alone
from aggregator.promotion import registry_of
from aggregator.serving import (
    SEGMENTER_PROMOTED,
    SEGMENTER_REGISTERED,
    served_segmenters,
    withdrawn_segmenters,
)
from shared.echo.expert import CARD_FILE
from shared.echo.segmenter import (
    SegmenterCard,
    load_segmenter_files,
    read_segmenter_card,
    save_segmenter,
)
from shared.errors import Code, EchoFedError
from shared.files import arrays_from_bytes, expect_file_name, read_json

log = logging.getLogger(__name__)
_ALIAS = re.compile(r"[a-z][a-z0-9-]{0,63}")
_TAKEN = ("serving", "candidate")  # what fusions are called


@dataclass(frozen=True, slots=True)
class Registered:
    """What registering a segmenter changed.

    Args:
        before: what the alias stood for, empty where it was new.
        is_new: whether the segmenter was not known before.
        is_moved: whether the alias stands for another segmenter than before.
    """

    card: SegmenterCard
    alias: str
    before: str
    is_new: bool
    is_moved: bool


def register_segmenter(
    centre: Centre, path: Path, *, alias: str, actor: str, reason: str
) -> Registered:
    """Check a segmenter, keep it and let an alias stand for it; doing it again changes nothing.

    Args:
        centre: the open centre.
        path: a card, beside which the weights lie, or their folder.
        alias: by which it is asked for; empty for ``segmentation-masks`` or ``-contours``.
        actor: who decides.
        reason: why; may be empty where the alias stood for nothing.

    Raises:
        EchoFedError: CONFIG_MISSING, CHECKPOINT_CORRUPT for weights that are not the card's or do
            not fit its network, NAME_UNKNOWN for a network that is not in the table, CARD_NEWER,
            FEATURES_NOT_FINITE, DATASET_WITHDRAWN, IDENTITY_MISMATCH where something else has
            its id or its card was altered since, CONFIG_INVALID for a bad alias or no reason to
            move one, RUN_FAILED while an increment, a fusion or a withdrawal runs.
    """
    card, weights = load_segmenter_files(path.parent if path.name == CARD_FILE else path)
    with alone(centre):
        return _register(centre, card, weights, alias=alias, actor=actor, reason=reason)


def _register(
    centre: Centre, card: SegmenterCard, weights: bytes, *, alias: str, actor: str, reason: str
) -> Registered:
    name = alias or f"segmentation-{card.answers}"
    _expect_alias(centre, name)
    known = served_segmenters(centre.ledger)
    before = next((one.segmenter for one in known.values() if name in one.aliases), "")
    if before and before != card.id and not reason:
        raise EchoFedError(
            Code.CONFIG_INVALID,
            f"{name} stands for {before}",
            "say with --reason why another one should serve, or give another --alias",
        )
    is_new = card.id not in known
    names = {name, *(alias for one in known.values() for alias in one.aliases)}
    if card.id in _taken(centre) | names if is_new else not _is_known(centre, card):
        raise EchoFedError(
            Code.IDENTITY_MISMATCH, f"something else is called {card.id[:80]}", "ask its site"
        )
    if is_new:
        _expect_not_withdrawn(centre, card)
        _expect_fits(card, weights)
    save_segmenter(centre.segmenter_folder(expect_file_name(card.id)), card, weights)
    if is_new:
        registry_of(centre).log_segmenter(card)
        centre.ledger.append(SEGMENTER_REGISTERED, _record(card), actor=actor)
    if before != card.id:
        body = {"alias": name, "segmenter": card.id, "before": before, "reason": reason}
        centre.ledger.append(SEGMENTER_PROMOTED, body, actor=actor)
    if card.origin != "real":
        log.warning("%s was trained on %s pictures and is not for patients", card.id, card.origin)
    return Registered(card, name, before, is_new, before != card.id)


def _taken(centre: Centre) -> set[str]:
    """Names by which sites ask for something that is no segmenter."""
    return {*_TAKEN, *(expert.id for expert in centre.state.experts())}


def _is_known(centre: Centre, card: SegmenterCard) -> bool:
    """Whether this very card was registered; of one that the disk lost, what the ledger has."""
    try:
        return read_segmenter_card(read_json(centre.segmenter_folder(card.id) / CARD_FILE)) == card
    except EchoFedError:
        entries = [e.body for e in centre.ledger.entries() if e.kind == SEGMENTER_REGISTERED]
        return _record(card) in entries


def _expect_alias(centre: Centre, alias: str) -> None:
    taken = {*_taken(centre), *served_segmenters(centre.ledger)}
    if not _ALIAS.fullmatch(alias) or alias in taken:
        raise EchoFedError(
            Code.CONFIG_INVALID,
            f"{alias[:80]!r} cannot be an alias",
            "use lower-case letters, digits and dashes, and no name that a model has",
        )


def _expect_not_withdrawn(centre: Centre, card: SegmenterCard) -> None:
    gone = {name for names in withdrawn_segmenters(centre.ledger).values() for name in names}
    if set(_datasets(card)) & withdrawn_datasets(centre) or {card.id, card.parent} & gone:
        raise EchoFedError(
            Code.DATASET_WITHDRAWN,
            f"segmenter {card.id} was trained on a withdrawn dataset, or started from such a one",
            "train it from scratch on datasets that take part",
        )


def _expect_fits(card: SegmenterCard, weights: bytes) -> None:
    """The network of the table takes the card's options, and the weights fit it."""
    from shared.segmentation.segmenter import build_forward

    arrays, _ = arrays_from_bytes(weights)
    if any(not np.isfinite(array).all() for array in arrays.values()):
        raise EchoFedError(
            Code.FEATURES_NOT_FINITE, f"weights of {card.id} are not finite", "train it again"
        )
    try:
        build_forward(card, weights)
    except (TypeError, ValueError, RuntimeError) as error:  # what torch says of wrong options
        raise EchoFedError(
            Code.CHECKPOINT_CORRUPT,
            f"network {card.network!r} does not take the options of card {card.id}",
            "ask the site that trained it to export it again",
        ) from error


def _record(card: SegmenterCard) -> dict[str, object]:
    return {
        "segmenter": card.id,
        "sha256": card.weights_sha256,
        "site": card.site,
        "origin": card.origin,
        "answers": card.answers,
        "datasets": _datasets(card),
        "parent": card.parent,
    }


def _datasets(card: SegmenterCard) -> list[str]:
    """``site/dataset``; an averaged one names the sites itself."""
    return [name if "/" in name else f"{card.site}/{name}" for name in card.datasets]
