"""What drawn images are worth: six published systems and ours on one dataset, into synthesis.csv.

``python tests/bench/measure_synthesis.py SITE DATASET --seed 1 --seconds 300 --images 400 --out
FOLDER``: each system learns for as long, draws images of the same warped label maps of training
patients from the same seeds, and a segmenter that has seen these images only is tried on the real
test patients, beside segmenters of the real frames. A finished step is a file below FOLDER; run the
same again after a kill. The site's folder gets synthesizers, so give a copy.

``--labelled 10``: label maps of ten training patients only; segmenters of their real frames alone
beside those that have the images too. No validation frame chooses the weights then.

FD, KID, precision and recall compare images with real frames of patients that nobody learnt from,
on features of the real-only segmenter, or of that of ``--features`` so that seeds can be compared;
the column ``features`` names it. The row ``real`` has real training frames in the images' place:
the floor.
"""

import argparse
import csv
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from measure_segmentation import commit, machine
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from synthesis_downstream import DiceOfPatients, dice_figures, tried
from synthesis_protocol import Asked, Protocol, joined, keep, kept
from synthesis_systems import (
    SLOW_STEPS,
    SYSTEMS,
    costs,
    drawn,
    sampler_of,
    stored,
    trained,
)

from shared.echo.segmenter import load_segmenter_files
from shared.echo.synthesizer import Sampler
from shared.synthesis.release import embedded, subset_coverage
from shared.synthesis.semantic import Synthesizer
from site_client.judge import encoder_features, encoder_of, likeness, memorised_share
from site_client.store import SiteStore
from site_client.training.loop import Step
from site_client.training.segmenter import Lesson
from site_client.training.strides import Stride

log = logging.getLogger(__name__)
OUT = Path(__file__).parent / "synthesis.csv"
KEY = ("data", "system", "seed", "labelled", "seconds", "images", "size")
REAL, MOVED = "real", "real, warped"
SHOWN = 6  # label maps in the picture
_SECONDS_BETWEEN = 30.0
TABLE = ("system", "seed", "train_s", "steps", "dice_lv", "dice_myocardium", "dice_la", "share",
         "difference_interval", "kid", "fd", "precision", "recall", "memorised", "coverage",
         "evaluations", "gflop", "full_gflop", "s_per_image", "peak_mb")  # fmt: skip


def main() -> None:
    """Run what is not done yet, write the rows, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("site", type=Path, help="folder of a copy of the site")
    parser.add_argument("dataset")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=300.0, help="of training for each system")
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--labelled", type=int, default=0, help="patients with labels; 0 for all")
    parser.add_argument("--segmenter-steps", type=int, default=2000)
    parser.add_argument("--slow-images", type=int, default=20, help="by which SDM's cost is told")
    parser.add_argument("--features", default="", help="id of a segmenter of the site that judges")
    parser.add_argument("--systems", nargs="+", default=list(SYSTEMS), choices=SYSTEMS)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--csv", type=Path, default=OUT, help="table that the rows go into")
    told = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(2)
    asked = Asked(
        told.dataset, told.seed, told.labelled, told.seconds, told.images, told.size,
        told.segmenter_steps, told.features, told.slow_images,
    )  # fmt: skip
    protocol = Protocol(SiteStore(told.site), asked, told.out / _folder_name(asked))
    rows = compared(protocol, told.systems)
    write_rows(told.csv, rows)
    print(table_of(rows))  # noqa: T201


def compared(protocol: Protocol, systems: Sequence[str]) -> list[dict[str, object]]:
    """A row for each, the real-only ones first; pictures beside one another are left on disk."""
    baseline, moved = _real_only(protocol)
    rows = [_told(protocol, REAL, {**dice_figures(baseline, baseline), **_floor(protocol)})]
    rows.append(_told(protocol, MOVED, dice_figures(moved, baseline)))
    shown: dict[str, NDArray[np.uint8]] = {}
    for system in systems:
        path = protocol.folder / system / "row.json"
        row = kept(path)
        images_NSS, figures = _drawn(system, protocol)
        shown[system] = images_NSS
        if row is None:
            row = _row_of(system, protocol, baseline, images_NSS) | figures
            row |= {"machine": machine(), "commit": commit()}
            keep(path, row)
        rows.append(_told(protocol, system, row | _likeness(protocol, images_NSS)))
        if system == "sdm":
            rows.append(_told(protocol, f"sdm, {SLOW_STEPS} steps", _slow_row(protocol)))
        _save_sheet(protocol, shown)
    return rows


def _real_only(protocol: Protocol) -> tuple[DiceOfPatients, DiceOfPatients]:
    """Segmenters of real frames as they are, and of frames warped as the label maps are."""
    known, val = protocol.known, protocol.val
    plain = tried("real", protocol, Lesson(known, val), _progress("segmenter, real"))
    frames = protocol.drawing.frames
    frames = joined([known, frames]) if protocol.asked.labelled else frames
    moved = tried("real-warped", protocol, Lesson(frames, val), _progress("segmenter, warped"))
    return plain, moved


def _drawn(system: str, protocol: Protocol) -> tuple[NDArray[np.uint8], dict[str, object]]:
    """The system's images for training, and what they cost."""
    synthesizer = stored(protocol, trained(system, protocol, _progress(system))["id"])
    sampler = sampler_of(system, synthesizer)
    folder = protocol.folder / system / "train"
    images_NSS, cost = drawn(synthesizer, protocol.drawing, sampler, folder)
    return images_NSS, _rounded(cost)


