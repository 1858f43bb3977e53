"""A clip comes back as it was, whole or in parts, from this release's files and earlier ones."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from shared.echo.annotation import Annotation
from shared.echo.sector import Fan
from shared.echo.synthesis import Synthesis
from shared.errors import Code, EchoFedError
from shared.files import save_arrays
from site_client.clip_file import (
    ClipFacts,
    StoredClip,
    load_clip,
    read_facts,
    read_middle_frame,
    save_clip,
)

Reader = Callable[[Path], object]
READERS: tuple[Reader, ...] = (load_clip, read_facts, read_middle_frame)


@pytest.fixture
def clip(seed: int) -> StoredClip:
    rng = np.random.default_rng(seed)
    return StoredClip(
        pixels_THW=rng.integers(0, 256, (3, 13, 17)).astype(np.uint8),
        mask_HW=rng.random((13, 17)) > 0.5,
        mm_per_pixel=(0.5, 0.25),
        frame_time_ms=33.3,
        fan=Fan((1.0, 8.0), -30.0, 30.0, 1.0, 10.0),
        confidence=0.97,
        text="kept",
    )


def assert_equal(back: StoredClip, clip: StoredClip) -> None:
    assert back.pixels_THW.dtype == np.uint8
    assert np.array_equal(back.pixels_THW, clip.pixels_THW)
    assert clip.mask_HW is not None
    assert back.mask_HW is not None
    assert np.array_equal(back.mask_HW, clip.mask_HW)
    assert (back.fan, back.mm_per_pixel, back.frame_time_ms, back.confidence, back.text) == (
        clip.fan, clip.mm_per_pixel, clip.frame_time_ms, clip.confidence, clip.text,
    )  # fmt: skip


def test_a_clip_comes_back_as_it_was(tmp_path: Path, clip: StoredClip) -> None:
    save_clip(tmp_path / "c", clip)
    assert_equal(load_clip(tmp_path / "c"), clip)


def test_the_stamp_of_a_drawn_clip_comes_back_and_others_have_none(
    tmp_path: Path, clip: StoredClip
) -> None:
    stamp = Synthesis("north-spade_unet-0", "0" * 64, 2**63 - 1, "1" * 64, 0.1 + 0.2)
    sha256 = save_clip(tmp_path / "drawn", replace(clip, synthesis=stamp))
    assert load_clip(tmp_path / "drawn").synthesis == stamp
    other = replace(clip, synthesis=replace(stamp, seed=1))
    assert save_clip(tmp_path / "other", other) != sha256
    save_clip(tmp_path / "imaged", clip)
    assert load_clip(tmp_path / "imaged").synthesis is None


@pytest.mark.parametrize("has_landmarks", [True, False])
def test_an_annotation_comes_back_with_its_clip(
    tmp_path: Path, clip: StoredClip, seed: int, has_landmarks: bool
) -> None:
    rng = np.random.default_rng(seed)
    places = rng.normal(size=(2, 3, 2)) if has_landmarks else None
    labels = rng.integers(0, 3, (2, 13, 17)).astype(np.uint8)
    annotation = Annotation((0, 2), labels, ("background", "lv", "la"), places)
    save_clip(tmp_path / "c", replace(clip, annotation=annotation))
    back = load_clip(tmp_path / "c").annotation
    assert back is not None
    assert (back.frames, back.structures) == (annotation.frames, annotation.structures)
    assert np.array_equal(back.labels_FHW, labels)
    assert np.array_equal(back.landmarks_xy_px_F32, places)


def test_a_clip_without_mask_and_scale_comes_back_too(tmp_path: Path, clip: StoredClip) -> None:
    save_clip(tmp_path / "c", StoredClip(clip.pixels_THW, None, None, None))
    back = load_clip(tmp_path / "c")
    assert (back.mask_HW, back.mm_per_pixel, back.frame_time_ms, back.fan) == (None,) * 4
    assert read_facts(tmp_path / "c") == ClipFacts((3, 13, 17), False, None, None, None)


def test_equal_clips_give_equal_files(tmp_path: Path, clip: StoredClip) -> None:
    turned = replace(clip, pixels_THW=np.asfortranarray(clip.pixels_THW))
    assert save_clip(tmp_path / "a", clip) == save_clip(tmp_path / "b", turned)


@pytest.mark.parametrize("num_frames", [1, 2, 3])
def test_parts_are_those_of_the_whole(tmp_path: Path, clip: StoredClip, num_frames: int) -> None:
    part = replace(clip, pixels_THW=clip.pixels_THW[:num_frames])
    save_clip(tmp_path / "c", part)
    assert read_facts(tmp_path / "c") == ClipFacts(
        (num_frames, 13, 17), True, clip.mm_per_pixel, clip.frame_time_ms, clip.fan
    )
    middle = part.pixels_THW[num_frames // 2]
    assert np.array_equal(read_middle_frame(tmp_path / "c"), middle)


def test_clips_of_the_first_version_are_read(tmp_path: Path, clip: StoredClip) -> None:
    assert clip.mask_HW is not None
    head = {
        "version": 1, "mm_per_pixel": [0.5, 0.25], "frame_time_ms": 33.3, "confidence": 0.97,
        "text": "kept",
        "fan": {
            "apex_rc": [1.0, 8.0], "angle_min_deg": -30.0, "angle_max_deg": 30.0,
            "radius_min_px": 1.0, "radius_max_px": 10.0,
        },
    }  # fmt: skip
    arrays = {"pixels_THW": clip.pixels_THW, "mask_packed": np.packbits(clip.mask_HW)}
    save_arrays(tmp_path / "c", arrays, {"clip": json.dumps(head)})
    assert_equal(load_clip(tmp_path / "c"), clip)
    assert read_facts(tmp_path / "c").size_THW == (3, 13, 17)
    assert np.array_equal(read_middle_frame(tmp_path / "c"), clip.pixels_THW[1])


def test_facts_and_one_frame_need_no_other_frame(tmp_path: Path, clip: StoredClip) -> None:
    path = tmp_path / "c"
    save_clip(path, clip)
    facts, middle = read_facts(path), read_middle_frame(path)
    last = clip.pixels_THW[2].tobytes()
    whole = path.read_bytes()
    assert last in whole  # noise does not pack, so its bytes stand in the file
    path.write_bytes(whole.replace(last, bytes(len(last))))
    assert read_facts(path) == facts
    assert np.array_equal(read_middle_frame(path), middle)


@pytest.mark.parametrize("read", READERS)
def test_a_clip_of_a_later_release_is_refused(
    tmp_path: Path, clip: StoredClip, read: Reader
) -> None:
    save_clip(tmp_path / "c", clip)
    newer = (tmp_path / "c").read_bytes().replace(b'version\\": 2', b'version\\": 9')
    (tmp_path / "c").write_bytes(newer)
    with pytest.raises(EchoFedError) as caught:
        read(tmp_path / "c")
    assert caught.value.code is Code.CARD_NEWER


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("length", [0, 7, 100, -1])
def test_a_clip_that_was_cut_off_is_told(
    tmp_path: Path, clip: StoredClip, read: Reader, length: int
) -> None:
    save_clip(tmp_path / "c", clip)
    (tmp_path / "c").write_bytes((tmp_path / "c").read_bytes()[:length])
    with pytest.raises(EchoFedError) as caught:
        read(tmp_path / "c")
    assert caught.value.code is Code.CHECKPOINT_CORRUPT


@pytest.mark.parametrize("read", [load_clip, read_middle_frame])
def test_frames_that_do_not_unpack_are_told(tmp_path: Path, clip: StoredClip, read: Reader) -> None:
    save_clip(tmp_path / "c", clip)
    whole = (tmp_path / "c").read_bytes()
    magic = b"\x28\xb5\x2f\xfd"  # the first bytes of a Zstandard frame (RFC 8878)
    assert whole.count(magic) == 3
    (tmp_path / "c").write_bytes(whole.replace(magic, b"spam"))
    with pytest.raises(EchoFedError) as caught:
        read(tmp_path / "c")
    assert caught.value.code is Code.CHECKPOINT_CORRUPT
