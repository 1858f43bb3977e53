"""``echofed-site labels``: what a site calls its views, and a label map to sign."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from shared.console import emit, table
from shared.errors import Code, EchoFedError
from shared.files import write_bytes
from site_client.commands.options import CONFIG_FILE, ConfigOption, JsonOption, SetOption, open_site


def labels(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER_OR_CSV", help="CSV: file or sop_uid,label[,...], or its folder."
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(help="Write a label map to sign here; no line is in force yet.")
    ] = None,
    config: ConfigOption = Path(CONFIG_FILE),
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """List labels with the views that their names propose; nothing is applied."""
    from site_client.label_draft import draft_map, find_labels_file, propose_views

    open_site(config, overrides)
    proposals = propose_views(find_labels_file(source))
    if out is not None:
        _refuse_existing(out)
        write_bytes(out, draft_map(proposals).encode())
    rows = [
        {
            "label": proposal.label,
            "files": proposal.num_files,
            "proposed": proposal.view,
            "nearest": list(proposal.nearest),
        }
        for proposal in proposals
    ]
    document = {"labels": rows, "written": out.name if out else None}
    shown = [(escape(p.label), p.num_files, p.view or "?", " ".join(p.nearest)) for p in proposals]
    title = "labels (proposals by name; a person decides)"
    columns = ("label", "files", "proposed view", "nearest names, where none is the same")
    emit(document, as_json=as_json, tables=[table(title, columns, shown)])


def _refuse_existing(out: Path) -> None:
    """A map that somebody may have signed is never overwritten."""
    if out.exists():
        raise EchoFedError(
            Code.ALREADY_EXISTS, f"{out.name} is there already", "choose another name for --out"
        )
