"""``echofed-site train``: datasets become an expert, or a segmenter."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from shared.console import Advance, emit, progress, table
from shared.ledger import Ledger
from site_client.commands.options import (
    CONFIG_FILE,
    ConfigOption,
    JsonOption,
    SetOption,
    Site,
    choose_datasets,
    open_site,
)

if TYPE_CHECKING:
    from site_client.training.loop import Step


def train(
    dataset: Annotated[
        list[str] | None,
        typer.Option(help="Dataset to train on; repeat it to pool several. Default: the only one."),
    ] = None,
    config: ConfigOption = Path(CONFIG_FILE),
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train an expert, or a segmenter with --set task=segmentation; a killed run goes on."""
    site = open_site(config, overrides)
    datasets = choose_datasets(site.store, dataset or ())
    learn = _train_segmenter if site.settings.task == "segmentation" else _train_expert
    learn(site, datasets, as_json=as_json)


def _train_expert(site: Site, datasets: Sequence[str], *, as_json: bool) -> None:
    from site_client.training.expert import train_expert

    settings = site.settings.expert
    with _shown(f"train {settings.backbone}") as report:
        card = train_expert(
            site.store,
            datasets,
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


def _train_segmenter(site: Site, datasets: Sequence[str], *, as_json: bool) -> None:
    from site_client.training.segmenter import train_segmenter

    settings = site.settings.segmenter
    with _shown(f"train {settings.network}") as report:
        card = train_segmenter(
            site.store,
            datasets,
            settings,
            site=site.settings.site,
            now=datetime.now(UTC),
            report=report,
        )
    body = {"segmenter": card.id, "sha256": card.weights_sha256, "datasets": list(card.datasets)}
    Ledger(site.store.ledger_path).append(
        "segmenter.trained", {**body, "parent": card.parent}, actor=card.site
    )
    document = {
        **body,
        "network": card.network,
        "answers": card.answers,
        "structures": list(card.structures),
        "views": list(card.views),
        "parent": card.parent,
        "metrics": card.metrics,
    }
    shown = [("network", card.network), ("views", " ".join(card.views))]
    shown += [(card.answers, " ".join(card.structures))]
    shown += [(name, f"{value:.3f}") for name, value in card.metrics.items()]
    heading = f"segmenter {card.id}"
    emit(document, as_json=as_json, tables=[table(heading, ("what", "value"), shown)])


@contextmanager
def _shown(name: str) -> Iterator[Callable[["Step"], None]]:
    """What is told after each step, as a progress bar."""
    with ExitStack() as stack:
        done = 0
        advance: Advance | None = None

        def report(step: "Step") -> None:
            nonlocal done, advance
            if advance is None:
                advance = stack.enter_context(progress(name, step.total))
            best = "" if step.best is None else f", best validation {step.best:.3f}"
            advance(step.done - done, f"epoch {step.epoch + 1}: loss {step.loss:.3f}{best}")
            done = step.done

        yield report
