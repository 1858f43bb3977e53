"""What the ledger says about promotions and withdrawals: what serves, and what served before."""

from collections.abc import Collection, Sequence

from shared.ledger import Ledger

PROMOTED = "fusion.promoted"
ROLLED_BACK = "fusion.rolled_back"
WITHDRAWAL_BEGUN = "withdrawal.begun"
WITHDRAWN = "dataset.withdrawn"
"""The certificate of a withdrawal."""
REFUSED = "fusion.refused"


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


def unfinished_withdrawals(ledger: Ledger) -> tuple[str, ...]:
    """Datasets (``site/dataset``) whose withdrawal was begun and has no certificate yet."""
    begun: dict[str, None] = {}
    for entry in ledger.entries():
        if entry.kind == WITHDRAWAL_BEGUN:
            begun[str(entry.body["dataset"])] = None
        elif entry.kind == WITHDRAWN:
            begun.pop(str(entry.body["dataset"]), None)
    return tuple(begun)
