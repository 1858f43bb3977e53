"""Measure the text detector: python tests/bench/measure_text.py writes tests/bench/text.csv.

Phantoms are of other seeds than the fit's. Real pictures come from ``ECHOFED_REAL_DATA`` and took
no part in the fit; without that folder their rows are left out. Takes under two minutes.
"""

import csv
import os
import platform
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from shared.echo.detection import detect_sector
from shared.phantom.anatomy import draw_heart
from shared.phantom.planes import VIEWS
from shared.phantom.scanner import SCANNERS, render_clip
from shared.seeding import numpy_generator
from shared.testing.burn import burn_word
from site_client.text import Mask, find_text

OUT = Path(__file__).with_name("text.csv")
SEEDS = {60: (71, 72), 120: (71,), 240: (71,), 600: (71, 72, 73)}
"""Seeds by rows."""
SIZES = ((60, 80), (120, 160), (240, 320), (600, 800))
VIEWS_AT_600 = 2  # of each scanner
WORDS = 2  # burnt into every clip, one at a time
CAMUS_OPEN = range(1, 201)  # patients 201-250 are the test part
MARKED = {
    "05_a3ch-la.png", "07_a3ch-outflow.png", "09_a4ch-ias.png", "15_a5ch-outflow.png",
    "25_plax-full-la.png", "27_plax-full-mv.png", "29_plax-full-rv-ao.png",
    "45_subcostal-heart.png", "dataset1_12666a0b518a.jpg", "dataset1_f3581eb10377.jpg",
}  # fmt: skip
"""Pictures with digits, letters or a colour box left where is looked; told by eye."""


class Tally:
    """Clips, and those in which text was found, by group."""

    def __init__(self) -> None:
        self.clips: dict[tuple[str, str, str], int] = defaultdict(int)
        self.flagged: dict[tuple[str, str, str], int] = defaultdict(int)
        self.seconds: dict[tuple[str, str, str], float] = defaultdict(float)

    def add(self, group: tuple[str, str, str], pixels_THW: NDArray[np.uint8], mask: Mask) -> None:
        start = time.process_time()
        is_flagged = bool(find_text(pixels_THW, mask))
        self.seconds[group] += time.process_time() - start
        self.clips[group] += 1
        self.flagged[group] += is_flagged

    def rows(self) -> Iterator[list[object]]:
        for group, clips in self.clips.items():
            share = round(self.flagged[group] / clips, 4)
            ms = round(1000 * self.seconds[group] / clips, 1)
            yield [*group, clips, self.flagged[group], share, ms]


def measure_phantoms(tally: Tally) -> None:
    for size_HW in SIZES:
        for seed in SEEDS[size_HW[0]]:
            for number, scanner in enumerate(SCANNERS):
                views = VIEWS if size_HW[0] < 600 else VIEWS[number :: len(SCANNERS)][:VIEWS_AT_600]
                for view in views:
                    measure_view(tally, scanner, view, size_HW, seed)


def measure_view(
    tally: Tally, scanner: str, view: str, size_HW: tuple[int, int], seed: int
) -> None:
    """A still and a cine of one view, empty and with words."""
    generator = numpy_generator(seed, "measure text", scanner, view, size_HW[0])
    clip = render_clip(
        draw_heart(generator), view, SCANNERS[scanner],
        num_frames=6, size_HW=size_HW, rng=generator,
    )  # fmt: skip
    mask_HW, size = clip.sector.mask_HW, f"{size_HW[0]}x{size_HW[1]}"
    for form, pixels_THW in (("still", clip.pixels_THW[:1]), ("cine", clip.pixels_THW)):
        tally.add(("phantom", f"{form} {size}", "no text"), pixels_THW, mask_HW)
        smallest = {"word": 7, "word of 6 pixels": 6} if size_HW[0] < 200 else {"word": 7}
        for what, pixels in smallest.items():
            for _ in range(WORDS):
                burnt = burn_word(pixels_THW, mask_HW, generator, smallest=pixels)
                if burnt is not None and (burnt.size == 6) == (pixels == 6):
                    tally.add(("phantom", f"{form} {size}", what), burnt.pixels_THW, mask_HW)


def measure_real(tally: Tally, folder: Path) -> None:
    generator = numpy_generator(73, "measure text")
    for name, text, path in real_pictures(folder):
        pixels_THW = np.asarray(Image.open(path).convert("L"))[None]
        sector = detect_sector(pixels_THW, None)
        mask_HW = sector.mask_HW if sector else np.ones(pixels_THW.shape[1:], dtype=np.bool_)
        if sector is None and name == "tte47":
            continue
        pixels_THW = pixels_THW * mask_HW
        tally.add(("real", name, text), pixels_THW, mask_HW)
        burnt = burn_word(pixels_THW, mask_HW, generator) if text == "no text" else None
        if burnt is not None:
            tally.add(("real", name, "word"), burnt.pixels_THW, mask_HW)


def real_pictures(folder: Path) -> Iterator[tuple[str, str, Path]]:
    """Set, what is known of text in it, and file; one frame of each video or sequence."""
    for patient in CAMUS_OPEN:
        phase = ("ED", "ES")[patient % 2]
        path = folder / "camus_a4c/images" / f"patient{patient:04d}_4CH_{phase}.png"
        if path.is_file():
            yield "camus_a4c", "no text", path
    for row in first_of_each(folder / "lung_pocus/manifest.csv", "video"):
        yield "lung_pocus", "no text", folder / "lung_pocus/images" / row["file"]
    for row in first_of_each(folder / "muscle_timtrack/manifest.csv", "sequence"):
        is_marked = row["site"] == "dataset 2" or row["file"] in MARKED
        kind = "scanner's marks" if is_marked else "no text"
        yield "muscle_timtrack", kind, folder / "muscle_timtrack/images" / row["file"]
    for row in first_of_each(folder / "tte47/manifest.csv", "file"):
        if row["group"] not in ("doppler", "mmode"):
            kind = "scanner's marks" if row["file"] in MARKED else "no text"
            yield "tte47", kind, folder / "tte47" / row["file"]


def first_of_each(manifest: Path, column: str) -> list[dict[str, str]]:
    with manifest.open(newline="", encoding="utf-8") as file:
        firsts = {row[column]: row for row in reversed(list(csv.DictReader(file)))}
    return sorted(firsts.values(), key=lambda row: row["file"])


def main() -> None:
    tally = Tally()
    measure_phantoms(tally)
    real = os.environ.get("ECHOFED_REAL_DATA", "")
    if real:
        measure_real(tally, Path(real))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 30
    machine = f"{platform.machine()} {os.cpu_count()} cores {memory} GiB"
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True
    ).stdout.strip()
    header = ["origin", "set", "text", "clips", "flagged", "share", "cpu_ms_a_clip"]
    with OUT.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*header, "machine", "commit"])
        for row in tally.rows():
            writer.writerow([*row, machine, commit])
            sys.stdout.write(" ".join(map(str, row)) + "\n")


if __name__ == "__main__":
    main()