def _row_of(
    system: str, protocol: Protocol, baseline: DiceOfPatients, images_NSS: NDArray[np.uint8]
) -> dict[str, object]:
    """What a system is told to be worth, and its operations."""
    course = trained(system, protocol, _progress(system))
    synthesizer = stored(protocol, course["id"])
    sampler = sampler_of(system, synthesizer)
    chosen, _ = drawn(synthesizer, protocol.selection, sampler, protocol.folder / system / "val")
    train_frames = protocol.drawing.with_pixels(images_NSS)
    val_frames = protocol.selection.with_pixels(chosen)
    if protocol.asked.labelled:
        train_frames, val_frames = joined([protocol.known, train_frames]), protocol.val
    lesson = Lesson(train_frames, val_frames)
    dice = tried(system, protocol, lesson, _progress(f"segmenter, {system}"))
    num_views = len(synthesizer.card.views)
    return {
        **course,
        **dice_figures(dice, baseline),
        **_memory(protocol, synthesizer, images_NSS),
        **costs(system, protocol, sampler, num_views),
    }


def _slow_row(protocol: Protocol) -> dict[str, object]:
    """What all steps of SDM cost, on a few images."""
    course = trained("sdm", protocol, _progress("sdm"))
    synthesizer = stored(protocol, course["id"])
    own = sampler_of("sdm", synthesizer)
    sampler = Sampler(
        own.solver, own.schedule, SLOW_STEPS, own.sigma_min, own.sigma_max, own.guidance
    )
    few = protocol.drawing.take(min(protocol.asked.slow_images, protocol.asked.images))
    _, cost = drawn(synthesizer, few, sampler, protocol.folder / "sdm" / "slow")
    counted = costs("sdm", protocol, sampler, len(synthesizer.card.views))
    return {**course, **counted, **_rounded(cost)}


def _floor(protocol: Protocol) -> dict[str, object]:
    """The figures of real training frames against real frames of others."""
    return _likeness(protocol, protocol.train.pixels_NSS)


def _likeness(protocol: Protocol, pixels_NSS: NDArray[np.uint8]) -> dict[str, object]:
    """Distances from real frames of test and validation patients on our own features."""
    folder = protocol.folder / "segmenters" / REAL
    if protocol.asked.features:
        folder = protocol.store.require_segmenter(protocol.asked.features)
    card, weights = load_segmenter_files(folder)
    encoder = encoder_of(card, weights)
    held_out_NSS = joined([protocol.val, protocol.test]).pixels_NSS
    found = likeness(encoder_features(encoder, pixels_NSS), encoder_features(encoder, held_out_NSS))
    return {
        "features": card.id,
        "kid": round(found.kernel, 5),
        "fd": round(found.frechet, 4),
        "precision": round(found.precision, 3),
        "recall": round(found.recall, 3),
    }


