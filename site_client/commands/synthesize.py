"""``echofed-site synthesize``: label maps become a synthetic dataset that ``train`` takes."""

from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import typer
from rich.table import Table

from shared.console import emit, progress, table
from shared.errors import Code, EchoFedError
from shared.ledger import Ledger
from site_client.commands.options import (
    CONFIG_FILE,
    ConfigOption,
    JsonOption,
    SetOption,
    Site,
    open_site,
)

if TYPE_CHECKING:
    from shared.synthesis.order import Order, Part
    from site_client.synthesize.maps import MapSource
    from site_client.synthesize.request import SynthesisRequest
    from site_client.synthesize.run import Ask

_Where: TypeAlias = Literal["here", "site", "centre"]


def synthesize(
    maps: Annotated[
        str, typer.Option(help="phantom, or a dataset of this site whose masks are warped.")
    ],
    view: Annotated[str, typer.Option(help="View to draw, as A4C.")],
    dataset: Annotated[str, typer.Option(help="Name of the dataset that is made.")],
    model: Annotated[
        str, typer.Option(help="Synthesizer by alias or id, where it draws.")
    ] = "synthesis",
    num: Annotated[int, typer.Option(help="Images; a larger number later adds to them.")] = 100,
    seed: Annotated[int, typer.Option(help="Of hearts, warps and noise.")] = 0,
    steps: Annotated[int | None, typer.Option(help="Of the solver; its own by default.")] = None,
    solver: Annotated[str | None, typer.Option(help="Its own by default.")] = None,
    guidance: Annotated[
        float | None, typer.Option(help="Pull of the label maps; its own by default.")
    ] = None,
    at: Annotated[
        Literal["auto", "here", "site", "centre"],
        typer.Option(
            help="site asks what echofed-site serve hosts, auto does so where that runs; centre "
            "sends label maps out, those of patients if policy.yaml allows it."
        ),
    ] = "auto",
    dicom: Annotated[
        Path | None, typer.Option(help="Folder for the images as DICOM, marked as synthetic.")
    ] = None,
    config: ConfigOption = Path(CONFIG_FILE),
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Draw images of label maps as a dataset of origin synthetic, with a sheet to look at."""
    from shared.echo.ontology import load_ontology
    from site_client.synthesize.dicom import save_dicom
    from site_client.synthesize.preview import save_preview
    from site_client.synthesize.request import SynthesisRequest
    from site_client.synthesize.run import synthesize as run_synthesis
    from site_client.training.expert import numeric_threads

    site = open_site(config, overrides)
    place = _place(site, at)
    request = SynthesisRequest(
        dataset, site.settings.site, _model(site, model, place), load_ontology().find(view).id,
        num, seed, site.settings.ingest.val_fraction, place, solver, steps, guidance,
    )  # fmt: skip
    with numeric_threads(site.settings.segmenter.threads):
        ask, source = _open(site, request, maps)
        with progress("synthesize", num) as advance:
            report = run_synthesis(
                site.store, request, source, ask, now=datetime.now(UTC), advance=advance
            )
    preview = site.store.preview_path(dataset)
    save_preview(site.store, report.manifest, preview)
    files = save_dicom(site.store, report.manifest, dicom) if dicom else []
    more = {"known": report.num_known, "changed": report.changed, "preview": str(preview)}
    document = {**report.document(), **more, "dicom_files": len(files)}
    emit(document, as_json=as_json, tables=_tables(document))


def _place(site: Site, at: Literal["auto", "here", "site", "centre"]) -> _Where:
    """Where to draw: what was said, else at the site's own service where it runs."""
    from site_client.segment.away import is_served_at_site
    from site_client.synthesize.away import FULL_NAME

    if at != "auto":
        return at
    is_served = is_served_at_site(site.store, site.settings.services, FULL_NAME)
    return "site" if is_served else "here"


def _model(site: Site, model: str, place: _Where) -> str:
    """What the synthesizer is called where it draws; here by its id, so that it stays the same."""
    return site.store.aliased(model) or model if place == "here" else model


def _open(site: Site, request: "SynthesisRequest", maps: str) -> "tuple[Ask, MapSource]":
    """Who draws, and what."""
    from shared.synthesis.answer import draw_order
    from site_client.synthesize.away import draw_at_site
    from site_client.synthesize.here import open_drawer
    from site_client.synthesize.maps import MapShape, open_maps, open_maps_for_host

    if request.at == "here":
        drawer = open_drawer(site.store, request.model, site=request.site)
        shape = MapShape(request.view, drawer.card.image_size, drawer.card.structures)
        source = open_maps(site.store, maps, shape, seed=request.seed)
        return partial(draw_order, drawer), source
    source = open_maps_for_host(site.store, maps, request)
    if request.at == "site":
        return partial(draw_at_site, site.store, site.settings.services), source
    return _centre(site, source, request), source


def _centre(site: Site, source: "MapSource", request: "SynthesisRequest") -> "Ask":
    from site_client.egress import open_egress
    from site_client.synthesize.away import draw_at_centre, release_of

    centre, ledger = site.settings.centre, Ledger(site.store.ledger_path)
    if centre is None:
        raise EchoFedError(
            Code.CONFIG_INVALID,
            "this site belongs to no federation, so no centre draws for it",
            "leave out --at centre",
        )
    egress = open_egress(site.policy_path, ledger, site=request.site, recipient=centre.federation)
    release = release_of(egress, source, num=request.num)

    def ask(order: "Order") -> "Iterator[Part]":
        return draw_at_centre(site.store, centre, release, order, now=datetime.now(UTC))

    return ask


def _tables(document: dict[str, Any]) -> list[Table]:
    names = ("synthesizer", "at", "maps", "view", "seed", "asked", "known", "drawn", "dicom_files")
    rows = [(name, str(document[name])) for name in names]
    rows += [(f"refused, {code}", str(count)) for code, count in document["refused"].items()]
    sides = [(s, document["patients"][s], document["clips"][s]) for s in document["clips"]]
    return [
        table(f"dataset {document['dataset']}", ("what", "value"), rows),
        table("splits", ("split", "patients", "clips"), sides),
        table("to look at", ("file",), [(document["preview"],)]),
    ]
