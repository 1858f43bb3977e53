"""How many images a second synthesizers draw on this processor, into drawing.csv.

``python tests/bench/measure_drawing.py``: ours and its rival in a trained latent as their settings
for two cores have them, at 128 pixels and at 256 with latents of as many cells. Weights are random,
for speed does not depend on them; the decoder is counted, the gate is not. The best of some turns,
taken alternately, so that all meet the same machine.
"""

import csv
import time
from pathlib import Path

import numpy as np
import torch
from measure_segmentation import commit, machine
from synthesis_systems import CONFIGS, gflop_per_image, num_evaluations

from shared.echo.synthesizer import Sampler
from shared.settings import load_settings
from shared.synthesis.maps import phantom_maps
from shared.synthesis.semantic import Synthesizer, build_synthesizer
from shared.testing.synthesizers import untrained_synthesizer
from site_client.settings import SynthesizerSettings

OUT = Path(__file__).parent / "drawing.csv"
THREADS, TURNS, NUM = 2, 3, 16
STRUCTURES = ("outside", "background", "lv", "myocardium", "la")
LARGE: dict[str, tuple[dict[str, object], dict[str, object]]] = {
    "ours": ({"fold": 8}, {"levels": 3}),
    "kl": ({}, {"widths": (16, 32, 64)}),
}
"""At 256 pixels: what changes in the options of denoiser and autoencoder."""


def settings_of(system: str, size: int) -> SynthesizerSettings:
    """A system's settings for two cores at a size."""
    small = load_settings(SynthesizerSettings, CONFIGS / f"{system}_cpu.yaml")
    if size == small.image_size:
        return small
    denoiser, autoencoder = LARGE[system]
    coder = small.autoencoder
    return small.model_copy(
        update={
            "image_size": size,
            "options": {**small.options, **denoiser},
            "autoencoder": coder.model_copy(update={"options": {**coder.options, **autoencoder}}),
        }
    )


def build(settings: SynthesizerSettings) -> Synthesizer:
    """A synthesizer of the settings with random weights."""
    from shared.models import AUTOENCODERS

    coder = settings.autoencoder
    channels = AUTOENCODERS[coder.network](**coder.options).latent_channels
    return build_synthesizer(
        *untrained_synthesizer(
            0, network=settings.network, options=dict(settings.options),
            autoencoder=coder.network, autoencoder_options=dict(coder.options),
            latent_shift=(0.0,) * channels, latent_scale=(1.0,) * channels,
            sigma_data=tuple(1.0 + place for place in range(channels)),
            sampler=Sampler(**settings.sampler.model_dump()), image_size=settings.image_size,
            structures=STRUCTURES, views=("A4C",),
        )
    )  # fmt: skip


def main() -> None:
    """Draw by turns, and write the table anew."""
    torch.set_num_threads(THREADS)
    plans = [(system, size) for system in LARGE for size in (128, 256)]
    built = {plan: build(settings_of(*plan)) for plan in plans}
    maps = {
        size: phantom_maps(NUM, 0, size, views=("A4C",), structures=STRUCTURES).labels_NSS
        for size in (128, 256)
    }
    best = dict.fromkeys(plans, float("inf"))
    for _ in range(TURNS):
        for plan in plans:
            began = time.monotonic()
            built[plan].images(
                maps[plan[1]], view_N=np.zeros(NUM, np.int64), seeds_N=np.arange(NUM),
                sampler=built[plan].card.sampler,
            )  # fmt: skip
            best[plan] = min(best[plan], (time.monotonic() - began) / NUM)
    with OUT.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(
            ["system", "size", "evaluations", "gflop", "images_per_s", "threads", "machine",
             "commit"]
        )  # fmt: skip
        for (system, size), seconds in best.items():
            settings = settings_of(system, size)
            sampler = Sampler(**settings.sampler.model_dump())
            gflop = sum(gflop_per_image(settings, sampler, len(STRUCTURES), 1))
            row = [system, size, num_evaluations(sampler), round(gflop, 2), round(1 / seconds, 2)]
            writer.writerow([*row, THREADS, machine(), commit()])
            print(row)  # noqa: T201


if __name__ == "__main__":
    main()
