"""How real the phantom looks: grey levels and speckle of labelled stills, measured the same way.

The measures need only pixels, labels (1 LV cavity, 2 myocardium, 3 left atrium) and a pixel size,
so they run on phantom clips and on real labelled stills alike.
"""

import csv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.ndimage import binary_closing, gaussian_filter
from scipy.stats import wasserstein_distance

from shared.phantom.anatomy import Array
from shared.phantom.scanner import PhantomClip

_TISSUES = {1: "cavity", 2: "muscle", 3: "atrium"}
_LAGS = 8
_TREND_MM = 5.0  # grey changes slower than this are shading, not speckle


@dataclass(frozen=True, slots=True, eq=False)
class Still:
    """One labelled picture.

    Attributes:
        pixels_HW: grey levels, 0 to 255.
        labels_HW: 1 LV cavity, 2 myocardium, 3 left atrium; other values are not measured.
        sector_HW: True inside the fan.
        mm_per_pixel: pixel size, the same both ways.
    """

    pixels_HW: npt.NDArray[np.uint8]
    labels_HW: npt.NDArray[np.uint8]
    sector_HW: npt.NDArray[np.bool_]
    mm_per_pixel: float


@dataclass(frozen=True, slots=True, eq=False)
class Appearance:
    """What a set of stills looks like.

    Attributes:
        histogram: share of the sector's pixels at each of 256 grey levels.
        numbers: named means over stills: grey mean and spread of each tissue, speckle spread after
            removing shading, and speckle width (full width at half maximum of the autocorrelation,
            mm) along and across the middle beams.
    """

    histogram: npt.NDArray[np.float64]
    numbers: dict[str, float]


def stills_of(clip: PhantomClip) -> Iterator[Still]:
    """The frames of a phantom clip."""
    for pixels, labels in zip(clip.pixels_THW, clip.labels_THW, strict=True):
        yield Still(pixels, labels, clip.sector.mask_HW, clip.mm_per_pixel[0])


def read_stills(folder: Path, *, patients: range, limit: int) -> Iterator[Still]:
    """Labelled stills of a folder with images/, masks/, manifest.csv (file, patient, spacing_mm).

    Args:
        folder: where they lie.
        patients: numbers at the end of the patient names to read. There is no default, so that
            nobody looks at a test part by oversight while choosing a setting.
        limit: at most so many stills, spread evenly over those patients.
    """
    with (folder / "manifest.csv").open(newline="", encoding="utf-8") as stream:
        rows = [
            row
            for row in csv.DictReader(stream)
            if int(row["patient"].removeprefix("patient")) in patients
        ]
    for row in rows[:: max(1, len(rows) // limit)][:limit]:
        pixels = np.asarray(Image.open(folder / "images" / row["file"]).convert("L"))
        labels = np.asarray(Image.open(folder / "masks" / row["file"]))
        sector = binary_closing(pixels > 0, iterations=4)
        yield Still(pixels, labels.astype(np.uint8), sector, float(row["spacing_mm"]))


def appearance(stills: Iterable[Still]) -> Appearance:
    """Measure a set of stills."""
    counts = np.zeros(256)
    collected: dict[str, list[float]] = {}
    for still in stills:
        counts += np.bincount(still.pixels_HW[still.sector_HW], minlength=256)
        for name, value in _tissue_numbers(still).items():
            collected.setdefault(name, []).append(value)
    numbers = {name: float(np.nanmean(values)) for name, values in collected.items()}
    return Appearance(counts / counts.sum(), numbers)


def compare(phantom: Appearance, real: Appearance) -> dict[str, float]:
    """Distances between two appearances, beside the numbers of both.

    Returns:
        "histogram_intersection" (1 is equal), "histogram_wasserstein" (grey levels), and each
        number as "phantom <name>" and "real <name>".
    """
    levels = np.arange(256)
    out = {
        "histogram_intersection": float(np.minimum(phantom.histogram, real.histogram).sum()),
        "histogram_wasserstein": float(
            wasserstein_distance(levels, levels, phantom.histogram, real.histogram)
        ),
    }
    for name in sorted(phantom.numbers.keys() & real.numbers.keys()):
        out[f"phantom {name}"] = phantom.numbers[name]
        out[f"real {name}"] = real.numbers[name]
    return out


def envelope_snr(envelope: Array) -> float:
    """Mean over standard deviation; 1.91 for fully developed speckle (Rayleigh amplitudes)."""
    return float(envelope.mean() / envelope.std())


def _tissue_numbers(still: Still) -> dict[str, float]:
    grey = still.pixels_HW.astype(np.float64)
    trend = gaussian_filter(grey, _TREND_MM / still.mm_per_pixel)
    middle = _middle(still.sector_HW)
    numbers = {}
    for label, name in _TISSUES.items():
        inside = still.labels_HW == label
        if inside.sum() < 50:
            continue
        numbers[f"{name} grey mean"] = float(grey[inside].mean())
        numbers[f"{name} grey spread"] = float(grey[inside].std())
        numbers[f"{name} speckle spread"] = float((grey - trend)[inside].std())
        for axis, direction in ((0, "axial"), (1, "lateral")):
            width = _correlation_width(grey - trend, inside & middle, axis)
            numbers[f"{name} speckle {direction} mm"] = width * still.mm_per_pixel
    return numbers


def _middle(sector_HW: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Columns near the fan's axis, where rows run along the beam."""
    columns = np.flatnonzero(sector_HW.any(axis=0))
    centre, half = columns.mean(), 0.2 * (columns[-1] - columns[0])
    band = np.abs(np.arange(sector_HW.shape[1]) - centre) < half
    middle: npt.NDArray[np.bool_] = sector_HW & band[None, :]
    return middle


def _correlation_width(speckle: Array, inside: npt.NDArray[np.bool_], axis: int) -> float:
    """Full width at half maximum of the autocorrelation along an axis (pixels; NaN: unknown)."""
    values = np.moveaxis(speckle, axis, 0)
    mask = np.moveaxis(inside, axis, 0)
    if mask.sum() < 50:
        return float("nan")
    power = float(np.mean(values[mask] ** 2))
    before = 1.0
    for lag in range(1, _LAGS):
        both = mask[lag:] & mask[:-lag]
        if not both.any():
            break
        now = float(np.mean(values[lag:][both] * values[:-lag][both])) / power
        if now < 0.5:
            return 2.0 * (lag - 1 + (before - 0.5) / (before - now))
        before = now
    return float("nan")
