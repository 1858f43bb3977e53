import io
from dataclasses import replace
from typing import NamedTuple

import av
import numpy as np
import pytest
from PIL import Image

from shared.testing.leaks import find_words
from site_client.segment import overlay
from site_client.segment.cine import SegmentedCine
from site_client.segment.frame_picture import draw_frame
from site_client.segment.overlay import draw_mp4, draw_png
from site_client.segment.panel import draw_panel

NAMES = ("patient0", "Verdichio", "MRN7654321")


class Video(NamedTuple):
    frames: list[np.ndarray]
    rate: float
    codec: str
    said: set[str]


def watch(data: bytes) -> Video:
    with av.open(io.BytesIO(data)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        stream = container.streams.video[0]
        said = set(container.metadata) | set(stream.metadata)
        return Video(frames, float(stream.average_rate), stream.codec_context.name, said)


@pytest.fixture(scope="module")
def data(segmented: SegmentedCine) -> bytes:
    return draw_mp4(segmented)


def test_both_instants_stand_side_by_side(segmented: SegmentedCine) -> None:
    both = Image.open(io.BytesIO(draw_png(segmented)))
    one = Image.open(io.BytesIO(draw_png(replace(segmented, ed=None, es=None))))
    assert both.width > 1.9 * one.width
    assert segmented.ed is not None
    alone = Image.open(io.BytesIO(draw_png(replace(segmented, es=None))))
    assert np.array_equal(
        np.asarray(alone)[44:604, : one.width], np.asarray(both)[44:604, : one.width]
    )


def test_a_picture_says_nothing_beside_its_pixels(segmented: SegmentedCine) -> None:
    data = draw_png(segmented)
    assert Image.open(io.BytesIO(data)).info == {}
    assert not find_words(data, NAMES)


def test_a_video_has_every_frame_at_its_own_pace(segmented: SegmentedCine, data: bytes) -> None:
    video = watch(data)
    assert len(video.frames) == len(segmented.clip.pixels_THW)
    assert segmented.clip.frame_time_ms is not None
    assert video.rate == pytest.approx(1000 / segmented.clip.frame_time_ms, rel=1e-3)
    height, width = video.frames[0].shape[:2]
    assert (height % 2, width % 2) == (0, 0)
    panel = draw_panel(segmented, width=747).picture
    assert abs(width - 747) <= 1
    assert abs(height - (44 + 560 + panel.height)) <= 1


def test_a_video_shows_the_frame_whose_turn_it_is(segmented: SegmentedCine, data: bytes) -> None:
    wanted = [np.asarray(draw_frame(segmented, number, height=560)) for number in range(8)]
    for number, frame in enumerate(watch(data).frames):
        seen = frame[44:604, : wanted[0].shape[1]].astype(np.int16)
        misses = [abs(seen - one).mean() for one in wanted]
        assert int(np.argmin(misses)) == number
        assert misses[number] < 4


def test_a_video_says_nothing_of_patient_or_clip_beside_its_pictures(
    segmented: SegmentedCine, data: bytes
) -> None:
    assert watch(data).said <= {
        "major_brand", "minor_version", "compatible_brands", "encoder", "language",
        "handler_name", "vendor_id",
    }  # fmt: skip
    assert not find_words(data, (*NAMES, segmented.clip.key))


def test_without_h264_there_is_mpeg4(
    segmented: SegmentedCine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overlay, "_ENCODERS", ("libnone", "mpeg4"))
    clip = replace(segmented.clip, pixels_THW=segmented.clip.pixels_THW[:2])
    bare = SegmentedCine(clip, "A4C", (None,) * 2, (None,) * 2, (), segmented.models)
    video = watch(draw_mp4(bare))
    assert len(video.frames) == 2
    assert video.codec == "mpeg4"


def test_a_single_frame_without_anything_found_is_drawn(segmented: SegmentedCine) -> None:
    clip = replace(segmented.clip, pixels_THW=segmented.clip.pixels_THW[:1], mm_per_pixel=None)
    bare = SegmentedCine(clip, "A4C", (None,), (None,), (), segmented.models)
    assert Image.open(io.BytesIO(draw_png(bare))).width >= 640
    assert len(watch(draw_mp4(bare)).frames) == 1


def test_a_curve_that_is_flat_or_has_holes_is_drawn(segmented: SegmentedCine) -> None:
    contour = segmented.contours[0]
    assert contour is not None
    flat = tuple(None if frame == 3 else replace(contour, frame=frame) for frame in range(8))
    holed = replace(segmented, contours=flat, es=3)
    assert draw_panel(holed, width=700).curve is not None


@pytest.mark.parametrize("width", [160, 640, 1500])
def test_no_number_is_left_out_for_want_of_room(segmented: SegmentedCine, width: int) -> None:
    more = [
        replace(one, name=f"{one.name} {n}") for n in range(3) for one in segmented.measurements
    ]
    tall = draw_panel(replace(segmented, measurements=tuple(more)), width=width)
    assert tall.picture.height > draw_panel(segmented, width=width).picture.height
