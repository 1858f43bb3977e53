"""How well segmenters do on the test patients of a dataset, into segmentation.csv.

``python tests/bench/measure_segmentation.py SITE DATASET NAME=SEGMENTER ...`` looks at segmenters
that lie in the folder of a site. Masks are compared at the pictures' own size; landmarks are those
of one extractor for reference and prediction alike, but for the phantom's exact ones.
A row a segmenter: means over frames, the interval of a bootstrap over patients for the Dice of the
cavity and the landmarks.
"""

import argparse
import csv
import platform
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion, distance_transform_edt

from shared.echo.annotation import Annotation
from shared.echo.contour import Contour
from shared.echo.frame import Clip, MillimetresPerPixel
from shared.echo.manifest import ClipRecord
from shared.echo.segmenter import SegmenterCard, load_segmenter_files
from shared.errors import EchoFedError
from shared.measurement.landmarks import contour_of
from shared.segmentation.contour import spline_through
from shared.segmentation.distance import distance_from_polygon
from shared.segmentation.predict import FIVE_LOOKS, ONE_LOOK
from shared.segmentation.segmenter import Floats, Forward, Segmenter, build_forward
from site_client.store import SiteStore
from site_client.training.outlines import as_extracted

OUT = Path(__file__).parent / "segmentation.csv"
KEY = ("data", "name", "seed", "looks")
DRAWS = 1000  # of the bootstrap
Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """One annotated frame of a test patient."""

    patient: str
    view: str
    clip: Clip
    annotation: Annotation

    @property
    def spacing(self) -> MillimetresPerPixel:
        """Of rows and columns."""
        assert self.clip.mm_per_pixel is not None
        return self.clip.mm_per_pixel


