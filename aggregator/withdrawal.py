"""Withdraw a dataset: purge all that holds it, fuse again from what remains, certify.

The order makes it safe to be killed: the ledger says that it begins, one transaction drops the rows
and keeps the list of what goes, files and registry follow, the certificate comes last. Running it
again goes on where it stood.
"""

import platform
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from typing import Any

from aggregator.averages import drop_runs_of
from aggregator.centre import Centre, alone
from aggregator.fuse import Note, choose, fuse
from aggregator.impact import Impact, begun_impact, figures_of, find_impact
from aggregator.promotion import register, registry_of
from aggregator.schema import Fusion, Withdrawal
from aggregator.serving import (
    WITHDRAWAL_BEGUN,
    WITHDRAWN,
    served_models,
    serving_fusion,
    withdrawn_models,
)
from aggregator.state import iso
from shared.echo.expert import load_fusion
from shared.echo.model_card import KINDS, kind_folder
from shared.errors import Code, EchoFedError
from shared.ledger import LedgerEntry

_NOTHING_LEFT = (
    Code.NOTHING_TO_DO,
    Code.FRAMES_MISSING,
    Code.EXPERT_UNKNOWN,
    Code.ONE_CLASS_ONLY,
)


@dataclass(frozen=True, slots=True)
class Again:
    """The fusion of what remains, or why there is none."""

    row: Fusion | None
    why_none: str = ""


def withdraw(
    centre: Centre,
    dataset: str,
    *,
    actor: str,
    clock: Callable[[], datetime],
    keep_descendants: bool = False,
    note: Note | None = None,
) -> dict[str, Any]:
    """Withdraw a dataset, or finish a withdrawal that was cut off.

    Args:
        centre: the open centre.
        dataset: ``site/dataset``.
        actor: who acts, for the ledger.
        clock: aware time.
        keep_descendants: let experts stay that only started from an affected one; the certificate
            then says that it is not exact.
        note: told how far training is.

    Returns:
        Impact, figures before and after, certificate, and what remains to be done.

    Raises:
        EchoFedError: DATASET_UNKNOWN, NOTHING_TO_DO where it is withdrawn already, RUN_FAILED while
            an increment runs.
    """
    with alone(centre):
        impact = begun_impact(centre, dataset)
        if impact is None:
            impact = find_impact(centre, dataset, keep_descendants=keep_descendants)
            _begin(centre, impact, actor=actor, now=clock())
        _purge(centre, impact)
        again = _fuse_again(centre, impact, clock=clock, note=note)
        entry = _certify(centre, impact, again, actor=actor)
        outcome = _report(centre, impact, again, entry)
        site, _, name = dataset.partition("/")
        centre.state.finish_withdrawal(site, name, outcome)
    return outcome


def _begin(centre: Centre, impact: Impact, *, actor: str, now: datetime) -> None:
    """From the ledger's entry on nothing affected serves; then no row names it any more."""
    body = {
        "dataset": impact.dataset,
        "experts": [one.expert for one in impact.experts],
        "fusions": [one.fusion for one in impact.fusions],
    }
    centre.ledger.append(WITHDRAWAL_BEGUN, body, actor=actor)
    site, _, name = impact.dataset.partition("/")
    centre.state.begin_withdrawal(Withdrawal(site, name, "begun", iso(now), impact.document(), {}))


def _purge(centre: Centre, impact: Impact) -> None:
    """Delete exports, checkpoints and registered versions; what is gone already is passed over."""
    centre.bank.remove({one.sha256 for one in impact.exports})
    served = served_models(centre.ledger).values()
    rows = {
        "experts": {row.id for row in centre.state.experts()},
        "fusions": {row.id for row in centre.state.fusions()},
        **{kind_folder(kind): {one.model for one in served if one.kind == kind} for kind in KINDS},
    }
    for kind, named in rows.items():
        # also what a run that died stored without a row: nobody can say what is in it
        for folder in (centre.folder / kind).glob("*"):
            if folder.name not in named:
                shutil.rmtree(folder)
    if any(one.version for one in impact.fusions):
        registry_of(centre).remove({one.fusion for one in impact.fusions})
    drop_runs_of(centre, impact.dataset)
    for one in withdrawn_models(centre.ledger).get(impact.dataset, ()):
        registry_of(centre).remove_models(one.kind, (one.model,))


