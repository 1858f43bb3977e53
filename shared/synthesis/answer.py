"""What is answered to an order of images: label maps drawn a few at a time, each with its stamp."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from shared.diffusion import SOLVERS
from shared.echo.mask import Mask
from shared.echo.model_name import ModelName
from shared.echo.synthesizer import Sampler, SynthesizerCard
from shared.errors import Code, EchoFedError
from shared.rpc.deadline import Call, while_wanted
from shared.seeding import derive_seed, numpy_generator
from shared.synthesis.maps import (
    ANATOMICAL,
    expect_plausible,
    map_hash,
    phantom_maps,
    plausibly_warped,
)
from shared.synthesis.order import (
    MAX_IMAGES,
    Drawing,
    Labels,
    Order,
    Part,
    expect_map_shape,
)
from shared.synthesis.semantic import expect_sampler

MAX_DRAWN_PIXELS = MAX_IMAGES * 256 * 256
"""Of all images of an order together; they wait on the host's disk."""
_PIECE = 8  # images that are drawn together at most; a job stops between two pieces
_PIECE_STEPS = 256  # of the images of a piece together, so that many steps let it stop too
_MOST_DRAWS = 4  # of one image, the first included, where its release is refused


class Drawer(Protocol):
    """A synthesizer with the check of what it draws, here or in a process of its own."""

    @property
    def card(self) -> SynthesizerCard:
        """What it is."""
        ...

    def draw(
        self,
        labels_NSS: Labels,
        view_N: NDArray[np.int64],
        seeds_N: NDArray[np.int64],
        sampler: Sampler,
    ) -> tuple[Labels, NDArray[np.float32], NDArray[np.bool_]]:
        """Draw; each image depends on its own row only.

        Args:
            labels_NSS: places in the card's structures, at its image size.
            view_N: places in the card's views.
            seeds_N: of the noise.
            sampler: what is used instead of the card's.

        Returns:
            Images (N, S, S), similarity of each to the nearest frame of the training (N,), and
            whether it may be released (N,).
        """
        ...


