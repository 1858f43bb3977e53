import json
from dataclasses import replace

import numpy as np
import pytest

from shared.errors import Code, EchoFedError
from shared.testing.leaks import find_words
from site_client.segment.cine import SegmentedCine
from site_client.segment.document import findings_document, findings_of, read_findings


def test_findings_come_back_as_they_were(segmented: SegmentedCine) -> None:
    text = json.dumps(findings_document(segmented))
    assert read_findings(json.loads(text)) == findings_of(segmented)


def test_what_was_found_is_there(segmented: SegmentedCine) -> None:
    found = findings_of(segmented)
    assert found.measurements == segmented.measurements
    assert found.models == segmented.models
    assert [frame.frame for frame in found.frames] == list(range(8))
    for frame, contour, mask in zip(found.frames, segmented.contours, segmented.masks, strict=True):
        assert contour is not None
        assert mask is not None
        assert frame.outline is not None
        np.testing.assert_array_equal(frame.outline.points_xy_mm, contour.points_xy_mm)
        assert frame.outline.sd_mm == pytest.approx(0.5)
        assert frame.num_pixels["lv"] == mask.region("lv").sum()


def test_mm_are_pixels_times_spacing(segmented: SegmentedCine) -> None:
    found = findings_of(segmented)
    assert found.mm_per_pixel is not None
    row_mm, column_mm = found.mm_per_pixel
    for frame in found.frames:
        assert frame.outline is not None
        placed = np.array(frame.outline.points_xy_px) * [column_mm, row_mm]
        np.testing.assert_allclose(placed, frame.outline.points_xy_mm, atol=1e-9)


def test_frames_without_anything_say_so(segmented: SegmentedCine) -> None:
    bare = replace(segmented, masks=(None,) * 8, contours=(None,) * 8, doubts_T=())
    frame = findings_of(bare).frames[0]
    assert (frame.outline, frame.num_pixels, frame.mean_doubt) == (None, {}, None)


def test_the_doubt_is_that_of_the_structures(segmented: SegmentedCine) -> None:
    mask = segmented.masks[0]
    assert mask is not None
    doubt_HW = np.where(mask.labels_HW > 0, np.float32(0.25), np.float32(1.0))
    doubted = replace(segmented, doubts_T=(doubt_HW,) * 8)
    assert findings_of(doubted).frames[0].mean_doubt == pytest.approx(0.25)


def test_no_patient_is_named(segmented: SegmentedCine) -> None:
    text = json.dumps(findings_document(segmented))
    assert not find_words(text.encode(), [segmented.clip.patient, "patient"])


def test_a_later_version_is_refused(segmented: SegmentedCine) -> None:
    with pytest.raises(EchoFedError) as error:
        read_findings({**findings_document(segmented), "version": 99})
    assert error.value.code == Code.CARD_NEWER


def test_a_document_with_a_hole_is_refused(segmented: SegmentedCine) -> None:
    document = findings_document(segmented)
    del document["frames"]
    with pytest.raises(EchoFedError) as error:
        read_findings(document)
    assert error.value.code == Code.CHECKPOINT_CORRUPT
