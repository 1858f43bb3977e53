"""Assess phantom hearts from their cines' contours and write tests/bench/assessment.csv.

    python tests/bench/measure_assessment.py [--hearts 12] [--segmenter FOLDER] [--out FILE]

Every heart is seen in A4C and A2C by an ordinary hand (planes jittered at strength 1), over a beat
and a sixth, with the frame time of one scanner after the other. Contours are read off the exact
masks, and off masks whose boundaries are moved by smooth noise of 1 and 2 mm in each frame anew.

Errors are told against the heart, and against its planes. The heart's EF, EDV and ESV are its
anatomy's. Its GLS is that of tissue: points on the endocardium that the picture shows at end
diastole, from base to base, are followed in space to end systole; the mean of both views. The
planes' GLS is that of the exact contours' lengths at the true instants; the planes' EF is what the
exact contours at the true instants give in the very same planes: no
segmenter can know more of a plane that misses the long axis. "Single frames" are the same contours
without smoothing, the instants by their largest and smallest area.
"""

import argparse
import csv
import os
import platform
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates, zoom

from shared.echo.contour import Contour, Points
from shared.echo.frame import Clip
from shared.echo.mask import STRUCTURES
from shared.echo.segmenter import load_segmenter_files
from shared.errors import EchoFedError
from shared.measurement.assess import assess
from shared.measurement.cycle import measure_beat
from shared.measurement.landmarks import Labels, contour_of
from shared.measurement.simpson import measure_ejection
from shared.measurement.traced import TracedCine, trace_masks
from shared.phantom.anatomy import Heart, draw_heart
from shared.phantom.motion import (
    beat_at,
    endocardial_radius_mm,
    epicardial_radius_mm,
    to_material,
)
from shared.phantom.planes import PLANES, Pose, jittered, pose_of
from shared.phantom.scanner import SCANNERS, render_clip
from shared.phantom.tissue import cut_labels
from shared.phantom.truth import follow
from shared.seeding import numpy_generator
from shared.segmentation.segmenter import Segmenter, build_forward

SEED = 7
VIEWS = ("A4C", "A2C")
BEATS = 7 / 6
MM = 0.7
SIZE_MM = (185.0, 110.0)
SCREEN = (200, 256)
BLUR_MM = 8.0
"""Of the noise: what lies 16 mm apart along a boundary errs by itself."""
COARSE = 4  # times a pixel; the noise has no finer parts
COLUMNS = (
    "contours",
    "what",
    "hearts",
    "mean_abs",
    "low",
    "high",
    "bias",
    "seed",
    "machine",
    "commit",
)


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """One cine of one view of a heart: where the plane lies, and which phases it shows."""

    heart: Heart
    view: str
    pose: Pose
    phases: tuple[float, ...]
    frame_time_ms: float

    def labels(self, phase: float) -> Labels:
        """The exact mask at a phase."""
        down, right = np.mgrid[0 : SIZE_MM[0] : MM, 0 : SIZE_MM[1] : MM].astype(np.float32)
        points = self.space(np.stack([right, down], axis=-1).reshape(-1, 2)).astype(np.float32)
        found = cut_labels(self.heart, phase, (points[:, 0], points[:, 1], points[:, 2]))
        return found.reshape(down.shape)

    def space(self, points_xy_mm: Points) -> Points:
        """Points of the picture (P, 2) in the heart's frame (P, 3)."""
        right, down = points_xy_mm[:, :1] - SIZE_MM[1] / 2, points_xy_mm[:, 1:]
        return self.pose.origin_mm + down * self.pose.down + right * self.pose.right

    def contour(self, phase: float) -> Contour:
        """The exact endocardium at a phase."""
        return contour_of(self.labels(phase), (MM, MM), view=self.view)

    def tissue_strain(self, ed: Contour) -> float:
        """Strain in % at end systole of the line of tissue that a contour shows at end diastole."""
        x, y, z = self.space(ed.points_xy_mm).T
        material = np.stack(to_material(beat_at(self.heart, 0.0), (x, y, z)), axis=-1)
        before, after = follow(self.heart, (0.0, self.heart.end_systole), material)
        lengths = [np.linalg.norm(np.diff(line, axis=0), axis=1).sum() for line in (before, after)]
        return float(100 * (lengths[1] / lengths[0] - 1))


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--hearts", type=int, default=12)
    parser.add_argument("--segmenter", type=Path, help="folder of a segmenter: measure it instead")
    parser.add_argument("--scanners", nargs="+", default=sorted(SCANNERS), help="hearts on these")
    parser.add_argument("--name", default="predicted contours", help="of the segmenter's rows")
    parser.add_argument("--add", action="store_true", help="keep the rows of other names")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("assessment.csv"))
    arguments = parser.parse_args()
    errors: dict[tuple[str, str], list[float]] = defaultdict(list)
    trace = _reader(arguments.segmenter) if arguments.segmenter else None
    for number in range(arguments.hearts):
        if _scanner_of(number) not in arguments.scanners:
            continue
        heart = draw_heart(numpy_generator(SEED, "heart", number))
        runs = _runs(heart, number) if trace is None else [_shown(heart, number, trace)]
        for name, looks, cines in runs:
            for what, error in _errors(heart, looks, cines):
                errors[name if trace is None else arguments.name, what].append(error)
        sys.stdout.write(f"heart {number + 1} of {arguments.hearts}\n")
    names = {f"phantom, {name}" for name, _ in errors}
    kept = _rows_of(arguments.out, names) if arguments.add else []
    with arguments.out.open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerows([COLUMNS, *kept])
        for (name, what), values in errors.items():
            row = [f"phantom, {name}", what, len(values), *_summary(values)]
            table.writerow([*row, SEED, _machine(), _commit()])
            sys.stdout.write(f"{row}\n")


