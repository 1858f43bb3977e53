"""How well sectors are found, on the phantom and on real pictures, into sectors.csv.

Run with ``ECHOFED_REAL_DATA`` set: ``python tests/bench/measure_sectors.py``. Half a minute of
one core. Hand-drawn outlines stand in tte47_sectors.csv; on the phantom's hearts and the CAMUS
patients nothing was tuned.
"""

import csv
import io
import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy.spatial import ConvexHull

from shared.console import progress
from shared.echo.detection import Region, detect_sector
from shared.echo.sector import Fan, SectorMask
from shared.phantom.anatomy import draw_heart
from shared.phantom.overlay import SCREENS, with_screen
from shared.phantom.planes import VIEWS
from shared.phantom.scanner import SCANNERS, PhantomClip, render_clip
from shared.seeding import numpy_generator

HERE = Path(__file__).parent
SIZE = (600, 800)
HEARTS = range(90_000, 90_012)  # a scanner
CAMUS_TEST = range(201, 251)
GREYS = (0, 12, 22, 32)  # of the screen around a pasted sector; 0 is black
MUSCLE_BOX = (24, 208, 44, 276)  # drawn by eye on the full screens of "dataset 2", all alike

Pixels = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Result = tuple[float, float, bool, bool]


@dataclass(frozen=True, eq=False)
class Case:
    """A picture or cine; ``mask_HW`` None: no truth, only whether a sector is found."""

    name: str
    origin: str
    pixels_THW: Pixels
    mask_HW: Mask | None = None
    fan: Fan | None = None
    region: Region | None = None


