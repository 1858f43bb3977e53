"""Videos are read as they were drawn; what is damaged or no video is refused without its name."""

import io
import tracemalloc
from contextlib import suppress
from pathlib import Path

import av
import numpy as np
import pytest

from shared.errors import Code, EchoFedError
from site_client.datasets import SOURCES, video

SOURCE = SOURCES["video"]
LEVELS = (0, 64, 128, 200, 255)


def filmed(
    frames_THW: np.ndarray, container: str = "avi", codec: str = "mjpeg", rate: int = 25
) -> bytes:
    stream = io.BytesIO()
    with av.open(stream, "w", format=container) as file:
        track = file.add_stream(codec, rate=rate)
        track.height, track.width = frames_THW.shape[1:]
        track.pix_fmt = {"mjpeg": "yuvj420p"}.get(codec, "yuv420p")
        track.options = {"qmin": "1", "qmax": "2"}
        for grey in frames_THW:
            rgb = np.repeat(grey[..., None], 3, axis=-1)
            file.mux(track.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))
        file.mux(track.encode())
    return stream.getvalue()


def steps(num_frames: int = len(LEVELS), size_HW: tuple[int, int] = (48, 64)) -> np.ndarray:
    levels = np.resize(np.array(LEVELS, np.uint8), num_frames)
    return np.broadcast_to(levels[:, None, None], (num_frames, *size_HW)).copy()


@pytest.mark.parametrize(
    ("container", "codec"), [("avi", "mjpeg"), ("avi", "mpeg4"), ("mp4", "mpeg4")]
)
def test_grey_levels_and_frame_time_survive(container: str, codec: str) -> None:
    clip = SOURCE.open(filmed(steps(), container, codec)).clip()
    assert clip.pixels_THW.shape == (5, 48, 64)
    np.testing.assert_allclose(clip.pixels_THW.mean(axis=(1, 2)), LEVELS, atol=3)
    assert clip.frame_time_ms == pytest.approx(40.0)
    assert clip.mm_per_pixel is None
    assert clip.regions == ()


def test_rows_run_down_and_columns_to_the_right() -> None:
    frames = np.zeros((2, 48, 64), np.uint8)
    frames[:, :24, :32] = 200
    read = SOURCE.open(filmed(frames)).clip().pixels_THW[0]
    assert read[:20, :28].mean() > 190
    assert read[28:].mean() < 5
    assert read[:, 36:].mean() < 5


def test_every_video_is_a_patient_of_its_own() -> None:
    one, other = filmed(steps()), filmed(steps(4))
    assert SOURCE.open(one).header().patient == SOURCE.open(one).header().patient
    assert SOURCE.open(one).header().patient != SOURCE.open(other).header().patient


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.8])
@pytest.mark.parametrize("container", ["avi", "mp4"])
def test_a_video_that_is_cut_off_is_refused(container: str, share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (20, 48, 64), np.uint8)
    whole = filmed(noise, container, "mpeg4")
    with pytest.raises(EchoFedError) as caught:
        SOURCE.open(whole[: int(share * len(whole))]).clip()
    assert caught.value.code in {Code.DATA_UNREADABLE, Code.FRAMES_MISSING}


@pytest.mark.parametrize("seed", range(20))
def test_a_damaged_video_is_read_or_refused(seed: int) -> None:
    generator = np.random.default_rng(seed)
    data = bytearray(filmed(steps(), "mp4" if seed % 2 else "avi", "mpeg4"))
    for place in generator.integers(0, len(data), 12):
        data[place] = generator.integers(256)
    with suppress(EchoFedError):
        SOURCE.open(bytes(data)).clip()


def test_a_playlist_in_disguise_reads_no_other_file(tmp_path: Path) -> None:
    other = tmp_path / "other.avi"
    other.write_bytes(filmed(steps()))
    playlist = f"ffconcat version 1.0\nfile '{other}'\n".encode()
    with pytest.raises(EchoFedError) as caught:
        SOURCE.open(playlist).clip()
    assert caught.value.code is Code.DATA_UNREADABLE


def test_what_claims_too_many_pixels_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video, "MAX_BYTES", 4 * 48 * 64)
    with pytest.raises(EchoFedError, match="more pixels"):
        SOURCE.open(filmed(steps())).clip()


def test_memory_grows_by_the_grey_pixels_alone() -> None:
    data = filmed(steps(150, (240, 320)))
    tracemalloc.start()
    try:
        pixels = SOURCE.open(data).clip().pixels_THW
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert pixels.nbytes <= peak < 2 * pixels.nbytes


def test_files_are_told_by_their_suffix() -> None:
    assert SOURCE.recognises(Path("a.AVI"))
    assert SOURCE.recognises(Path("a.mp4"))
    assert not SOURCE.recognises(Path("a.png"))
