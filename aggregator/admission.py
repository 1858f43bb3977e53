"""Admit segmenters and synthesizers: check them, keep them, and let an alias stand for each."""

import logging
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from aggregator.cards import withdrawn_datasets
from aggregator.centre import Centre, alone
from aggregator.promotion import registry_of
from aggregator.serving import (
    MODEL_PROMOTED,
    MODEL_REGISTERED,
    ServedModel,
    served_models,
    withdrawn_models,
)
from shared.echo.expert import CARD_FILE
from shared.echo.model_card import ModelCard, load_model_files, read_model_card, save_model
from shared.errors import Code, EchoFedError
from shared.files import arrays_from_bytes, expect_file_name, read_json
from shared.services.synthesizers import SYNTHESIS

log = logging.getLogger(__name__)
_ALIAS = re.compile(r"[a-z][a-z0-9-]{0,63}")
_TAKEN = ("serving", "candidate")  # what fusions are called


@dataclass(frozen=True, slots=True)
class Registered:
    """What registering a model changed.

    Args:
        before: what the alias stood for, empty where it was new.
        is_new: whether the model was not known before.
        is_moved: whether the alias stands for another model than before.
    """

    card: ModelCard
    alias: str
    before: str
    is_new: bool
    is_moved: bool


def register_model(
    centre: Centre, path: Path, *, alias: str, actor: str, reason: str
) -> Registered:
    """Check a model, keep it and let an alias stand for it; doing it again changes nothing.

    Args:
        centre: the open centre.
        path: a card, beside which the weights lie, or their folder.
        alias: by which it is asked for; empty for ``segmentation-masks``, ``segmentation-contours``
            or ``synthesis``.
        actor: who decides.
        reason: why; may be empty where the alias stood for nothing.

    Raises:
        EchoFedError: CONFIG_MISSING, MODEL_UNKNOWN for a card of another kind, CHECKPOINT_CORRUPT
            for weights that are not the card's or do not fit its network, NAME_UNKNOWN for a
            network that is not in the table, CARD_NEWER, FEATURES_NOT_FINITE, DATASET_WITHDRAWN,
            IDENTITY_MISMATCH where something else has its id or its card was altered since,
            CONFIG_INVALID for a bad alias, one of another kind or no reason to move one, RUN_FAILED
            while an increment, a fusion or a withdrawal runs.
    """
    card, weights = load_model_files(path.parent if path.name == CARD_FILE else path)
    with alone(centre):
        return _register(centre, card, weights, alias=alias, actor=actor, reason=reason)


def _register(
    centre: Centre, card: ModelCard, weights: bytes, *, alias: str, actor: str, reason: str
) -> Registered:
    name = alias or _usual_alias(card)
    _expect_alias(centre, name)
    known = served_models(centre.ledger)
    before = next((one.model for one in known.values() if name in one.aliases), "")
    _expect_alias_of_kind(card, name, known.get(before))
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
    save_model(centre.model_folder(card.kind, expect_file_name(card.id)), card, weights)
    if is_new:
        registry_of(centre).log_model(card)
        centre.ledger.append(MODEL_REGISTERED[card.kind], _record(card), actor=actor)
    if before != card.id:
        body = {"alias": name, card.kind: card.id, "before": before, "reason": reason}
        centre.ledger.append(MODEL_PROMOTED[card.kind], body, actor=actor)
    if card.origin != "real":
        log.warning("%s was trained on %s pictures and is not for patients", card.id, card.origin)
    return Registered(card, name, before, is_new, before != card.id)


def _taken(centre: Centre) -> set[str]:
    """Names by which sites ask for fusions and experts."""
    return {*_TAKEN, *(expert.id for expert in centre.state.experts())}


def _is_known(centre: Centre, card: ModelCard) -> bool:
    """Whether this very card was registered; of one that the disk lost, what the ledger has."""
    try:
        folder = centre.model_folder(card.kind, card.id)
        return read_model_card(read_json(folder / CARD_FILE)) == card
    except EchoFedError:
        kind = MODEL_REGISTERED[card.kind]
        return _record(card) in [e.body for e in centre.ledger.entries() if e.kind == kind]


def _expect_alias(centre: Centre, alias: str) -> None:
    taken = {*_taken(centre), *served_models(centre.ledger)}
    if not _ALIAS.fullmatch(alias) or alias in taken:
        raise EchoFedError(
            Code.CONFIG_INVALID,
            f"{alias[:80]!r} cannot be an alias",
            "use lower-case letters, digits and dashes, and no name that a model has",
        )


def _expect_alias_of_kind(card: ModelCard, alias: str, stood: ServedModel | None) -> None:
    """Who asks for an alias expects what it has answered so far."""
    if stood is not None and stood.kind != card.kind:
        raise EchoFedError(
            Code.CONFIG_INVALID,
            f"{alias} stands for a {stood.kind}, and {card.id} is a {card.kind}",
            "give another --alias",
        )


def _expect_not_withdrawn(centre: Centre, card: ModelCard) -> None:
    gone = {one.model for went in withdrawn_models(centre.ledger).values() for one in went}
    if set(_datasets(card)) & withdrawn_datasets(centre) or {card.id, card.parent} & gone:
        raise EchoFedError(
            Code.DATASET_WITHDRAWN,
            f"{card.kind} {card.id} was trained on a withdrawn dataset, or started from such a one",
            "train it from scratch on datasets that take part",
        )


def _expect_fits(card: ModelCard, weights: bytes) -> None:
    """The networks of the tables take the card's options, and the weights fit them."""
    arrays, _ = arrays_from_bytes(weights)
    if any(not np.isfinite(array).all() for array in arrays.values()):
        raise EchoFedError(
            Code.FEATURES_NOT_FINITE, f"weights of {card.id} are not finite", "train it again"
        )
    try:
        _build(card, weights)
    except (TypeError, ValueError, RuntimeError) as error:  # what torch says of wrong options
        raise EchoFedError(
            Code.CHECKPOINT_CORRUPT,
            f"network {card.network!r} does not take the options of card {card.id}",
            "ask the site that trained it to export it again",
        ) from error


def _build(card: ModelCard, weights: bytes) -> object:
    if card.kind == "segmenter":
        from shared.segmentation.segmenter import build_forward

        return build_forward(card, weights)
    from shared.synthesis.semantic import build_synthesizer

    return build_synthesizer(card, weights)


def _usual_alias(card: ModelCard) -> str:
    return f"segmentation-{card.answers}" if card.kind == "segmenter" else SYNTHESIS


def _record(card: ModelCard) -> dict[str, object]:
    """What the ledger keeps of a card; only a segmenter answers in one way of several."""
    body: dict[str, object] = {
        card.kind: card.id,
        "sha256": card.weights_sha256,
        "site": card.site,
        "origin": card.origin,
        "datasets": _datasets(card),
        "parent": card.parent,
    }
    return body | {"answers": card.answers} if card.kind == "segmenter" else body


def _datasets(card: ModelCard) -> list[str]:
    """``site/dataset``; an averaged one names the sites itself."""
    return [name if "/" in name else f"{card.site}/{name}" for name in card.datasets]
