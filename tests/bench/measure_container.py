"""Measure containers of clips: python tests/bench/measure_container.py writes container.csv.

Clips are as ingest stores them, de-identified with the sector kept. Real ones come from
``ECHOFED_REAL_DATA``; without that folder their rows are left out. Times are of the processor:
files lie in the page cache and are not forced to the disk. Takes under two minutes.
"""

import csv
import io
import os
import platform
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import av
import numpy as np
import zstandard
from numpy.typing import NDArray
from PIL import Image
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from shared.errors import EchoFedError
from shared.phantom.anatomy import draw_heart
from shared.phantom.scanner import SCANNERS, render_clip
from shared.seeding import numpy_generator
from site_client.clip_file import StoredClip, load_clip, pack_clip, read_middle_frame
from site_client.datasets import SOURCES
from site_client.deidentify import deidentify

Pixels = NDArray[np.uint8]
OUT = Path(__file__).with_name("container.csv")
TURNS = 3  # of which the middle time counts
CAMUS_OPEN = range(1, 41)  # patients 201-250 are the test part


@dataclass(frozen=True)
class Container:
    """A way to keep a clip in a folder."""

    write: Callable[[Path, Pixels], None]
    read: Callable[[Path], Pixels]
    read_one: Callable[[Path, int], Pixels]


def whole(unpack: Callable[[Path], Pixels]) -> Callable[[Path, int], Pixels]:
    return lambda folder, place: unpack(folder)[place]


def write_safetensors(folder: Path, pixels_THW: Pixels) -> None:
    save_file({"pixels_THW": pixels_THW}, folder / "c")


def read_slice(folder: Path, place: int) -> Pixels:
    with safe_open(folder / "c", "numpy") as file:
        frame: Pixels = file.get_slice("pixels_THW")[place : place + 1][0]
    return frame


def write_cropped(folder: Path, pixels_THW: Pixels) -> None:
    """The smallest box around what is not black."""
    rows, columns = (np.flatnonzero(pixels_THW.any(axis=axes)) for axes in ((0, 2), (0, 1)))
    box = (rows[0], rows[-1] + 1, columns[0], columns[-1] + 1)
    inside = np.ascontiguousarray(pixels_THW[:, box[0] : box[1], box[2] : box[3]])
    place = np.array([*pixels_THW.shape, *box])
    save_file({"pixels_THW": inside, "place": place}, folder / "c")


def read_cropped(folder: Path) -> Pixels:
    arrays = load_file(folder / "c")
    frames, height, width, top, bottom, left, right = arrays["place"]
    pixels_THW = np.zeros((frames, height, width), dtype=np.uint8)
    pixels_THW[:, top:bottom, left:right] = arrays["pixels_THW"]
    return pixels_THW


def in_frames(pack: Callable[[bytes], bytes], unpack: Callable[[bytes], bytes]) -> Container:
    """Every frame packed for itself, one after the other, with their ends in front."""

    def write(folder: Path, pixels_THW: Pixels) -> None:
        packed = [pack(frame.tobytes()) for frame in pixels_THW]
        head = np.array([*pixels_THW.shape, *np.cumsum([len(p) for p in packed])], dtype="<i8")
        (folder / "c").write_bytes(head.tobytes() + b"".join(packed))

    def frames(folder: Path, places: range | None) -> Pixels:
        data = memoryview((folder / "c").read_bytes())
        num, height, width = np.frombuffer(data[:24], dtype="<i8")
        bounds = np.frombuffer(data[24 : 24 + 8 * num], dtype="<i8")
        body = data[24 + 8 * num :]
        chosen = places or range(num)
        pixels_THW = np.empty((len(chosen), height, width), dtype=np.uint8)
        for row, place in enumerate(chosen):
            start = bounds[place - 1] if place else 0
            raw = unpack(bytes(body[start : bounds[place]]))
            pixels_THW[row] = np.frombuffer(raw, np.uint8).reshape(height, width)
        return pixels_THW

    return Container(
        write,
        lambda folder: frames(folder, None),
        lambda folder, place: frames(folder, range(place, place + 1))[0],
    )


def pictures(kind: str, **options: object) -> Container:
    """One picture a frame."""

    def write(folder: Path, pixels_THW: Pixels) -> None:
        for place, frame in enumerate(pixels_THW):
            Image.fromarray(frame).save(folder / f"{place:05d}", kind, **options)

    def read_one(folder: Path, place: int) -> Pixels:
        return np.asarray(Image.open(folder / f"{place:05d}").convert("L"))

    def read(folder: Path) -> Pixels:
        return np.stack([read_one(folder, place) for place in range(len(os.listdir(folder)))])

    return Container(write, read, read_one)


def write_ffv1(folder: Path, pixels_THW: Pixels) -> None:
    with av.open(str(folder / "c.mkv"), "w") as file:
        track = file.add_stream("ffv1", rate=30, options={"level": "3", "threads": "1"})
        track.height, track.width, track.pix_fmt = *pixels_THW.shape[1:], "gray"
        for frame in pixels_THW:
            file.mux(track.encode(av.VideoFrame.from_ndarray(frame, format="gray")))
        file.mux(track.encode())


def read_ffv1(folder: Path) -> Pixels:
    with av.open(str(folder / "c.mkv")) as file:
        return np.stack([frame.to_ndarray(format="gray") for frame in file.decode(video=0)])


def read_npz(folder: Path) -> Pixels:
    with np.load(folder / "c.npz") as file:
        return file["pixels_THW"]


def read_npy(folder: Path) -> Pixels:
    return np.load(folder / "c.npy")


