"""What a site says of its files: a CSV of label, split and patient, and a YAML label map."""

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import yaml

from shared.echo.manifest import SPLITS, Split
from shared.echo.ontology import LabelMap, build_label_map, load_ontology
from shared.errors import Code, EchoFedError


@dataclass(frozen=True, slots=True)
class LabelRow:
    """What is said of one file.

    Args:
        label: the site's word, empty for none.
        split: None where the splits are drawn.
        patient: the site's patient id, None where the file itself says it; identifies a person.
    """

    label: str
    split: Split | None
    patient: str | None = None


def read_label_rows(path: Path, folder: Path) -> dict[str, LabelRow]:
    """Read ``file,label[,split][,patient]``; other columns are not read.

    Args:
        path: the CSV; its files are relative to the folder, or to where the CSV lies.
        folder: the folder that is ingested.

    Returns:
        Row by file, relative to the folder and with forward slashes.

    Raises:
        EchoFedError: CONFIG_MISSING or CONFIG_INVALID naming the row.
    """
    if not path.is_file():
        raise EchoFedError(
            Code.CONFIG_MISSING, f"there is no labels file {path.name}", "check --labels"
        )
    try:
        reader = csv.DictReader(io.StringIO(path.read_text("utf-8-sig"), newline=""))
        lines = list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise EchoFedError(
            Code.CONFIG_INVALID, f"{path.name} is not a CSV in UTF-8", "save it as CSV UTF-8"
        ) from error
    if not {"file", "label"} <= set(reader.fieldnames or ()):
        raise EchoFedError(
            Code.CONFIG_INVALID,
            f"{path.name} has no columns file and label",
            "start it with the line file,label or file,label,split,patient",
        )
    rows: dict[str, LabelRow] = {}
    for number, row in enumerate(lines, start=2):
        name = _relative(row["file"] or "", path, folder)
        found = LabelRow(
            (row["label"] or "").strip(),
            _split(row.get("split"), number),
            (row.get("patient") or "").strip() or None,
        )
        if rows.setdefault(name, found) != found:
            raise EchoFedError(
                Code.CONFIG_INVALID,
                f"row {number} of {path.name} contradicts an earlier row of the same file",
                "keep one of them",
            )
    return rows


def read_label_map(path: Path | None, rows: Mapping[str, LabelRow]) -> dict[str, tuple[str, ...]]:
    """Views of every label that occurs, from the YAML file or else by the ontology's own names.

    Raises:
        EchoFedError: LABEL_UNMAPPED naming a label and the nearest, VIEW_UNKNOWN for a wrong map,
            LABEL_MAP_INVALID.
    """
    labels = sorted({row.label for row in rows.values() if row.label})
    ontology = load_ontology()
    if path is not None:
        mapped = _load_map(path)
        views = {label: mapped.views_of(label) for label in labels}
    else:
        views = {label: frozenset([_view_by_name(label)]) for label in labels}
    return {label: ontology.order(names) for label, names in views.items()}


def split_named(text: str) -> Split | None:
    """The split of a public table, in capitals or not; None for any other word."""
    name = text.lower()
    return name if name in SPLITS else None


def _view_by_name(label: str) -> str:
    try:
        return load_ontology().find(label).id
    except EchoFedError as error:
        raise EchoFedError(
            Code.LABEL_UNMAPPED,
            f"label {label!r} is no view of the ontology and no label map was given",
            f"{error.hint}; or pass --label-map with an entry for {label!r}",
        ) from error


def _load_map(path: Path) -> LabelMap:
    if not path.is_file():
        raise EchoFedError(
            Code.CONFIG_MISSING, f"there is no label map {path.name}", "check --label-map"
        )
    try:
        entries = yaml.safe_load(path.read_text("utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise EchoFedError(
            Code.LABEL_MAP_INVALID, f"{path.name} is not YAML", "write label: view, one a line"
        ) from error
    if not isinstance(entries, dict):
        raise EchoFedError(
            Code.LABEL_MAP_INVALID, f"{path.name} is not a mapping", "write label: view, one a line"
        )
    return build_label_map(entries)


def _relative(text: str, labels: Path, folder: Path) -> str:
    name = PurePosixPath(text.strip().replace("\\", "/"))
    beside = (labels.parent / name).resolve()
    if not (folder / name).is_file() and beside.is_relative_to(folder.resolve()):
        return beside.relative_to(folder.resolve()).as_posix()
    return name.as_posix()


def _split(text: str | None, number: int) -> Split | None:
    name = (text or "").strip()
    if not name:
        return None
    if name not in SPLITS:
        raise EchoFedError(
            Code.CONFIG_INVALID,
            f"row {number} of the labels file has split {name!r}",
            f"use one of {', '.join(SPLITS)}, or leave it empty",
        )
    return name
