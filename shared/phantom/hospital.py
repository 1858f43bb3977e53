"""A virtual hospital: patients examined on one scanner, as DICOM studies, with the truth."""

import io
import math
import multiprocessing
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from shared.echo.mask import STRUCTURES
from shared.errors import Code, EchoFedError
from shared.files import write_bytes, write_json
from shared.phantom.anatomy import draw_heart
from shared.phantom.overlay import SCREENS, draw_variant, with_screen
from shared.phantom.planes import plane_name
from shared.phantom.scanner import SCANNERS, PhantomClip, render_clip
from shared.phantom.study import Person, StudyTags, dicom_of, draw_person
from shared.seeding import numpy_generator


@dataclass(frozen=True, slots=True)
class HospitalSpec:
    """One hospital's archive of echo clips.

    Attributes:
        scanner: a key of `SCANNERS`.
        labels: what the hospital writes -> the plane or planes it calls so.
        clips_per_view: clips of each plane of each patient.
        screen_correlation: how often the screen's badge tells the view, 0 to 1.
        first_patient: number of the first patient; hospitals with one seed and overlapping
            numbers share patients.
        is_colour, is_compressed: form of the exported files.
    """

    name: str
    scanner: str
    labels: Mapping[str, str | tuple[str, ...]]
    num_patients: int
    clips_per_view: int
    frames_per_clip: int
    size_HW: tuple[int, int]
    screen_correlation: float
    seed: int
    first_patient: int = 0
    is_colour: bool = False
    is_compressed: bool = False

    def __post_init__(self) -> None:
        """Refuse names that the phantom does not have."""
        if self.scanner not in SCANNERS:
            raise EchoFedError(
                Code.NAME_UNKNOWN, f"no scanner {self.scanner!r}", f"choose of {list(SCANNERS)}"
            )
        for _, view in self.exams():
            plane_name(view)

    def exams(self) -> list[tuple[str, str]]:
        """(label, view) of every kind of clip a patient has."""
        pairs = []
        for label, views in self.labels.items():
            for view in (views,) if isinstance(views, str) else views:
                pairs.append((label, view))
        return pairs


@dataclass(frozen=True, slots=True)
class HospitalTruth:
    """What was written, and what is true about it.

    Attributes:
        folder: holds dicom/, masks/, labels.csv and truth.json.
        clips: one record a file, as in truth.json.
        people: patient key -> the planted identity.
    """

    folder: Path
    clips: list[dict[str, Any]]
    people: dict[str, Person]


def clips(spec: HospitalSpec) -> Iterator[PhantomClip]:
    """Every clip of the hospital in order, screen included, without writing a file."""
    for number in range(spec.num_patients):
        for clip, _ in _exam(spec, number):
            yield clip


def write_hospital(spec: HospitalSpec, folder: Path, *, workers: int = 1) -> HospitalTruth:
    """Write dicom/<patient>/<n>.dcm, masks/<patient>/<n>.npz, labels.csv and truth.json.

    The same spec gives the same bytes, with any number of workers.
    """
    folder = Path(folder)
    write = partial(_write_patient, spec, folder)
    if workers == 1:
        batches = [write(number) for number in range(spec.num_patients)]
    else:
        with multiprocessing.get_context("spawn").Pool(workers) as pool:
            batches = pool.map(write, range(spec.num_patients), chunksize=1)
    records = [record for batch in batches for record in batch]
    people = {_key(spec, n): _person(spec, n) for n in range(spec.num_patients)}
    rows = ["file,label", *(f"{record['file']},{record['label']}" for record in records)]
    write_bytes(folder / "labels.csv", ("\n".join(rows) + "\n").encode())
    truth = {"hospital": spec.name, "scanner": spec.scanner, "seed": spec.seed, "clips": records}
    truth["people"] = {key: asdict(person) for key, person in people.items()}
    write_json(folder / "truth.json", truth)
    return HospitalTruth(folder, records, people)