def main() -> None:
    """Measure all sets and the speed, and write the table."""
    real = Path(os.environ["ECHOFED_REAL_DATA"])
    found: dict[tuple[str, str], list[Result]] = {}
    stills = []
    with progress("sectors", None) as advance:
        for case in _cases(real):
            result = _measure(case)
            found.setdefault((case.name, case.origin), []).append(result)
            if case.origin == "phantom":
                whole = case.name.partition(",")[0] + ", all scanners"
                found.setdefault((whole, case.origin), []).append(result)
            if case.name.startswith("phantom still"):
                stills.append(case.pixels_THW)
            advance(1, case.name)
    rows = [_row(name, origin, found[name, origin]) for name, origin in sorted(found)]
    stamp = {**_speed(stills), "machine": f"{os.cpu_count()} cores", "commit": _commit()}
    with (HERE / "sectors.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, [*rows[0], *stamp])
        writer.writeheader()
        writer.writerows({**row, **stamp} for row in rows)


def _cases(real: Path) -> Iterator[Case]:
    bare = []
    for name, scanner in SCANNERS.items():
        for seed in HEARTS:
            rng = numpy_generator(seed, name)
            heart, view = draw_heart(rng), VIEWS[seed % len(VIEWS)]
            clip = render_clip(heart, view, scanner, num_frames=6, size_HW=SIZE, rng=rng)
            bare.append(clip)
            shown = with_screen(clip, SCREENS[scanner.screen], variant=seed % 10, banner="ADA, 1")
            for kind, pixels in (("still", shown.pixels_THW[:1]), ("cine", shown.pixels_THW)):
                yield Case(
                    f"phantom {kind}, {name}", "phantom", pixels, clip.sector.mask_HW, clip.fan
                )
    yield from _pasted(real / "camus_a4c" / "images", bare)
    yield from _drawn(real / "tte47")
    yield from _linear(real / "muscle_timtrack")
    for name, folder in (("lung", "lung_pocus"), ("fetal head", "fetal_hc18")):
        for file in sorted((real / folder / "images").rglob("*.*"))[::4]:
            pixels = _grey(file.read_bytes())
            region = Region(0, pixels.shape[0], 0, pixels.shape[1])
            yield Case(f"{name}, cut, region declared", "real", pixels[None], region=region)


def _pasted(images: Path, bare: list[PhantomClip]) -> Iterator[Case]:
    """CAMUS sectors, by the hull of what is not zero, on phantom screens of several greys."""
    rng = np.random.default_rng(2)
    files = [file for file in sorted(images.iterdir()) if int(file.name[7:11]) in CAMUS_TEST]
    for number, file in enumerate(files):
        picture = Image.open(file).convert("L")
        height = int(rng.integers(420, 500))
        size = (round(picture.width * height / picture.height), height)
        tissue = np.asarray(picture.resize(size, Image.Resampling.BILINEAR))
        points_xy = np.argwhere(tissue)[:, ::-1]
        corners_xy = points_xy[ConvexHull(points_xy).vertices]
        place = slice(50, 50 + height), slice((800 - size[0]) // 2, (800 + size[0]) // 2)
        mask, pixels = np.zeros(SIZE, dtype=np.bool_), np.zeros(SIZE, np.uint8)
        mask[place] = _polygon([tuple(xy) for xy in corners_xy.tolist()], tissue.shape)
        pixels[place] = tissue
        under = bare[number % len(bare)]
        clip = replace(
            under, pixels_THW=(pixels * mask)[None], sector=SectorMask(mask, under.fan, 1.0)
        )
        screen = SCREENS[SCANNERS[under.scanner].screen]
        shown = with_screen(clip, screen, variant=number % 10, banner="ADA, 1").pixels_THW
        grey = GREYS[number % len(GREYS)]
        around = (grey + rng.normal(0.0, 1.0, SIZE)).round().astype(np.uint8) if grey else 0
        kind = "grey" if grey else "black"
        pasted = np.where(mask, shown, np.maximum(shown, around)).astype(np.uint8)
        yield Case(f"CAMUS 201-250 pasted, {kind} screen", "real", pasted, mask)


def _drawn(folder: Path) -> Iterator[Case]:
    """TTE47's stills; those without a 2-D sector of their own must be refused."""
    with (HERE / "tte47_sectors.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            pixels = _grey((folder / row["file"]).read_bytes())
            if not row["polygon_xy"]:
                yield Case("TTE47, spectrum or M-mode", "real", pixels[None])
                continue
            corners = [tuple(map(float, xy.split(","))) for xy in row["polygon_xy"].split()]
            yield Case("TTE47, 2-D", "real", pixels[None], _polygon(corners, pixels.shape))


def _linear(folder: Path) -> Iterator[Case]:
    with (folder / "manifest.csv").open(newline="") as file:
        names = [row["file"] for row in csv.DictReader(file) if row["site"] == "dataset 2"]
    top, bottom, left, right = MUSCLE_BOX
    for name in names:
        pixels = _grey((folder / "images" / name).read_bytes())
        mask = np.zeros(pixels.shape, dtype=np.bool_)
        mask[top:bottom, left:right] = True
        yield Case("muscle, full screen, linear", "real", pixels[None], mask)


def _measure(case: Case) -> Result:
    """IoU (0 where refused), mean error of both angles (NaN without truth), refused, has a fan."""
    sector = detect_sector(case.pixels_THW, case.region)
    if sector is None:
        return 0.0, np.nan, True, False
    error = np.nan
    if case.fan is not None and sector.fan is not None:
        left = abs(sector.fan.angle_min_deg - case.fan.angle_min_deg)
        error = (left + abs(sector.fan.angle_max_deg - case.fan.angle_max_deg)) / 2
    if case.mask_HW is None:
        return np.nan, error, False, sector.fan is not None
    both, either = sector.mask_HW & case.mask_HW, sector.mask_HW | case.mask_HW
    return float(both.sum() / either.sum()), error, False, sector.fan is not None


def _row(name: str, origin: str, results: list[Result]) -> dict[str, Any]:
    iou, error, refused, fans = (
        np.array(column, dtype=np.float64) for column in zip(*results, strict=True)
    )
    has_truth = not np.isnan(iou).any() and bool(iou.any())
    return {
        "set": name, "origin": origin, "n": len(results),
        "mean_iou": f"{iou.mean():.4f}" if has_truth else "",
        "p5_iou": f"{np.quantile(iou, 0.05):.4f}" if has_truth else "",
        "median_angle_deg": "" if np.isnan(error).all() else f"{np.nanmedian(error):.3f}",
        "refused": f"{refused.mean():.4f}", "with_fan": f"{fans.mean():.4f}",
    }  # fmt: skip


def _speed(stills: list[Pixels]) -> dict[str, str]:
    """Stills of 600x800 a CPU second of one core, and how many JPEG decodings one still costs."""
    files = []
    for pixels in stills:
        stream = io.BytesIO()
        Image.fromarray(pixels[0]).save(stream, "JPEG", quality=90)
        files.append(stream.getvalue())
    begun = time.process_time()
    for pixels in stills:
        detect_sector(pixels, None)
    between = time.process_time()
    for data in files:
        _grey(data)
    detect_s, decode_s = between - begun, time.process_time() - between
    return {
        "stills_per_cpu_s": f"{len(stills) / detect_s:.0f}",
        "jpeg_decodes_per_still": f"{detect_s / decode_s:.1f}",
    }


def _grey(data: bytes) -> Pixels:
    return np.asarray(Image.open(io.BytesIO(data)).convert("L"))


def _polygon(corners_xy: list[Any], size_HW: tuple[int, ...]) -> Mask:
    canvas = Image.new("L", (size_HW[1], size_HW[0]))
    ImageDraw.Draw(canvas).polygon(corners_xy, fill=1, outline=1)
    return np.asarray(canvas, dtype=np.bool_)


def _commit() -> str:
    command = ["git", "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    main()