def _rows_of(path: Path, but: set[str]) -> list[list[str]]:
    """The rows of an earlier table, but those of some names."""
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return [row for row in csv.reader(file) if row[0] not in but and row[0] != COLUMNS[0]]


def _scanner_of(number: int) -> str:
    """On which scanner a heart is seen: one after the other."""
    return sorted(SCANNERS)[number % len(SCANNERS)]


def _runs(heart: Heart, number: int) -> Iterator[tuple[str, list[Look], list[TracedCine]]]:
    """Contours' name, planes and cines of a heart whose masks are known."""
    looks = [look for repeat in range(2) for look in _looks(heart, number, repeat)]
    masks = [np.stack([look.labels(phase) for phase in look.phases]) for look in looks]
    exact = [_traced(look, mask) for look, mask in zip(looks, masks, strict=True)]
    yield "exact masks", looks[:2], exact[:2]
    yield "exact masks, two cines a view", looks, exact
    chance = numpy_generator(SEED, "noise", number)
    for noise_mm in (1.0, 2.0):
        moved = [_moved(mask, noise_mm, chance) for mask in masks[:2]]
        cines = [_traced(look, mask) for look, mask in zip(looks[:2], moved, strict=True)]
        yield f"masks moved by {noise_mm:.0f} mm", looks[:2], cines


def _looks(heart: Heart, number: int, repeat: int) -> Iterator[Look]:
    """Both views as a hand finds them, on the scanner whose turn it is."""
    scanner = SCANNERS[_scanner_of(number)]
    for view in VIEWS:
        rng = numpy_generator(SEED, "plane", number, view, repeat)
        pose = pose_of(jittered(PLANES[view], rng, 1.0), heart)
        step = scanner.frame_time_ms / heart.cycle_ms
        start = float(rng.random())
        phases = tuple((start + place * step) % 1.0 for place in range(int(BEATS / step) + 1))
        yield Look(heart, view, pose, phases, scanner.frame_time_ms)


def _traced(look: Look, labels_THW: Labels) -> TracedCine:
    return trace_masks(labels_THW, (MM, MM), view=look.view, frame_time_ms=look.frame_time_ms)


