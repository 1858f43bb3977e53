"""What shall be read of a folder: which files, with what label, by which source, on what terms."""

import csv
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from shared.echo.manifest import SPLITS, Split
from shared.echo.ontology import LabelMap, load_ontology
from shared.errors import Code, EchoFedError
from site_client.datasets import SOURCES
from site_client.datasets.annotations.folder import find_masks
from site_client.datasets.beside import Beside
from site_client.datasets.dicom import instance_of
from site_client.datasets.label_map import SiteMap, read_site_map, views_of_labels
from site_client.datasets.labels import SOP_UID, LabelRow, LabelTable, read_label_table

_CROPPED = "cropped-"
_HELD_OUT = {split: rank for rank, split in enumerate(SPLITS)}


@dataclass(frozen=True, slots=True)
class Listing:
    """A folder, understood.

    Args:
        rows: by file, relative to the folder and with forward slashes.
        views: views of every label that occurs; a coarse label has several, none is no supervision.
        source: name of the reader.
        licence: terms of the data, for the manifest.
        issuer: who gave the patient ids of the rows; empty for the site itself.
        is_complete: True where files that are not listed (masks, annotations) shall not be read.
        num_lost: how many instances that the labels name are not in the folder.
        site_map: the site's own label map, None where there is none.
        annotated: leaves that a public layout has a label for.
        beside: what lies beside the files that something lies beside.
    """

    rows: Mapping[str, LabelRow]
    views: Mapping[str, tuple[str, ...]]
    source: str
    licence: str = ""
    issuer: str = ""
    is_complete: bool = False
    num_lost: int = 0
    site_map: SiteMap | None = None
    annotated: tuple[str, ...] = ()
    beside: Mapping[str, Beside] = field(default_factory=dict)

    def has_published_test(self) -> bool:
        """Whether a public set brings its own test part, to which nothing shall be added."""
        return bool(self.issuer) and any(row.split == "test" for row in self.rows.values())


def list_labelled(
    folder: Path, source: str, *, labels: Path | None, label_map: Path | None, licence: str
) -> Listing:
    """Every file of a source, labelled by a CSV and a label map where there are any.

    Raises:
        EchoFedError: CONFIG_INVALID for a source that only layouts may name, faults of the labels.
    """
    if source.startswith(_CROPPED):
        raise EchoFedError(
            Code.CONFIG_INVALID,
            f"source {source} believes that a whole picture is tissue; only layouts may say so",
            f"use --source {source.removeprefix(_CROPPED)}, or --layout for a public set",
        )
    table = read_label_table(labels, folder) if labels else LabelTable({}, {})
    site_map = read_site_map(label_map) if label_map else None
    views = views_of_labels(
        site_map.label_map if site_map else None, (row.label for row in table.rows())
    )
    rows, num_lost = _by_file(table, folder, source)
    return Listing(rows, views, source, licence, num_lost=num_lost, site_map=site_map)


def with_masks(listing: Listing, folder: Path, masks: Path, structures: tuple[str, ...]) -> Listing:
    """A site's own listing with its own masks.

    Raises:
        EchoFedError: CONFIG_MISSING, CONFIG_INVALID for masks among the pictures, and as
            ``find_masks`` does.
    """
    if not masks.is_dir():
        raise EchoFedError(Code.CONFIG_MISSING, "the folder of masks does not exist", "check it")
    if masks.resolve().is_relative_to(folder.resolve()):
        raise EchoFedError(
            Code.CONFIG_INVALID,
            "the masks lie in the folder that is ingested and could be taken for pictures",
            "ingest the folder of the pictures alone, with the masks beside it",
        )
    beside = find_masks(
        names_below(folder), names_below(masks), folder=masks, structures=structures
    )
    return replace(listing, beside=beside)


