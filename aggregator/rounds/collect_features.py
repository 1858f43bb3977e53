"""Third round: every reachable site runs the experts over its own frames and sends exports.

A dataset whose policy lets no rows go is asked for statistics of all experts at once.
"""

import logging
from collections.abc import Mapping, Sequence

from aggregator.cards import expert_cards, weights_to_send, with_trunks
from aggregator.rounds.describe import Roll
from aggregator.rounds.round import Round
from shared.echo.expert import ExpertCard
from shared.echo.features import read_export
from shared.echo.schema import to_document
from shared.echo.statistics import STATISTICS, StatisticsCard, read_statistics
from shared.errors import Code, EchoFedError
from shared.payload import Payload

log = logging.getLogger(__name__)
REQUEST = "query.features"
MAX_REPLY_BYTES = 256 * 1024 * 1024
"""A site answers with as many exports as fit, at least one, and is asked again for the others."""
Pair = tuple[str, str]
"""Dataset and expert, or ``STATISTICS`` for all experts at once."""


def collect_features(current: Round, roll: Roll, experts: Sequence[str]) -> None:
    """Ask for the exports that the bank lacks until no site has one left to send.

    Args:
        current: the round; nobody is asked where nothing is missing.
        roll: who is present and which weights lie there.
        experts: ids of the experts that the fusion will hold.
    """
    cards = expert_cards(current.centre)
    left = _missing(current, roll, experts)
    while left:
        requests = {
            site: _request(current, pairs, experts, cards, roll.received[site])
            for site, pairs in left.items()
        }
        settled: dict[str, tuple[Pair, ...]] = {}

        def take(
            site: str,
            reply: Payload,
            asked: Mapping[str, tuple[Pair, ...]] = left,
            settled: dict[str, tuple[Pair, ...]] = settled,
        ) -> None:
            settled[site] = _take(current, site, reply, asked[site], cards)

        current.collect(REQUEST, requests, take)
        for site, pairs in settled.items():
            asked = (cards[expert] for expert in _needed(left[site], experts))
            sent = with_trunks(current.centre, asked)
            roll.note_received(site, (card.weights_sha256 for card in sent))
            log.info("site %s settled %d of %d exports", site, len(pairs), len(left[site]))
        left = _remaining(left, settled)


def _missing(current: Round, roll: Roll, experts: Sequence[str]) -> dict[str, tuple[Pair, ...]]:
    wanted: dict[str, tuple[Pair, ...]] = {}
    for row in current.centre.state.announcements():
        if row.site not in roll.offers or not {"rows", STATISTICS}.intersection(row.artefacts):
            continue
        name = f"{row.site}/{row.dataset}"
        bank, content = current.centre.bank, {name: row.hash}
        if "rows" in row.artefacts:  # also where statistics came before the policy let rows go
            asked = bank.lacks_rows(content, experts).get(name, ())
        else:
            asked = (STATISTICS,) if bank.lacks(content, experts) else ()
        pairs = tuple((row.dataset, expert) for expert in asked)
        if pairs:
            wanted[row.site] = wanted.get(row.site, ()) + pairs
    return wanted


def _remaining(
    left: Mapping[str, tuple[Pair, ...]], settled: Mapping[str, tuple[Pair, ...]]
) -> dict[str, tuple[Pair, ...]]:
    """What to ask for next; a site that settled nothing is not asked again in this increment."""
    rest = {
        site: tuple(pair for pair in left[site] if pair not in pairs)
        for site, pairs in settled.items()
        if pairs
    }
    return {site: pairs for site, pairs in rest.items() if pairs}


def _needed(pairs: Sequence[Pair], experts: Sequence[str]) -> tuple[str, ...]:
    """The experts that a site must run; all of them for statistics."""
    named = {expert for _, expert in pairs}
    return tuple(sorted(experts if STATISTICS in named else named))


def _request(
    current: Round,
    pairs: Sequence[Pair],
    experts: Sequence[str],
    cards: Mapping[str, ExpertCard],
    received: frozenset[str],
) -> Payload:
    asked = _needed(pairs, experts)
    needed = with_trunks(current.centre, (cards[name] for name in asked))
    return Payload(
        {
            "pairs": [list(pair) for pair in pairs],
            "cards": [to_document(card) for card in needed],
            "experts": list(asked),
            "max_bytes": MAX_REPLY_BYTES,
        },
        weights_to_send(current.centre, needed, received),
    )


def _take(
    current: Round,
    site: str,
    reply: Payload,
    asked: Sequence[Pair],
    cards: Mapping[str, ExpertCard],
) -> tuple[Pair, ...]:
    """Store what came; returns the pairs that are settled, accepted or not."""
    receipt = current.tally.note_receipt(site, reply)
    current.tally.note_kept("export", site, receipt)
    settled = [
        (str(part.get("dataset")), str(part.get("expert"))) for part in receipt.get("refused", ())
    ]
    for name, data in reply.blobs.items():
        try:
            pair = _store(current, site, name, data, asked, cards)
        except EchoFedError as error:
            if error.code is Code.DISK_FULL:
                raise
            current.tally.note_refusal("export", site, error, blob=name[:256])
            settled += [pair for pair in asked if name == "/".join(pair)]
            continue
        settled.append(pair)
    return tuple(pair for pair in settled if pair in asked)


def _store(
    current: Round,
    site: str,
    name: str,
    data: bytes,
    asked: Sequence[Pair],
    cards: Mapping[str, ExpertCard],
) -> Pair:
    is_condensed = name.endswith(f"/{STATISTICS}")
    card = read_statistics(data).card if is_condensed else read_export(data).card
    pair = (card.dataset, STATISTICS if isinstance(card, StatisticsCard) else card.expert)
    announced = {
        row.dataset: row.hash for row in current.centre.state.announcements() if row.site == site
    }
    if card.site != site or announced.get(card.dataset) != card.dataset_hash:
        raise EchoFedError(
            Code.IDENTITY_MISMATCH,
            f"an export of site {site!r} is of another site or of content it did not announce",
            "the site may have changed the dataset meanwhile; run increment again",
        )
    if pair not in asked:
        raise EchoFedError(
            Code.DUPLICATE_REPLY,
            f"site {site!r} sent an export of {card.dataset!r} that nobody asked for",
            "it was dropped; what is stored stays",
        )

    def record() -> None:
        names = {"dataset": pair[0], "expert": pair[1]}
        current.tally.note_arrival("export", site, data, **names)

    bank = current.centre.bank
    store = bank.statistics if is_condensed else bank
    store.add(data, cards, now=current.clock(), record=record)
    return pair
