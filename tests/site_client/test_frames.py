from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from shared.echo.ontology import load_ontology
from shared.errors import Code, EchoFedError
from site_client.frames import load_frames, require_trainable, squeeze_mask, squeeze_pixels


def test_every_labelled_frame_is_there_once(striped_site: Any) -> None:
    frames = load_frames(striped_site(), ["demo"], image_size=32)
    assert frames.pixels_NHW.shape == (12 * 2 * 3, 32, 32)
    assert len(np.unique(np.stack([frames.clip_N, frames.time_N]), axis=1).T) == len(frames)


def test_patients_stay_in_one_split(striped_site: Any) -> None:
    frames = load_frames(striped_site(), ["demo"], image_size=32)
    for patient in np.unique(frames.patient_N):
        assert len(np.unique(frames.split_N[frames.patient_N == patient])) == 1


def test_label_stands_for_every_head_view_below_its_node(striped_site: Any) -> None:
    store = striped_site({"short": ("PSAX",), "4CH": ("A4C",)})
    frames = load_frames(store, ["demo"], image_size=16)
    allowed_NC = frames.allowed_views(("A4C", "PSAX-AV", "PSAX-PM"))
    short = frames.vocabularies[0].labels.index("short")
    assert (allowed_NC[frames.label_N == short] == [False, True, True]).all()
    assert (allowed_NC[frames.label_N != short] == [True, False, False]).all()


def test_other_leaves_what_its_own_dataset_has_no_label_for(striped_site: Any) -> None:
    """Two datasets pooled in one head: the second one's views are no part of what is ruled out."""
    store = striped_site({"4CH": ("A4C",), "rest": ("other",)}, dataset="one")
    striped_site({"LAX": ("PLAX",), "not sure": ("not-sure",)}, dataset="two")
    views = ("A4C", "PLAX", "other")
    silent = load_frames(store, ["one", "two"], image_size=16)
    assert silent.allowed_views(views).sum(axis=0).tolist() == [36, 36, 0]
    annotated = load_ontology().leaves("A4C")
    store.save_manifest(replace(store.manifest("one"), annotated=annotated))
    frames = load_frames(store, ["one", "two"], image_size=16)
    allowed_NC, named_NC = frames.allowed_views(views), frames.named_views(views)
    is_rest_N = (frames.dataset_N == 0) & (frames.label_N == 1)
    assert is_rest_N.sum() == 36
    assert (allowed_NC[is_rest_N] == [False, True, True]).all()
    assert (named_NC[is_rest_N] == [False, False, True]).all()
    assert np.array_equal(allowed_NC[~is_rest_N], named_NC[~is_rest_N])


def test_label_without_views_is_left_out(striped_site: Any) -> None:
    frames = load_frames(striped_site({"4CH": ("A4C",), "odd": ()}), ["demo"], image_size=16)
    assert {frames.vocabularies[0].labels[k] for k in frames.label_N} == {"4CH"}


def test_datasets_keep_their_own_words(striped_site: Any) -> None:
    striped_site({"4CH": ("A4C",)}, dataset="one")
    store = striped_site({"apical 4": ("A4C",), "long": ("PLAX",)}, dataset="two")
    frames = load_frames(store, ["one", "two"], image_size=16)
    views = ("A4C", "PLAX")
    named = {
        (v.dataset, v.labels[k])
        for v, d, k in zip(
            [frames.vocabularies[d] for d in frames.dataset_N],
            frames.dataset_N, frames.label_N, strict=True,
        )
    }  # fmt: skip
    assert named == {("one", "4CH"), ("two", "apical 4"), ("two", "long")}
    assert (frames.allowed_views(views).sum(axis=1) == 1).all()


def test_order_does_not_depend_on_the_manifest(striped_site: Any) -> None:
    store = striped_site()
    first = load_frames(store, ["demo"], image_size=16)
    assert list(first.clip_keys) == sorted(first.clip_keys)


def test_unmasked_clip_counts_as_all_sector(striped_site: Any) -> None:
    frames = load_frames(striped_site(masked=False), ["demo"], image_size=16)
    assert not frames.has_mask_K.any()
    assert frames.mask_KHW.all()


def test_squeezing_keeps_the_mean_and_the_share_of_the_sector() -> None:
    pixels_THW = np.random.default_rng(0).integers(0, 256, (2, 60, 90), dtype=np.uint8)
    squeezed = squeeze_pixels(pixels_THW, 20)
    assert squeezed.shape == (2, 20, 20)
    assert squeezed.mean() == pytest.approx(pixels_THW.mean(), abs=1.5)
    mask_HW = np.arange(90)[None] < np.full((60, 1), 45)
    assert squeeze_mask(mask_HW, 20).mean() == pytest.approx(0.5, abs=0.05)


def test_split_without_frames_is_an_error(striped_site: Any) -> None:
    store = striped_site(num_patients=4)
    with pytest.raises(EchoFedError) as refusal:
        require_trainable(load_frames(store, ["demo"], image_size=16), ("A2C", "A4C"))
    assert refusal.value.code == Code.FRAMES_MISSING


def test_dataset_without_labelled_frames_is_an_error(striped_site: Any) -> None:
    with pytest.raises(EchoFedError) as refusal:
        load_frames(striped_site({"odd": ()}), ["demo"], image_size=16)
    assert refusal.value.code == Code.FRAMES_MISSING


@pytest.mark.parametrize("labels", [{"4CH": ("A4C",)}, {"4CH": ("A4C",), "AP4": ("A4C",)}])
def test_one_class_is_not_enough(striped_site: Any, labels: dict[str, tuple[str, ...]]) -> None:
    frames = load_frames(striped_site(labels), ["demo"], image_size=16)
    with pytest.raises(EchoFedError) as refusal:
        require_trainable(frames, ("A2C", "A4C"))
    assert refusal.value.code == Code.ONE_CLASS_ONLY
