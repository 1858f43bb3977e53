"""CAMUS: apical two- and four-chamber pictures of 500 patients (Leclerc et al., IEEE TMI 2019).

Three trees are known. ``database_nifti/patientNNNN/patientNNNN_4CH_ED.nii.gz`` with
``database_split/subgroup_{training,validation,testing}.txt`` beside it; the older
``{training,testing}/patientNNNN/patientNNNN_4CH_ED.mhd`` with ``.raw``; and an extract of PNG in
``images/`` with masks in ``masks/``, of which patients from 201 on are the test part by agreement.
Where a sequence is there, its ED and ES pictures, which are frames of it, are left out.
"""

import re
from pathlib import Path, PurePosixPath

from shared.echo.manifest import Split
from site_client.datasets.labels import LabelRow
from site_client.datasets.listing import Listing, list_published, names_below

_LICENCE = "CAMUS, non-commercial research, CC BY-NC-SA 4.0; cite Leclerc et al., IEEE TMI 2019"
_VIEWS = {"2CH": ["A2C"], "4CH": ["A4C"]}
_PICTURE = re.compile(r"(patient(\d{4}))_([24]CH)_(ED|ES|half_sequence|sequence)(\.[a-z.]+)")
_SOURCES = {
    ".nii.gz": "cropped-nifti", ".nii": "cropped-nifti", ".mhd": "cropped-mhd",
    ".png": "cropped-images",
}  # fmt: skip
_LISTS: dict[str, Split] = {
    "subgroup_training.txt": "train",
    "subgroup_validation.txt": "val",
    "subgroup_testing.txt": "test",
}
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
    return list_published("camus", rows, _VIEWS, source=source, licence=_LICENCE)


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
