"""A delivery by itself, after a promotion or a rollback: the roll, then the last round."""

from datetime import UTC, datetime
from typing import Any

from aggregator.centre import Centre
from aggregator.rounds.deliver import deliver
from aggregator.rounds.describe import describe
from aggregator.rounds.round import Ask, Round, Tally


def run_delivery(centre: Centre, ask: Ask, fusion: str) -> dict[str, Any]:
    """Bring a promoted fusion to every site that can be reached.

    Returns:
        The sites that serve it now, those that are absent, and what was refused.
    """
    tally = Tally(centre.ledger, "")
    current = Round(centre, ask, tally, lambda: datetime.now(UTC))
    serving = deliver(current, describe(current), fusion)
    return {
        "fusion": fusion,
        "serving": list(serving),
        "absent": tally.absent,
        "refused": tally.refused,
        "bytes_in": tally.bytes_in,
        "bytes_out": tally.bytes_out,
    }
