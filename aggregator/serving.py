"""What the ledger says about promotions: which fusion serves, and which served before."""

from shared.ledger import Ledger

PROMOTED = "fusion.promoted"
ROLLED_BACK = "fusion.rolled_back"
REFUSED = "fusion.refused"


def promotions(ledger: Ledger) -> tuple[str, ...]:
    """Fusions that were promoted and not rolled back, the serving one last."""
    served: list[str] = []
    for entry in ledger.entries():
        if entry.kind == PROMOTED and entry.body["fusion"] not in served[-1:]:
            served.append(str(entry.body["fusion"]))
        elif entry.kind == ROLLED_BACK:
            served.pop()
    return tuple(served)


def serving_fusion(ledger: Ledger) -> str | None:
    """Id of the fusion that was promoted last, None before the first."""
    served = promotions(ledger)
    return served[-1] if served else None
