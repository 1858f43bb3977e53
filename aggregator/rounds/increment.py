"""An increment: the rounds in their order, each step timed, each result stored before the next.

Nothing in this process needs to survive: what was stored is not asked for again, so an increment
that died is taken up by running it once more.
"""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from aggregator.cards import active_experts
from aggregator.centre import Centre
from aggregator.fuse import choose, fuse
from aggregator.rounds.collect_experts import collect_experts
from aggregator.rounds.collect_features import collect_features
from aggregator.rounds.deliver import deliver
from aggregator.rounds.describe import Roll, describe
from aggregator.rounds.evaluate import evaluate
from aggregator.rounds.round import Ask, Round, Tally
from aggregator.schema import Fusion, Step
from aggregator.serving import serving_fusion
from aggregator.state import iso
from shared.errors import Code, EchoFedError

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Attempt:
    """One try at an increment: its steps, and what went wrong in them without ending it."""

    centre: Centre
    ask: Ask
    increment: str
    number: int
    absent: dict[str, str] = field(default_factory=dict)
    refused: list[dict[str, Any]] = field(default_factory=list)
    arrived: list[dict[str, Any]] = field(default_factory=list)

    @contextmanager
    def step(self, name: str) -> Iterator[Round]:
        """A step: announced while it runs, then kept with its seconds, CPU seconds and bytes."""
        state = self.centre.state
        state.note_progress(self.increment, name, "")
        tally = Tally(self.centre.ledger, self.increment)
        started, wall, cpu = _now(), time.monotonic(), time.process_time()
        try:
            yield Round(self.centre, self.ask, tally, _now)
        finally:
            row = Step(
                increment=self.increment,
                attempt=self.number,
                name=name,
                started=iso(started),
                seconds=time.monotonic() - wall,
                cpu_seconds=time.process_time() - cpu,
                bytes_in=tally.bytes_in,
                bytes_out=tally.bytes_out,
                detail={
                    "site_seconds": tally.site_seconds,
                    "site_cpu_seconds": tally.site_cpu_seconds,
                    "site_start_cpu_seconds": tally.site_start_cpu_seconds,
                    "arrived": len(tally.arrived),
                },
            )
            state.add_step(row)
            for site in tally.absent:
                state.note_absent(site, now=_now())
            self.absent |= tally.absent
            self.refused += tally.refused
            self.arrived += tally.arrived


def run_increment(centre: Centre, ask: Ask, increment: str, *, attempt: int) -> dict[str, Any]:
    """Run or resume an increment up to the evaluated fusion.

    Args:
        centre: the open centre.
        ask: sends requests and collects outcomes.
        increment: id of an open row of the state.
        attempt: 1 for the first try, see ``State.next_attempt``.

    Returns:
        What was done, for the operator; also kept in the increment's row.

    Raises:
        EchoFedError: NOTHING_TO_DO (final), or what keeps the centre from storing (resumable).
    """
    this = Attempt(centre, ask, increment, attempt)
    try:
        outcome = _take_steps(this)
    except EchoFedError as error:
        told = EchoFedError(error.code, error.message + _why(this), error.hint)
        is_final = error.code in (Code.NOTHING_TO_DO, Code.FRAMES_MISSING)
        centre.state.note_failure(increment, told, is_final=is_final)
        raise told from error
    centre.state.close_increment(increment, fusion=outcome["fusion"], outcome=outcome, now=_now())
    centre.ledger.append(
        "increment.finished",
        {"increment": increment, "fusion": outcome["fusion"], "attempt": attempt},
        actor="centre",
    )
    return outcome


def _take_steps(attempt: Attempt) -> dict[str, Any]:
    centre = attempt.centre
    with attempt.step("describe") as current:
        roll = describe(current)
    with attempt.step("experts") as current:
        collect_experts(current, roll)
    with attempt.step("features") as current:
        collect_features(current, roll.without(attempt.absent), active_experts(centre))
    present = roll.without(attempt.absent)
    with attempt.step("fuse") as current:
        known = {row.id for row in centre.state.fusions()}
        row = fuse(
            centre,
            choose(centre, present.present),
            clock=_now,
            note=lambda text: centre.state.note_progress(attempt.increment, "fuse", text),
        )
    with attempt.step("evaluate") as current:
        evaluate(current, present, row.id)
    serving = serving_fusion(centre.ledger)
    if serving is not None:
        with attempt.step("deliver") as current:
            deliver(current, roll.without(attempt.absent), serving)
    return _outcome(attempt, roll, row, is_new=row.id not in known)


def _why(attempt: Attempt) -> str:
    """Who was absent and what was refused, for the message of a failure."""
    parts = [f"{site} is absent" for site in sorted(attempt.absent)]
    parts += [f"{one['kind']} of {one['site']}: {one['message']}" for one in attempt.refused]
    return f" ({'; '.join(parts)})" if parts else ""


def _outcome(attempt: Attempt, roll: Roll, row: Fusion, *, is_new: bool) -> dict[str, Any]:
    state = attempt.centre.state
    return {
        "increment": attempt.increment,
        "attempt": attempt.number,
        "fusion": row.id,
        "is_new": is_new,
        "present": [site for site in roll.present if site not in attempt.absent],
        "absent": attempt.absent,
        "arrived": attempt.arrived,
        "refused": attempt.refused,
        "report": row.report,
        "at_sites": [
            {"site": one.site, "dataset": one.dataset, **one.document}
            for one in state.evaluations(row.id)
        ],
        "steps": [step_document(step) for step in state.steps(attempt.increment)],
    }


def step_document(step: Step) -> dict[str, Any]:
    """A step as JSON values."""
    return {
        "attempt": step.attempt,
        "step": step.name,
        "seconds": round(step.seconds, 3),
        "cpu_seconds": round(step.cpu_seconds, 3),
        "bytes_in": step.bytes_in,
        "bytes_out": step.bytes_out,
        **step.detail,
    }


def _now() -> datetime:
    return datetime.now(UTC)
