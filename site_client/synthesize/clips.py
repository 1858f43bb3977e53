"""What was drawn as clips of one frame, each with the label map that it was drawn from."""

from dataclasses import dataclass

import numpy as np

from shared.echo.annotation import Annotation
from shared.echo.frame import MillimetresPerPixel
from shared.echo.manifest import ClipRecord
from shared.echo.mask import OUTSIDE
from shared.echo.model_name import ModelName
from shared.echo.synthesis import Synthesis
from shared.errors import Code
from shared.synthesis.order import Drawing
from site_client.clip_file import StoredClip
from site_client.journal import JournalEntry
from site_client.store import SiteStore
from site_client.synthesize.maps import PatientMap
from site_client.synthesize.request import SynthesisRequest


@dataclass(frozen=True, slots=True)
class Place:
    """A place in the dataset: the key of its clip, and what shall be drawn there."""

    key: str
    map: PatientMap


def keep_drawing(
    store: SiteStore,
    request: SynthesisRequest,
    place: Place,
    drawing: Drawing,
    model: ModelName,
) -> JournalEntry:
    """Store an image as a clip, or note that it is held back.

    Raises:
        EchoFedError: DISK_FULL.
    """
    if drawing.pixels_SS is None:
        reason = "an image is too similar to a frame that its synthesizer has learnt from"
        return JournalEntry(place.key, code=Code.EGRESS_DENIED.name, reason=reason)
    stamp = Synthesis(model.id, model.sha256, drawing.seed, drawing.map_sha256, drawing.similarity)
    clip = clip_of(drawing, stamp, _spacing(place.map, len(drawing.pixels_SS)))
    file, sha256 = store.add_clip(request.dataset, clip)
    record = ClipRecord(
        place.key, place.map.patient, request.view, "train", 1, file, sha256,
        num_blanked=clip.num_blanked, structures=drawing.map.names[1:], synthesis=stamp,
    )  # fmt: skip
    return JournalEntry(place.key, record)


def clip_of(
    drawing: Drawing, stamp: Synthesis, mm_per_pixel: MillimetresPerPixel | None
) -> StoredClip:
    """An image in its sector, black elsewhere, annotated by its label map."""
    assert drawing.pixels_SS is not None
    assert drawing.map.names[0] == OUTSIDE
    sector_SS = drawing.map.labels_HW > 0
    labels_SS = np.where(sector_SS, drawing.map.labels_HW - np.uint8(1), np.uint8(0))
    return StoredClip(
        pixels_THW=(drawing.pixels_SS * sector_SS)[None],
        mask_HW=sector_SS,
        mm_per_pixel=mm_per_pixel,
        frame_time_ms=None,
        confidence=1.0,
        num_blanked=int((~sector_SS).sum()),
        annotation=Annotation((0,), labels_SS[None], drawing.map.names[1:]),
        synthesis=stamp,
    )


def _spacing(map: PatientMap, side: int) -> MillimetresPerPixel | None:
    """Of the image, which may have another side than the map."""
    if map.mm_per_pixel is None or map.labels_SS is None:
        return None
    scale = len(map.labels_SS) / side
    return map.mm_per_pixel[0] * scale, map.mm_per_pixel[1] * scale