def list_published(
    name: str,
    rows: Mapping[str, LabelRow],
    views: Mapping[str, Iterable[str]],
    *,
    source: str,
    licence: str,
    beside: Mapping[str, Beside] | None = None,
) -> Listing:
    """The listing of a public layout.

    Args:
        name: of the layout; patients of two sets are never taken for one.
        rows: as published; where a patient stands in several splits, the most held out one counts.
        views: of every label the layout knows.
        source: name of the reader.
        licence: terms of the data.
        beside: what lies beside the files, by file.

    Raises:
        EchoFedError: CONFIG_INVALID where the folder holds no file of the layout.
    """
    if not rows:
        raise EchoFedError(
            Code.CONFIG_INVALID,
            f"the folder holds no picture as the layout {name} keeps them",
            f"give the folder that the set unpacks to; site_client/datasets/layouts/{name}.py says "
            "how it looks",
        )
    ontology = load_ontology()
    occurring = sorted({row.label for row in rows.values() if row.label})
    ordered = {label: ontology.order(views[label]) for label in occurring}
    known = LabelMap({label: frozenset(some) for label, some in views.items()})
    return Listing(
        _hold_together(rows),
        ordered,
        source,
        licence,
        issuer=name,
        is_complete=True,
        annotated=ontology.order(known.annotated()),
        beside=beside or {},
    )


def choose_files(folder: Path, listing: Listing) -> tuple[list[Path], int, int]:
    """Files to read in order, how many others there are, and how many listed ones are not there."""
    names = names_below(folder)
    reader = SOURCES[listing.source]
    chosen = [
        folder / name
        for name in names
        if name in listing.rows or (not listing.is_complete and reader.recognises(folder / name))
    ]
    num_lost = listing.num_lost + len(listing.rows.keys() - set(names))
    return chosen, len(names) - len(chosen), num_lost


def source_of(path: Path) -> str:
    """The reader of a single file: the first that recognises it, DICOM where none does."""
    named = (name for name in SOURCES.names() if not name.startswith(_CROPPED))
    return next((name for name in named if SOURCES[name].recognises(path)), "dicom")


def names_below(folder: Path) -> list[str]:
    """All files that are not hidden, relative to the folder, with forward slashes, in order."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name[0] != ".")
    return [path.relative_to(folder).as_posix() for path in files]


def read_table(path: Path, columns: set[str]) -> list[dict[str, str]]:
    """Rows of a CSV that has these columns; missing cells are empty.

    Raises:
        EchoFedError: CONFIG_INVALID.
    """
    try:
        text = path.read_text("utf-8-sig")
        reader = csv.DictReader(io.StringIO(text, newline=""), restval="")
        lines = [{k: v.strip() for k, v in row.items() if k} for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise EchoFedError(
            Code.CONFIG_INVALID, f"{path.name} is not a CSV in UTF-8", "unpack the set again"
        ) from error
    if missing := columns - set(reader.fieldnames or ()):
        raise EchoFedError(
            Code.CONFIG_INVALID,
            f"{path.name} has no column {', '.join(sorted(missing))}",
            "it is of another release of the set than the layout knows",
        )
    return lines


def by_alias(labels: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Labels that the ontology knows by name; the others are left without supervision."""
    found: dict[str, tuple[str, ...]] = {}
    for label in labels:
        try:
            found[label] = (load_ontology().find(label).id,)
        except EchoFedError:
            found[label] = ()
    return found


def _by_file(table: LabelTable, folder: Path, source: str) -> tuple[dict[str, LabelRow], int]:
    """All rows by file, and how many instances lie in no file.

    A row of an instance finds its file by the header, whatever the file is called; where a file
    and its instance both have a row, the two must say the same.
    """
    rows = dict(table.by_file)
    if not table.by_instance:
        return rows, 0
    if source != "dicom":
        raise EchoFedError(
            Code.CONFIG_INVALID,
            f"the labels have rows by {SOP_UID}, and files of source {source} have none",
            "name the files in a column file",
        )
    found: set[str] = set()
    for name in names_below(folder):
        instance = instance_of(folder / name)
        row = table.by_instance.get(instance)
        if row is None:
            continue
        found.add(instance)
        if rows.setdefault(name, row) != row:
            raise EchoFedError(
                Code.CONFIG_INVALID,
                f"a file has a row by its name and another by its {SOP_UID}, and they differ",
                "keep one of them",
            )
    return rows, len(table.by_instance.keys() - found)


def _hold_together(rows: Mapping[str, LabelRow]) -> dict[str, LabelRow]:
    strictest: dict[str, Split] = {}
    for row in rows.values():
        if row.patient and row.split:
            known = strictest.get(row.patient, row.split)
            strictest[row.patient] = max(known, row.split, key=_HELD_OUT.__getitem__)
    return {
        name: replace(row, split=strictest.get(row.patient or "", row.split))
        for name, row in rows.items()
    }
