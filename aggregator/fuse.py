"""Make a fusion from the bank alone: choose exports, train once per recipe, score, store."""

import hashlib
import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import rfc8785

from aggregator.cards import active_experts, home_datasets
from aggregator.centre import Centre
from aggregator.feature_bank import dataset_name
from aggregator.fusion.analytic import LinearHead, fit_heads
from aggregator.fusion.evaluate import LevelScores
from aggregator.fusion.report import FUSED, compare
from aggregator.fusion.scorecard import scorecard
from aggregator.fusion.train import FusionTrials, Provenance, train_fusions
from aggregator.joined_rows import JoinedRows
from aggregator.schema import Fusion
from aggregator.state import iso
from shared.echo.expert import save_checkpoint
from shared.errors import Code, EchoFedError
from shared.models.fusion_weights import FusionModel
from shared.settings import dump_settings

log = logging.getLogger(__name__)
Note = Callable[[str], None]
_METHOD = 4  # raised when the same exports and settings would give another fusion or report


@dataclass(frozen=True, slots=True)
class Choice:
    """What a fusion is made of.

    Args:
        experts: ids in the order of the blocks.
        contents: dataset name -> hash of the content that is used.
        fresh: datasets with every export of the content that a present site announces.
        cached: datasets of which stored exports are used as they are.
        missing: announced datasets without any export.
    """

    experts: tuple[str, ...]
    contents: dict[str, str]
    fresh: tuple[str, ...]
    cached: tuple[str, ...]
    missing: tuple[str, ...]


def choose(centre: Centre, present: Collection[str]) -> Choice:
    """Choose experts and contents from what is announced and banked.

    Args:
        centre: the open centre.
        present: sites that answered just now; empty for a fusion from the bank alone.

    Raises:
        EchoFedError: NOTHING_TO_DO where no announced dataset has an export.
    """
    experts = active_experts(centre)
    choice = Choice(experts, {}, (), (), ())
    fresh: list[str] = []
    cached: list[str] = []
    missing: list[str] = []
    for row in centre.state.announcements():
        name = f"{row.site}/{row.dataset}"
        content = _best_content(centre, name, row.hash)
        if content is None:
            missing.append(name)
            continue
        choice.contents[name] = content
        lacking = centre.bank.lacks({name: row.hash}, experts)
        (fresh if row.site in present and not lacking else cached).append(name)
    if not choice.contents:
        raise EchoFedError(
            Code.NOTHING_TO_DO,
            "no announced dataset has an export in the bank",
            "train an expert at a site, allow its artefacts in policy.yaml, and run increment",
        )
    held = centre.bank.experts()
    usable = tuple(expert for expert in experts if expert in held)
    return Choice(usable, choice.contents, tuple(fresh), tuple(cached), tuple(missing))


def fuse(
    centre: Centre, choice: Choice, *, clock: Callable[[], datetime], note: Note | None = None
) -> Fusion:
    """Train a fusion from the bank, or return the one that was trained from the very same things.

    Args:
        centre: the open centre; checkpoint, report and row are stored there.
        choice: what to fuse.
        clock: aware time.
        note: told how far training is.
    """
    recipe = _recipe(centre, choice)
    for row in centre.state.fusions():
        if row.recipe == recipe:
            return row
    joined = centre.bank.join(choice.experts, choice.contents)
    fusions = centre.state.fusions()
    provenance = Provenance(
        created=iso(clock()),
        parent=fusions[-1].id if fusions else "",
        fresh=choice.fresh,
        cached=choice.cached,
        missing=choice.missing,
    )

    def progress(variant: str, epoch: int, epochs: int) -> None:
        if note is not None:
            note(f"variant {variant}, epoch {epoch} of at most {epochs}")

    trials = train_fusions(
        joined,
        centre.settings.fusion,
        provenance,
        homes=home_datasets(centre),
        progress=progress,
    )
    return _keep(centre, joined, trials, recipe, choice, clock=clock)


