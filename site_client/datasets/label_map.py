"""The label map that a site wrote: label -> views, the views it leaves out, and who signed it.

The name of who signed stays in the file; only whether there is one, and the file's hash, go on.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import yaml

from shared.echo.ontology import LabelMap, build_label_map, load_ontology
from shared.errors import Code, EchoFedError
from shared.files import sha256_hex

SECTIONS = ("labels", "never_images", "folds", "signed")


@dataclass(frozen=True, slots=True)
class SiteMap:
    """A label map with its provenance.

    Args:
        label_map: what the labels mean.
        sha256: of the file.
        is_signed: whether it bears a name and a date.
    """

    label_map: LabelMap
    sha256: str
    is_signed: bool


def read_site_map(path: Path) -> SiteMap:
    """Read a YAML label map: its sections, or label: views alone, which nobody can sign.

    Raises:
        EchoFedError: CONFIG_MISSING, VIEW_UNKNOWN for a wrong view, LABEL_MAP_INVALID.
    """
    if not path.is_file():
        raise EchoFedError(
            Code.CONFIG_MISSING, f"there is no label map {path.name}", "check --label-map"
        )
    data = path.read_bytes()
    try:
        document = yaml.safe_load(data.decode("utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise _invalid(f"{path.name} is not YAML") from error
    if not isinstance(document, dict):
        raise _invalid(f"{path.name} is not a mapping")
    if isinstance(document.get("labels", ""), str | list):
        return SiteMap(build_label_map(_entries(document)), sha256_hex(data), is_signed=False)
    if unknown := sorted(str(name) for name in document if name not in SECTIONS):
        raise _invalid(f"{path.name} has a section {unknown[0]!r}")
    label_map = build_label_map(
        _entries(document["labels"] or {}),
        never_images=_texts(document.get("never_images") or [], "never_images"),
        folds=_folds(document.get("folds") or {}),
    )
    return SiteMap(label_map, sha256_hex(data), is_signed=_is_signed(document.get("signed") or {}))


def views_of_labels(
    label_map: LabelMap | None, labels: Iterable[str]
) -> dict[str, tuple[str, ...]]:
    """Views of every label, by the map or else by the ids of the views themselves.

    Raises:
        EchoFedError: LABEL_UNMAPPED naming a label and the nearest.
    """
    ontology = load_ontology()
    return {
        label: ontology.order(label_map.views_of(label) if label_map else [_view_of_id(label)])
        for label in sorted({label for label in labels if label})
    }


def provenance(site_map: SiteMap | None) -> dict[str, Any]:
    """What a manifest keeps of a label map beside the views of the labels that occur."""
    if site_map is None:
        return {}
    order, label_map = load_ontology().order, site_map.label_map
    return {
        "annotated": order(label_map.annotated()),
        "never_images": order(label_map.never_images),
        "folds": dict(label_map.folds),
        "label_map_sha256": site_map.sha256,
        "is_signed": site_map.is_signed,
    }


def require_signed(site_map: SiteMap | None, origin: str, *, accept_unsigned: bool) -> None:
    """Refuse labels of real pictures that nobody has answered for.

    Raises:
        EchoFedError: LABEL_MAP_UNSIGNED.
    """
    if site_map and origin != "phantom" and not (site_map.is_signed or accept_unsigned):
        raise EchoFedError(
            Code.LABEL_MAP_UNSIGNED,
            "nobody has signed the label map",
            "let a cardiologist read it and fill in signed: by and date (echofed-site labels --out "
            "writes a draft), or take it as it is with --set ingest.accept_unsigned_map=true",
        )


def _view_of_id(label: str) -> str:
    """The view whose id a label is; another name of it is a proposal, and never applied."""
    ontology = load_ontology()
    if label in ontology.views:
        return label
    try:
        hint = f"{label!r} is another name of {ontology.find(label).id!r}, which nobody confirmed"
    except EchoFedError as error:
        hint = error.hint
    raise EchoFedError(
        Code.LABEL_UNMAPPED,
        f"label {label!r} is no id of a view and no label map was given",
        f"{hint}; echofed-site labels --out writes a label map to sign, for --label-map",
    )


def _entries(section: object) -> dict[str, list[str]]:
    if not isinstance(section, Mapping):
        raise _invalid("labels is not a mapping")
    return {
        str(label): [views] if isinstance(views, str) else _texts(views, f"label {label!r}")
        for label, views in section.items()
    }


def _folds(section: object) -> dict[str, str]:
    if not isinstance(section, Mapping):
        raise _invalid("folds is not a mapping of view: label")
    return dict(zip(map(str, section), _texts(list(section.values()), "folds"), strict=True))


def _texts(values: Any, where: str) -> list[str]:
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise _invalid(f"{where} holds something else than names")
    return values


def _is_signed(section: object) -> bool:
    """Whether name and date are there; one of them alone is a slip.

    Raises:
        EchoFedError: LABEL_MAP_INVALID.
    """
    if not isinstance(section, Mapping) or not section.keys() <= {"by", "date"}:
        raise _invalid("signed holds something else than by and date")
    by, day = section.get("by") or "", section.get("date") or ""
    if not by and not day:
        return False
    if not isinstance(by, str) or not by.strip() or not _is_date(day):
        raise _invalid("signed lacks the name or a date as 2026-01-31")
    return True


def _is_date(value: object) -> bool:
    if isinstance(value, date):
        return True
    try:
        return bool(date.fromisoformat(str(value)))
    except ValueError:
        return False


def _invalid(what: str) -> EchoFedError:
    return EchoFedError(
        Code.LABEL_MAP_INVALID,
        what,
        f"write label: view or label: [view, ...] below labels:; the sections are "
        f"{', '.join(SECTIONS)}",
    )
