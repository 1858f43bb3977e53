"""A system of the comparison: it learns, draws what all draw, and what that costs is counted."""

import resource
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from synthesis_protocol import Drawing, Protocol, keep, keep_images, kept, kept_images
from torch import Tensor, nn

from shared.diffusion import SCHEDULES, SOLVERS
from shared.diffusion.sample import sample
from shared.echo.synthesizer import Sampler, load_synthesizer_files
from shared.models import AUTOENCODERS, DENOISERS
from shared.models.flops import count_flop
from shared.settings import load_settings
from shared.synthesis.semantic import Synthesizer, build_synthesizer
from site_client.settings import SynthesizerSettings
from site_client.training.strides import Stride
from site_client.training.synthesizer import train_synthesizer

CONFIGS = Path(__file__).parents[2] / "deploy" / "configs" / "synthesis"
SYSTEMS = ("sdm", "vp", "ve", "edm", "edm_l128", "edm_l64", "ours", "kl")
"""The six of Stojanovski et al. 2024 (arXiv 2409.19371), ours, and ours in a trained latent."""
RESPACED, SLOW_STEPS = 50, 1000  # of SDM
_AUTOENCODER_SHARE = 0.2  # of the seconds, where the configuration does not say
_PIECE = 8  # images after which drawing may be killed


def settings_of(system: str, protocol: Protocol) -> SynthesizerSettings:
    """The system's small configuration with the seconds of this comparison.

    The autoencoder has the share that the configuration gives it; steps do not end a training.
    """
    asked = protocol.asked
    read = load_settings(SynthesizerSettings, CONFIGS / f"{system}_cpu.yaml")
    share = 0.0
    if _has_weights(read):
        both = read.autoencoder.seconds + read.seconds
        share = read.autoencoder.seconds / both if read.autoencoder.seconds else _AUTOENCODER_SHARE
    check = max(1, min(read.autoencoder.check_every, round(asked.seconds)))
    autoencoder = read.autoencoder.model_copy(
        update={"seconds": share * asked.seconds, "steps": 1_000_000, "check_every": check}
    )
    return read.model_copy(
        update={
            "autoencoder": autoencoder,
            "steps": 0,
            "seconds": (1 - share) * asked.seconds,
            "image_size": asked.size,
            "num_labelled": asked.labelled,
            "seed": asked.seed,
        }
    )


def _has_weights(settings: SynthesizerSettings) -> bool:
    """Whether there is an autoencoder to be trained."""
    with torch.device("meta"):
        network = AUTOENCODERS[settings.autoencoder.network](**settings.autoencoder.options)
    assert isinstance(network, nn.Module)
    return any(True for _ in network.parameters())


def trained(system: str, protocol: Protocol, report: Callable[[Stride], None]) -> dict[str, object]:
    """Id and course of the system's synthesizer; it is trained unless it was."""
    path = protocol.folder / system / "training.json"
    told = kept(path)
    if told is None or str(told["id"]) not in protocol.store.synthesizers():
        card = train_synthesizer(
            protocol.store, [protocol.asked.dataset], settings_of(system, protocol),
            site=protocol.store.manifest(protocol.asked.dataset).site,
            now=datetime.now(UTC), report=report,
        )  # fmt: skip
        seconds = card.metrics["seconds"] + card.metrics.get("autoencoder_seconds", 0.0)
        told = {"id": card.id, "train_s": round(seconds), "steps": round(card.metrics["steps"])}
        keep(path, told)
    return told


def stored(protocol: Protocol, synthesizer: object) -> Synthesizer:
    """A synthesizer of the site."""
    return build_synthesizer(
        *load_synthesizer_files(protocol.store.require_synthesizer(str(synthesizer)))
    )


def sampler_of(system: str, synthesizer: Synthesizer) -> Sampler:
    """The card's own; SDM's is respaced."""
    sampler = synthesizer.card.sampler
    return replace(sampler, steps=RESPACED) if system == "sdm" else sampler


