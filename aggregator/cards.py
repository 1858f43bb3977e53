"""Which experts count, their cards, and the weights that a site still lacks."""

from collections.abc import Collection, Iterable

from aggregator.centre import Centre
from aggregator.schema import Expert
from shared.echo.expert import ExpertCard, FusionCard, load_expert, read_expert_card
from shared.errors import Code, EchoFedError


def active_experts(centre: Centre) -> tuple[str, ...]:
    """Ids of the experts that a new fusion holds, in the order of their arrival.

    Of several experts for the same datasets of a site only the newest counts, none whose site,
    though reachable, announces none of its datasets any more, and none of a withdrawn dataset.
    """
    announced = {(row.site, row.dataset) for row in centre.state.announcements()}
    withdrawn = withdrawn_datasets(centre)
    newest: dict[tuple[str, ...], Expert] = {}
    for row in centre.state.experts():
        datasets = tuple(row.card["datasets"])
        if withdrawn.intersection(f"{row.site}/{dataset}" for dataset in datasets):
            continue
        if any((row.site, dataset) in announced for dataset in datasets):
            newest[(row.site, *datasets)] = row
    kept = {row.id for row in newest.values()}
    return tuple(row.id for row in centre.state.experts() if row.id in kept)


def withdrawn_datasets(centre: Centre) -> frozenset[str]:
    """Names (``site/dataset``) that were taken back, or asked back, and do not come again."""
    return frozenset(f"{row.site}/{row.dataset}" for row in centre.state.withdrawals())


def withdrawn_experts(centre: Centre) -> dict[str, str]:
    """Experts that went with a withdrawn dataset: id -> hash of the weights."""
    return {
        one["expert"]: one["sha256"]
        for row in centre.state.withdrawals()
        for one in row.impact.get("experts", ())
    }


def withdrawn_fusions(centre: Centre) -> frozenset[str]:
    """Ids of the fusions that went with a withdrawn dataset."""
    return frozenset(
        one["fusion"] for row in centre.state.withdrawals() for one in row.impact.get("fusions", ())
    )


def expect_not_withdrawn(centre: Centre, card: ExpertCard) -> None:
    """Refuse an expert that was trained on a withdrawn dataset or went with one, and its children.

    Raises:
        EchoFedError: DATASET_WITHDRAWN.
    """
    datasets = {f"{card.site}/{dataset}" for dataset in card.datasets}
    if datasets & withdrawn_datasets(centre) or {card.id, card.parent} & set(
        withdrawn_experts(centre)
    ):
        raise EchoFedError(
            Code.DATASET_WITHDRAWN,
            f"expert {card.id} was trained on a withdrawn dataset, or started from such an expert",
            "train it from scratch on datasets that take part",
        )


def home_datasets(centre: Centre) -> dict[str, tuple[str, ...]]:
    """Expert -> names (``site/dataset``) of the datasets that it was trained on."""
    return {
        card.id: tuple(f"{card.site}/{dataset}" for dataset in card.datasets)
        for card in expert_cards(centre).values()
    }


def expert_cards(centre: Centre) -> dict[str, ExpertCard]:
    """Cards of all experts by id."""
    return {row.id: read_expert_card(row.card) for row in centre.state.experts()}


def with_trunks(centre: Centre, cards: Iterable[ExpertCard]) -> tuple[ExpertCard, ...]:
    """Cards of experts, those of the trunks that they stand on first, each once."""
    cards = tuple(cards)
    known = expert_cards(centre)
    trunks = [known[card.trunk] for card in cards if card.trunk]
    return tuple({card.id: card for card in (*trunks, *cards)}.values())


def weights_to_send(
    centre: Centre, cards: Iterable[ExpertCard], received: Collection[str]
) -> dict[str, bytes]:
    """Weights by expert id, without those that lie at the site.

    Raises:
        EchoFedError: CHECKPOINT_CORRUPT where the centre's own copy is damaged.
    """
    return {
        card.id: load_expert(centre.expert_folder(card.id))[1]
        for card in cards
        if card.weights_sha256 not in received
    }


def cards_of(centre: Centre, fusion: FusionCard) -> tuple[ExpertCard, ...]:
    """Cards of a fusion's experts in the order of its blocks."""
    known = expert_cards(centre)
    return tuple(known[block.expert] for block in fusion.blocks)
