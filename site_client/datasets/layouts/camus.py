"""CAMUS: apical two- and four-chamber pictures of 500 patients (Leclerc et al., IEEE TMI 2019).

Three trees are known. ``database_nifti/patientNNNN/patientNNNN_4CH_ED.nii.gz`` with
``database_split/subgroup_{training,validation,testing}.txt`` beside it; the older
``{training,testing}/patientNNNN/patientNNNN_4CH_ED.mhd`` with ``.raw``; and an extract of PNG in
``images/`` with masks in ``masks/``, of which patients from 201 on are the test part by agreement.
Where a sequence is there, its ED and ES pictures, which are frames of it, are left out.

Masks are ``*_gt`` of the same form. A sequence without one has those of its ED and ES, whose places
``Info_4CH.cfg`` counts from one. The extract has its scale in ``manifest.csv``.
"""

import re
from pathlib import Path, PurePosixPath

from shared.echo.frame import MillimetresPerPixel
from shared.echo.manifest import Split
from shared.errors import Code, EchoFedError
from site_client.datasets.annotations.label_maps import LabelMaps, MapFile
from site_client.datasets.beside import Beside
from site_client.datasets.labels import LabelRow
from site_client.datasets.listing import Listing, list_published, names_below, read_table

_LICENCE = "CAMUS, non-commercial research, CC BY-NC-SA 4.0; cite Leclerc et al., IEEE TMI 2019"
_VIEWS = {"2CH": ["A2C"], "4CH": ["A4C"]}
_PICTURE = re.compile(r"(patient(\d{4}))_([24]CH)_(ED|ES|half_sequence|sequence)(\.[a-z.]+)")
_SOURCES = {
    ".nii.gz": "cropped-nifti", ".nii": "cropped-nifti", ".mhd": "cropped-mhd",
    ".png": "cropped-images",
}  # fmt: skip
_STRUCTURES = ("background", "lv", "myocardium", "la")
_KINDS = {"cropped-nifti": "nifti", "cropped-mhd": "mhd", "cropped-images": "png"}
_LISTS: dict[str, Split] = {
    "subgroup_training.txt": "train",
    "subgroup_validation.txt": "val",
    "subgroup_testing.txt": "test",
}
_PHASE = re.compile(r"^(ED|ES):\s*(\d+)\s*$", re.MULTILINE)
_OPEN_PNG = 200  # patients after this one are the test part of the extract


def find(folder: Path) -> Listing:
    """List the pictures of one tree; where several kinds lie together, NIfTI goes before MHD."""
    found = [(name, match) for name in names_below(folder) if (match := _match(name))]
    source = min((_SOURCES[match[5]] for _, match in found), key=_rank, default="cropped-nifti")
    found = [(name, match) for name, match in found if _SOURCES[match[5]] == source]
    filmed = {(match[1], match[3]) for _, match in found if match[4].endswith("sequence")}
    listed = _listed_splits(folder)
    rows = {
        name: LabelRow(match[3], listed.get(match[1]) or _split(name, int(match[2])), match[1])
        for name, match in found
        if match[4].endswith("sequence") or (match[1], match[3]) not in filmed
    }
    scales = _scales(folder / "manifest.csv") if source == "cropped-images" else {}
    beside = {
        name: Beside(_annotator(folder, PurePosixPath(name), match), scales.get(name))
        for name, match in found
        if name in rows
    }
    return list_published("camus", rows, _VIEWS, source=source, licence=_LICENCE, beside=beside)


def _match(name: str) -> re.Match[str] | None:
    path = PurePosixPath(name)
    match = _PICTURE.fullmatch(path.name)
    if match is None or match[5] not in _SOURCES:
        return None
    is_mask = match[5] == ".png" and path.parent.name != "images"
    return None if is_mask else match


def _rank(source: str) -> int:
    return list(_SOURCES.values()).index(source)


def _listed_splits(folder: Path) -> dict[str, Split]:
    """Splits by patient, from lists in the folder or, for ``database_nifti``, beside it."""
    splits: dict[str, Split] = {}
    for file, split in _LISTS.items():
        beside = folder.resolve().parent / "database_split" / file
        for path in (beside, *sorted(folder.rglob(file))):
            if path.is_file():
                splits |= dict.fromkeys(path.read_text("utf-8").split(), split)
    return splits


def _split(name: str, patient: int) -> Split | None:
    if "testing" in PurePosixPath(name).parts:
        return "test"
    return "test" if name.endswith(".png") and patient > _OPEN_PNG else None


def _annotator(folder: Path, picture: PurePosixPath, match: re.Match[str]) -> LabelMaps | None:
    """Where the masks of one picture or sequence are; None where there are none."""
    kind = _KINDS[_SOURCES[match[5]]]
    if kind == "png":
        own = folder / picture.parent.parent / "masks" / picture.name
    else:
        own = folder / picture.with_name(picture.name.removesuffix(match[5]) + "_gt" + match[5])
    files = [MapFile(own)] if own.is_file() else []
    if not files and match[4].endswith("sequence"):
        places = _phases(folder / picture.with_name(f"Info_{match[3]}.cfg"))
        masks = {p: own.with_name(f"{match[1]}_{match[3]}_{p}_gt{match[5]}") for p in places}
        files = [MapFile(masks[p], place) for p, place in places.items() if masks[p].is_file()]
    return LabelMaps(kind, tuple(files), _STRUCTURES) if files else None


def _phases(info: Path) -> dict[str, int]:
    """Places of ED and ES in a sequence, from zero."""
    text = info.read_text("utf-8", "replace") if info.is_file() else ""
    return {phase: int(place) - 1 for phase, place in _PHASE.findall(text)}


def _scales(table: Path) -> dict[str, MillimetresPerPixel]:
    """Spacing of the extract's pictures, the same along both axes."""
    lines = read_table(table, {"file", "spacing_mm"}) if table.is_file() else []
    try:
        stated = {f"images/{line['file']}": float(line["spacing_mm"]) for line in lines}
    except ValueError:
        raise EchoFedError(
            Code.CONFIG_INVALID,
            f"{table.name} has a spacing_mm that is no number",
            "unpack the set again",
        ) from None
    return {name: (mm, mm) for name, mm in stated.items()}
