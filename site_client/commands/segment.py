"""``echofed-site segment``: outlines, volumes and what else a cine or two show of the heart."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
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
    from shared.echo.frame import Clip
    from shared.echo.measurement import Measurement
    from shared.segmentation.answer import Part, Question
    from site_client.segment.run import Answered, Examination
    from site_client.segment.source import SourceFile
    from site_client.segment.write import Kind

_MOST_FILES = 2
Ask: TypeAlias = "Callable[[Clip, Question], Iterator[Part]]"


def segment(
    files: Annotated[
        list[Path], typer.Argument(help="A cine or a still; two views of one patient: biplane.")
    ],
    view: Annotated[
        list[str] | None,
        typer.Option(help="View of each file, as A4C; found by the site's models if not said."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the results. Default: segment-KEY.")
    ] = None,
    kinds: Annotated[
        str, typer.Option(help="Of png,mp4,json,seg,sr. Default: all that fit the file.")
    ] = "",
    segmenter: Annotated[
        list[str] | None,
        typer.Option(help="Segmenter of this site, one of masks, one of contours; repeatable."),
    ] = None,
    looks: Annotated[int, typer.Option(help="5 averages masks over five moves of each frame.")] = 1,
    at: Annotated[
        Literal["auto", "here", "site", "centre"],
        typer.Option(
            help="site asks what echofed-site serve hosts, auto does so where that runs; centre "
            "sends pixels out, if policy.yaml allows it."
        ),
    ] = "auto",
    config: ConfigOption = Path(CONFIG_FILE),
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Segment and measure; pictures and numbers name nobody, DICOM SEG and SR name the patient."""
    from site_client.segment.cautions import warnings_of
    from site_client.segment.run import examine
    from site_client.training.expert import numeric_threads

    site = open_site(config, overrides)
    wanted, at = _kinds(kinds), _place(site, segmenter or (), at)
    with numeric_threads(site.settings.segmenter.threads):
        sources, views = _open(site, files, view or ())
        answers = _answers(_asker(site, segmenter or (), at), sources, views, num_looks=looks)
    found = examine(answers)
    folder = out or Path(f"segment-{sources[0].clip.key[:12]}")
    document = {
        "at": at,
        "folder": str(folder),
        "warnings": list(warnings_of(sources, answers, found)),
        "cines": [_cine(answer) for answer in answers],
        "measurements": {name: asdict(number) for name, number in found.measurements.items()},
        "files": _write(folder, sources, found, wanted),
    }
    _record(site, document)
    emit(document, as_json=as_json, tables=_tables(document, found))


def _kinds(text: str) -> "tuple[Kind, ...]":
    """The kinds that were asked for, empty for all that fit."""
    from site_client.segment.write import FILES

    asked = [word.strip() for word in text.split(",") if word.strip()]
    if unknown := set(asked) - FILES.keys():
        raise EchoFedError(
            Code.CONFIG_INVALID,
            f"no file of the kind {', '.join(sorted(unknown))} is written",
            f"choose of --kinds {','.join(FILES)}",
        )
    return tuple(kind for kind in FILES if kind in asked)


def _open(
    site: Site, files: Sequence[Path], views: Sequence[str]
) -> "tuple[list[SourceFile], list[str]]":
    """The files and their views, as named or as found."""
    from shared.echo.ontology import load_ontology
    from site_client.segment.source import expect_one_patient, open_source
    from site_client.segment.view import find_view

    if len(files) > _MOST_FILES or len(views) not in (0, len(files)):
        raise EchoFedError(
            Code.CONFIG_INVALID,
            f"{len(files)} files and {len(views)} views are named",
            "give one file or two, and --view for each of them in the same order, or for none",
        )
    named = [load_ontology().find(view).id for view in views]
    sources = [open_source(file, site.store) for file in files]
    expect_one_patient(sources)
    found = named or [
        find_view(site.store, source.stored, site=site.settings.site) for source in sources
    ]
    if len(set(found)) < len(found):
        raise EchoFedError(
            Code.VIEWS_UNFIT,
            f"both files show {found[0]}, which makes no biplane",
            "segment them one by one, or name the views with --view",
        )
    return sources, found


def _place(
    site: Site, segmenters: Sequence[str], at: Literal["auto", "here", "site", "centre"]
) -> Literal["here", "site", "centre"]:
    """Where to compute: what was said, else at the site's own service where it runs."""
    from site_client.segment.away import FULL_NAME, is_served_at_site

    if at != "auto":
        return at
    is_served = not segmenters and is_served_at_site(site.store, site.settings.services, FULL_NAME)
    return "site" if is_served else "here"


