"""A synthesizer learns from annotated frames, goes on where it was killed, and says what it is."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from shared.echo.synthesizer import FEWEST_PATIENTS, SynthesizerCard, load_synthesizer_files
from shared.errors import Code, EchoFedError
from shared.models.backbone import unpack_tensors
from shared.settings import build_settings
from shared.synthesis.semantic import build_synthesizer
from site_client.settings import SynthesizerSettings
from site_client.store import SiteStore
from site_client.training.strides import Stride
from site_client.training.synthesizer import train_synthesizer

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SMALL: dict[str, Any] = {
    "options": {"width": 8, "mults": [1, 2], "hidden": 4},
    "autoencoder": {
        "options": {"widths": [8, 8], "blocks": 1, "patch": 2},
        "steps": 4, "check_every": 2, "batch_size": 4,
    },
    "sampler": {"steps": 2}, "image_size": 32, "steps": 6, "batch_size": 4, "check_every": 2,
    "embedding_steps": 2, "threads": 1,
}  # fmt: skip
PIXELS: dict[str, Any] = {"autoencoder": {"network": "pixels"}}
STAGES = ["autoencoder", "denoiser", "embedding"]


class KilledError(Exception):
    """Stands for the end of the process."""


@pytest.fixture
def site(traced_site: Any) -> SiteStore:
    store: SiteStore = traced_site(clips_per_patient=2, num_patients=12)
    return store


def run(
    store: SiteStore,
    *,
    dataset: str = "traced",
    stop_at: tuple[str, int] | None = None,
    **changes: Any,
) -> tuple[SynthesizerCard, list[Stride]]:
    strides: list[Stride] = []

    def report(stride: Stride) -> None:
        strides.append(stride)
        if (stride.stage, stride.step) == stop_at:
            raise KilledError

    settings = build_settings(SynthesizerSettings, SMALL | changes)
    card = train_synthesizer(store, [dataset], settings, site="north", now=NOW, report=report)
    return card, strides


def stages(strides: list[Stride]) -> list[str]:
    return list(dict.fromkeys(stride.stage for stride in strides))


def test_card_and_weights_say_what_the_synthesizer_is(site: SiteStore) -> None:
    card, strides = run(site)
    assert card.structures == ("outside", "background", "lv", "myocardium", "la")
    assert (card.views, card.origin, card.network) == (("A4C",), "phantom", "spade_unet")
    assert card.id == f"north-spade_unet-{card.weights_sha256[:8]}"
    assert card.dataset_hashes == (site.manifest("traced").content_hash(),)
    assert (card.metrics["train_frames"], card.metrics["steps"]) == (16, 6)
    assert stages(strides) == STAGES
    folder = site.require_synthesizer(card.id)
    kept, weights = load_synthesizer_files(folder)
    assert kept == card
    assert sorted(path.name for path in (folder / "pictures").iterdir()) == [
        "step-000002.png", "step-000004.png", "step-000006.png",
    ]  # fmt: skip
    assert not list((site.root / "runs").iterdir())
    labels_NSS = np.ones((1, 32, 32), np.uint8)
    one = np.zeros(1, np.int64)
    drawn = build_synthesizer(kept, weights).images(
        labels_NSS, view_N=one, seeds_N=one, sampler=card.sampler
    )
    assert drawn.shape == (1, 32, 32)


def test_a_killed_run_goes_on_to_the_same_weights_and_repeats_no_stage(site: SiteStore) -> None:
    whole, _ = run(site)
    site.remove_synthesizer(whole.id)
    for stage, step in (("autoencoder", 3), ("denoiser", 3), ("embedding", 1)):
        with pytest.raises(KilledError):
            run(site, stop_at=(stage, step))
    resumed, strides = run(site)
    assert stages(strides) == ["embedding"]
    assert resumed.weights_sha256 == whole.weights_sha256


def test_two_denoisers_share_an_autoencoder(site: SiteStore) -> None:
    first, _ = run(site)
    second, strides = run(site, autoencoder_from=first.id, precondition="flow")
    assert stages(strides) == ["denoiser", "embedding"]
    assert (second.parent, second.latent_shift) == (first.id, first.latent_shift)
    mine, theirs = (
        unpack_tensors(load_synthesizer_files(site.require_synthesizer(card.id))[1])
        for card in (second, first)
    )
    shared = [name for name in theirs if name.startswith("autoencoder.")]
    assert shared
    assert all((mine[name] == theirs[name]).all() for name in shared)


def test_an_autoencoder_that_has_seen_patients_kept_for_another_split_is_not_taken(
    site: SiteStore, traced_site: Any
) -> None:
    first, _ = run(site)
    taught = sorted({clip.patient for clip in site.manifest("traced").of_split("train")})
    traced_site(dataset="later", clips_per_patient=2, num_patients=12)
    later = site.manifest("later")
    kept = sorted({clip.patient for clip in later.of_split("test")})
    again = dict(zip(kept, taught, strict=False))
    clips = (replace(clip, patient=again.get(clip.patient, clip.patient)) for clip in later.clips)
    site.save_manifest(replace(later, clips=tuple(clips)))
    with pytest.raises(EchoFedError) as refused:
        run(site, dataset="later", autoencoder_from=first.id)
    assert refused.value.code is Code.PATIENT_IN_TWO_SPLITS


def test_few_labels_are_those_of_whole_patients(site: SiteStore) -> None:
    card, _ = run(site, num_labelled=3, **PIXELS)
    assert (card.metrics["labelled_patients"], card.metrics["train_frames"]) == (3, 6)
    assert card.metrics[FEWEST_PATIENTS] == 3
    gallery = unpack_tensors(load_synthesizer_files(site.require_synthesizer(card.id))[1])
    assert len(gallery["gallery.features_GD"]) == 16


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"num_labelled": 9}, Code.TOO_FEW_PATIENTS),
        ({"network": "unknown"}, Code.NAME_UNKNOWN),
        ({"options": {"depth": 3}}, Code.CONFIG_INVALID),
        ({"autoencoder_from": "north-spade_unet-00000000"}, Code.MODEL_UNKNOWN),
        ({"structures": ["rv"]}, Code.NAME_UNKNOWN),
        ({"steps": 0}, Code.CONFIG_INVALID),
        ({"sampler": {"sigma_min": 2.0, "sigma_max": 1.0}}, Code.CONFIG_INVALID),
    ],
)
def test_what_cannot_be_trained_is_refused(
    site: SiteStore, changes: dict[str, Any], code: Code
) -> None:
    with pytest.raises(EchoFedError) as refused:
        run(site, **(PIXELS | changes))
    assert refused.value.code is code
    assert site.synthesizers() == ()


@pytest.mark.parametrize(
    ("sampler", "code"),
    [
        ({"schedule": "cosine", "sigma_min": 0.003}, Code.CONFIG_INVALID),
        ({"solver": "magic"}, Code.NAME_UNKNOWN),
    ],
)
def test_a_sampler_that_cannot_draw_is_refused_before_anything_is_learnt(
    site: SiteStore, sampler: dict[str, Any], code: Code
) -> None:
    with pytest.raises(EchoFedError) as refused:
        run(site, stop_at=("denoiser", 1), sampler=sampler, **PIXELS)
    assert refused.value.code is code


def test_an_autoencoder_of_another_kind_is_not_taken(site: SiteStore) -> None:
    pixels, _ = run(site, **PIXELS)
    with pytest.raises(EchoFedError) as refused:
        run(site, autoencoder_from=pixels.id)
    assert refused.value.code is Code.CONFIG_INVALID
