"""``echofed-site train``: datasets become an expert."""

from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from shared.console import Advance, emit, progress, table
from shared.ledger import Ledger
from site_client.commands.options import (
    CONFIG_FILE,
    ConfigOption,
    JsonOption,
    SetOption,
    choose_datasets,
    open_site,
)


def train(
    dataset: Annotated[
        list[str] | None,
        typer.Option(help="Dataset to train on; repeat it to pool several. Default: the only one."),
    ] = None,
    config: ConfigOption = Path(CONFIG_FILE),
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train an expert; a run that was killed goes on where it stood."""
    from site_client.training.expert import train_expert
    from site_client.training.loop import Step

    site = open_site(config, overrides)
    settings = site.settings.expert
    with ExitStack() as stack:
        done = 0
        advance: Advance | None = None

        def report(step: Step) -> None:
            nonlocal done, advance
            if advance is None:
                bar = progress(f"train {settings.backbone}", step.total)
                advance = stack.enter_context(bar)
            best = "" if step.best is None else f", best validation {step.best:.3f}"
            advance(step.done - done, f"epoch {step.epoch + 1}: loss {step.loss:.3f}{best}")
            done = step.done

        card = train_expert(
            site.store,
            choose_datasets(site.store, dataset or ()),
            settings,
            site=site.settings.site,
            now=datetime.now(UTC),
            report=report,
        )
    body = {"expert": card.id, "sha256": card.weights_sha256, "datasets": list(card.datasets)}
    Ledger(site.store.ledger_path).append(
        "expert.trained", {**body, "parent": card.parent}, actor=card.site
    )
    document = {
        **body,
        "backbone": card.backbone,
        "views": list(card.views),
        "feature_width": card.feature_width,
        "layers": len(card.layers),
        "parent": card.parent,
        "trunk": card.trunk,
        "metrics": card.metrics,
    }
    shown = [("backbone", card.backbone), ("views", " ".join(card.views))]
    shown += [("trunk", card.trunk)] if card.trunk else []
    shown += [(name, f"{value:.3f}") for name, value in card.metrics.items()]
    emit(document, as_json=as_json, tables=[table(f"expert {card.id}", ("what", "value"), shown)])
