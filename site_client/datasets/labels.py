"""What a site says of its files: a CSV of label, split and patient, by file or DICOM instance."""

import csv
import io
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from shared.echo.manifest import SPLITS, Split
from shared.errors import Code, EchoFedError

SOP_UID = "sop_uid"
"""Column of SOP Instance UIDs, for files that carry no name of the hospital's."""


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


@dataclass(frozen=True, slots=True)
class LabelTable:
    """Rows of a labels file.

    Args:
        by_file: by file, relative to the folder and with forward slashes.
        by_instance: by SOP Instance UID; identifies an examination.
    """

    by_file: Mapping[str, LabelRow]
    by_instance: Mapping[str, LabelRow]

    def rows(self) -> tuple[LabelRow, ...]:
        """All rows."""
        return (*self.by_file.values(), *self.by_instance.values())


def read_label_table(path: Path, folder: Path) -> LabelTable:
    """Read ``file,label[,split][,patient]`` or ``sop_uid,label...``; other columns are not read.

    Args:
        path: the CSV; its files are relative to the folder, or to where the CSV lies. A row names
            a file, or an instance that may lie in any file.
        folder: the folder that is ingested.

    Raises:
        EchoFedError: CONFIG_MISSING or CONFIG_INVALID naming the row.
    """
    by_file: dict[str, LabelRow] = {}
    by_instance: dict[str, LabelRow] = {}
    for number, row in enumerate(_read_lines(path), start=2):
        instance, file = (row.get(SOP_UID) or "").strip(), (row.get("file") or "").strip()
        if bool(instance) == bool(file):
            raise EchoFedError(
                Code.CONFIG_INVALID,
                f"row {number} of {path.name} names {'both' if file else 'neither'} of a file and "
                "a SOP instance",
                f"fill one of the columns file and {SOP_UID}",
            )
        rows, name = (
            (by_instance, instance) if instance else (by_file, _relative(file, path, folder))
        )
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
    return LabelTable(by_file, by_instance)


def are_label_columns(columns: Collection[str]) -> bool:
    """Whether a CSV of these columns is a labels file."""
    return "label" in columns and ("file" in columns or SOP_UID in columns)


def split_named(text: str) -> Split | None:
    """The split of a public table, in capitals or not; None for any other word."""
    name = text.lower()
    return name if name in SPLITS else None


def _read_lines(path: Path) -> list[dict[str, str | None]]:
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
    if not are_label_columns(reader.fieldnames or ()):
        raise EchoFedError(
            Code.CONFIG_INVALID,
            f"{path.name} has no columns file and label",
            f"start it with the line file,label or {SOP_UID},label; split and patient may follow",
        )
    return lines


def _relative(text: str, labels: Path, folder: Path) -> str:
    name = PurePosixPath(text.replace("\\", "/"))
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