def _fuse_again(
    centre: Centre, impact: Impact, *, clock: Callable[[], datetime], note: Note | None
) -> Again:
    """Train from what remains; it becomes candidate where a registered fusion went."""
    if not impact.fusions:
        return Again(None, "no fusion held it")
    try:
        row = fuse(centre, choose(centre, ()), clock=clock, note=note)
    except EchoFedError as error:
        if error.code not in _NOTHING_LEFT:
            raise
        return Again(None, f"nothing is left to fuse: {error.message}")
    if any(one.version for one in impact.fusions):
        register(centre, row.id)
    return Again(row)


def _certify(centre: Centre, impact: Impact, again: Again, *, actor: str) -> LedgerEntry:
    """Write the certificate, or find the one that a killed run wrote."""
    for entry in centre.ledger.entries():
        if entry.kind == WITHDRAWN and entry.body["dataset"] == impact.dataset:
            return entry
    faults = _inexact(impact)
    fused: dict[str, Any] = {"why_none": again.why_none}
    if again.row is not None:
        card, _ = load_fusion(centre.fusion_folder(again.row.id))
        fused = {"id": card.id, "sha256": card.weights_sha256}
        fused |= {"recipe": again.row.recipe, "trained": again.row.trained}
    body = {
        "dataset": impact.dataset,
        "purged_experts": {one.expert: one.sha256 for one in impact.experts},
        "purged_exports": sorted(one.sha256 for one in impact.exports),
        "purged_fusions": {one.fusion: one.sha256 for one in impact.fusions},
        **_purged_models(centre, impact.dataset),
        "purged_evaluations": impact.evaluations,
        "remaining_exports": sorted(
            [
                *(entry.sha256 for entry in centre.bank.entries()),
                *(entry.sha256 for entry in centre.bank.statistics.entries()),
            ]
        ),
        "fusion": fused,
        "exact": not faults,
        "not_exact_because": faults,
        "made_with": {
            "torch": version("torch"),
            "numpy": version("numpy"),
            "machine": platform.machine(),
            "threads": centre.settings.fusion.threads,
        },
    }
    return centre.ledger.append(WITHDRAWN, body, actor=actor)


def _purged_models(centre: Centre, dataset: str) -> dict[str, dict[str, str]]:
    """``purged_segmenters`` and so on: id -> hash of the weights."""
    gone = withdrawn_models(centre.ledger).get(dataset, ())
    return {
        f"purged_{kind_folder(kind)}": {one.model: one.sha256 for one in gone if one.kind == kind}
        for kind in KINDS
    }


def _inexact(impact: Impact) -> list[str]:
    """Why what remains may still carry something of the dataset."""
    kept = [f"expert {one} started from one that was trained on it" for one in impact.kept]
    return kept + [f"the parent of expert {one} is unknown here" for one in impact.untraced]


def _report(centre: Centre, impact: Impact, again: Again, entry: LedgerEntry) -> dict[str, Any]:
    after = figures_of(again.row, without=impact.dataset) if again.row else {}
    return {
        "dataset": impact.dataset,
        "impact": impact.document(),
        "before": {"fusion": impact.figures_of, "macro_f1": impact.macro_f1},
        "after": {"fusion": again.row.id if again.row else "", "macro_f1": after},
        "why_none": again.why_none,
        "served_before": impact.serving,
        "serving": serving_fusion(centre.ledger) or "",
        "certificate": {"position": entry.position, "leaf": entry.leaf, **entry.body},
        "afterwards": _afterwards(impact, again),
    }


def _afterwards(impact: Impact, again: Again) -> list[str]:
    """What an operator has to see to; the sites' copies go when they are asked next."""
    todo = []
    if impact.serving:
        todo.append("nothing serves here until a fusion is promoted")
    if again.row is not None:
        todo.append(f"look at the figures, then promote {again.row.id}")
    for one in impact.experts:
        others = [name for name in one.datasets if f"{one.site}/{name}" != impact.dataset]
        if others:
            where = "from scratch " if one.is_descendant else ""
            todo.append(f"site {one.site} must train {where}again on {', '.join(others)}")
    return [
        *todo,
        "sites drop their copies when they are asked next (increment, promote)",
        "backups of this centre's folder are not touched",
    ]