def _moved(labels_THW: Labels, noise_mm: float, rng: np.random.Generator) -> Labels:
    """Each frame warped by its own smooth field, whose parts have this standard deviation."""
    frames = []
    size_HW = labels_THW.shape[1:]
    for labels_HW in labels_THW:
        coarse = rng.normal(size=(2, size_HW[0] // COARSE + 2, size_HW[1] // COARSE + 2))
        coarse = np.stack([gaussian_filter(part, BLUR_MM / MM / COARSE) for part in coarse])
        coarse *= noise_mm / MM / coarse.std()
        field = zoom(coarse, (1, COARSE, COARSE), order=1)[:, : size_HW[0], : size_HW[1]]
        frames.append(map_coordinates(labels_HW, np.indices(size_HW) + field, order=0))
    return np.stack(frames)


def _reader(folder: Path) -> Callable[[Clip, str, float], TracedCine]:
    """From a clip to its contours, by a segmenter of masks or of contours."""
    card, weights = load_segmenter_files(folder)
    segmenter = Segmenter(card, build_forward(card, weights))

    def trace(clip: Clip, view: str, frame_time_ms: float) -> TracedCine:
        if card.answers == "contours":
            return TracedCine(segmenter.contours(clip, view=view), view, frame_time_ms)
        found = [told.mask.renamed(STRUCTURES[:4]) for told in segmenter.masks(clip, view=view)]
        labels = np.stack([mask.labels_HW for mask in found])
        return trace_masks(labels, clip.mm_per_pixel, view=view, frame_time_ms=frame_time_ms)

    return trace


def _shown(
    heart: Heart, number: int, trace: Callable[[Clip, str, float], TracedCine]
) -> tuple[str, list[Look], list[TracedCine]]:
    """The same hearts and scanners as pictures; a plane of its own, for the scanner draws it."""
    scanner = SCANNERS[_scanner_of(number)]
    num_frames = int(BEATS * heart.cycle_ms / scanner.frame_time_ms) + 1
    looks, cines = [], []
    for view in VIEWS:
        rng = numpy_generator(SEED, "picture", number, view)
        shown = render_clip(heart, view, scanner, num_frames=num_frames, size_HW=SCREEN, rng=rng)
        clip = Clip(shown.pixels_THW, shown.mm_per_pixel, shown.frame_time_ms, "", "")
        looks.append(Look(heart, view, shown.pose, shown.phases_T, shown.frame_time_ms))
        cines.append(trace(clip, view, shown.frame_time_ms))
    return "predicted contours", looks, cines


def _errors(
    heart: Heart, looks: Sequence[Look], cines: Sequence[TracedCine]
) -> Iterator[tuple[str, float]]:
    """What is compared with what, and the error; `failed` is 1 where nothing could be."""
    try:
        ed, es = ([look.contour(p) for look in looks[:2]] for p in (0.0, heart.end_systole))
        found = {name: m.value for name, m in assess(cines).measurements.items()}
        raw = measure_beat([[c for c in cine.contours if c is not None] for cine in cines[:2]])
    except EchoFedError:
        yield "failed", 1.0
        return
    yield "failed", 0.0
    ejected = {name: m.value for name, m in measure_ejection(ed, es).items()}
    truth = 100 * heart.ejection_fraction
    yield "EF, heart", found["EF"] - truth
    yield "EDV ml, heart", found["EDV"] - heart.edv_ml
    yield "SV ml, heart", found["SV"] - (heart.edv_ml - heart.esv_ml)
    if len(looks) > 2:
        return
    strains = [look.tissue_strain(contour) for look, contour in zip(looks, ed, strict=True)]
    yield "GLS, tissue", found["GLS"] - float(np.mean(strains))
    lengths = [100 * (b.length_mm / a.length_mm - 1) for a, b in zip(ed, es, strict=True)]
    yield "GLS, planes", found["GLS"] - float(np.mean(lengths))
    yield "EF, planes", found["EF"] - ejected["EF"]
    yield "EDV ml, planes", found["EDV"] - ejected["EDV"]
    yield "EF of the planes, heart", ejected["EF"] - truth
    yield "EF of single frames, planes", raw["EF"].value - ejected["EF"]
    yield "GLS of single frames, tissue", raw["GLS"].value - float(np.mean(strains))
    if "LV mass" in found:
        yield "LV mass g, heart", found["LV mass"] - _mass_g(heart)


def _mass_g(heart: Heart) -> float:
    """1.05 g/ml times the wall between the base and the apex of its outer face."""
    heights = np.linspace(0.0, 1.3 * heart.long_axis_mm, 4000)
    outer, inner = epicardial_radius_mm(heart, heights), endocardial_radius_mm(heart, heights)
    return float(1.05e-3 * np.pi * np.sum(outer**2 - inner**2) * (heights[1] - heights[0]))


def _summary(values: Sequence[float]) -> list[float]:
    """Mean absolute value, its 95 % interval (bootstrap over hearts), and mean."""
    drawn = numpy_generator(SEED, "bootstrap").choice(np.abs(values), (2000, len(values)))
    low, high = np.quantile(drawn.mean(axis=1), [0.025, 0.975])
    figures = (np.mean(np.abs(values)), low, high, np.mean(values))
    return [round(float(figure), 2) for figure in figures]


def _machine() -> str:
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{platform.machine()} {os.cpu_count()} cores {memory_gib:.0f} GiB"


def _commit() -> str:
    command = ["git", "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


if __name__ == "__main__":
    main()