def main() -> None:
    """Measure the segmenters named and write their rows into the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("site", type=Path, help="folder of the site with the test dataset")
    parser.add_argument("dataset")
    parser.add_argument("segmenters", nargs="+", help="NAME=FOLDER of card and weights")
    parser.add_argument("--frames", type=int, default=0, help="of each clip at most")
    parser.add_argument("--looks", type=int, default=1, choices=[1, 5])
    asked = parser.parse_args()
    torch.set_num_threads(2)
    store = SiteStore(asked.site)
    cases = load_cases(store, asked.dataset, asked.frames)
    origin = store.manifest(asked.dataset).origin
    for named in asked.segmenters:
        name, folder = named.split("=", 1)
        card, weights = load_segmenter_files(Path(folder))
        looks = FIVE_LOOKS if asked.looks == 5 else ONE_LOOK
        row = {"data": asked.dataset, "origin": origin, "name": name, "seed": card.seed}
        row |= {"looks": len(looks), **measure(card, weights, cases, looks)}
        row |= {"train_s": round(card.metrics.get("seconds", 0.0)), "machine": machine()}
        write_row(row)
        print(row)  # noqa: T201


def load_cases(store: SiteStore, dataset: str, at_most: int) -> list[Case]:
    """The annotated frames of the test patients."""
    manifest = store.manifest(dataset)
    cases = []
    for record in manifest.of_split("test"):
        if record.structures:
            cases += _cases_of(store, dataset, record, manifest.label_map().views_of, at_most)
    return cases


def _cases_of(
    store: SiteStore,
    dataset: str,
    record: ClipRecord,
    views_of: Callable[[str], frozenset[str]],
    at_most: int,
) -> list[Case]:
    stored = store.clip(dataset, record)
    annotation = stored.annotation
    views = views_of(record.label)
    if annotation is None or len(views) != 1:
        return []
    kept = range(len(annotation.frames))
    if at_most and len(kept) > at_most:
        kept = np.unique(np.rint(np.linspace(0, len(kept) - 1, at_most)).astype(int)).tolist()
    landmarks = annotation.landmarks_xy_px_F32
    return [
        Case(
            record.patient,
            next(iter(views)),
            Clip(
                stored.pixels_THW[[annotation.frames[place]]],
                stored.mm_per_pixel, None, record.key, record.patient,
            ),
            Annotation(
                (0,), annotation.labels_FHW[[place]], annotation.structures,
                None if landmarks is None else landmarks[[place]],
            ),
        )
        for place in kept
    ]  # fmt: skip


def measure(
    card: SegmenterCard, weights: bytes, cases: Sequence[Case], looks: Sequence[tuple[int, int]]
) -> dict[str, object]:
    """Figures of one segmenter on all cases whose view it claims to know, or on all."""
    card = replace(card, views=tuple({case.view for case in cases}))
    is_points_only = card.answers == "contours" and not card.settings.get("contour_loss.distance")
    forward = build_forward(card, weights)
    segmenter = Segmenter(card, _with_spline(forward) if is_points_only else forward)
    told: dict[str, list[float]] = {}
    lv_dice: dict[str, list[float]] = {}
    errors: dict[str, list[float]] = {}
    failures = 0
    for case in cases:
        contour, figures_of_case = _answer(segmenter, case, looks)
        lv_dice.setdefault(case.patient, []).append(figures_of_case.get("dice_lv", 0.0))
        reference = _reference(case)
        if contour is None:
            failures += reference is not None
        elif reference is not None:
            figures_of_case |= _contour_figures(contour, reference, case)
            errors.setdefault(case.patient, []).append(figures_of_case["landmark_mm"])
        for name, value in figures_of_case.items():
            told.setdefault(name, []).append(value)
    figures = {name: round(float(np.nanmean(values)), 4) for name, values in sorted(told.items())}
    return {
        "network": card.network,
        "patch": card.options["patch"],
        "landmarks": card.num_landmarks,
        "size": card.image_size,
        "frames": len(cases),
        "patients": len({case.patient for case in cases}),
        "failed_contours": failures,
        **figures,
        "dice_lv_interval": _interval(lv_dice),
        "landmark_mm_interval": _interval(errors),
    }


def _answer(
    segmenter: Segmenter, case: Case, looks: Sequence[tuple[int, int]]
) -> tuple[Contour | None, dict[str, float]]:
    """The contour of a frame, and how its regions agree with the annotation."""
    if segmenter.card.answers == "masks":
        (found,) = segmenter.masks(case.clip, view=case.view, looks=looks)
        labels_HW = found.mask.renamed(case.annotation.structures).labels_HW
        known = segmenter.card.structures
        return _extracted(labels_HW, case), mask_figures(labels_HW, case, known)
    (contour,) = segmenter.contours(case.clip, view=case.view)
    if contour is None:
        return None, {}
    return contour, _region_figures(_filled(contour, case), case, "lv")


def _contour_figures(contour: Contour, reference_72: Array, case: Case) -> dict[str, float]:
    """Errors of the landmarks and distance of the contours, in mm."""
    error_7 = np.hypot(*(landmarks_7(contour) - reference_72).T)
    return {
        "landmark_mm": float(error_7.mean()),
        "base_mm": float(error_7[[0, -1]].mean()),
        "apex_mm": float(error_7[3]),
        "contour_mm": _between(contour, _extracted_reference(case)),
    }


def landmarks_7(contour: Contour) -> Array:
    """Base points, apex, and two on each wall at equal lengths (7, 2) in mm."""
    points = contour.points_xy_mm
    left = spline_through(points[: contour.apex + 1], 4)
    right = spline_through(points[contour.apex :], 4)
    return np.concatenate([left, right[1:]])


def _reference(case: Case) -> Array | None:
    """Reference landmarks: the extractor's, with the exact ones where they are known."""
    contour = _extracted_reference(case)
    if contour is None:
        return None
    points = landmarks_7(contour)
    exact = case.annotation.landmarks_xy_px_F32
    if exact is not None:
        row_mm, column_mm = case.spacing
        exact_mm = exact[0] * [column_mm, row_mm]
        for place, point in zip((0, 3, 6), exact_mm, strict=True):
            if np.isfinite(point).all():
                points[place] = point
    return points


def _extracted_reference(case: Case) -> Contour | None:
    return _extracted(case.annotation.labels_FHW[0], case)


def _extracted(labels_HW: NDArray[np.uint8], case: Case) -> Contour | None:
    values_HW = as_extracted(labels_HW, case.annotation.structures)
    try:
        return contour_of(values_HW, case.spacing, view=case.view)
    except EchoFedError:
        return None