def draw_order(drawer: Drawer, order: Order) -> Iterator[Part]:
    """The model, then each image; the same order gives the same images, whenever it is begun.

    Raises:
        EchoFedError: as ``expect_drawable``; MAP_IMPLAUSIBLE where no warp of a map is plausible.
    """
    card = drawer.card
    expect_drawable(card, order)
    yield ModelName(card.id, card.weights_sha256)
    together = min(_PIECE, max(1, _PIECE_STEPS // sampler_of(card, order).steps))
    for first in range(0, order.num_images, together):
        places = range(first, min(first + together, order.num_images))
        labels_NSS = np.stack([label_map(card, order, place) for place in places])
        yield from _drawn(drawer, order, first, labels_NSS)


def expect_drawable(card: SynthesizerCard, order: Order, *, call: Call | None = None) -> None:
    """Refuse an order that a synthesizer cannot or should not carry out.

    Args:
        card: of the synthesizer.
        order: what is asked of it; many label maps take a while to look over.
        call: that the answer is for, where somebody may stop waiting for it.

    Raises:
        EchoFedError: VIEW_UNKNOWN; CONFIG_INVALID for an unknown solver, steps and guidance beyond
            reason and nothing to draw; REQUEST_TOO_LARGE; SHAPE_MISMATCH; LABEL_UNMAPPED; what
            refuses a label map as implausible; DEADLINE_EXCEEDED where nobody waits any more.
    """
    if order.view not in card.views:
        raise EchoFedError(
            Code.VIEW_UNKNOWN,
            f"the synthesizer does not draw the view {order.view[:40]!r}",
            f"known: {', '.join(card.views)}",
        )
    sampler_of(card, order)
    if not order.num_images >= 1:
        raise EchoFedError(
            Code.CONFIG_INVALID, "the order asks for no image", "send label maps or a variation"
        )
    if order.num_images > min(MAX_IMAGES, MAX_DRAWN_PIXELS // card.image_size**2):
        raise EchoFedError(
            Code.REQUEST_TOO_LARGE,
            f"{order.num_images} images of {card.image_size} pixels a side are more than is drawn",
            f"at most {MAX_IMAGES}, of {MAX_DRAWN_PIXELS} pixels together",
        )
    if order.labels_NHW is None:
        label_map(card, order, 0)  # which refuses a view that the virtual hospital lacks
        return
    expect_map_shape(order.labels_NHW.shape)
    sent_NHW = order.labels_NHW
    for labels_HW in sent_NHW if call is None else while_wanted(sent_NHW, call):
        expect_plausible(_at_home(card, order, labels_HW), card.structures, size=card.image_size)


def sampler_of(card: SynthesizerCard, order: Order) -> Sampler:
    """The card's sampler with what the order wants otherwise.

    Raises:
        EchoFedError: CONFIG_INVALID for an unknown solver, and for steps and guidance beyond
            reason.
    """
    sampler = card.sampler
    if order.solver is not None:
        if order.solver not in SOLVERS:
            raise EchoFedError(
                Code.CONFIG_INVALID,
                f"no solver is called {order.solver[:40]!r}",
                f"known: {', '.join(SOLVERS.names())}",
            )
        sampler = replace(sampler, solver=order.solver)
    if order.steps is not None:
        sampler = replace(sampler, steps=order.steps)
    if order.guidance is not None:
        sampler = replace(sampler, guidance=order.guidance)
    expect_sampler(sampler)
    return sampler


def label_map(card: SynthesizerCard, order: Order, place: int) -> Labels:
    """The label map of the image at a place, (S, S) in the card's structures.

    Raises:
        EchoFedError: MAP_IMPLAUSIBLE; what refuses a view that the virtual hospital lacks.
    """
    if order.labels_NHW is None:
        return _anatomy(card, order, place)
    labels_SS = _at_home(card, order, order.labels_NHW[place % len(order.labels_NHW)])
    if order.variation is None:
        return labels_SS
    generator = numpy_generator(order.variation.seed, "warp", place)
    return plausibly_warped(labels_SS, card.structures, generator, ANATOMICAL)


def image_seed(seed: int, place: int, attempt: int = 0) -> int:
    """The seed of an image's noise; another one for each draw of it."""
    return derive_seed(seed, "image", place, attempt)


def _anatomy(card: SynthesizerCard, order: Order, place: int) -> Labels:
    """The label map of a heart of the virtual hospital."""
    assert order.variation is not None, "expect_drawable has let an order without maps pass"
    seed = derive_seed(order.variation.seed, "phantom", place)
    maps = phantom_maps(1, seed, card.image_size, views=(order.view,), structures=card.structures)
    labels_SS: Labels = maps.labels_NSS[0]
    return labels_SS


def _at_home(card: SynthesizerCard, order: Order, labels_HW: Labels) -> Labels:
    """A map that was sent, by the card's structures and of its size."""
    if labels_HW.dtype != np.uint8:
        raise _unmapped(card, f"labels of {labels_HW.dtype}")
    shown = np.flatnonzero(np.bincount(labels_HW.ravel(), minlength=256))
    if shown[-1] >= len(order.structures):
        raise _unmapped(card, f"value {shown[-1]}, which has no name,")
    names = [order.structures[value] for value in shown.tolist()]
    for name in names:
        if name not in card.structures:
            raise _unmapped(card, f"{name[:40]!r}")
    places = np.zeros(256, np.uint8)
    places[shown] = [card.structures.index(name) for name in names]
    nearest = (np.arange(card.image_size) + 0.5) * len(labels_HW) / card.image_size
    picked = nearest.astype(np.intp)
    at_home: Labels = places[labels_HW[np.ix_(picked, picked)]]
    return at_home


def _unmapped(card: SynthesizerCard, what: str) -> EchoFedError:
    return EchoFedError(
        Code.LABEL_UNMAPPED,
        f"the synthesizer does not draw {what} of a label map",
        f"send uint8 places in names among {', '.join(card.structures)}; a site that has fetched "
        "the synthesizer sends no others",
    )


def _drawn(drawer: Drawer, order: Order, first: int, labels_NSS: Labels) -> Iterator[Drawing]:
    """A few images together; those whose release is refused are drawn again."""
    card, num = drawer.card, len(labels_NSS)
    sampler, view = sampler_of(card, order), card.views.index(order.view)
    seeds_N, similarities_N = np.zeros(num, np.int64), np.zeros(num)
    images_NSS, left = np.zeros_like(labels_NSS), np.arange(num)
    for attempt in range(_MOST_DRAWS):
        seeds_N[left] = [image_seed(order.seed, first + row, attempt) for row in left.tolist()]
        drawn = drawer.draw(labels_NSS[left], np.full(len(left), view), seeds_N[left], sampler)
        images_NSS[left], similarities_N[left], is_released_N = drawn
        left = left[~is_released_N]
        if not len(left):
            break
    for row, labels_SS in enumerate(labels_NSS):
        yield Drawing(
            place=first + row,
            seed=int(seeds_N[row]),
            map=Mask(labels_SS, card.structures, None, ""),
            map_sha256=map_hash(labels_SS, card.structures),
            similarity=float(similarities_N[row]),
            pixels_SS=None if row in left else images_NSS[row],
        )
