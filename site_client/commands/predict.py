"""``echofed-site predict``: what view a file shows, and which expert says so."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from shared.console import emit, table
from shared.files import write_bytes
from site_client.commands.evaluate import choose_model
from site_client.commands.options import (
    CONFIG_FILE,
    ConfigOption,
    JsonOption,
    SetOption,
    open_site,
)

if TYPE_CHECKING:
    from shared.echo.verdict import Verdict


def predict(
    file: Annotated[Path, typer.Argument(help="DICOM, picture, video, NIfTI or MetaImage.")],
    out: Annotated[Path | None, typer.Option(help="Write the picture with the verdict here.")] = (
        None
    ),
    expert: Annotated[str, typer.Option(help="Ask one expert alone.")] = "",
    fusion: Annotated[str, typer.Option(help="Fusion; the serving one by default.")] = "",
    config: ConfigOption = Path(CONFIG_FILE),
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print view, probabilities, id scores and contributions; nothing is stored or sent."""
    from shared.echo.schema import to_document
    from site_client.overlay import draw_overlay
    from site_client.predict import open_fusion, open_single, read_clip
    from site_client.predict import predict as judge_clip
    from site_client.training.expert import numeric_threads

    site = open_site(config, overrides)
    kind, model = choose_model(site.store, expert, fusion)
    if kind == "expert":
        judge = open_single(site.store, model)
    else:
        judge = open_fusion(site.store, model, site=site.settings.site)
    clip = read_clip(file, site.settings.ingest.keep_pixels)
    with numeric_threads(site.settings.extract.threads):
        verdict = judge_clip(clip, judge)
    if out is not None:
        write_bytes(out, draw_overlay(clip, verdict))
    emit(to_document(verdict), as_json=as_json, tables=_tables(verdict))


def _tables(verdict: "Verdict") -> list[Table]:
    ranked = sorted(verdict.probabilities, key=lambda view: -verdict.probabilities[view])
    note = f" (abstains: {', '.join(verdict.doubts)})" if verdict.abstains else ""
    home = "" if verdict.id_scalar is None else f", at home {verdict.id_scalar:.2f}"
    experts = [say.expert for say in verdict.experts]
    return [
        table(
            f"{verdict.view}{note}, {verdict.num_frames} frames{home}: probability, contribution",
            ("view", "probability", *experts),
            [
                (
                    view,
                    verdict.probabilities[view],
                    *(say.contributions[view] for say in verdict.experts),
                )
                for view in ranked
            ],
        ),
        table(
            "experts",
            ("expert", "id score", "its own view"),
            [(say.expert, say.id_score, say.top_view) for say in verdict.experts],
        ),
    ]