def _with_spline(forward: Forward) -> Forward:
    """Points only: the distance map is that to the spline through them."""

    def points_only(image_N1HW: Floats, mm_per_pixel_N2: Floats) -> tuple[Floats, ...]:
        points, covariance, distance = forward(image_N1HW, mm_per_pixel_N2)
        exact = [
            distance_from_polygon(
                spline_through(one.astype(np.float64), 41), distance.shape[1:], (mm[0], mm[1])
            )
            for one, mm in zip(points, mm_per_pixel_N2.astype(np.float64), strict=True)
        ]
        return points, covariance, np.stack(exact).astype(np.float32)

    return points_only


def mask_figures(
    labels_HW: NDArray[np.uint8], case: Case, known: Sequence[str]
) -> dict[str, float]:
    """Of the structures that the segmenter tells apart."""
    told: dict[str, float] = {}
    for value, name in enumerate(case.annotation.structures[1:], 1):
        if name in known:
            told |= _region_figures(labels_HW == value, case, name)
    return told


def _region_figures(found_HW: NDArray[np.bool_], case: Case, name: str) -> dict[str, float]:
    """Dice, mean distance of the edges and its 95th percentile in mm, both ways."""
    true_HW = case.annotation.labels_FHW[0] == case.annotation.structures.index(name)
    total = int(found_HW.sum() + true_HW.sum())
    if not total:
        return {}
    dice = 2.0 * int((found_HW & true_HW).sum()) / total
    if not found_HW.any() or not true_HW.any():
        return {f"dice_{name}": dice}
    one, other = _edge(found_HW), _edge(true_HW)
    there = distance_transform_edt(~other, sampling=case.spacing)[one]
    back = distance_transform_edt(~one, sampling=case.spacing)[other]
    return {
        f"dice_{name}": dice,
        f"mad_{name}_mm": float((there.mean() + back.mean()) / 2),
        f"hd95_{name}_mm": float(max(np.percentile(there, 95), np.percentile(back, 95))),
    }


def _edge(region_HW: NDArray[np.bool_]) -> NDArray[np.bool_]:
    edge: NDArray[np.bool_] = region_HW & ~binary_erosion(region_HW)
    return edge


def _filled(contour: Contour, case: Case) -> NDArray[np.bool_]:
    size_HW = (case.clip.pixels_THW.shape[1], case.clip.pixels_THW.shape[2])
    return distance_from_polygon(contour.points_xy_mm, size_HW, case.spacing) < 0


def _between(one: Contour, other: Contour | None) -> float:
    """Mean distance between two contours, both ways, in mm."""
    if other is None:
        return float("nan")
    a, b = (spline_through(contour.points_xy_mm, 400) for contour in (one, other))
    gaps = np.hypot(*(a[:, None] - b[None]).transpose(2, 0, 1))
    return float((gaps.min(axis=0).mean() + gaps.min(axis=1).mean()) / 2)


def _interval(by_patient: dict[str, list[float]]) -> str:
    """95 % interval of the mean over patients."""
    means = np.array([np.mean(values) for values in by_patient.values()])
    drawn = np.random.default_rng(0).choice(means, (DRAWS, len(means))).mean(axis=1)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return f"[{low:.3f}, {high:.3f}]"


def write_row(row: dict[str, object]) -> None:
    """Put a row into the table, in place of one of the same key."""
    row = {**row, "commit": commit()}
    old: list[dict[str, str]] = []
    if OUT.is_file():
        with OUT.open(newline="") as file:
            old = list(csv.DictReader(file))
    kept = [one for one in old if any(one.get(name) != str(row[name]) for name in KEY)]
    columns = list(dict.fromkeys([*(name for one in kept for name in one), *row]))
    rows = sorted([*kept, row], key=lambda one: tuple(str(one[name]) for name in KEY))
    with OUT.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def machine() -> str:
    """Kind of processor and number of cores."""
    return f"{platform.machine()} {torch.get_num_threads()} threads"


def commit() -> str:
    """Of the code that measured."""
    return subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True
    ).stdout.strip()


if __name__ == "__main__":
    main()
