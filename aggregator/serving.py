"""What the ledger says about promotions and withdrawals: what serves, and what served before."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from shared.ledger import Ledger, LedgerEntry

PROMOTED = "fusion.promoted"
ROLLED_BACK = "fusion.rolled_back"
WITHDRAWAL_BEGUN = "withdrawal.begun"
WITHDRAWN = "dataset.withdrawn"
"""The certificate of a withdrawal."""
REFUSED = "fusion.refused"
SEGMENTER_REGISTERED = "segmenter.registered"
SEGMENTER_PROMOTED = "segmenter.promoted"


@dataclass(frozen=True, slots=True)
class ServedSegmenter:
    """A registered segmenter of which no dataset was withdrawn.

    Args:
        datasets: ``site/dataset`` of each that it was trained on.
        parent: id of the segmenter that it started from, or empty.
        aliases: what stands for it now.
    """

    segmenter: str
    sha256: str
    site: str
    origin: str
    answers: str
    datasets: tuple[str, ...]
    parent: str
    registered: str
    aliases: tuple[str, ...]


def promotions(ledger: Ledger) -> tuple[str, ...]:
    """Fusions that were promoted and neither rolled back nor withdrawn, the serving one last."""
    served: list[str] = []
    for entry in ledger.entries():
        if entry.kind == PROMOTED and entry.body["fusion"] not in served[-1:]:
            served.append(str(entry.body["fusion"]))
        elif entry.kind == ROLLED_BACK:
            served.pop()
        elif entry.kind == WITHDRAWAL_BEGUN:
            served = left_serving(served, entry.body["fusions"])
    return tuple(served)


def left_serving(served: Sequence[str], gone: Collection[str]) -> list[str]:
    """What stays of the fusions that served: nothing at all where the serving one goes.

    An older fusion does not step in by itself: a person decides what serves, and promotes it.
    """
    if not served or served[-1] in gone:
        return []
    kept: list[str] = []
    for fusion in served:
        if fusion not in gone and fusion not in kept[-1:]:
            kept.append(fusion)
    return kept


def serving_fusion(ledger: Ledger) -> str | None:
    """Id of the fusion that was promoted last, None before the first."""
    served = promotions(ledger)
    return served[-1] if served else None


def served_segmenters(ledger: Ledger) -> dict[str, ServedSegmenter]:
    """The registered segmenters by id, the first one first; see ``ServedSegmenter``.

    Where a dataset is withdrawn, its segmenters and those that started from them are gone, and
    their aliases stand for nothing until a person decides.
    """
    known, aliases, _ = _segmenters(ledger)
    return {
        name: ServedSegmenter(
            segmenter=name,
            sha256=entry.body["sha256"],
            site=entry.body["site"],
            origin=entry.body["origin"],
            answers=entry.body["answers"],
            datasets=tuple(entry.body["datasets"]),
            parent=entry.body["parent"],
            registered=entry.time,
            aliases=tuple(sorted(alias for alias, stood in aliases.items() if stood == name)),
        )
        for name, entry in known.items()
    }


def withdrawn_segmenters(ledger: Ledger) -> dict[str, dict[str, str]]:
    """What went with each withdrawn dataset (``site/dataset``): id -> hash of the weights."""
    return _segmenters(ledger)[2]


def _segmenters(
    ledger: Ledger,
) -> tuple[dict[str, LedgerEntry], dict[str, str], dict[str, dict[str, str]]]:
    """Entries of those registered, what the aliases stand for, and what went with which dataset."""
    known: dict[str, LedgerEntry] = {}
    aliases: dict[str, str] = {}
    went: dict[str, dict[str, str]] = {}
    for entry in ledger.entries():
        body = entry.body
        if entry.kind == SEGMENTER_REGISTERED:
            known[body["segmenter"]] = entry
        elif entry.kind == SEGMENTER_PROMOTED:
            aliases[body["alias"]] = body["segmenter"]
        elif entry.kind == WITHDRAWAL_BEGUN:
            gone = _going(known, str(body["dataset"]))
            went[body["dataset"]] = {name: str(known.pop(name).body["sha256"]) for name in gone}
            aliases = {alias: name for alias, name in aliases.items() if name not in gone}
    return known, aliases, went


def _going(known: Mapping[str, LedgerEntry], dataset: str) -> set[str]:
    """Those trained on the dataset, and by lineage those that started from one that goes."""
    gone = {name for name, one in known.items() if dataset in one.body["datasets"]}
    while found := {
        name for name, one in known.items() if one.body["parent"] in gone and name not in gone
    }:
        gone |= found
    return gone


def unfinished_withdrawals(ledger: Ledger) -> tuple[str, ...]:
    """Datasets (``site/dataset``) whose withdrawal was begun and has no certificate yet."""
    begun: dict[str, None] = {}
    for entry in ledger.entries():
        if entry.kind == WITHDRAWAL_BEGUN:
            begun[str(entry.body["dataset"])] = None
        elif entry.kind == WITHDRAWN:
            begun.pop(str(entry.body["dataset"]), None)
    return tuple(begun)
