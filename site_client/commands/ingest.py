"""``echofed-site ingest``: a folder of files becomes a dataset."""

from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.table import Table

from shared.console import emit, progress, table
from site_client.commands.options import CONFIG_FILE, ConfigOption, JsonOption, SetOption, open_site


def ingest(
    folder: Annotated[Path, typer.Argument(help="Folder of files; searched to the bottom.")],
    dataset: Annotated[
        str, typer.Option(help="Name of the dataset; the folder's by default.")
    ] = "",
    labels: Annotated[
        Path | None, typer.Option(help="CSV: file or sop_uid,label[,split][,patient].")
    ] = None,
    label_map: Annotated[
        Path | None, typer.Option(help="YAML as labels --out drafts it, signed.")
    ] = None,
    origin: Annotated[
        Literal["real", "phantom", "synthetic"],
        typer.Option(help="Where the pictures come from; synthetic: DICOM that says so itself."),
    ] = "real",
    source: Annotated[
        str | None,
        typer.Option(help="Kind of the files: dicom (default), images, video, nifti, mhd."),
    ] = None,
    layout: Annotated[
        str | None,
        typer.Option(help="Public set (camus, tmed2, ...): brings labels, views and licence."),
    ] = None,
    masks: Annotated[
        Path | None,
        typer.Option(help="Folder of label maps named as the pictures: .npz, .png, .nii.gz, .mhd."),
    ] = None,
    structures: Annotated[
        str, typer.Option(help="What their values mean: background,lv,... (.npz may say it).")
    ] = "",
    purpose: Annotated[str, typer.Option(help="What the dataset may be used for, in words.")] = "",
    licence: Annotated[str, typer.Option(help="Terms of the data.")] = "",
    config: ConfigOption = Path(CONFIG_FILE),
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Read, de-identify and store a folder of clips; list what was dropped and why."""
    from site_client.ingest import IngestRequest
    from site_client.ingest import ingest as run_ingest

    site = open_site(config, overrides)
    request = IngestRequest(
        dataset=dataset or folder.resolve().name,
        site=site.settings.site,
        origin=origin,
        labels=labels,
        label_map=label_map,
        source=source,
        purpose=purpose,
        licence=licence,
        layout=layout,
        masks=masks,
        structures=tuple(name.strip() for name in structures.split(",")) if structures else (),
    )
    report = run_ingest(
        folder,
        site.store,
        request,
        site.settings.ingest,
        now=datetime.now(UTC),
        show=partial(progress, "ingest"),
    )
    document = report.document()
    listed = [
        {"position": drop.position, "sha256": drop.sha256, "code": drop.code, "reason": drop.reason}
        for drop in report.dropped
    ]
    emit({**document, "dropped_files": listed}, as_json=as_json, tables=_tables(document, listed))


def _tables(document: dict[str, object], listed: list[dict[str, object]]) -> list[Table]:
    names = (
        "files", "known", "ingested", "frames", "without_mask", "annotated", "unlabelled", "source",
        "licence", "kept_pixels", "label_map_signed", "ignored", "copies", "held",
    )  # fmt: skip
    clips, patients, labels = document["clips"], document["patients"], document["labels"]
    assert isinstance(clips, dict)
    assert isinstance(patients, dict)
    assert isinstance(labels, dict)
    tables = [
        table(
            f"dataset {document['dataset']}",
            ("what", "value"),
            [(n, str(document[n])) for n in names],
        ),
        table(
            "splits", ("split", "patients", "clips"), [(s, patients[s], clips[s]) for s in clips]
        ),
    ]
    if labels:
        tables.append(table("labels", ("label", "clips"), list(labels.items())))
    if listed:
        rows = [tuple(str(value) for value in drop.values()) for drop in listed]
        title = "dropped (position in the sorted listing, start of the file's SHA-256)"
        tables.append(table(title, ("position", "sha256", "code", "reason"), rows))
    return tables
