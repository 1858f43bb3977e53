"""A segmenter learns masks or contours, goes on where it was killed, and says what it is."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
import torch

from shared.echo.frame import Clip
from shared.echo.segmenter import SegmenterCard, load_segmenter_files
from shared.errors import Code, EchoFedError
from shared.models.backbone import unpack_tensors
from shared.segmentation.segmenter import Segmenter, build_forward
from shared.settings import build_settings
from shared.testing.ventricle import draw_ventricle
from site_client.settings import SegmenterSettings
from site_client.store import SiteStore
from site_client.training.loop import Step
from site_client.training.segmenter import train_segmenter

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SMALL = {
    "width": 8, "depth": 3, "patch": 1, "image_size": 48, "epochs": 2, "batch_size": 6,
    "learning_rate": 0.01, "threads": 1,
}  # fmt: skip
LONG = {"epochs": 25, "batch_size": 3, "rotation_deg": 5.0, "zoom": 0.05, "shift": 0.02}


class KilledError(Exception):
    """Stands for the end of the process."""


def run(
    store: SiteStore, *datasets: str, stop_at: int | None = None, **changes: Any
) -> tuple[SegmenterCard, list[Step]]:
    steps: list[Step] = []

    def report(step: Step) -> None:
        steps.append(step)
        if step.done == stop_at:
            raise KilledError

    settings = build_settings(SegmenterSettings, SMALL | changes)
    datasets = datasets or ("traced",)
    return train_segmenter(store, datasets, settings, site="north", now=NOW, report=report), steps


def opened(store: SiteStore, card: SegmenterCard) -> Segmenter:
    return Segmenter(*_forward(store, card))


def _forward(store: SiteStore, card: SegmenterCard) -> Any:
    kept, weights = load_segmenter_files(store.segmenter_folder(card.id))
    assert kept == card
    return kept, build_forward(kept, weights)


def test_card_says_what_the_segmenter_is(traced_site: Any) -> None:
    store = traced_site()
    card, steps = run(store)
    assert (card.answers, card.structures) == ("masks", ("background", "lv", "myocardium", "la"))
    assert (card.views, card.origin, card.network) == (("A4C",), "phantom", "unet")
    assert card.id == f"north-unet-{card.weights_sha256[:8]}"
    assert card.dataset_hashes == (store.manifest("traced").content_hash(),)
    assert card.metrics["train_frames"] == 12
    assert steps[-1].done == steps[-1].total == 4
    assert opened(store, card).card == card


def as_drawn(store: SiteStore, dataset: str) -> None:
    """Call a dataset synthetic and leave its test clips out."""
    manifest = store.manifest(dataset)
    kept = tuple(clip for clip in manifest.clips if clip.split != "test")
    store.save_manifest(replace(manifest, origin="synthetic", clips=kept))


def test_card_says_that_drawn_pictures_were_learnt_from(traced_site: Any) -> None:
    traced_site(dataset="patients")
    store = traced_site(dataset="drawn")
    store.save_manifest(replace(store.manifest("patients"), origin="real"))
    as_drawn(store, "drawn")
    real, _ = run(store, "patients", epochs=1)
    mixed, _ = run(store, "patients", "drawn", epochs=1)
    further, _ = run(store, "patients", epochs=1, start_from=mixed.id)
    assert (real.origin, mixed.origin, further.origin) == ("real", "synthetic", "synthetic")


def test_masks_are_learnt(traced_site: Any) -> None:
    card, _ = run(traced_site(), width=16, **LONG)
    assert card.metrics["val_dice"] > 0.85
    assert card.metrics["val_dice_lv"] > 0.9


def test_contours_are_learnt_and_lie_on_new_ventricles(traced_site: Any) -> None:
    store = traced_site()
    card, _ = run(store, network="contour_net", **{**LONG, "epochs": 40})
    assert (card.answers, card.structures, card.num_landmarks) == ("contours", ("lv",), 7)
    assert card.metrics["val_landmark_error_mm"] < 8
    pixels_HW, annotation = draw_ventricle(np.random.default_rng(77))
    clip = Clip(pixels_HW[None], (2.0, 2.0), None, "k", "p")
    (contour,) = opened(store, card).contours(clip, view="A4C")
    assert contour is not None
    assert annotation.landmarks_xy_px_F32 is not None
    ends = annotation.landmarks_xy_px_F32[0, [0, 2]] * 2.0
    assert np.abs(contour.base_xy_mm - ends).max() < 12


def test_dynunet_learns_by_the_same_doors(traced_site: Any) -> None:
    pytest.importorskip("monai")
    store = traced_site()
    card, _ = run(store, network="dynunet", patch=2, depth=2)
    clip = Clip(draw_ventricle(np.random.default_rng(1))[0][None], None, None, "k", "p")
    assert len(opened(store, card).masks(clip, view="A4C")) == 1


def test_a_killed_run_goes_on_to_the_same_weights(traced_site: Any) -> None:
    store = traced_site()
    with pytest.raises(KilledError):
        run(store, stop_at=3)
    resumed, steps = run(store)
    assert steps[0].done == 3
    store.remove_segmenter(resumed.id)
    again, _ = run(store)
    assert again.weights_sha256 == resumed.weights_sha256


def test_same_seed_same_weights_another_seed_others(traced_site: Any) -> None:
    store = traced_site()
    one, other = run(store, seed=1, epochs=1)[0], run(store, seed=2, epochs=1)[0]
    assert run(store, seed=1, epochs=1)[0].weights_sha256 == one.weights_sha256
    assert other.weights_sha256 != one.weights_sha256


def test_datasets_with_different_structures_are_pooled(traced_site: Any) -> None:
    traced_site(dataset="cavities", structures=("background", "lv"))
    store = traced_site(dataset="whole")
    card, _ = run(store, "cavities", "whole", **{**LONG, "epochs": 8})
    assert card.structures == ("background", "lv", "myocardium", "la")
    assert card.metrics["train_frames"] == 24
    assert card.metrics["val_dice_myocardium"] > 0.5


def test_training_may_start_from_another_segmenter(traced_site: Any) -> None:
    store = traced_site()
    first, _ = run(store, epochs=1)
    second, _ = run(store, epochs=1, start_from=first.id)
    assert second.parent == first.id
    assert second.weights_sha256 != first.weights_sha256
    with pytest.raises(EchoFedError) as refused:
        run(store, epochs=1, start_from=first.id, width=16)
    assert refused.value.code is Code.CHECKPOINT_CORRUPT


def test_contours_may_start_from_the_trunk_of_masks(traced_site: Any) -> None:
    store = traced_site()
    masks, _ = run(store, epochs=1)
    still = {"network": "contour_net", "epochs": 1, "learning_rate": 1e-12}
    contours, _ = run(store, start_from=masks.id, **still)
    theirs, ours = (
        unpack_tensors(load_segmenter_files(store.segmenter_folder(card.id))[1])
        for card in (masks, contours)
    )
    shared = [name for name in ours if name.startswith("trunk.")]
    assert shared
    assert all(torch.allclose(ours[name], theirs[name], atol=1e-6) for name in shared)
    assert contours.parent == masks.id


def test_what_the_first_weights_had_seen_stays_in_the_card(traced_site: Any) -> None:
    traced_site(dataset="older")
    store = traced_site()
    first, _ = run(store, "older", epochs=1)
    second, _ = run(store, "traced", epochs=1, start_from=first.id)
    hashes = tuple(store.manifest(name).content_hash() for name in ("traced", "older"))
    assert (second.datasets, second.dataset_hashes) == (("traced", "older"), hashes)


def test_contours_need_millimetres(traced_site: Any) -> None:
    store = traced_site(mm_per_pixel=None)
    with pytest.raises(EchoFedError) as refused:
        run(store, network="contour_net")
    assert refused.value.code is Code.LANDMARKS_MISSING


def test_without_masks_there_is_nothing_to_learn(striped_site: Any) -> None:
    with pytest.raises(EchoFedError) as refused:
        run(striped_site(), "demo")
    assert refused.value.code is Code.FRAMES_MISSING


def test_a_structure_that_nobody_annotated_is_refused(traced_site: Any) -> None:
    with pytest.raises(EchoFedError) as refused:
        run(traced_site(), structures=("lv", "rv"))
    assert refused.value.code is Code.NAME_UNKNOWN


def test_structures_that_are_not_wanted_are_background(traced_site: Any) -> None:
    card, _ = run(traced_site(), structures=("lv",), epochs=1)
    assert card.structures == ("background", "lv")


def test_the_settings_of_the_card_build_it_again(traced_site: Any) -> None:
    store = traced_site()
    card, _ = run(store, epochs=1)
    assert card.options == {"width": 8, "depth": 3, "patch": 1}
    assert replace(card, settings={}) != card
