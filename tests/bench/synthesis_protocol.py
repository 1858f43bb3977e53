"""What all systems of the comparison share: frames, label maps, seeds, and what is left on disk."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from measure_segmentation import Case, load_cases
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from shared.echo.manifest import SPLITS
from shared.echo.mask import OUTSIDE
from shared.echo.synthesizer import SynthesizerCard
from shared.errors import Code, EchoFedError
from shared.files import load_arrays, save_arrays, write_json
from shared.seeding import derive_seed, numpy_generator
from shared.synthesis.maps import (
    ANATOMICAL,
    Labels,
    is_plausible,
    warp_sources,
    warped,
    with_outside,
)
from site_client.annotated import AnnotatedFrames, Wanted, load_annotated
from site_client.store import SiteStore
from site_client.training.synthesis_batches import labelled

ATTEMPTS = 20  # of a warp before the next frame's map is taken
FRAMES_PER_CLIP = 8  # as synthesizers and segmenters learn from


@dataclass(frozen=True, slots=True)
class Asked:
    """What is compared with what.

    Args:
        labelled: training patients whose label maps may be used, 0 for all.
        seconds: of training that each system has, autoencoder and denoiser together.
        images: drawn by each system for training.
        size: rows and columns of what is drawn.
        segmenter_steps: of optimisation, equal for all segmenters.
        features: id of the site's segmenter that judges images, empty for the real-only one.
        slow_images: by which all steps of SDM are timed.
    """

    dataset: str
    seed: int
    labelled: int
    seconds: float
    images: int
    size: int
    segmenter_steps: int
    features: str = ""
    slow_images: int = 20


@dataclass(frozen=True, slots=True, eq=False)
class Drawing:
    """Label maps of frames, each with a warp of its own, and the frames moved along.

    Args:
        frames: pixels are those of the frame, warped as its map was; the sector stays.
        seeds_N: of the noise of each image.
    """

    frames: AnnotatedFrames
    seeds_N: NDArray[np.int64]

    @property
    def maps_NSS(self) -> Labels:
        """Places in ``outside`` and the structures."""
        return with_outside(self.frames.labels_NSS, self.frames.sector_NSS)

    @property
    def structures(self) -> tuple[str, ...]:
        """Of the label maps."""
        return (OUTSIDE, *self.frames.structures)

    def views_for(self, card: SynthesizerCard) -> NDArray[np.int64]:
        """Places of the images' views in a synthesizer's."""
        place = np.array([card.views.index(view) for view in self.frames.views], np.int64)
        return place[self.frames.view_N]

    def take(self, num: int) -> "Drawing":
        """The first ones."""
        return Drawing(self.frames.take(np.arange(num)), self.seeds_N[:num])

    def with_pixels(self, pixels_NSS: NDArray[np.uint8]) -> AnnotatedFrames:
        """The frames as a synthesizer has drawn them."""
        return replace(self.frames, pixels_NSS=pixels_NSS)


class Protocol:
    """Frames of a dataset by split, and the label maps that all systems draw from."""

    def __init__(self, store: SiteStore, asked: Asked, folder: Path) -> None:
        """Read the frames; what is computed stays below the folder."""
        self.store, self.asked, self.folder = store, asked, folder
        wanted = Wanted(asked.size, frames_per_clip=FRAMES_PER_CLIP, splits=SPLITS)
        frames = load_annotated(store, [asked.dataset], wanted)
        inside = replace(frames, pixels_NSS=frames.pixels_NSS * frames.sector_NSS)
        self.train = inside.of_split("train")
        self.val = labelled(inside.of_split("val"), 0, seed=asked.seed)[0]
        self.test = inside.of_split("test")
        self.known, self.num_patients = labelled(self.train, asked.labelled, seed=asked.seed)

    @cached_property
    def cases(self) -> list[Case]:
        """Frames of the test patients in their own size."""
        return load_cases(self.store, self.asked.dataset, FRAMES_PER_CLIP)

    @cached_property
    def drawing(self) -> Drawing:
        """Warped maps of training patients whose labels are known."""
        return draw_maps(self.known, self.asked.images, self.asked.seed, "train")

    @cached_property
    def selection(self) -> Drawing:
        """Warped maps of validation patients: an eighth as many, four at least."""
        num = max(self.asked.images // 8, 4)
        return draw_maps(self.val, num, self.asked.seed, "val")


def draw_maps(frames: AnnotatedFrames, num: int, seed: int, name: str) -> Drawing:
    """Maps of the frames in turn, in an order by the seed; implausible warps are drawn anew."""
    order = numpy_generator(seed, "bench", name).permutation(len(frames))
    places, labels, pixels = [], [], []
    number = 0
    while len(places) < num:
        if number > ATTEMPTS * num:
            raise EchoFedError(
                Code.MAP_IMPLAUSIBLE,
                f"of {number} label maps {len(places)} could be warped",
                "take a dataset of apical views with whole hearts",
            )
        place = int(order[number % len(order)])
        found = _warp_of(frames, place, (seed, name, number))
        number += 1
        if found is not None:
            places.append(place)
            labels.append(found[0])
            pixels.append(found[1])
    drawn = replace(
        frames.take(np.array(places)),
        labels_NSS=np.stack(labels),
        pixels_NSS=np.stack(pixels),
        landmarks_xy_px_N32=np.full((num, 3, 2), np.nan),  # those were the frame's
    )
    seeds = [derive_seed(seed, "bench noise", name, number) for number in range(num)]
    return Drawing(drawn, np.array(seeds, np.int64))


def _warp_of(
    frames: AnnotatedFrames, place: int, names: tuple[int | str, ...]
) -> tuple[Labels, NDArray[np.uint8]] | None:
    """A plausible warp of a frame's labels and pixels, None where none was found."""
    sector_SS = frames.sector_NSS[place]
    map_SS = with_outside(frames.labels_NSS[place], sector_SS)
    for attempt in range(ATTEMPTS):
        told = (*names, attempt)
        moved_SS = warped(map_SS, numpy_generator(0, "bench warp", *told), ANATOMICAL)
        if is_plausible(moved_SS, (OUTSIDE, *frames.structures)):
            again = numpy_generator(0, "bench warp", *told)
            source_2SS = warp_sources(map_SS.shape, again, ANATOMICAL)
            grey_SS = map_coordinates(
                frames.pixels_NSS[place].astype(np.float32), source_2SS, order=1
            )
            labels_SS = np.where(sector_SS, moved_SS - np.minimum(moved_SS, 1), 0)
            return labels_SS.astype(np.uint8), np.rint(grey_SS * sector_SS).astype(np.uint8)
    return None


def joined(parts: Sequence[AnnotatedFrames]) -> AnnotatedFrames:
    """Frames of one dataset behind one another."""
    names = [name for name in AnnotatedFrames.__slots__ if "_N" in name]
    arrays = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
    return replace(parts[0], **arrays)


def kept_images(path: Path) -> tuple[NDArray[np.uint8], dict[str, float]] | None:
    """Images of a finished step with its figures, None where it is not finished."""
    if not path.is_file():
        return None
    arrays, told = load_arrays(path)
    return arrays["images_NSS"], json.loads(told["figures"])


def keep_images(path: Path, images_NSS: NDArray[np.uint8], figures: dict[str, float]) -> None:
    """Write the images of a step, all or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_arrays(path, {"images_NSS": images_NSS}, {"figures": json.dumps(figures)})


def kept(path: Path) -> dict[str, object] | None:
    """What a finished step has told, None where it is not finished."""
    return dict(json.loads(path.read_text())) if path.is_file() else None


def keep(path: Path, told: dict[str, object]) -> None:
    """Write what a step tells."""
    write_json(path, told)
