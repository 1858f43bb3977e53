"""Ask every connected site whether it is there and which release it runs."""

from pathlib import Path
from typing import Any

from flwr.serverapp import Grid

from aggregator.rounds.exchange import Failure, ask, online_sites
from shared.payload import Payload


def run(grid: Grid, config: Path, request: dict[str, Any]) -> dict[str, Any]:
    """Call the roll.

    Args:
        grid: Flower's grid.
        config: the centre's settings file; not read here.
        request: ``sites`` (default: all that are connected), ``timeout_s``, ``blob_bytes`` (size of
            a test blob).

    Returns:
        Site -> its answer, or the number of the error.
    """
    sites = request.get("sites") or sorted(online_sites(grid))
    blobs = {"trial": bytes(int(request.get("blob_bytes", 0)))}
    outcomes = ask(
        grid,
        "query.presence",
        {site: Payload({}, blobs) for site in sites},
        timeout_s=float(request.get("timeout_s", 60)),
    )
    return {
        site: {"error": int(outcome.code)} if isinstance(outcome, Failure) else dict(outcome.body)
        for site, outcome in sorted(outcomes.items())
    }