def _memory(
    protocol: Protocol, synthesizer: Synthesizer, pixels_NSS: NDArray[np.uint8]
) -> dict[str, object]:
    """How much of the training frames is in the images, by the synthesizer's own embedding."""
    gate = synthesizer.gate
    drawn_ND, val_HD, test_MD = (
        embedded(gate.embedding, pixels)
        for pixels in (pixels_NSS, protocol.val.pixels_NSS, protocol.test.pixels_NSS)
    )
    return {
        "memorised": round(memorised_share(drawn_ND, val_HD, gate.gallery_GD), 3),
        "memorised_of_test": round(memorised_share(test_MD, val_HD, gate.gallery_GD), 3),
        "coverage": round(subset_coverage(drawn_ND, gate.gallery_GD), 3),
    }


def _told(protocol: Protocol, system: str, row: Mapping[str, object]) -> dict[str, object]:
    """A row with what it is about, and where it was measured unless it says so itself."""
    asked = protocol.asked
    manifest = protocol.store.manifest(asked.dataset)
    return {
        "data": asked.dataset,
        "origin": manifest.origin,
        "system": system,
        "seed": asked.seed,
        "labelled": asked.labelled,
        "seconds": asked.seconds,
        "images": asked.images,
        "size": asked.size,
        "train_patients": protocol.num_patients,
        "test_patients": len({case.patient for case in protocol.cases}),
        "segmenter_steps": asked.segmenter_steps,
        "machine": machine(),
        "commit": commit(),
        **{name: value for name, value in row.items() if name != "id"},
    }


def write_rows(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Put rows into the table, in place of those of the same key."""
    old: list[dict[str, str]] = []
    if path.is_file():
        with path.open(newline="") as file:
            old = list(csv.DictReader(file))
    fresh = {tuple(str(row[name]) for name in KEY) for row in rows}
    kept_rows = [row for row in old if tuple(row.get(name, "") for name in KEY) not in fresh]
    every: list[Mapping[str, object]] = [*kept_rows, *rows]
    columns = list(dict.fromkeys(name for row in every for name in row))
    columns = [name for name in columns if name not in ("machine", "commit")]
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(
            file, [*columns, "machine", "commit"], restval="", lineterminator="\n"
        )
        writer.writeheader()
        writer.writerows(every)


def table_of(rows: Sequence[Mapping[str, object]]) -> str:
    """The rows as a table for a person; what every row lacks is left out."""
    columns = [name for name in TABLE if any(name in row for row in rows)]
    lines = [columns, *([str(row.get(name, "")) for name in columns] for row in rows)]
    widths = [max(len(line[place]) for line in lines) for place in range(len(columns))]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        for line in lines
    )


def _save_sheet(protocol: Protocol, shown: Mapping[str, NDArray[np.uint8]]) -> None:
    """Label maps, the real frames warped likewise, and each system's images: a row each."""
    drawing = protocol.drawing
    num = min(SHOWN, len(drawing.seeds_N))
    maps_NSS = drawing.maps_NSS[:num]
    grey = {"label maps": maps_NSS * (255 // max(len(drawing.structures) - 1, 1))}
    grey |= {MOVED: drawing.frames.pixels_NSS[:num]}
    grey |= {system: images_NSS[:num] for system, images_NSS in shown.items()}
    side, left = maps_NSS.shape[1], 90
    sheet = Image.new("L", (left + num * side, len(grey) * side))
    writer = ImageDraw.Draw(sheet)
    for place, (name, images_NSS) in enumerate(grey.items()):
        writer.text((4, place * side + side // 2), name, fill=255)
        for column, image_SS in enumerate(images_NSS):
            sheet.paste(Image.fromarray(image_SS), (left + column * side, place * side))
    sheet.save(protocol.folder / "pictures.png")


def _rounded(figures: Mapping[str, float]) -> dict[str, object]:
    return {name: float(f"{value:.4g}") for name, value in figures.items()}


def _folder_name(asked: Asked) -> str:
    """One comparison, one folder: none goes on with another's steps."""
    parts = (asked.dataset, asked.seed, asked.labelled, f"{asked.seconds:g}", asked.images)
    return "-".join(map(str, (*parts, asked.size, asked.segmenter_steps)))


def _progress(what: str) -> Callable[[Step | Stride], None]:
    """Says every half minute where a training stands."""
    last = time.monotonic()

    def told(step: Step | Stride) -> None:
        nonlocal last
        if time.monotonic() - last > _SECONDS_BETWEEN:
            last = time.monotonic()
            log.info("%s: %s", what, step)

    return told


if __name__ == "__main__":
    main()
