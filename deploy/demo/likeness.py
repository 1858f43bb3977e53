"""How far the phantom reaches into real pictures: grey levels, speckle, and views named right.

The expert that is asked saw phantoms only. Real pictures come from ``ECHOFED_REAL_DATA`` and stay
there. They were looked at while the scanner presets were made, so nothing here is held out.
"""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from shared.echo.expert import load_expert
from shared.models.expert import FrozenExpert
from shared.phantom.anatomy import draw_heart
from shared.phantom.realism import appearance, compare, read_stills, stills_of
from shared.phantom.scanner import SCANNERS, render_clip
from site_client.datasets.raw import RawClip
from site_client.deidentify import deidentify
from site_client.frames import squeeze_pixels
from site_client.training.batches import normalised

# TTE47's coarse group -> how the names of its views begin
GROUPS = {
    "a2ch": "A2C",
    "a3ch": "A3C",
    "a4ch": "A4C",
    "a5ch": "A5C",
    "plax": "PLAX",
    "psax": "PSAX",
    "subcostal": "SC",
}
CAMUS_OPEN = range(1, 201)  # patients 201-250 are the test part
HEARTS = 12


def run_likeness(real_data: Path, expert: Path) -> list[dict[str, Any]]:
    """Measure every scanner beside CAMUS, then ask an expert for the views of TTE47's stills.

    Args:
        real_data: folder of the real pictures.
        expert: folder of an expert trained on phantoms alone.

    Returns:
        Rows with measure, subject, value and number of real pictures.
    """
    stills = list(read_stills(real_data / "camus_a4c", patients=CAMUS_OPEN, limit=100))
    real = appearance(stills)
    rows = []
    for scanner in SCANNERS:
        figures = compare(
            appearance(s for seed in range(HEARTS) for s in _clip(scanner, seed)), real
        )
        rows += [
            {"measure": name, "subject": scanner, "value": round(value, 4), "pictures": len(stills)}
            for name, value in figures.items()
        ]
    return rows + name_views(real_data / "tte47", FrozenExpert(*load_expert(expert)))


def name_views(folder: Path, expert: FrozenExpert) -> list[dict[str, Any]]:
    """Group accuracy of an expert on TTE47's B-mode stills of planes that the phantom has."""
    with (folder / "manifest.csv").open(newline="", encoding="utf-8") as stream:
        listed = [row for row in csv.DictReader(stream) if row["group"] in GROUPS]
    group_C = [_group_of(view) for view in expert.card.views]
    told = [_groups_told(expert, folder / row["file"], group_C) for row in listed]
    right = [
        max(found, key=found.__getitem__) == row["group"]
        for found, row in zip(told, listed, strict=True)
    ]
    covered = set(group_C)
    rows = [
        ("TTE47 group accuracy", np.mean(right)),
        (
            "TTE47 mean probability of the right group",
            np.mean([f.get(r["group"], 0.0) for f, r in zip(told, listed, strict=True)]),
        ),
        ("TTE47 chance", 1 / len(covered)),
        (
            "TTE47 most frequent group",
            max(np.mean([r["group"] == g for r in listed]) for g in covered),
        ),
    ]
    return [
        {
            "measure": name,
            "subject": expert.card.id,
            "value": round(float(value), 4),
            "pictures": len(listed),
        }
        for name, value in rows
    ]


def _clip(scanner: str, seed: int) -> Any:
    generator = np.random.default_rng(seed)
    heart = draw_heart(generator)
    clip = render_clip(
        heart, "A4C", SCANNERS[scanner], num_frames=2, size_HW=(240, 320), rng=generator
    )
    return stills_of(clip)


def _groups_told(expert: FrozenExpert, file: Path, group_C: Sequence[str]) -> dict[str, float]:
    """Probability of each group for one still, read and de-identified as at ingest."""
    grey_HW = np.asarray(Image.open(file).convert("L"))
    clip = deidentify(RawClip(grey_HW[None], (), None, None), "sector")
    image_1HW = squeeze_pixels(clip.pixels_THW, expert.card.image_size)
    logits_C = expert.look(normalised(image_1HW)).logits_NC[0]
    found: dict[str, float] = {}
    for group, share in zip(group_C, torch.softmax(logits_C, dim=0).tolist(), strict=True):
        found[group] = found.get(group, 0.0) + share
    return found


def _group_of(view: str) -> str:
    return next(group for group, begin in GROUPS.items() if view.split("-")[0] == begin)