def _write_patient(spec: HospitalSpec, folder: Path, number: int) -> list[dict[str, Any]]:
    records = []
    person, key = _person(spec, number), _key(spec, number)
    for count, (clip, date) in enumerate(_exam(spec, number), start=1):
        file = f"dicom/{key}/{count}.dcm"
        study = f"{spec.name}|{spec.seed}|{key}"
        tags = StudyTags(spec.name, study, date, count, spec.is_colour, spec.is_compressed)
        buffer = io.BytesIO()
        dicom_of(clip, person, tags).save_as(buffer, enforce_file_format=True)
        write_bytes(folder / file, buffer.getvalue())
        masks = io.BytesIO()
        np.savez_compressed(
            masks,
            labels_THW=clip.labels_THW,
            structures=np.array(STRUCTURES),
            landmarks_xy_px_T32=_landmarks_xy_px(clip),
            sector_HW=clip.sector.mask_HW,
        )
        write_bytes(folder / f"masks/{key}/{count}.npz", masks.getvalue())
        records.append({"file": file, **_truth_of(clip)})
    return records


def _landmarks_xy_px(clip: PhantomClip) -> npt.NDArray[np.float64]:
    """The points of an annotation (T, 3, 2), as (column, row); NaN where out of plane."""
    points_rc = [clip.landmarks[name] for name in ("annulus_left", "apex", "annulus_right")]
    return np.stack(points_rc, axis=1)[:, :, ::-1]


def _exam(spec: HospitalSpec, number: int) -> Iterator[tuple[PhantomClip, str]]:
    """One patient's clips with the study date."""
    patient = spec.first_patient + number
    heart = draw_heart(numpy_generator(spec.seed, "heart", patient))
    scanner = SCANNERS[spec.scanner]
    banner = _person(spec, number).banner
    day = int(numpy_generator(spec.seed, "date", patient).integers(1, 29))
    for label, view in spec.exams():
        for repeat in range(spec.clips_per_view):
            names = (spec.scanner, patient, view, repeat)
            clip = render_clip(
                heart,
                view,
                scanner,
                num_frames=spec.frames_per_clip,
                size_HW=spec.size_HW,
                rng=numpy_generator(spec.seed, "clip", *names),
            )
            # the screen has its own stream: changing the correlation leaves every fan as it was
            chance = numpy_generator(spec.seed, "screen", *names)
            variant = draw_variant(view, spec.screen_correlation, chance)
            shown = with_screen(clip, SCREENS[scanner.screen], variant=variant, banner=banner)
            yield replace(shown, patient=_key(spec, number), label=label), f"202403{day:02d}"


def _person(spec: HospitalSpec, number: int) -> Person:
    return draw_person(numpy_generator(spec.seed, "person", spec.first_patient + number))


def _key(spec: HospitalSpec, number: int) -> str:
    return f"{spec.name}-{spec.first_patient + number:04d}"


def _truth_of(clip: PhantomClip) -> dict[str, Any]:
    """Everything known about a clip, as JSON."""
    fan, heart = clip.fan, clip.heart
    return {
        "patient": clip.patient,
        "label": clip.label,
        "view": clip.view,
        "screen_variant": clip.screen_variant,
        "fan": asdict(fan),
        "mm_per_pixel": list(clip.mm_per_pixel),
        "frame_time_ms": clip.frame_time_ms,
        "phases": list(clip.phases_T),
        "edv_ml": heart.edv_ml,
        "esv_ml": heart.esv_ml,
        "ejection_fraction": heart.ejection_fraction,
        "heart": asdict(heart),
        "pose": {
            "origin_mm": clip.pose.origin_mm.tolist(),
            "down": clip.pose.down.tolist(),
            "right": clip.pose.right.tolist(),
        },
        "landmarks_rc": {
            name: [None if math.isnan(row) else [row, column] for row, column in points.tolist()]
            for name, points in clip.landmarks.items()
        },
    }
