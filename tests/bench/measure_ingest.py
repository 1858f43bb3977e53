"""Measure reading and ingest and write tests/bench/ingest.csv.

    python tests/bench/measure_ingest.py [--files 10000] [--out FILE]

Every ratio is of CPU seconds against pydicom's own decoding of the same files in the same run, one
thread each: ``get_decoder(...).as_array(dataset)``, once raw (as stored) and once as it comes
(colours as RGB); above 1 is faster than pydicom. Of files that are not compressed its decoding is a
copy. Ingest is all of it: de-identification, sector, storing. CPU seconds, because other work on
the machine does not change them; ingest's frames a second by the clock stand beside them.
"""

import argparse
import csv
import io
import multiprocessing
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from PIL import Image
from pydicom import dcmread
from pydicom.encaps import encapsulate
from pydicom.pixels import get_decoder
from pydicom.uid import JPEG2000Lossless, JPEGBaseline8Bit, RLELossless

from shared.testing.dicom import build_dicom, build_region, speckled_fan
from site_client.datasets.dicom import SOURCE
from site_client.ingest import IngestRequest, ingest
from site_client.settings import IngestSettings
from site_client.store import SiteStore

SIZE = (600, 800)
FRAMES = 40
REPEATS = 5
TIMES = ("raw", "shown", "reader", "ingest", "clock", "frames")
REQUEST = IngestRequest(dataset="bench", site="north", origin="phantom")
COLUMNS = ("what", "subject", "value", "machine", "commit")


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("ingest.csv"))
    arguments = parser.parse_args()
    made = {subject: speeds(files) for subject, files in subjects().items()}
    made["all of these"] = {what: sum(times[what] for times in made.values()) for what in TIMES}
    rows = [row for subject, times in made.items() for row in ratios(subject, times)]
    for count in sorted({arguments.files // 10, arguments.files}):
        seconds, peak_mib = in_child(small_files, count)
        rows.append(("small files: peak memory MiB", str(count), round(peak_mib)))
        rows.append(("small files: seconds", str(count), round(seconds, 1)))
    with arguments.out.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(COLUMNS)
        for row in rows:
            table.writerow([*row, _machine(), _commit()])
            sys.stdout.write(" ".join(map(str, row)) + "\n")


def subjects() -> dict[str, list[bytes]]:
    """Files by kind: cines and stills at 600x800, and the real ones where they are."""
    elements = {"SequenceOfUltrasoundRegions": [build_region((20, 10, 590, 790))], "FrameTime": 33}
    fan = smooth(speckled_fan(SIZE, FRAMES, 1))
    rgb = np.repeat(fan[..., None], 3, axis=-1)
    made = {
        "uncompressed cine": [build_dicom(fan, elements=elements)],
        "uncompressed RGB cine": [build_dicom(rgb, colour="RGB", elements=elements)],
        "uncompressed stills": [build_dicom(fan[[k]], elements=elements) for k in range(10)],
        "RLE cine": [build_dicom(fan[:10], syntax=RLELossless, elements=elements)],
        "JPEG 2000 cine": [build_dicom(fan[:10], syntax=JPEG2000Lossless, elements=elements)],
        "JPEG cine, grey": [jpeg_cine(fan, fan, "MONOCHROME2", elements)],
        "JPEG cine, colour": [jpeg_cine(rgb, rgb, "YBR_FULL_422", elements)],
    }
    real = Path(os.environ.get("ECHOFED_REAL_DATA", "")) / "dicom_us"
    files = [path.read_bytes() for path in sorted(real.glob("*.dcm"))]
    return made | ({"real files": files} if files else {})


def smooth(fan: np.ndarray) -> np.ndarray:
    """Speckle as wide as a scanner's, so that compression has something to do."""
    return ((fan + np.roll(fan, 1, axis=2) // 2 + np.roll(fan, 2, axis=2) // 2) // 2).astype(
        np.uint8
    )


def jpeg_cine(frames: np.ndarray, like: np.ndarray, colour: str, elements: dict) -> bytes:
    """A cine in JPEG baseline."""
    codes = []
    for frame in frames:
        stream = io.BytesIO()
        options = {"subsampling": "4:2:2"} if frame.ndim == 3 else {}
        Image.fromarray(frame).save(stream, "JPEG", quality=90, **options)
        codes.append(stream.getvalue())
    dataset = dcmread(io.BytesIO(build_dicom(like, colour=colour, elements=elements)))
    dataset.PixelData = encapsulate(codes)
    dataset["PixelData"].VR, dataset["PixelData"].is_undefined_length = "OB", True
    dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    stream = io.BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def speeds(files: list[bytes]) -> dict[str, float]:
    """Number of frames, and the seconds that pydicom, the reader and ingest take for them."""
    with tempfile.TemporaryDirectory() as folder:
        for place, data in enumerate(files):
            (Path(folder) / f"{place:03d}.dcm").write_bytes(data)
        paths = sorted(Path(folder).iterdir())
        works: dict[str, Callable[[], object]] = {
            "raw": lambda: [decode(path, raw=True) for path in paths],
            "shown": lambda: [decode(path, raw=False) for path in paths],
            "reader": lambda: [read(path) for path in paths],
            "ingest": lambda: ingest_folder(Path(folder)),
        }
        times = {name: best(work, time.process_time) for name, work in works.items()}
        times["clock"] = best(works["ingest"], time.perf_counter)
        return times | {"frames": sum(len(read(path)) for path in paths)}


def ratios(subject: str, times: dict[str, float]) -> list[tuple[str, str, float]]:
    """Rows of the table."""
    return [
        ("reader by pydicom as stored", subject, round(times["raw"] / times["reader"], 2)),
        ("reader by pydicom as it comes", subject, round(times["shown"] / times["reader"], 2)),
        ("ingest by pydicom as stored", subject, round(times["raw"] / times["ingest"], 2)),
        ("ingest by pydicom as it comes", subject, round(times["shown"] / times["ingest"], 2)),
        ("reader: frames a CPU second", subject, round(times["frames"] / times["reader"], 1)),
        ("ingest: frames a CPU second", subject, round(times["frames"] / times["ingest"], 1)),
        ("ingest: frames a second", subject, round(times["frames"] / times["clock"], 1)),
    ]


def decode(path: Path, *, raw: bool) -> np.ndarray:
    """Pixels by pydicom alone."""
    dataset = dcmread(path)
    return get_decoder(dataset.file_meta.TransferSyntaxUID).as_array(dataset, raw=raw)[0]


def read(path: Path) -> np.ndarray:
    """Pixels by the reader."""
    return SOURCE.open(SOURCE.read(path)).clip().pixels_THW


def ingest_folder(folder: Path) -> None:
    """The whole way, into a site of its own."""
    with tempfile.TemporaryDirectory() as root:
        store = SiteStore(Path(root))
        store.create_key()
        settings = IngestSettings(modes=("b_mode", "colour", "spectral", "m_mode"))
        ingest(folder, store, REQUEST, settings, now=datetime.now(UTC))


def best(work: Callable[[], object], clock: Callable[[], float]) -> float:
    """Seconds of the fastest of a few runs."""
    seconds = []
    for _ in range(REPEATS):
        start = clock()
        work()
        seconds.append(clock() - start)
    return min(seconds)


def small_files(count: int, connection: object) -> None:
    """Ingest many small files and send seconds and peak memory."""
    with tempfile.TemporaryDirectory() as folder:
        for place in range(count):
            elements = {"PatientID": f"MRN{place // 5}"}
            data = build_dicom(speckled_fan((48, 64), 1, place), elements=elements)
            (Path(folder) / f"{place:05d}.dcm").write_bytes(data)
        start = time.perf_counter()
        ingest_folder(Path(folder))
        seconds = time.perf_counter() - start
    connection.send((seconds, _peak_mib()))  # type: ignore[attr-defined]


def in_child(work: Callable[..., None], count: int) -> tuple[float, float]:
    """Run in a process of its own, so that its peak memory is its own."""
    context = multiprocessing.get_context("spawn")
    parent, child = context.Pipe()
    process = context.Process(target=work, args=(count, child))
    process.start()
    seconds, peak_mib = parent.recv()
    process.join()
    return seconds, peak_mib


def _peak_mib() -> float:
    """Most memory that this process has held; rusage would count its parent's too."""
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024


def _machine() -> str:
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{platform.machine()} {os.cpu_count()} cores {memory_gib:.0f} GiB"


def _commit() -> str:
    command = ["git", "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


if __name__ == "__main__":
    main()
