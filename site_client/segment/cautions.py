"""What speaks against a segmentation, in words for the one who reads it."""

from collections.abc import Iterator, Sequence

from shared.echo.assessment import Caution
from site_client.segment.run import Answered, Examination
from site_client.segment.source import SourceFile

WORDS: dict[Caution, str] = {
    "frames_filled": "frames without a contour were filled from their neighbours",
    "frames_rejected": "contours far from their neighbours in time were left out",
    "part_of_beat": "the heart is not seen to fill on both sides of end systole",
    "no_motion": "the area changes no more than its noise does",
    "still": "one frame tells a volume, and no ejection",
    "no_contour": "a file has no frame with a contour",
    "view_unfit": "nothing is measured from this view",
    "repeated_view": "a plane is there more than once; the larger one counts",
    "single_plane": "volumes stand on one view and take the ventricle to be round",
    "foreshortened": "the long axes of the two views differ by more than a tenth",
    "frame_time_missing": "the time between frames is not known and was guessed",
}


def warnings_of(
    sources: Sequence[SourceFile], answers: Sequence[Answered], found: Examination
) -> Iterator[str]:
    """Each warning once, the gravest first."""
    for source, answer in zip(sources, answers, strict=True):
        if source.clip.mm_per_pixel is None:
            yield f"{answer.view}: the file has no spacing, so there are pixels and no millimetres"
        elif answer.num_missing:
            missing = f"{answer.num_missing} of {len(answer.frames)}"
            yield f"{answer.view}: {missing} frames have no contour"
        if source.stored.text == "blanked":
            yield f"{answer.view}: text was found in the picture and blanked"
    if found.fault is not None:
        yield f"nothing was measured: {found.fault.message}"
    yield from (WORDS[caution] for caution in found.cautions)
    if len({source.clip.patient for source in sources}) > 1:
        yield "not every file says whose it is; that they are of one patient is taken on trust"
