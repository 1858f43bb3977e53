"""What an operator does: admit sites, hold the federation together, start runs and watch them."""

import fcntl
import hashlib
import json
import logging
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aggregator.averages import load_course, run_name
from aggregator.centre import Centre
from aggregator.enrolment import Enrolment, enrolments, expect_enrolment, note_node, revoke
from aggregator.superlink import (
    SuperLink,
    find_bundle,
    list_nodes,
    register_node,
    run_bundle,
    run_status,
    stop_run,
    unregister_node,
)
from shared.errors import Code, EchoFedError
from shared.files import read_json

log = logging.getLogger(__name__)
POLL_S = 0.25
STATUS_EVERY_S = 15.0  # a look at Flower's own list costs seconds of CPU, the outcome file nothing
Watch = Callable[[str, str], None]
"""Told the step and what it is doing."""


def superlink_of(centre: Centre) -> SuperLink:
    """Where this centre's SuperLink lives."""
    centre.superlink_folder.mkdir(parents=True, exist_ok=True)
    port = centre.settings.federation.superlink_port
    return SuperLink(centre.superlink_folder, port, centre.authority)


def admit(centre: Centre, entry: Enrolment) -> None:
    """Note an approved site in the state and the ledger."""
    fingerprint = hashlib.sha256(entry.public_key.encode()).hexdigest()
    centre.state.enrol(entry.site, fingerprint, now=datetime.now(UTC))
    body = {"site": entry.site, "key": fingerprint, "serial": entry.serial}
    centre.ledger.append("site.admitted", body, actor="centre")


def register_site(centre: Centre, entry: Enrolment) -> bool:
    """Register an approved site's node at the SuperLink.

    Returns:
        False where the SuperLink does not run; ``federate`` makes up for it.
    """
    with one_registration(centre):
        return _register(centre, expect_enrolment(centre.authority, entry.site))


def _register(centre: Centre, entry: Enrolment) -> bool:
    if entry.node_id is not None:
        return True
    try:
        node = register_node(superlink_of(centre), site=entry.site, public_key=entry.public_key)
    except EchoFedError as error:
        if error.code is not Code.CENTRE_UNREACHABLE:
            raise
        return False
    note_node(centre.authority, entry.site, node)
    return True


def register_nodes(centre: Centre) -> tuple[str, ...]:
    """Register every approved site that the SuperLink does not know; returns all of them."""
    with one_registration(centre):
        known = list_nodes(superlink_of(centre))
        approved = [entry for entry in enrolments(centre.authority) if entry.status == "approved"]
        for entry in approved:
            is_known = entry.node_id is not None and entry.node_id in known
            _register(centre, entry if is_known else replace(entry, node_id=None))
    return tuple(entry.site for entry in approved)


@contextmanager
def one_registration(centre: Centre) -> Iterator[None]:
    """One registration at a time: ``federate`` registers at its start, ``enrol`` at any time."""
    with (centre.folder / "register.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def expel(centre: Centre, site: str) -> None:
    """Shut a site out at the front, at the SuperLink and from the rounds."""
    node = expect_enrolment(centre.authority, site).node_id
    revoke(centre.authority, site)
    centre.state.dismiss(site)
    centre.ledger.append("site.revoked", {"site": site}, actor="centre")
    if node is None:
        return
    try:
        unregister_node(superlink_of(centre), node)
        note_node(centre.authority, site, None)
    except EchoFedError as error:
        if error.code is not Code.CENTRE_UNREACHABLE:
            raise
        log.warning("the SuperLink does not run; the front refuses %s all the same", site)


def start_increment(
    centre: Centre, config: Path, overrides: Sequence[str], watch: Watch
) -> dict[str, Any]:
    """Run an increment, or take up the one that was interrupted, and wait for its outcome.

    Raises:
        EchoFedError: CENTRE_UNREACHABLE where ``federate`` does not run, RUN_FAILED where the run
            died, else what the run says.
    """
    row = centre.state.open_increment(now=datetime.now(UTC))
    seen = ("", "")

    def look() -> None:
        nonlocal seen
        now = next(one for one in centre.state.increments() if one.id == row.id)
        if (now.step, now.note) != seen:
            seen = (now.step, now.note)
            watch(*seen)

    request = {"increment": row.id, "overrides": list(overrides), "submitted": time.time()}
    return _run(centre, config, "increment", request, look)


def start_averaging(
    centre: Centre,
    config: Path,
    overrides: Sequence[str],
    *,
    datasets: Sequence[str],
    num_rounds: int,
    watch: Callable[[int], None],
) -> dict[str, Any]:
    """Average a segmenter over the sites, or go on where a run was cut off; wait for the outcome.

    Args:
        centre: the open centre.
        config: its settings file.
        overrides: of settings.
        datasets: ``site/dataset``; empty for all.
        num_rounds: of the whole run.
        watch: told how many rounds are stored, whenever there are more.

    Raises:
        EchoFedError: CENTRE_UNREACHABLE where ``federate`` does not run, else what the run says.
    """
    run = run_name(centre.settings.segmenter, tuple(datasets), num_rounds)
    seen = 0

    def look() -> None:
        nonlocal seen
        course = load_course(centre, run)
        done = len(course.rounds) if course else 0
        if done > seen:
            seen = done
            watch(done)

    request = {"datasets": list(datasets), "rounds": num_rounds, "overrides": list(overrides)}
    return _run(centre, config, "average", request, look)


def start_delivery(centre: Centre, config: Path, fusion: str) -> dict[str, Any]:
    """Send a fusion to the sites and wait until it is there."""
    return _run(centre, config, "delivery", {"fusion": fusion}, lambda: None)


def _run(
    centre: Centre,
    config: Path,
    action: str,
    request: dict[str, Any],
    look: Callable[[], None],
) -> dict[str, Any]:
    link = superlink_of(centre)
    outcome = centre.folder / "runs" / f"{action}-{secrets.token_hex(8)}.json"
    run_id = run_bundle(
        link,
        find_bundle(),
        {
            "config": str(config.resolve()),
            "action": action,
            "request": json.dumps(request),
            "outcome": str(outcome),
        },
    )
    log.info("%s is Flower run %s", action, run_id)
    try:
        return _await(link, run_id, outcome, look)
    except KeyboardInterrupt:
        stop_run(link, run_id)
        raise


def _await(link: SuperLink, run_id: str, outcome: Path, look: Callable[[], None]) -> dict[str, Any]:
    check = time.monotonic() + STATUS_EVERY_S
    while not outcome.is_file():
        look()
        time.sleep(POLL_S)
        if time.monotonic() > check:
            state = run_status(link, run_id)
            if state.is_finished and not outcome.is_file():
                raise EchoFedError(
                    Code.RUN_FAILED,
                    f"Flower run {run_id} ended as {state.status} {state.details}".strip(),
                    "run the same command again; what was stored is not asked for again",
                )
            check = time.monotonic() + STATUS_EVERY_S
    look()
    document = read_json(outcome)
    outcome.unlink()
    if "error" in document:
        raise EchoFedError(
            Code(int(document["error"])), str(document["message"]), str(document["hint"])
        )
    result = document["result"]
    assert isinstance(result, dict)
    return result
