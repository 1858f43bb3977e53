"""The pictures of a stream's sites: hospitals that are drawn, public sets that are linked."""

import csv
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import yaml

from aggregator.streams.plan import PublicSource, StreamPlan, StreamSite
from shared.echo.manifest import SPLITS
from shared.errors import Code, EchoFedError
from shared.phantom.hospital import HospitalSpec, write_hospital
from shared.seeding import numpy_generator

REAL_DATA = "ECHOFED_REAL_DATA"
_NUMBER = re.compile(r"(\d+)$")
_PATIENT_COLUMNS = ("patient", "patient_guess", "sequence", "subject_guess")


def write_phantom(plan: StreamPlan, site: StreamSite, folder: Path, *, seed: int) -> None:
    """Write a virtual hospital's DICOM files, ``labels.csv`` with splits and ``labels.yaml``.

    Args:
        plan: of the stream; patients of different sites differ.
        site: whose pictures.
        folder: where to write.
        seed: of the phantom.
    """
    assert site.phantom is not None
    place = [one.name for one in plan.sites].index(site.name)
    num_learned = plan.train_patients + plan.val_patients
    spec = HospitalSpec(
        name=site.name,
        scanner=site.phantom.scanner,
        labels=site.phantom.labels,
        num_patients=num_learned + plan.test_patients,
        clips_per_view=1,
        frames_per_clip=plan.frames_per_clip,
        size_HW=plan.size_HW,
        screen_correlation=0.0,
        seed=seed,
        first_patient=10_000 * place,
    )
    clips = write_hospital(spec, folder, workers=2).clips
    order = {key: place for place, key in enumerate(sorted({clip["patient"] for clip in clips}))}
    bounds = (plan.train_patients, num_learned)
    rows = [
        (clip["file"], clip["label"], SPLITS[sum(order[clip["patient"]] >= b for b in bounds)])
        for clip in clips
    ]
    _write_csv(folder / "labels.csv", ("file", "label", "split"), rows)
    words = site.phantom.labels.items()
    views = {word: [view] if isinstance(view, str) else list(view) for word, view in words}
    (folder / "labels.yaml").write_text(yaml.safe_dump(views))


def link_public(site: StreamSite, folder: Path, *, seed: int) -> None:
    """Link a site's part of the public sets into ``images/`` and write ``manifest.csv``.

    Args:
        site: whose pictures.
        folder: where to write.
        seed: of the order of the patients.

    Raises:
        EchoFedError: CONFIG_MISSING where ``ECHOFED_REAL_DATA`` is unset or lacks a set,
            FRAMES_MISSING where no picture is left.
    """
    root = os.environ.get(REAL_DATA)
    if not root:
        raise EchoFedError(
            Code.CONFIG_MISSING,
            f"{REAL_DATA} is not set",
            "set it to the folder of the public sets, or leave the stream out with --stream",
        )
    (folder / "images").mkdir(parents=True, exist_ok=True)
    lines: list[tuple[str, str, str, str]] = []
    for part in site.public:
        source = Path(root) / part.folder
        if not (source / "manifest.csv").is_file():
            raise EchoFedError(
                Code.CONFIG_MISSING, f"{REAL_DATA} has no set {part.folder}", "fetch the set"
            )
        table = _read_csv(source / "manifest.csv")
        split_of = _splits(part, table, seed=seed, is_foreign=site.is_foreign)
        for line in table:
            patient = _patient(line)
            if patient in split_of and _fits(part, line):
                name = f"{part.folder}-{line['file']}"
                link = folder / "images" / name
                if not link.exists():
                    link.symlink_to((source / "images" / line["file"]).resolve())
                key = f"{part.folder} {patient}"
                view = part.views[line["label"]] if part.views else part.view
                lines.append((name, view, key, split_of[patient]))
    if not lines:
        raise EchoFedError(
            Code.FRAMES_MISSING, f"site {site.name} has no picture", "look at the stream's plan"
        )
    _write_csv(folder / "manifest.csv", ("file", "view", "patient", "split"), lines)


def _splits(
    part: PublicSource, table: Iterable[Mapping[str, str]], *, seed: int, is_foreign: bool
) -> dict[str, str]:
    """Patient -> split, of the patients that the part takes."""
    words_of: dict[str, set[str]] = {}
    for line in table:
        if _fits(part, line):
            words_of.setdefault(_patient(line), set()).add(line.get("label", ""))
    patients = sorted(
        patient for patient, words in words_of.items() if not part.views or words == set(part.views)
    )
    names = (*sorted(part.where.values()), *sorted(part.views))
    generator = numpy_generator(seed, "organ patients", part.folder, *names)
    drawn = [patients[place] for place in generator.permutation(len(patients))]
    if part.patients is not None:
        drawn = [patient for patient in drawn if _within(patient, part.patients)]
    first, last = (round(share * len(drawn)) for share in part.share)
    drawn = drawn[first:last]
    if is_foreign:
        return dict.fromkeys(drawn, "test")
    tests: list[str] = []
    if part.test_patients is not None:
        tests = [patient for patient in patients if _within(patient, part.test_patients)]
    else:
        num = max(1, round(0.25 * len(drawn)))
        tests, drawn = drawn[:num], drawn[num:]
    num_val = max(1, round(0.125 * len(drawn)))
    return (
        dict.fromkeys(tests, "test")
        | dict.fromkeys(drawn[:num_val], "val")
        | dict.fromkeys(drawn[num_val:], "train")
    )


def _fits(part: PublicSource, line: Mapping[str, str]) -> bool:
    return all(line.get(column) == word for column, word in part.where.items())


def _within(patient: str, bounds: tuple[int, int]) -> bool:
    match = _NUMBER.search(patient)
    return match is not None and bounds[0] <= int(match[1]) <= bounds[1]


def _patient(line: Mapping[str, str]) -> str:
    return next(line[column] for column in _PATIENT_COLUMNS if line.get(column))


def _read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)