def _keep(
    centre: Centre,
    joined: JoinedRows,
    trials: FusionTrials,
    recipe: str,
    choice: Choice,
    *,
    clock: Callable[[], datetime],
) -> Fusion:
    best = trials.best
    save_checkpoint(centre.fusion_folder(best.card.id), best.card, best.weights)
    heads = fit_heads(joined, balance=centre.settings.fusion.balance_datasets)
    report = _report(joined, trials, heads, home_datasets(centre))
    report |= {
        "fresh": list(choice.fresh),
        "cached": list(choice.cached),
        "missing": list(choice.missing),
    }
    row = Fusion(best.card.id, recipe, iso(clock()), dict(choice.contents), report)
    centre.state.add_fusion(row)
    log.info("fusion %s trained as variant %s", best.card.id, best.card.variant)
    return row


def _report(
    joined: JoinedRows,
    trials: FusionTrials,
    heads: Mapping[str, LinearHead],
    homes: Mapping[str, Collection[str]],
) -> dict[str, Any]:
    """Held-out scores of the chosen variant by dataset, of every method beside it, of evidence."""
    variants: dict[str, FusionModel] = {name: one.fusion for name, one in trials.by_variant.items()}
    found = compare(joined, variants, heads)
    chosen = found.scores.get(FUSED + trials.chosen, {})
    everyone = {block.expert: 1.0 for block in joined.blocks}  # what a fusion without a gate does
    return {
        "variant": trials.chosen,
        "experts": [block.expert for block in joined.blocks],
        "validation": {name: one.validation for name, one in trials.by_variant.items()},
        "certainty": {name: one.certainty for name, one in trials.by_variant.items()},
        "datasets": {
            rows.name: {
                "origin": rows.origin,
                "id_scores": found.id_scores.get(trials.chosen, {}).get(rows.name, everyone),
                **(_scores(chosen[rows.name]) if rows.name in chosen else {"num_frames": 0}),
            }
            for rows in joined.datasets
        },
        "comparison": {
            method: {name: _scores(scores) for name, scores in by_name.items()}
            for method, by_name in found.scores.items()
        },
        "macro_f1": found.macro_f1,
        "id_scores": found.id_scores,
        "calibration": {
            variant: {name: asdict(one) | {"excess": one.excess} for name, one in by_name.items()}
            for variant, by_name in found.calibration.items()
        },
        "depths": {
            variant: {
                name: {depth: asdict(one) for depth, one in by_depth.items()}
                for name, by_depth in by_name.items()
            }
            for variant, by_name in found.depths.items()
        },
        "scorecard": asdict(scorecard(joined, homes, variants)),
        "incomplete": {name: list(experts) for name, experts in found.incomplete.items()},
        "unowned": {name: list(labels) for name, labels in found.unowned.items()},
    }


def _scores(scores: LevelScores) -> dict[str, Any]:
    return {"num_frames": scores.frames.num, **asdict(scores)}


def _best_content(centre: Centre, name: str, announced: str) -> str | None:
    """The announced content if the bank has any export of it, else the last one that was banked."""
    here = [content for banked, content in centre.bank.contents() if banked == name]
    if announced in here:
        return announced
    return here[-1] if here else None


def _recipe(centre: Centre, choice: Choice) -> str:
    """Hash of the exports in use, the order of the experts and the settings of training."""
    used = sorted(
        entry.sha256
        for entry in centre.bank.entries()
        if entry.card.expert in choice.experts
        and choice.contents.get(dataset_name(entry.card)) == entry.card.dataset_hash
    )
    used += sorted(
        entry.sha256
        for entry in centre.bank.statistics.entries()
        if choice.contents.get(entry.name) == entry.card.dataset_hash
    )
    document: dict[str, Any] = {
        "method": _METHOD,
        "exports": used,
        "experts": list(choice.experts),
        "settings": dump_settings(centre.settings.fusion),
    }
    return hashlib.sha256(rfc8785.dumps(document)).hexdigest()