def _asker(site: Site, segmenters: Sequence[str], at: str) -> "Ask":
    """Who answers: networks in this process, the site's service, or the centre's."""
    from site_client.segment.away import segment_at_site
    from site_client.segment.models import open_segmenters
    from site_client.segment.run import segment_here

    settings = site.settings
    if at == "here":
        return partial(segment_here, open_segmenters(site.store, segmenters, site=settings.site))
    if segmenters and (at == "centre" or len(segmenters) > 1):
        raise EchoFedError(
            Code.CONFIG_INVALID,
            f"{len(segmenters)} segmenters are named, and a service answers by its aliases",
            "name one alias or id at the site's own service, none at the centre's",
        )
    if at == "site":
        ask = partial(segment_at_site, site.store, settings.services)
        if not segmenters:
            return ask
        return lambda clip, question: ask(clip, replace(question, alias=segmenters[0]))
    return _centre(site)


def _centre(site: Site) -> "Ask":
    from site_client.egress import open_egress
    from site_client.segment.away import segment_at_centre

    centre, ledger = site.settings.centre, Ledger(site.store.ledger_path)
    if centre is None:
        raise EchoFedError(
            Code.CONFIG_INVALID,
            "this site belongs to no federation, so no centre segments for it",
            "leave out --at centre",
        )
    egress = open_egress(
        site.policy_path, ledger, site=site.settings.site, recipient=centre.federation
    )
    return partial(segment_at_centre, site.store, centre, egress, now=datetime.now(UTC))


def _answers(
    ask: "Ask", sources: "Sequence[SourceFile]", views: Sequence[str], *, num_looks: int
) -> "list[Answered]":
    """What is answered about each file, with a bar over all frames."""
    from site_client.segment.run import gather, question_for

    questions = [
        question_for(source.clip, view, num_looks=num_looks)
        for source, view in zip(sources, views, strict=True)
    ]
    total = sum(len(source.clip.pixels_THW) for source in sources)
    with progress("segment", total) as advance:
        return [
            gather(
                source.clip,
                question.view,
                _watched(ask(source.clip, question), lambda: advance(1, "")),
            )
            for source, question in zip(sources, questions, strict=True)
        ]


def _watched(parts: "Iterator[Part]", advance: Callable[[], None]) -> "Iterator[Part]":
    """The same parts; each frame is told."""
    from shared.segmentation.answer import FrameAnswer

    for part in parts:
        if isinstance(part, FrameAnswer):
            advance()
        yield part


def _write(
    folder: Path,
    sources: "Sequence[SourceFile]",
    found: "Examination",
    wanted: "Sequence[Kind]",
) -> list[str]:
    """Write what is asked for, of two cines into a folder for each view; names in the folder."""
    from site_client.segment.write import fitting_kinds, write_outputs

    written: list[Path] = []
    for source, cine in zip(sources, found.cines, strict=True):
        kinds = wanted or fitting_kinds(cine, source.original)
        place = folder if len(sources) == 1 else folder / cine.view
        written += write_outputs(place, cine, source.original, kinds)
    return [path.relative_to(folder).as_posix() for path in written]


def _cine(answer: "Answered") -> dict[str, Any]:
    return {
        "clip": answer.clip.key,
        "view": answer.view,
        "frames": len(answer.frames),
        "without_contour": None if answer.clip.mm_per_pixel is None else answer.num_missing,
        "segmenters": {model.id: model.sha256 for model in answer.models},
    }


def _record(site: Site, document: dict[str, Any]) -> None:
    """What was done, without numbers of the heart; the ledger takes no fractions either."""
    body = {
        "at": document["at"],
        "cines": document["cines"],
        "measurements": len(document["measurements"]),
        "files": len(document["files"]),
    }
    Ledger(site.store.ledger_path).append("segmented", body, actor=site.settings.site)


def _tables(document: dict[str, Any], found: "Examination") -> list[Table]:
    tables = [
        table(
            "segmented",
            ("view", "frames", "without contour", "segmenters"),
            [
                (
                    one["view"],
                    one["frames"],
                    _known(one["without_contour"]),
                    " ".join(one["segmenters"]),
                )
                for one in document["cines"]
            ],
        )
    ]
    rows = [_row(name, number) for name, number in found.measurements.items()]
    if rows:
        heads = ("what", "value", "95 % interval", "method", "flags")
        tables.append(table("measurements", heads, rows))
    if document["warnings"]:
        tables.append(table("warnings", ("what",), [(text,) for text in document["warnings"]]))
    names = [(name,) for name in document["files"]]
    return [*tables, table(f"written to {document['folder']}", ("file",), names)]


def _known(count: int | None) -> str:
    return "" if count is None else str(count)


def _row(name: str, number: "Measurement") -> tuple[str, ...]:
    from site_client.segment.panel import in_words

    unit = "" if number.unit == "1" else f" {number.unit}"
    interval = ""
    if number.interval is not None:
        interval = " to ".join(in_words(end, number.unit) for end in number.interval)
    value = in_words(number.value, number.unit) + unit
    return name, value, interval, number.method, ", ".join(number.flags)
