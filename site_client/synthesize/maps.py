"""Label maps to draw from: those of a dataset of this site, warped, or the virtual hospital's."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from shared.echo.expert import CARD_FILE
from shared.echo.frame import MillimetresPerPixel
from shared.echo.manifest import ClipRecord, DatasetManifest, Split
from shared.echo.mask import OUTSIDE, STRUCTURES
from shared.echo.synthesizer import read_synthesizer_card
from shared.errors import Code, EchoFedError
from shared.files import read_json
from shared.seeding import derive_seed, numpy_generator
from shared.synthesis.maps import (
    ANATOMICAL,
    phantom_maps,
    plausibly_warped,
    with_outside,
)
from site_client.annotated import (
    LEARNT_SPLITS,
    AnnotatedFrames,
    Wanted,
    annotated_clips,
    load_annotated,
)
from site_client.deidentify import Pseudonyms
from site_client.store import SiteStore
from site_client.synthesize.request import SynthesisRequest

PHANTOM = "phantom"
_SENT_SIZE = 256  # px of a map, for a host whose image size is not known here


@dataclass(frozen=True, slots=True)
class MapShape:
    """What a label map tells, and how large.

    Args:
        view: id of the view.
        size: rows and columns.
        structures: to tell apart, ``outside`` and the background first; empty for all that the
            maps name.
    """

    view: str
    size: int
    structures: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class PatientMap:
    """A label map, and whose heart it shows.

    Args:
        labels_SS: uint8 places in the structures of its source; None where whoever draws makes it.
        patient: pseudonym; the source's own where there is one, so that a patient keeps one split.
        mm_per_pixel: spacing of (rows, columns), None where it is unknown.
    """

    labels_SS: NDArray[np.uint8] | None
    patient: str
    mm_per_pixel: MillimetresPerPixel | None


class MapSource(Protocol):
    """Label maps by number, the same whenever they are asked for."""

    @property
    def structures(self) -> tuple[str, ...]:
        """What the values of its maps mean."""
        ...

    @property
    def fixed(self) -> Mapping[str, Split]:
        """Splits that patients have already."""
        ...

    @property
    def name(self) -> str:
        """Dataset and hash of its content, or the virtual hospital; carries no identity."""
        ...

    def at(self, place: int) -> PatientMap:
        """The map of the image at a place.

        Raises:
            EchoFedError: MAP_IMPLAUSIBLE where no warp of it is plausible.
        """
        ...


class PhantomSource:
    """A new heart of the virtual hospital for each image."""

    fixed: Mapping[str, Split] = {}
    name = PHANTOM

    def __init__(self, shape: MapShape, pseudonyms: Pseudonyms, *, seed: int) -> None:
        """Keep what the hearts are drawn by."""
        self.structures = shape.structures or (OUTSIDE, *STRUCTURES)
        self._shape, self._pseudonyms, self._seed = shape, pseudonyms, seed

    def at(self, place: int) -> PatientMap:
        seed = derive_seed(self._seed, "heart", place)
        drawn = phantom_maps(
            1, seed, self._shape.size, views=(self._shape.view,), structures=self.structures
        )
        spacing = float(drawn.mm_per_pixel_N[0])
        patient = self._pseudonyms.patient(f"phantom heart {seed}")
        return PatientMap(drawn.labels_NSS[0], patient, (spacing, spacing))


class HostSource:
    """A new heart for each image as well, by the host, which knows what is to be told apart."""

    fixed: Mapping[str, Split] = {}
    name = f"{PHANTOM} of the host"
    structures: tuple[str, ...] = ()

    def __init__(self, pseudonyms: Pseudonyms, *, seed: int) -> None:
        """Keep what the hearts are told apart by."""
        self._pseudonyms, self._seed = pseudonyms, seed

    def at(self, place: int) -> PatientMap:
        """The heart of the image at a place, without its map."""
        identity = f"phantom heart {derive_seed(self._seed, 'heart', place)}"
        return PatientMap(None, self._pseudonyms.patient(identity), None)


class DatasetSource:
    """Each map of a dataset in turn, in an order by the seed; every image has a warp of its own."""

    def __init__(
        self, manifest: DatasetManifest, frames: AnnotatedFrames, shape: MapShape, *, seed: int
    ) -> None:
        """Keep the maps of training and validation patients that name every structure."""
        self.structures = (OUTSIDE, *frames.structures)
        self.name = f"{manifest.id} {manifest.content_hash()}"
        self.manifest = manifest
        self._clips = [
            clip for clip, view in annotated_clips(manifest, LEARNT_SPLITS) if view == shape.view
        ]
        whole_M = np.flatnonzero(frames.annotated_NS.all(axis=1))
        if not len(whole_M):
            raise EchoFedError(
                Code.FRAMES_MISSING,
                f"no map of dataset {manifest.id} names all of {', '.join(frames.structures)}",
                "take the maps of another dataset, or of the phantom",
            )
        self._frames = frames.take(numpy_generator(seed, "order of maps").permutation(whole_M))
        sides: dict[str, Split] = {clip.patient: clip.split for clip in manifest.clips}
        self.fixed = sides if "val" in sides.values() else {}
        self._seed = seed

    def at(self, place: int) -> PatientMap:
        frames, number = self._frames, place % len(self._frames)
        labels_SS = with_outside(frames.labels_NSS[number], frames.sector_NSS[number])
        generator = numpy_generator(self._seed, "warp", place)
        warped_SS = plausibly_warped(labels_SS, self.structures, generator, ANATOMICAL)
        row_mm, column_mm = frames.mm_per_pixel_N2[number].tolist()
        spacing = None if np.isnan(row_mm) else (row_mm, column_mm)
        return PatientMap(warped_SS, self._clips[frames.clip_N[number]].patient, spacing)

    def clips(self, num: int) -> tuple[ClipRecord, ...]:
        """The clips whose maps are taken for so many images."""
        return tuple(self._clips[clip] for clip in np.unique(self._frames.clip_N[:num]))


def open_maps(store: SiteStore, maps: str, shape: MapShape, *, seed: int) -> MapSource:
    """Maps of the virtual hospital, or of a dataset: of patients in training and validation only.

    Args:
        store: the site's.
        maps: ``phantom``, or a dataset of the site.
        shape: what is wanted.
        seed: of hearts, order and warps.

    Raises:
        EchoFedError: DATASET_UNKNOWN, ORIGIN_UNFIT for a synthetic dataset, whose maps are warps
            already, and what ``load_annotated`` raises.
    """
    if maps == PHANTOM:
        return PhantomSource(shape, Pseudonyms(store.key()), seed=seed)
    manifest = store.manifest(maps)
    if manifest.origin == "synthetic":
        raise EchoFedError(
            Code.ORIGIN_UNFIT,
            f"the maps of dataset {maps} were warped already, for it is synthetic",
            "take those that it was drawn from, with another --seed",
        )
    wanted = Wanted(shape.size, shape.structures[1:], (shape.view,), splits=LEARNT_SPLITS)
    return DatasetSource(manifest, load_annotated(store, [maps], wanted), shape, seed=seed)


def open_maps_for_host(store: SiteStore, maps: str, request: SynthesisRequest) -> MapSource:
    """The same for a host, which draws the phantom's by itself and resizes those of a dataset.

    What is told apart is the synthesizer's where it lies here too, else all that the masks name.

    Raises:
        EchoFedError: as ``open_maps``.
    """
    if maps == PHANTOM:
        return HostSource(Pseudonyms(store.key()), seed=request.seed)
    known, shape = store.aliased(request.model) or request.model, MapShape(request.view, _SENT_SIZE)
    if known in store.synthesizers():
        card = read_synthesizer_card(read_json(store.synthesizer_folder(known) / CARD_FILE))
        shape = MapShape(request.view, card.image_size, card.structures)
    return open_maps(store, maps, shape, seed=request.seed)
