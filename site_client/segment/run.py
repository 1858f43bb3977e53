"""From the answers of segmenters about one or two cines to segmented cines and measurements."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from shared.echo.assessment import Assessment, Beat, Caution
from shared.echo.frame import Clip
from shared.echo.measurement import Measurement
from shared.echo.model_name import ModelName
from shared.errors import Code, EchoFedError
from shared.measurement.assess import assess
from shared.measurement.simpson import plane_of
from shared.measurement.traced import TracedCine
from shared.segmentation.answer import (
    FrameAnswer,
    Part,
    Question,
    Segmenters,
    choose_segmenters,
    expect_picture,
    names_of,
    segment_frames,
    wall_of,
)
from site_client.segment import cine

_APICAL = ("A4C", "A2C", "A3C")


@dataclass(frozen=True, slots=True, eq=False)
class Answered:
    """What was said about one clip, frame by frame."""

    clip: Clip
    view: str
    frames: tuple[FrameAnswer, ...]
    models: tuple[ModelName, ...]

    @property
    def num_missing(self) -> int:
        """Frames without a contour of their own."""
        return sum(frame.contour is None for frame in self.frames)


@dataclass(frozen=True, slots=True, eq=False)
class Examination:
    """One or two cines of a patient, segmented and measured together.

    Args:
        cines: in the order given, each with all measurements.
        measurements: by what an assessment calls them, such as ``FAC A4C``.
        cautions: what speaks against the measurements, in an assessment's own words.
        fault: why nothing was measured, None where something was.
    """

    cines: tuple[cine.SegmentedCine, ...]
    measurements: Mapping[str, Measurement] = field(default_factory=dict)
    cautions: tuple[Caution, ...] = ()
    fault: EchoFedError | None = None


def question_for(clip: Clip, view: str, *, num_looks: int = 1) -> Question:
    """What is asked of a clip: masks always, contours where there are millimetres and a long axis.

    Raises:
        EchoFedError: VIEW_UNKNOWN.
    """
    is_traced = clip.mm_per_pixel is not None and plane_of(view) in _APICAL
    return Question(view, wants_masks=True, wants_contours=is_traced, num_looks=num_looks)


def segment_here(segmenters: Segmenters, clip: Clip, question: Question) -> Iterator[Part]:
    """The models and each frame, by networks in this process.

    Without a segmenter of masks for the view, contours alone are answered.

    Raises:
        EchoFedError: VIEW_UNKNOWN for a view that no segmenter knows, SPACING_MISSING for contours
            alone without millimetres, SECTOR_EMPTY.
    """
    masks = segmenters.masks
    if masks is None or (segmenters.contours is not None and question.view not in masks.card.views):
        question = replace(question, wants_masks=False, wants_contours=True)
    chosen = choose_segmenters(segmenters, question, clip.mm_per_pixel)
    expect_picture(clip)
    yield from names_of(chosen)
    yield from segment_frames(chosen, clip, question)


def gather(clip: Clip, view: str, parts: Iterable[Part]) -> Answered:
    """The parts of an answer about a clip, together.

    Raises:
        EchoFedError: RESULT_MISSING where not every frame was answered.
    """
    frames: list[FrameAnswer] = []
    models: list[ModelName] = []
    for part in parts:
        if isinstance(part, FrameAnswer):
            frames.append(part)
        elif isinstance(part, ModelName):
            models.append(part)
    if [frame.frame for frame in frames] != list(range(len(clip.pixels_THW))):
        raise EchoFedError(
            Code.RESULT_MISSING,
            f"{len(frames)} of {len(clip.pixels_THW)} frames were answered",
            "segment it again",
        )
    return Answered(clip, view, tuple(frames), tuple(models))


def examine(answers: Sequence[Answered]) -> Examination:
    """Measure all cines together; where that is impossible, the pictures stand without numbers.

    Contours that were measured take the place of those that were found: smoothed in time.

    Raises:
        EchoFedError: SHAPE_MISMATCH for answers that do not fit their clips.
    """
    traced = [_traced(answer) for answer in answers if answer.clip.mm_per_pixel is not None]
    try:
        found = assess(traced) if traced else None
    except EchoFedError as error:
        if error.code is not Code.LANDMARKS_MISSING:
            raise
        bare = tuple(_segmented(answer, None, None) for answer in answers)
        return Examination(bare, fault=error)
    beats = {} if found is None else {beat.view: beat for beat in found.beats}
    cines = tuple(_segmented(answer, found, beats.get(answer.view)) for answer in answers)
    if found is None:
        return Examination(cines)
    return Examination(cines, found.measurements, found.cautions)


def _traced(answer: Answered) -> TracedCine:
    contours = [frame.contour for frame in answer.frames]
    walls = {frame.frame: wall_of(frame) for frame in answer.frames}
    outer = {place: wall for place, wall in walls.items() if wall is not None}
    return TracedCine(contours, answer.view, answer.clip.frame_time_ms, outer)


def _segmented(answer: Answered, found: Assessment | None, beat: Beat | None) -> cine.SegmentedCine:
    masks = [frame.mask for frame in answer.frames]
    key, mm_per_pixel = answer.clip.key, answer.clip.mm_per_pixel
    return cine.SegmentedCine(
        clip=answer.clip,
        view=answer.view,
        masks=tuple(
            replace(mask.mask, key=f"{key}:{place}", mm_per_pixel=mm_per_pixel) if mask else None
            for place, mask in enumerate(masks)
        ),
        contours=beat.contours if beat else tuple(frame.contour for frame in answer.frames),
        measurements=tuple(found.measurements.values()) if found else (),
        models=tuple(cine.ModelName(model.id, model.sha256) for model in answer.models),
        doubts_T=tuple(mask.doubt_HW if mask else None for mask in masks) if any(masks) else (),
        ed=beat.ed if beat else None,
        es=beat.es if beat else None,
    )
