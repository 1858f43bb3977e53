"""The same order gives the same images; what nobody should draw is refused before the first."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from shared.echo.model_name import ModelName
from shared.errors import Code, EchoFedError
from shared.rpc.deadline import Deadline
from shared.seeding import numpy_generator
from shared.synthesis.answer import draw_order, expect_drawable, image_seed, label_map
from shared.synthesis.maps import (
    ANATOMICAL,
    is_plausible,
    map_hash,
    phantom_maps,
    plausibly_warped,
)
from shared.synthesis.order import Drawing, Order, Variation
from shared.testing.drawers import DRAWER_CARD, ShowingDrawer

SIZE = DRAWER_CARD.image_size
MAPS = phantom_maps(3, 7, SIZE, views=("A4C",), structures=DRAWER_CARD.structures).labels_NSS
ORDER = Order("A4C", labels_NHW=MAPS, structures=DRAWER_CARD.structures, seed=5)
VARIED = replace(ORDER, variation=Variation(20, 3))
ANATOMY = Order("A4C", variation=Variation(4, 3))


def drawn(order: Order, drawer: ShowingDrawer | None = None) -> list[Drawing]:
    _, *drawings = draw_order(drawer or ShowingDrawer(), order)
    return [one for one in drawings if isinstance(one, Drawing)]


def same(one: Drawing, other: Drawing) -> bool:
    assert one.pixels_SS is not None
    assert other.pixels_SS is not None
    stamps = [(part.seed, part.map_sha256, part.similarity) for part in (one, other)]
    return stamps[0] == stamps[1] and np.array_equal(one.pixels_SS, other.pixels_SS)


def refused(order: Order, **limits: object) -> Code:
    with pytest.raises(EchoFedError) as error:
        expect_drawable(DRAWER_CARD, order, **limits)  # type: ignore[arg-type]
    return error.value.code


def test_the_model_is_named_first_and_each_map_is_drawn_once_in_order() -> None:
    model, *_ = draw_order(ShowingDrawer(), ORDER)
    assert model == ModelName(DRAWER_CARD.id, DRAWER_CARD.weights_sha256)
    drawings = drawn(ORDER)
    assert [one.place for one in drawings] == [0, 1, 2]
    for one, labels_SS in zip(drawings, MAPS, strict=True):
        assert np.array_equal(one.map.labels_HW, labels_SS)
        assert one.map.names == DRAWER_CARD.structures
        assert one.pixels_SS is not None
        assert np.array_equal(one.pixels_SS // 40, labels_SS)


def test_every_image_is_stamped_by_its_own_seed_and_map() -> None:
    drawings = drawn(ORDER)
    assert [one.seed for one in drawings] == [image_seed(5, place) for place in range(3)]
    assert [one.map_sha256 for one in drawings] == [
        map_hash(labels_SS, DRAWER_CARD.structures) for labels_SS in MAPS
    ]
    assert [one.similarity for one in drawings] == [
        np.float32(one.seed % 997 / 997) for one in drawings
    ]


@pytest.mark.parametrize("order", [VARIED, ANATOMY])
def test_the_first_images_do_not_depend_on_how_many_follow(order: Order) -> None:
    fewer = replace(order, variation=Variation(3, 3))
    assert all(same(*pair) for pair in zip(drawn(order), drawn(fewer), strict=False))


@pytest.mark.parametrize("order", [VARIED, ANATOMY])
def test_varied_maps_are_plausible_and_no_two_alike(order: Order) -> None:
    drawings = drawn(order)
    assert len(drawings) == order.num_images
    assert len({one.map_sha256 for one in drawings}) == order.num_images
    assert all(is_plausible(one.map.labels_HW, one.map.names) for one in drawings)
    other = replace(order, variation=Variation(4, 4))
    assert not {one.map_sha256 for one in drawings} & {one.map_sha256 for one in drawn(other)}


def test_a_varied_map_is_a_warp_of_the_maps_in_turn() -> None:
    for place in (0, 4):
        generator = numpy_generator(3, "warp", place)
        warp = plausibly_warped(MAPS[place % 3], DRAWER_CARD.structures, generator, ANATOMICAL)
        assert np.array_equal(label_map(DRAWER_CARD, VARIED, place), warp)


def test_another_order_of_names_and_another_size_give_the_same_maps() -> None:
    names = DRAWER_CARD.structures
    turned = replace(
        ORDER,
        labels_NHW=(len(names) - 1 - MAPS).repeat(2, axis=1).repeat(2, axis=2),
        structures=names[::-1],
    )
    assert all(same(*pair) for pair in zip(drawn(turned), drawn(ORDER), strict=True))


def test_view_and_sampler_are_the_order_s() -> None:
    (plain, *_), (other, *_) = drawn(ORDER), drawn(replace(ORDER, view="A2C", steps=11))
    assert plain.pixels_SS is not None
    assert other.pixels_SS is not None
    more = 11 - DRAWER_CARD.sampler.steps - 1  # A2C stands before A4C in the card
    assert np.array_equal(plain.pixels_SS + more, other.pixels_SS)


def test_an_image_that_is_not_released_is_drawn_again_with_another_seed() -> None:
    banned = {image_seed(5, 1), image_seed(5, 1, 1), image_seed(5, 2)}
    drawings = drawn(ORDER, ShowingDrawer(releases=lambda seed: seed not in banned))
    assert [one.seed for one in drawings] == [
        image_seed(5, place, attempt) for place, attempt in enumerate((0, 2, 1))
    ]
    assert all(one.is_released for one in drawings)


def test_an_image_that_is_never_released_is_told_without_pixels() -> None:
    calls: list[int] = []
    never = {image_seed(5, 1, attempt) for attempt in range(100)}
    drawer = ShowingDrawer(releases=lambda seed: seed not in never, before=lambda: calls.append(1))
    first, second, third = drawn(ORDER, drawer)
    assert (first.is_released, second.is_released, third.is_released) == (True, False, True)
    assert second.pixels_SS is None
    assert second.seed in never
    assert len(calls) == 4


@pytest.mark.parametrize(("steps", "together"), [(4, 8), (100, 2), (1000, 1)])
def test_nothing_is_drawn_ahead_of_a_piece_which_many_steps_make_small(
    steps: int, together: int
) -> None:
    calls: list[int] = []
    order = replace(VARIED, steps=steps)
    parts = draw_order(ShowingDrawer(before=lambda: calls.append(1)), order)
    for place in range(10):
        next(parts)
        assert len(calls) == -(-place // together)


def spoilt(change: Callable[[np.ndarray], object]) -> Order:
    labels_NHW = MAPS.copy()
    change(labels_NHW)
    return replace(ORDER, labels_NHW=labels_NHW)


@pytest.mark.parametrize(
    ("order", "code"),
    [
        (replace(ORDER, view="PLAX"), Code.VIEW_UNKNOWN),
        (replace(ORDER, solver="magic"), Code.CONFIG_INVALID),
        (replace(ORDER, steps=0), Code.CONFIG_INVALID),
        (replace(ORDER, steps=10**6), Code.CONFIG_INVALID),
        (replace(ORDER, guidance=float("nan")), Code.CONFIG_INVALID),
        (replace(ORDER, guidance=float("inf")), Code.CONFIG_INVALID),
        (replace(ORDER, guidance=-1.0), Code.CONFIG_INVALID),
        (Order("A4C"), Code.CONFIG_INVALID),
        (replace(VARIED, variation=Variation(0)), Code.CONFIG_INVALID),
        (replace(VARIED, variation=Variation(10_001)), Code.REQUEST_TOO_LARGE),
        (replace(ORDER, labels_NHW=MAPS[:0]), Code.CONFIG_INVALID),
        (replace(ORDER, labels_NHW=MAPS[:, :, :20]), Code.SHAPE_MISMATCH),
        (replace(ORDER, labels_NHW=MAPS[:, :8, :8]), Code.SHAPE_MISMATCH),
        (replace(ORDER, labels_NHW=MAPS[0]), Code.SHAPE_MISMATCH),
        (replace(ORDER, labels_NHW=np.zeros((1, 2000, 2000), np.uint8)), Code.REQUEST_TOO_LARGE),
        (replace(ORDER, labels_NHW=np.zeros((200, 1024, 1024), np.uint8)), Code.REQUEST_TOO_LARGE),
        (replace(ORDER, labels_NHW=np.zeros_like(MAPS)), Code.SECTOR_EMPTY),
        (replace(ORDER, labels_NHW=MAPS.astype(np.int64)), Code.LABEL_UNMAPPED),
        (replace(ORDER, structures=DRAWER_CARD.structures[:3]), Code.LABEL_UNMAPPED),
        (
            replace(ORDER, structures=("outside", "background", "lv", "wall", "la")),
            Code.LABEL_UNMAPPED,
        ),
        (spoilt(lambda labels: labels.__setitem__((0, 0, 0), 255)), Code.LABEL_UNMAPPED),
        (spoilt(lambda labels: labels.__setitem__(labels == 2, 1)), Code.MAP_IMPLAUSIBLE),
        (spoilt(lambda labels: labels.__setitem__(2, 1)), Code.MAP_IMPLAUSIBLE),
    ],
)
def test_what_nobody_should_draw_is_refused_before_the_first(order: Order, code: Code) -> None:
    calls: list[int] = []
    assert refused(order) is code
    with pytest.raises(EchoFedError) as error:
        list(draw_order(ShowingDrawer(before=lambda: calls.append(1)), order))
    assert (error.value.code, calls) == (code, [])


def test_a_view_that_the_virtual_hospital_lacks_is_refused() -> None:
    card = replace(DRAWER_CARD, views=("no-such-view",))
    with pytest.raises(EchoFedError):
        expect_drawable(card, replace(ANATOMY, view="no-such-view"))


def test_maps_are_looked_over_for_as_long_as_somebody_waits() -> None:
    assert refused(ORDER, call=Deadline(0.0)) is Code.DEADLINE_EXCEEDED
