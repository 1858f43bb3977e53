"""A synthesizer learns from annotated frames, goes on where it was killed, and says what it is."""

from datetime import UTC, datetime
from typing import Any

import pytest

from shared.echo.synthesizer import SynthesizerCard, load_synthesizer_files
from shared.errors import Code, EchoFedError
from shared.models.backbone import unpack_tensors
from shared.settings import build_settings
from site_client.settings import SynthesizerSettings
from site_client.store import SiteStore
from site_client.training.strides import Stride
from site_client.training.synthesizer import train_synthesizer

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SMALL: dict[str, Any] = {
    "options": {"width": 8, "mults": [1, 2], "hidden": 4},
    "autoencoder": {
        "network": "kl",
        "options": {"widths": [8, 8], "blocks": 1, "patch": 2},
        "steps": 4,
        "batch_size": 4,
    },
    "sampler": {"steps": 2},
    "image_size": 32,
    "steps": 6,
    "batch_size": 4,
    "check_every": 2,
    "embedding_epochs": 1,
    "threads": 1,
}


class KilledError(Exception):
    """Stands for the end of the process."""


def run(
    store: SiteStore, *, stop_at: tuple[str, int] | None = None, **changes: Any
) -> tuple[SynthesizerCard, list[Stride]]:
    strides: list[Stride] = []

    def report(stride: Stride) -> None:
        strides.append(stride)
        if (stride.stage, stride.step) == stop_at:
            raise KilledError

    settings = build_settings(SynthesizerSettings, SMALL | changes)
    card = train_synthesizer(store, ["traced"], settings, site="north", now=NOW, report=report)
    return card, strides


def test_card_and_weights_say_what_the_synthesizer_is(traced_site: Any) -> None:
    store = traced_site(clips_per_patient=2, num_patients=12)
    card, strides = run(store)
    assert load_synthesizer_files(store.require_synthesizer(card.id))[0] == card
    assert card.structures == ("outside", "background", "lv", "myocardium", "la")
    assert (card.views, card.origin, card.network) == (("A4C",), "phantom", "spade_unet")
    assert card.id == f"north-spade_unet-{card.weights_sha256[:8]}"
    assert (card.metrics["train_frames"], card.metrics["steps"]) == (16, 6)
    assert list(dict.fromkeys(stride.stage for stride in strides)) == [
        "autoencoder", "denoiser", "embedding",
    ]  # fmt: skip
