"""The actions of a Flower run: open the centre, bind the grid, run the rounds."""

import time
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from flwr.serverapp import Grid

from aggregator.centre import Centre, alone, open_centre
from aggregator.rounds import exchange
from aggregator.rounds.delivery import run_delivery
from aggregator.rounds.round import Ask
from aggregator.schema import Step
from aggregator.state import iso
from shared.log import set_up_log


def increment(grid: Grid, config: Path, request: dict[str, Any]) -> dict[str, Any]:
    """Run an increment.

    Args:
        grid: Flower's grid.
        config: the centre's settings file.
        request: ``increment`` (id of an open row), ``overrides`` of settings, ``submitted``
            (seconds since the epoch, when the run was asked for).
    """
    from aggregator.rounds.increment import run_increment  # torch, which a delivery does without

    centre, ask = _open(grid, config, request)
    name = str(request["increment"])
    with alone(centre):
        attempt = centre.state.next_attempt(name)
        seconds = max(0.0, time.time() - float(request["submitted"]))
        started = iso(datetime.fromtimestamp(time.time() - seconds, UTC))
        cpu = time.process_time()
        centre.state.add_step(Step(name, attempt, "start", started, seconds, cpu, 0, 0, {}))
        _gather(grid, centre)
        return run_increment(centre, ask, name, attempt=attempt)


def average(grid: Grid, config: Path, request: dict[str, Any]) -> dict[str, Any]:
    """Average a segmenter over the sites, or go on with a run that was cut off.

    Args:
        grid: Flower's grid.
        config: the centre's settings file.
        request: ``rounds``, ``datasets`` (``site/dataset``; empty for all) and ``overrides`` of
            settings.
    """
    from aggregator.rounds.averaging import run_averaging  # torch, which a delivery does without

    centre, ask = _open(grid, config, request)
    datasets = tuple(map(str, request["datasets"]))
    with alone(centre):
        _gather(grid, centre)
        return run_averaging(centre, ask, datasets=datasets, num_rounds=int(request["rounds"]))


def delivery(grid: Grid, config: Path, request: dict[str, Any]) -> dict[str, Any]:
    """Bring the fusion of the request to every site that can be reached."""
    centre, ask = _open(grid, config, request)
    return run_delivery(centre, ask, str(request["fusion"]))


def _open(grid: Grid, config: Path, request: dict[str, Any]) -> tuple[Centre, Ask]:
    set_up_log(site="centre")
    centre = open_centre(config, request.get("overrides", ()))
    timeout_s = float(centre.settings.federation.reply_timeout_s)
    return centre, partial(exchange.ask, grid, timeout_s=timeout_s)


def _gather(grid: Grid, centre: Centre) -> None:
    """Wait a little for the sites that answered last time or never were asked."""
    expected = {row.code for row in centre.state.sites() if not row.absent_since}
    deadline = time.monotonic() + centre.settings.federation.gather_s
    while expected - exchange.online_sites(grid).keys() and time.monotonic() < deadline:
        time.sleep(exchange.POLL_S)
