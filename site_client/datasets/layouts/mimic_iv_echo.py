"""MIMIC-IV-ECHO with ECHOVIEW: 500,000 DICOM objects of 4,579 patients (PhysioNet).

``files/pNN/pSUBJECT/sSTUDY/STUDY_NNNN.dcm`` and ``echo-record-list.csv`` with subject_id, study_id
and dicom_filepath. View labels come from ECHOVIEW, a table laid into the same folder under a name
with "echoview" in it: a column with the DICOM's path or name and a column of probabilities for each
of 23 views. Its column names were not seen: every column that the ontology knows by name counts as
a view, as those of Zhang et al. 2018 all do. These labels are a classifier's; below a probability
of 0.7, the authors' own threshold for their check, a clip stays without a label.
"""

from pathlib import Path, PurePosixPath

from shared.errors import Code, EchoFedError
from site_client.datasets.labels import LabelRow
from site_client.datasets.listing import Listing, by_alias, list_published, names_below, read_table

_LICENCE = "MIMIC-IV-ECHO and ECHOVIEW, PhysioNet Credentialed Health Data License 1.5.0"
_RECORDS = "echo-record-list.csv"
_LEAST = 0.7
_NAMES = ("dicom_filepath", "dicom_path", "filepath", "file_path", "filename", "file", "dicom_id")


def find(folder: Path) -> Listing:
    """List the DICOM objects that are there; part of the set is enough."""
    names = names_below(folder)
    present = set(names)
    shown: dict[str, str] = {}
    rows: dict[str, LabelRow] = {}
    for table in (PurePosixPath(name) for name in names if name.endswith(".csv")):
        if "echoview" in table.name.lower():
            shown |= _views(folder / table)
    for table in (PurePosixPath(name) for name in names):
        if table.name == _RECORDS:
            for line in read_table(folder / table, {"subject_id", "dicom_filepath"}):
                name = (table.parent / line["dicom_filepath"]).as_posix()
                if name in present:
                    label = shown.get(PurePosixPath(name).stem, "")
                    rows[name] = LabelRow(label, None, line["subject_id"])
    views = by_alias(set(shown.values()))
    return list_published("mimic_iv_echo", rows, views, source="dicom", licence=_LICENCE)


def _views(path: Path) -> dict[str, str]:
    """The likeliest view by name of the DICOM object, where it is likely enough."""
    lines = read_table(path, set())
    columns = list(lines[0]) if lines else []
    named = next((column for column in _NAMES if column in columns), None)
    labels = [label for label, nodes in by_alias(columns).items() if nodes]
    if named is None or not labels:
        raise EchoFedError(
            Code.CONFIG_INVALID,
            f"{path.name} has no column that names a DICOM object, or none that names a view",
            f"rename its columns: one of {', '.join(_NAMES)}, and views by the ontology's names",
        )
    shown: dict[str, str] = {}
    for line in lines:
        likely = {label: _probability(line[label], path) for label in labels}
        best = max(labels, key=likely.__getitem__)
        if likely[best] >= _LEAST:
            shown[PurePosixPath(line[named]).stem] = best
    return shown


def _probability(text: str, path: Path) -> float:
    try:
        return float(text or 0)
    except ValueError as error:
        raise EchoFedError(
            Code.CONFIG_INVALID, f"{path.name} has a view column without numbers", "rename it"
        ) from error
