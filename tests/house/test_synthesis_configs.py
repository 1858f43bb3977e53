"""Each synthesizer's settings file loads, and describes networks that fit one another."""

from pathlib import Path

import pytest
import torch

from shared.diffusion import PRECONDITIONS
from shared.echo.synthesizer import Sampler
from shared.models import AUTOENCODERS, DENOISERS
from shared.settings import load_settings
from shared.synthesis.semantic import expect_sampler
from site_client.settings import SynthesizerSettings

FOLDER = Path(__file__).parents[2] / "deploy" / "configs" / "synthesis"
SYSTEMS = ("sdm", "vp", "ve", "edm", "edm_l128", "edm_l64", "kl", "ours")
NUM_STRUCTURES, NUM_VIEWS = 5, 2


def test_each_system_has_a_full_size_and_a_small_one() -> None:
    wanted = {f"{system}{size}.yaml" for system in SYSTEMS for size in ("", "_cpu")}
    assert {path.name for path in FOLDER.iterdir()} == wanted


@pytest.mark.parametrize("path", sorted(FOLDER.iterdir()), ids=lambda path: path.stem)
def test_networks_of_a_settings_file_fit_one_another(path: Path) -> None:
    settings = load_settings(SynthesizerSettings, path)
    assert settings.device == ("cpu" if path.stem.endswith("_cpu") else "cuda")
    expect_sampler(Sampler(**settings.sampler.model_dump()))
    assert settings.precondition in PRECONDITIONS
    with torch.device("meta"):
        autoencoder = AUTOENCODERS[settings.autoencoder.network](**settings.autoencoder.options)
        sizes = (autoencoder.latent_channels, NUM_STRUCTURES, NUM_VIEWS)
        denoiser = DENOISERS[settings.network](*sizes, **settings.options)
    assert settings.image_size % (autoencoder.factor * denoiser.sizes["stride"]) == 0


def test_latents_of_the_paper_are_half_and_a_quarter_of_the_side() -> None:
    for name, factor in (("edm_l128", 2), ("edm_l64", 4)):
        settings = load_settings(SynthesizerSettings, FOLDER / f"{name}.yaml")
        with torch.device("meta"):
            autoencoder = AUTOENCODERS["gamma"](**settings.autoencoder.options)
        assert autoencoder.factor == factor
