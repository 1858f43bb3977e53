from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from shared.diffusion import SOLVERS
from shared.echo.synthesizer import Sampler, save_synthesizer
from shared.errors import Code, EchoFedError
from shared.models.backbone import pack_tensors, unpack_tensors
from shared.synthesis.maps import phantom_maps
from shared.synthesis.semantic import (
    GALLERY,
    Forward,
    Synthesizer,
    build_stored,
    build_synthesizer,
    expect_sampler,
)
from shared.testing.synthesizers import SAMPLER, untrained_synthesizer

NUM = 5
SEEDS = np.array([4, 2**40, 9, 0, 77])
VIEWS = np.array([0, 1, 0, 1, 0])


@pytest.fixture(scope="module")
def synthesizer() -> Synthesizer:
    built = build_synthesizer(*untrained_synthesizer(0))
    built._parts.denoiser.double()  # so that a row is the same to the last bit in any company
    return built


@pytest.fixture(scope="module")
def labels(synthesizer: Synthesizer) -> np.ndarray:
    card = synthesizer.card
    return phantom_maps(NUM, 3, card.image_size, structures=card.structures).labels_NSS


@pytest.fixture(scope="module")
def forward(tmp_path_factory: pytest.TempPathFactory) -> Forward:
    folder = tmp_path_factory.mktemp("synthesizer")
    save_synthesizer(folder, *untrained_synthesizer(0))
    return build_stored(str(folder))


def drawn(
    synthesizer: Synthesizer, labels_NSS: np.ndarray, rows: slice = slice(None), **changes: object
) -> np.ndarray:
    return synthesizer.images(
        labels_NSS[rows],
        view_N=VIEWS[rows],
        seeds_N=SEEDS[rows],
        sampler=replace(SAMPLER, **changes),  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("solver", ["dpmpp_2m", "churn"])
def test_a_row_is_the_same_in_any_company(
    synthesizer: Synthesizer, labels: np.ndarray, solver: str
) -> None:
    """V25."""
    together = drawn(synthesizer, labels, solver=solver)
    alone = [drawn(synthesizer, labels, slice(n, n + 1), solver=solver)[0] for n in range(NUM)]
    assert np.array_equal(together, np.stack(alone))


def test_more_rows_than_a_piece_are_those_of_the_pieces(
    synthesizer: Synthesizer, labels: np.ndarray
) -> None:
    many = np.tile(labels, (3, 1, 1))
    images = synthesizer.images(
        many, view_N=np.tile(VIEWS, 3), seeds_N=np.tile(SEEDS, 3), sampler=SAMPLER
    )
    assert np.array_equal(images, np.tile(drawn(synthesizer, labels), (3, 1, 1)))


def test_images_are_black_outside_the_sector_and_follow_seed_map_and_view(
    synthesizer: Synthesizer, labels: np.ndarray
) -> None:
    images = drawn(synthesizer, labels)
    assert images.shape == labels.shape
    assert images.dtype == np.uint8
    assert not images[labels == 0].any()
    assert images[labels > 0].std() > 1
    one, two = labels[:1], labels[1:2]
    at = {"view_N": VIEWS[:1], "seeds_N": SEEDS[:1], "sampler": SAMPLER}
    first = synthesizer.images(one, **at)
    assert (first != synthesizer.images(one, **at | {"seeds_N": SEEDS[1:2]})).any()
    assert (first != synthesizer.images(one, **at | {"view_N": VIEWS[1:2]})).any()
    shared_sector = (one > 0) & (two > 0)
    assert (first != synthesizer.images(two, **at))[shared_sector].any()


def test_without_guidance_the_label_map_says_only_where_the_sector_is(
    synthesizer: Synthesizer, labels: np.ndarray
) -> None:
    """V27: at scale 0 only the network that sees no map is asked."""
    blank = np.minimum(labels, 1)
    assert np.array_equal(
        drawn(synthesizer, labels, guidance=0.0), drawn(synthesizer, blank, guidance=0.0)
    )
    assert (drawn(synthesizer, labels) != drawn(synthesizer, blank)).any()
    assert (drawn(synthesizer, labels) != drawn(synthesizer, labels, guidance=2.0)).any()


def test_a_learnt_variance_is_no_part_of_the_image() -> None:
    options = {
        **{"width": 8, "mults": (1, 2), "hidden": 8, "blocks": 1, "attention": ()},
        "learns_variance": True,
    }
    card, weights = untrained_synthesizer(1, network="adm", options=options)
    synthesizer = build_synthesizer(card, weights)
    labels = np.ones((1, 32, 32), np.uint8)
    images = synthesizer.images(
        labels, view_N=np.zeros(1, int), seeds_N=np.zeros(1, int), sampler=card.sampler
    )
    assert images.shape == (1, 32, 32)


def test_rows_with_samplers_of_their_own_are_those_drawn_apart(
    forward: Forward, labels: np.ndarray
) -> None:
    steps, guidance = np.array([3, 5, 3, 3, 5]), np.array([1.0, 1.0, 2.0, 1.0, 1.0])
    solver = np.array([0, 0, 4, 0, 0])
    arrays = (labels, VIEWS, SEEDS, steps, guidance, solver)
    images, similarity, released = forward(*arrays)
    for row in range(NUM):
        image, likeness, _ = forward(*(array[row : row + 1] for array in arrays))
        assert np.abs(images[row].astype(int) - image[0]).max() <= 1  # float32
        assert similarity[row] == pytest.approx(likeness[0], abs=1e-3)
    assert released.dtype == bool
    assert np.array_equal(released, similarity <= 0.9)


@pytest.mark.parametrize("solver", SOLVERS.names())
def test_every_solver_draws(synthesizer: Synthesizer, labels: np.ndarray, solver: str) -> None:
    assert drawn(synthesizer, labels, slice(0, 1), solver=solver).any()


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"steps": 0}, Code.CONFIG_INVALID),
        ({"steps": 1001}, Code.CONFIG_INVALID),
        ({"guidance": float("nan")}, Code.CONFIG_INVALID),
        ({"guidance": -1.0}, Code.CONFIG_INVALID),
        ({"sigma_min": 30.0}, Code.CONFIG_INVALID),
        ({"sigma_max": float("inf")}, Code.CONFIG_INVALID),
        ({"schedule": "cosine", "sigma_min": 0.003}, Code.CONFIG_INVALID),
        ({"solver": "magic"}, Code.NAME_UNKNOWN),
        ({"schedule": "magic"}, Code.NAME_UNKNOWN),
    ],
)
def test_a_sampler_that_cannot_draw_is_refused(changes: dict[str, object], code: Code) -> None:
    sampler: Sampler = replace(SAMPLER, **changes)  # type: ignore[arg-type]
    with pytest.raises(EchoFedError) as caught:
        expect_sampler(sampler)
    assert caught.value.code is code