def as_file(folder: Path, clip: StoredClip) -> None:
    (folder / "c").write_bytes(pack_clip(clip))


def containers() -> dict[str, Container]:
    return {
        "stored: zstd 1 a frame, in safetensors": Container(
            lambda folder, pixels: as_file(folder, StoredClip(pixels, None, None, None)),
            lambda folder: load_clip(folder / "c").pixels_THW,
            lambda folder, place: read_middle_frame(folder / "c"),
        ),
        "zstd 3 a frame, one file": in_frames(
            zstandard.ZstdCompressor(level=3).compress, zstandard.ZstdDecompressor().decompress
        ),
        "frames as they are, in safetensors": Container(
            write_safetensors, lambda folder: load_file(folder / "c")["pixels_THW"], read_slice
        ),
        "cropped to the sector, in safetensors": Container(
            write_cropped, read_cropped, whole(read_cropped)
        ),
        "npy a clip": Container(
            lambda folder, pixels: np.save(folder / "c.npy", pixels),
            read_npy,
            lambda folder, place: np.load(folder / "c.npy", mmap_mode="r")[place].copy(),
        ),
        "npz a clip": Container(
            lambda folder, pixels: np.savez_compressed(folder / "c.npz", pixels_THW=pixels),
            read_npz,
            whole(read_npz),
        ),
        "zlib 1 a frame, one file": in_frames(lambda raw: zlib.compress(raw, 1), zlib.decompress),
        "PNG 1 a frame": pictures("PNG", compress_level=1),
        "PNG 6 a frame": pictures("PNG", compress_level=6),
        "FFV1 a clip": Container(write_ffv1, read_ffv1, whole(read_ffv1)),
    }


def phantom_clips() -> Iterator[tuple[str, Pixels]]:
    for size_HW, num_frames in (((600, 800), 12), ((240, 320), 30), ((240, 320), 1)):
        for scanner in ("aurora", "borealis", "delta"):
            generator = numpy_generator(91, "measure container", scanner, size_HW[0], num_frames)
            clip = render_clip(
                draw_heart(generator), "A4C", SCANNERS[scanner],
                num_frames=num_frames, size_HW=size_HW, rng=generator,
            )  # fmt: skip
            form = "cine" if num_frames > 1 else "still"
            yield f"phantom {form} {size_HW[0]}x{size_HW[1]}", clip.pixels_THW


def real_clips(folder: Path) -> Iterator[tuple[str, Pixels]]:
    for path in sorted((folder / "dicom_us").glob("*.dcm")):
        if (pixels_THW := as_stored("dicom", path)) is not None:
            yield "dicom_us " + ("cine" if len(pixels_THW) > 1 else "stills"), pixels_THW
    for path in sorted((folder / "tte47").glob("*.png")):
        if (pixels_THW := as_stored("images", path)) is not None:
            yield "tte47 stills", pixels_THW
    for patient in CAMUS_OPEN:
        path = folder / "camus_a4c/images" / f"patient{patient:04d}_4CH_ED.png"
        if (pixels_THW := as_stored("cropped-images", path)) is not None:
            yield "camus_a4c stills", pixels_THW


def as_stored(source: str, path: Path) -> Pixels | None:
    """De-identified; None where no sector is found."""
    reader = SOURCES[source]
    try:
        clip = deidentify(reader.open(reader.read(path)).clip(), "sector")
    except EchoFedError:
        return None
    return np.ascontiguousarray(clip.pixels_THW)


@dataclass
class Sum:
    frames: int = 0
    clips: int = 0
    size: int = 0
    write_s: float = 0.0
    read_s: float = 0.0
    one_s: float = 0.0


def timed(action: Callable[[], object]) -> float:
    times = []
    for _ in range(TURNS):
        start = time.process_time()
        action()
        times.append(time.process_time() - start)
    return median(times)


def measure(container: Container, pixels_THW: Pixels, total: Sum) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        middle = len(pixels_THW) // 2
        total.write_s += timed(lambda: container.write(folder, pixels_THW))
        assert np.array_equal(container.read(folder), pixels_THW)
        assert np.array_equal(container.read_one(folder, middle), pixels_THW[middle])
        total.read_s += timed(lambda: container.read(folder))
        total.one_s += timed(lambda: container.read_one(folder, middle))
        total.size += sum(path.stat().st_size for path in folder.iterdir())
    total.frames += len(pixels_THW)
    total.clips += 1


def main() -> None:
    clips = list(phantom_clips())
    if real := os.environ.get("ECHOFED_REAL_DATA", ""):
        clips += real_clips(Path(real))
    sums: dict[tuple[str, str], Sum] = {}
    for what, pixels_THW in clips:
        for name, container in containers().items():
            measure(container, pixels_THW, sums.setdefault((what, name), Sum()))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 30
    machine = f"{platform.machine()} {os.cpu_count()} cores {memory} GiB"
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True
    ).stdout.strip()
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(
        ["set", "container", "clips", "frames", "bytes_a_frame", "written_frames_s",
         "read_frames_s", "one_frame_ms", "machine", "commit"]
    )  # fmt: skip
    for (what, name), one in sums.items():
        writer.writerow(
            [what, name, one.clips, one.frames, round(one.size / one.frames),
             round(one.frames / one.write_s), round(one.frames / one.read_s),
             round(1000 * one.one_s / one.clips, 2), machine, commit]
        )  # fmt: skip
    OUT.write_text(buffer.getvalue())
    sys.stdout.write(buffer.getvalue())


if __name__ == "__main__":
    main()
