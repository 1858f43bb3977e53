"""``echofed-site describe``: the data sheet of a dataset."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from shared.console import emit, progress, table
from shared.files import write_bytes
from site_client.commands.options import (
    CONFIG_FILE,
    ConfigOption,
    JsonOption,
    SetOption,
    choose_datasets,
    open_site,
)

_FACTS = ("origin", "source", "created", "licence", "purpose", "kept_pixels", "content_sha256")
_COUNTS = (
    ("splits", "split"),
    ("labels", "label"),
    ("views", "view"),
    ("annotations", "structures"),
    ("picture_sizes", "rows x columns"),
    ("sectors", "sector"),
    ("fan_shapes", "fan"),
)
_SPREADS = ("frames_per_clip", "frame_time_ms", "mm_per_pixel")


def describe(
    dataset: Annotated[
        str, typer.Argument(metavar="[DATASET]", help="Which; the only one by default.")
    ] = "",
    html: Annotated[
        Path | None, typer.Option(help="Write the sheet as one HTML file, with pictures.")
    ] = None,
    config: ConfigOption = Path(CONFIG_FILE),
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say what a dataset holds; counts of too few patients are hidden, shortcuts are named."""
    from site_client.data_sheet import describe as build_sheet
    from site_client.data_sheet import read_acquisitions
    from site_client.data_sheet_page import draw_thumbnails, render_page
    from site_client.egress import minimum_patients
    from site_client.quarantine import waiting_clips

    site = open_site(config, overrides)
    (name,) = choose_datasets(site.store, [dataset] if dataset else ())
    manifest = site.store.manifest(name)
    with progress("describe", len(manifest.clips)) as advance:
        acquisitions = read_acquisitions(site.store, manifest, advance)
    minimum = minimum_patients(site.policy_path, name)
    waiting = [note for note in waiting_clips(site.store) if note.dataset == name]
    sheet = build_sheet(manifest, acquisitions, minimum=minimum, waiting=waiting)
    if html is not None:
        write_bytes(html, render_page(sheet, draw_thumbnails(site.store, manifest)).encode())
    emit(sheet, as_json=as_json, tables=_tables(sheet))


def _tables(sheet: Mapping[str, Any]) -> list[Table]:
    facts = [(name, escape(str(sheet[name] or "not stated"))) for name in _FACTS]
    facts += [(name, _or_hidden(sheet["total"][name])) for name in sheet["total"]]
    facts.append(("clips that wait for review", _or_hidden(sheet["waiting_for_review"]["clips"])))
    tables = [table(f"dataset {sheet['dataset']}", ("what", "value"), facts)]
    for kind, name in _COUNTS:
        rows = [
            (escape(value or "(none)"), *(_or_hidden(row[what]) for what in sheet["total"]))
            for value, row in sheet[kind].items()
        ]
        if rows:
            tables.append(table(kind.replace("_", " "), (name, *sheet["total"]), rows))
    spreads = [(name, *sheet[name].values()) for name in _SPREADS if sheet[name]]
    if spreads:
        columns = ("what", "least", "middle", "greatest", "share known")
        tables.append(table("ranges", columns, spreads))
    return [*tables, _shortcut_table(sheet)]


def _shortcut_table(sheet: Mapping[str, Any]) -> Table:
    rows = [(escape(row["label"]), *list(row.values())[1:]) for row in sheet["possible_shortcuts"]]
    if not rows:
        judged = "none found"
        if rare := ", ".join(sheet["labels_not_judged"]):
            judged += f"; too few patients to judge {escape(rare)}"
        return table("possible shortcuts", ("what",), [(judged,)])
    columns = ("label", "told by", "Cramer's V", "value", "share there", "share overall")
    return table("possible shortcuts", columns, rows)


def _or_hidden(count: int | str | None) -> str:
    return "hidden" if count is None else str(count)