def test_a_solver_without_a_name_is_refused(forward: Forward, labels: np.ndarray) -> None:
    one = np.ones(1, int)
    with pytest.raises(EchoFedError) as caught:
        forward(labels[:1], VIEWS[:1], SEEDS[:1], 3 * one, 1.0 * one, 99 * one)
    assert caught.value.code is Code.NAME_UNKNOWN


def test_maps_views_and_seeds_that_the_card_does_not_know_are_refused(
    synthesizer: Synthesizer, labels: np.ndarray
) -> None:
    good = {"labels_NSS": labels, "view_N": VIEWS, "seeds_N": SEEDS}
    for changes, code in (
        ({"labels_NSS": labels[:, :16, :16]}, Code.SHAPE_MISMATCH),
        ({"labels_NSS": labels + np.uint8(5)}, Code.LABEL_UNMAPPED),
        ({"labels_NSS": labels.astype(np.int64)}, Code.LABEL_UNMAPPED),
        ({"view_N": VIEWS + 1}, Code.VIEW_UNKNOWN),
        ({"view_N": VIEWS - 1}, Code.VIEW_UNKNOWN),
        ({"view_N": VIEWS[:1]}, Code.SHAPE_MISMATCH),
        ({"seeds_N": -SEEDS}, Code.CONFIG_INVALID),
    ):
        asked = good | changes
        with pytest.raises(EchoFedError) as caught:
            synthesizer.images(asked.pop("labels_NSS"), **asked, sampler=SAMPLER)
        assert caught.value.code is code


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("denoiser.last.bias", torch.tensor([float("nan")]), Code.FEATURES_NOT_FINITE),
        ("denoiser.last.bias", torch.zeros(3), Code.CHECKPOINT_CORRUPT),
        ("denoiser.other", torch.zeros(3), Code.CHECKPOINT_CORRUPT),
        (GALLERY, None, Code.CHECKPOINT_CORRUPT),
        (GALLERY, torch.zeros(0, 64), Code.FEATURES_INVALID),
    ],
)
def test_weights_that_do_not_fit_are_refused(
    name: str, value: torch.Tensor | None, code: Code
) -> None:
    card, weights = untrained_synthesizer(0)
    tensors = {**unpack_tensors(weights), name: value}
    kept = {key: tensor for key, tensor in tensors.items() if tensor is not None}
    with pytest.raises(EchoFedError) as caught:
        build_synthesizer(card, pack_tensors(kept))
    assert caught.value.code is code


def test_images_that_are_not_finite_are_refused(labels: np.ndarray) -> None:
    card, weights = untrained_synthesizer(0)
    huge = unpack_tensors(weights)
    huge["denoiser.last.bias"].fill_(3e38)
    synthesizer = build_synthesizer(card, pack_tensors(huge))
    with pytest.raises(EchoFedError) as caught:
        drawn(synthesizer, labels, slice(0, 1))
    assert caught.value.code is Code.FEATURES_NOT_FINITE


def test_a_card_whose_latent_does_not_fit_is_refused() -> None:
    with pytest.raises(EchoFedError) as caught:
        build_synthesizer(*untrained_synthesizer(0, latent_scale=(0.5, 0.5)))
    assert caught.value.code is Code.CONFIG_INVALID


def test_a_folder_whose_weights_are_others_is_refused(tmp_path: Path) -> None:
    card, _ = untrained_synthesizer(0)
    save_synthesizer(tmp_path, card, untrained_synthesizer(1)[1])
    with pytest.raises(EchoFedError) as caught:
        build_stored(str(tmp_path))
    assert caught.value.code is Code.CHECKPOINT_CORRUPT
