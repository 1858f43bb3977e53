"""``echofed-site train``: datasets become an expert, a segmenter or a synthesizer."""

from collections.abc import Callable, Iterator, Mapping, Sequence
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
    from shared.echo.expert import ExpertCard
    from shared.echo.segmenter import SegmenterCard
    from shared.echo.synthesizer import SynthesizerCard
    from site_client.training.loop import Step
    from site_client.training.strides import Stride


def train(
    dataset: Annotated[
        list[str] | None,
        typer.Option(help="Dataset to train on; repeat it to pool several. Default: the only one."),
    ] = None,
    config: ConfigOption = Path(CONFIG_FILE),
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train an expert, or what --set task=segmentation or synthesis says; a killed run goes on."""
    site = open_site(config, overrides)
    datasets = choose_datasets(site.store, dataset or ())
    learn = {
        "views": _train_expert,
        "segmentation": _train_segmenter,
        "synthesis": _train_synthesizer,
    }[site.settings.task]
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
    facts = {
        "backbone": card.backbone,
        "views": list(card.views),
        "feature_width": card.feature_width,
        "layers": len(card.layers),
        "parent": card.parent,
        "trunk": card.trunk,
    }
    shown = [("backbone", card.backbone), ("views", " ".join(card.views))]
    shown += [("trunk", card.trunk)] if card.trunk else []
    _tell(site, "expert", card, facts, shown, as_json=as_json)


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
    facts = {
        "network": card.network,
        "answers": card.answers,
        "structures": list(card.structures),
        "views": list(card.views),
        "parent": card.parent,
    }
    shown = [("network", card.network), ("views", " ".join(card.views))]
    shown += [(card.answers, " ".join(card.structures))]
    _tell(site, "segmenter", card, facts, shown, as_json=as_json)


def _train_synthesizer(site: Site, datasets: Sequence[str], *, as_json: bool) -> None:
    from site_client.training.synthesizer import train_synthesizer

    settings = site.settings.synthesizer
    with _share_shown(f"train {settings.network}") as report:
        card = train_synthesizer(
            site.store,
            datasets,
            settings,
            site=site.settings.site,
            now=datetime.now(UTC),
            report=report,
        )
    facts = {
        "network": card.network,
        "autoencoder": card.autoencoder,
        "precondition": card.precondition,
        "structures": list(card.structures),
        "views": list(card.views),
        "parent": card.parent,
        "release_threshold": card.release_threshold,
    }
    shown = [("network", card.network), ("autoencoder", card.autoencoder)]
    shown += [("views", " ".join(card.views)), ("structures", " ".join(card.structures))]
    _tell(site, "synthesizer", card, facts, shown, as_json=as_json)


def _tell(
    site: Site,
    kind: str,
    card: "ExpertCard | SegmenterCard | SynthesizerCard",
    facts: Mapping[str, object],
    shown: Sequence[tuple[str, str]],
    *,
    as_json: bool,
) -> None:
    """Enter what was trained in the ledger, and say what it is."""
    body = {kind: card.id, "sha256": card.weights_sha256, "datasets": list(card.datasets)}
    Ledger(site.store.ledger_path).append(
        f"{kind}.trained", {**body, "parent": card.parent}, actor=card.site
    )
    rows = [*shown, *((name, f"{value:.3f}") for name, value in card.metrics.items())]
    emit(
        {**body, **facts, "metrics": card.metrics},
        as_json=as_json,
        tables=[table(f"{kind} {card.id}", ("what", "value"), rows)],
    )


@contextmanager
def _share_shown(name: str) -> Iterator[Callable[["Stride"], None]]:
    """What is told after each step of each stage, as one progress bar a stage, in percent."""
    with ExitStack() as stack:
        done: dict[str, int] = {}
        bars: dict[str, Advance] = {}

        def report(stride: "Stride") -> None:
            if stride.stage not in bars:
                bars[stride.stage] = stack.enter_context(progress(f"{name}: {stride.stage}", 100))
            percent = int(100 * stride.share)
            judged = "" if stride.validation is None else f", validation {stride.validation:.4f}"
            note = f"step {stride.step}: loss {stride.loss:.4f}{judged}"
            bars[stride.stage](percent - done.get(stride.stage, 0), note)
            done[stride.stage] = percent

        yield report


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
