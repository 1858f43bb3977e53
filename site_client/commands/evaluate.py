"""``echofed-site evaluate``: score an expert or a fusion on a dataset of the site."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.table import Table

from shared.console import emit, table
from shared.errors import Code, EchoFedError
from site_client.commands.options import (
    CONFIG_FILE,
    ConfigOption,
    JsonOption,
    SetOption,
    choose_datasets,
    open_site,
)
from site_client.store import SiteStore

if TYPE_CHECKING:
    from site_client.evaluate import Evaluation


def evaluate(
    expert: Annotated[str, typer.Option(help="Expert of this site, own or received.")] = "",
    fusion: Annotated[
        str, typer.Option(help="Fusion of this site; the serving one by default.")
    ] = "",
    dataset: Annotated[
        list[str] | None, typer.Option(help="Dataset; repeatable. Default: the only one.")
    ] = None,
    split: Annotated[Literal["train", "val", "test"], typer.Option(help="Whose frames.")] = "test",
    background_only: Annotated[
        bool, typer.Option(help="Blacken the sector: what does the screen give away?")
    ] = False,
    config: ConfigOption = Path(CONFIG_FILE),
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Score a model in each dataset's own vocabulary, by frame and by clip."""
    from site_client.evaluate import evaluate_expert, judge_fusion
    from site_client.training.expert import numeric_threads

    site = open_site(config, overrides)
    kind, model = choose_model(site.store, expert, fusion)
    score = evaluate_expert if kind == "expert" else judge_fusion
    with numeric_threads(site.settings.extract.threads):
        found = [
            score(site.store, model, name, split=split, background_only=background_only)
            for name in choose_datasets(site.store, dataset or ())
        ]
    document = {
        kind: model,
        "background_only": background_only,
        "datasets": {one.dataset: one.document() for one in found},
    }
    if len(found) == 1:
        document |= {"dataset": found[0].dataset, "scores": {split: found[0].document()}}
    emit(document, as_json=as_json, tables=[_table(one, model) for one in found])


def choose_model(store: SiteStore, expert: str, fusion: str) -> tuple[str, str]:
    """What was asked for: an expert or a fusion by id, or the serving fusion.

    Raises:
        EchoFedError: CONFIG_INVALID where both are named, FUSION_UNKNOWN where nothing serves.
    """
    if expert and fusion:
        raise EchoFedError(
            Code.CONFIG_INVALID, "both an expert and a fusion are named", "name one of them"
        )
    if expert:
        return "expert", expert
    serving = fusion or store.serving_fusion()
    if serving is None:
        raise EchoFedError(
            Code.FUSION_UNKNOWN,
            "no fusion has been promoted to this site",
            f"name one of its experts with --expert: {', '.join(store.experts()) or 'none yet'}",
        )
    return "fusion", serving


def _table(scored: "Evaluation", model: str) -> Table:
    rows = [
        (label, scored.frames.recall[label], scored.clips.recall[label], scored.clips.f1[label])
        for label in scored.clips.recall
    ]
    rows.append(
        (
            "mean",
            scored.frames.balanced_accuracy,
            scored.clips.balanced_accuracy,
            scored.clips.macro_f1,
        )
    )
    counts = f"{scored.frames.num} frames, {scored.clips.num} clips"
    return table(
        f"{model} on {scored.dataset}, {scored.split} ({counts})",
        ("label", "recall, frames", "recall, clips", "F1, clips"),
        rows,
    )