def drawn(
    synthesizer: Synthesizer, drawing: Drawing, sampler: Sampler, folder: Path
) -> tuple[NDArray[np.uint8], dict[str, float]]:
    """Images of the drawing, with seconds an image and the peak of memory in MB.

    Pieces lie in the folder, so that a killed run goes on.
    """
    assert synthesizer.card.structures == drawing.structures
    num = len(drawing.seeds_N)
    views_N = drawing.views_for(synthesizer.card)
    images, seconds, peak = [], 0.0, 0.0
    for begin, end in pairwise([*range(0, num, _PIECE), num]):
        path, rows = folder / f"{begin:04}.safetensors", slice(begin, end)
        found = kept_images(path)
        if found is None:
            _forget_peak()
            began = time.monotonic()
            piece_NSS = synthesizer.images(
                drawing.maps_NSS[rows], view_N=views_N[rows], seeds_N=drawing.seeds_N[rows],
                sampler=sampler,
            )  # fmt: skip
            figures = {"seconds": time.monotonic() - began, "peak_mb": _peak_mb()}
            keep_images(path, piece_NSS, figures)
            found = piece_NSS, figures
        images.append(found[0])
        seconds += found[1]["seconds"]
        peak = max(peak, found[1]["peak_mb"])
    return np.concatenate(images), {"s_per_image": seconds / num, "peak_mb": peak}


def num_evaluations(sampler: Sampler) -> int:
    """How often the denoiser is asked for an image."""
    asked = []

    def denoise(x_NCHW: Tensor, sigma: Tensor) -> Tensor:
        asked.append(float(sigma))
        return torch.zeros_like(x_NCHW)

    sigmas_S = SCHEDULES[sampler.schedule](sampler.steps, sampler.sigma_min, sampler.sigma_max)
    sample(denoise, (1, 1, 1), sigmas_S=sigmas_S, solver=SOLVERS[sampler.solver], seeds_N=[0])
    return len(asked) * (1 if sampler.guidance in (0.0, 1.0) else 2)


def gflop_per_image(
    settings: SynthesizerSettings, sampler: Sampler, num_structures: int, num_views: int
) -> tuple[float, float]:
    """GFLOP of all calls of the denoiser, and of the decoder, for an image, by shapes alone."""
    size = settings.image_size
    with torch.device("meta"):
        autoencoder = AUTOENCODERS[settings.autoencoder.network](**settings.autoencoder.options)
        channels, side = autoencoder.latent_channels, size // autoencoder.factor
        denoiser = DENOISERS[settings.network](
            channels, num_structures, num_views, **settings.options
        )
        latent_1CHW = torch.zeros(1, channels, side, side)
        maps_1LSS = torch.zeros(1, num_structures, size, size)
        sector_11SS, noise_1 = torch.ones(1, 1, size, size), torch.ones(1)
        view_1 = torch.zeros(1, dtype=torch.int64)
    assert isinstance(denoiser, nn.Module)
    denoiser.eval()
    call = count_flop(lambda: denoiser(latent_1CHW, noise_1, maps_1LSS, view_1))
    decode = count_flop(lambda: autoencoder.decode(latent_1CHW, sector_11SS))
    return num_evaluations(sampler) * call / 1e9, decode / 1e9


def costs(system: str, protocol: Protocol, sampler: Sampler, num_views: int) -> dict[str, object]:
    """Evaluations and GFLOP of an image, small as measured and at full size."""
    num_structures = len(protocol.drawing.structures)
    small = settings_of(system, protocol)
    denoise, decode = gflop_per_image(small, sampler, num_structures, num_views)
    row: dict[str, object] = {
        "evaluations": num_evaluations(sampler),
        "gflop": round(denoise + decode, 2),
        "gflop_decoder": round(decode, 3),
    }
    path = CONFIGS / f"{system}.yaml"
    if path.is_file():
        full = load_settings(SynthesizerSettings, path)
        own = Sampler(**full.sampler.model_dump())
        parts = gflop_per_image(full, own, num_structures, num_views)
        row |= {"full_size": full.image_size, "full_evaluations": num_evaluations(own)}
        row |= {"full_gflop": round(sum(parts), 1)}
    return row


def _forget_peak() -> None:
    """Begin the peak anew where the system lets a process do so."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def _peak_mb() -> float:
    """Highest memory since then, or since the process began."""
    status = Path("/proc/self/status")
    if status.is_file() and "VmHWM:" in (text := status.read_text()):
        return int(text.split("VmHWM:")[1].split()[0]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
