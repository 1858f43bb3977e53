"""Withdraw: a dataset leaves the federation; its clips stay, nothing made of it leaves any more.

The policy is changed first, so that nothing leaves from then on; then the ledger tells what goes,
then it goes. A run that ended half-way is simply repeated.
"""

import logging
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TypeVar

from shared.echo.expert import CARD_FILE, ExpertCard, read_fusion_card
from shared.echo.model_card import ModelCard
from shared.errors import Code, EchoFedError
from shared.files import read_json
from shared.ledger import Ledger
from site_client.policy import load_policy, withdraw_dataset
from site_client.rounds.exports import prune_exports, stale_exports
from site_client.store import SiteStore

log = logging.getLogger(__name__)
C = TypeVar("C", ExpertCard, ModelCard)
WITHDRAWN = "dataset.withdrawn"
_HASHES = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{8})+")  # an export's id ends so: content, experts


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """What went with a dataset.

    Args:
        policy_revision: from which on nothing of it leaves.
        experts: this site's experts that were trained on it or started from such an expert.
        fusions: copies of fusions that hold those experts or rows of the dataset.
        num_exports: kept exports that were deleted.
        was_serving: the fusion that predictions used, if it went; else empty.
        segmenters: this site's segmenters that were trained on it or started from such a one.
        synthesizers: likewise.
    """

    dataset: str
    policy_revision: int
    experts: tuple[str, ...]
    fusions: tuple[str, ...]
    num_exports: int
    was_serving: str
    segmenters: tuple[str, ...] = ()
    synthesizers: tuple[str, ...] = ()

    def document(self) -> dict[str, object]:
        """Names and counts, for a person and the ledger."""
        return {
            "dataset": self.dataset,
            "policy_revision": self.policy_revision,
            "experts": list(self.experts),
            "fusions": list(self.fusions),
            "exports": self.num_exports,
            "was_serving": self.was_serving,
            "segmenters": list(self.segmenters),
            "synthesizers": list(self.synthesizers),
        }


def withdraw(store: SiteStore, policy: Path, dataset: str, *, site: str, today: date) -> Withdrawn:
    """Revoke the policy for a dataset and delete what was made of it, but not the clips.

    Args:
        store: the site's.
        policy: policy.yaml.
        dataset: id.
        site: site code; only experts of this site and copies of fusions are deleted.
        today: the day to write down.

    Raises:
        EchoFedError: DATASET_UNKNOWN, or NOTHING_TO_DO where it is withdrawn already.
    """
    if dataset not in load_policy(policy).datasets:
        store.manifest(dataset)  # refuses what is unknown in either place
    cards = _affected(store.expert_cards(), dataset, site)
    models = _affected(store.model_cards(), dataset, site)
    weights = {card.weights_sha256 for card in cards}
    fusions = _fusions(store, f"{site}-{dataset}-", {card.id for card in cards})
    staying = {store.manifest(name).content_hash() for name in store.datasets() if name != dataset}
    stale = stale_exports(store, staying, experts=weights)
    if not (cards or fusions or stale or models):
        _expect_not_done(store, policy, dataset)
    serving = store.serving_fusion() or ""
    done = Withdrawn(
        dataset=dataset,
        policy_revision=withdraw_dataset(policy, dataset, today=today).revision,
        experts=tuple(card.id for card in cards),
        fusions=fusions,
        num_exports=len(stale),
        was_serving=serving if serving in fusions else "",
        segmenters=tuple(card.id for card in models if card.kind == "segmenter"),
        synthesizers=tuple(card.id for card in models if card.kind == "synthesizer"),
    )
    Ledger(store.ledger_path).append(WITHDRAWN, done.document(), actor=site)
    _delete(store, done, staying, weights)
    return done


def _expect_not_done(store: SiteStore, policy: Path, dataset: str) -> None:
    consent = load_policy(policy).datasets.get(dataset)
    is_told = any(
        entry.kind == WITHDRAWN and entry.body["dataset"] == dataset
        for entry in Ledger(store.ledger_path).entries()
    )
    if consent is not None and consent.withdrawn is not None and is_told:
        raise EchoFedError(
            Code.NOTHING_TO_DO,
            f"dataset {dataset} was withdrawn on {consent.withdrawn}",
            "to take part again, ingest it under another name",
        )


def _delete(
    store: SiteStore, done: Withdrawn, staying: Collection[str], weights: Collection[str]
) -> None:
    """Exports before experts: which ones an expert made is told by its card."""
    prune_exports(store, staying, experts=weights)
    for fusion in done.fusions:
        store.remove_fusion(fusion)
    for expert in done.experts:
        store.remove_expert(expert)
    for segmenter in done.segmenters:
        store.remove_segmenter(segmenter)
    for synthesizer in done.synthesizers:
        store.remove_synthesizer(synthesizer)


def _affected(found: Iterable[C], dataset: str, site: str) -> list[C]:
    """This site's models of the dataset, and those that descend from one of them."""
    cards = {card.id: card for card in found}

    def is_affected(card: C | None, seen: frozenset[str] = frozenset()) -> bool:
        if card is None or card.id in seen:
            return False
        if card.site == site and dataset in card.datasets:
            return True
        return is_affected(cards.get(card.parent), seen | {card.id})

    return [card for card in cards.values() if card.site == site and is_affected(card)]


def _fusions(store: SiteStore, export: str, experts: Collection[str]) -> tuple[str, ...]:
    """Fusions with one of the experts or an export whose id begins so, and unreadable ones."""

    def holds(fusion: str) -> bool:
        try:
            card = read_fusion_card(read_json(store.fusion_folder(fusion) / CARD_FILE))
        except EchoFedError:
            return True  # nobody can show that it does not
        rows = any(
            one.startswith(export) and _HASHES.fullmatch(one.removeprefix(export))
            for one in card.exports
        )
        return rows or any(block.expert in experts for block in card.blocks)

    return tuple(fusion for fusion in store.fusions() if holds(fusion))
