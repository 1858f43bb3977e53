"""``echofed-site review``: clips with text in their sector are shown, kept, blanked or dropped."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shared.console import emit, table
from shared.errors import Code, EchoFedError
from shared.files import write_bytes
from shared.ledger import Ledger
from site_client.commands.options import CONFIG_FILE, ConfigOption, JsonOption, SetOption, open_site

if TYPE_CHECKING:
    from site_client.quarantine import Decision, HeldClip


def review(
    key: Annotated[str, typer.Argument(help="Key of a clip, or its beginning.")] = "",
    out: Annotated[Path | None, typer.Option(help="Write the frame with the boxes here.")] = None,
    keep: Annotated[bool, typer.Option("--keep", help="It is no text, or names nobody.")] = False,
    blank: Annotated[bool, typer.Option("--blank", help="Black out the boxes.")] = False,
    drop: Annotated[bool, typer.Option("--drop", help="Leave the clip out for good.")] = False,
    config: ConfigOption = Path(CONFIG_FILE),
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the clips that were held back, draw one, or decide; the next ingest obeys."""
    from site_client.overlay import draw_boxes
    from site_client.quarantine import decide, held_clip, held_clips, held_pixels

    site = open_site(config, overrides)
    decision = _decision(keep=keep, blank=blank, drop=drop)
    if not key:
        if decision or out is not None:
            raise EchoFedError(
                Code.CONFIG_INVALID, "no clip is named", "name one: echofed-site review KEY"
            )
        notes = [_document(note) for note in held_clips(site.store)]
        rows = [tuple(str(value) for value in _row(note)) for note in notes]
        shown = table("clips held back", ("key", "dataset", "frames", "boxes", "decision"), rows)
        emit({"clips": notes}, as_json=as_json, tables=[shown])
        return
    note = held_clip(site.store, key)
    if out is not None:
        write_bytes(out, draw_boxes(held_pixels(site.store, note), note.boxes))
    if decision:
        body = {"clip": note.key, "dataset": note.dataset, "boxes": len(note.boxes)}
        Ledger(site.store.ledger_path).append(
            "clip.reviewed", {**body, "decision": decision}, actor=site.settings.site
        )
        note = decide(site.store, note, decision)
    emit(_document(note), as_json=as_json)


def _decision(*, keep: bool, blank: bool, drop: bool) -> "Decision | None":
    chosen: list[Decision] = []
    if keep:
        chosen.append("keep")
    if blank:
        chosen.append("blank")
    if drop:
        chosen.append("drop")
    if len(chosen) > 1:
        raise EchoFedError(
            Code.CONFIG_INVALID,
            "--keep, --blank and --drop exclude each other",
            "give one; a decision may be changed later",
        )
    return chosen[0] if chosen else None


def _document(note: "HeldClip") -> dict[str, Any]:
    """Key, boxes and decision; no label and no name."""
    return {
        "key": note.key,
        "dataset": note.dataset,
        "frames": note.num_frames,
        "boxes": [
            {
                "rows": [box.row_start, box.row_end],
                "columns": [box.column_start, box.column_end],
                "confidence": box.confidence,
            }
            for box in note.boxes
        ],
        "decision": note.decision or None,
    }


def _row(note: dict[str, Any]) -> tuple[object, ...]:
    boxes = note["boxes"]
    best = max((box["confidence"] for box in boxes), default=0.0)
    told = f"{len(boxes)} (up to {best:.2f})"
    return note["key"], note["dataset"], note["frames"], told, note["decision"] or "waits"
