"""Ingest damaged DICOM files and write tests/bench/fuzz.csv: what became of them, and how fast.

    python tests/bench/measure_fuzz.py --count 5000 [--out FILE]

The mutants are made of one fan in every form and, where ECHOFED_REAL_DATA is set, of the real
files in its dicom_us (a fifth of the mutants). They are ingested in batches by a child process that
is watched: one that says nothing for a while hangs, one that dies has crashed.
"""

import argparse
import csv
import multiprocessing
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from shared.errors import EchoFedError
from shared.testing.forms import forms
from shared.testing.mutants import mutant
from site_client.ingest import IngestRequest, ingest
from site_client.settings import IngestSettings
from site_client.store import SiteStore

SEED = 20240715
REAL_SHARE = 0.2
BATCH = 250
LIMIT_S = 20.0
"""A file that takes longer hangs; the longest honest one of the seeds takes a fraction."""
COLUMNS = ("origin", "what", "value", "files", "machine", "commit")


@dataclass
class Outcome:
    """What became of the mutants of one origin.

    Attributes:
        codes: number of files by the code that refused them; "ingested" where none did.
        lost: crashes and hangs, with what had damaged the file.
        partial: clips on disk that no manifest names, or that do not load.
    """

    codes: Counter[str] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)
    partial: int = 0
    slowest_ms: float = 0.0
    peak_mib: float = 0.0

    def rows(self) -> list[tuple[str, float]]:
        """Names and values, counts first."""
        counts = [(name, float(count)) for name, count in sorted(self.codes.items())]
        return [
            *counts,
            ("crashed or hung", float(len(self.lost))),
            ("partial records", float(self.partial)),
            ("slowest file ms", round(self.slowest_ms, 1)),
            ("peak memory MiB", round(self.peak_mib)),
        ]


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("fuzz.csv"))
    arguments = parser.parse_args()
    real = Path(os.environ.get("ECHOFED_REAL_DATA", "")) / "dicom_us"
    real_files = [path.read_bytes() for path in sorted(real.glob("*.dcm"))]
    num_real = int(arguments.count * REAL_SHARE) if real_files else 0
    found = {"phantom": fuzz(list(forms().values()), arguments.count - num_real)}
    if num_real:
        found["real"] = fuzz(real_files, num_real)
    with arguments.out.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(COLUMNS)
        for origin, outcome in found.items():
            files = sum(outcome.codes.values()) + len(outcome.lost)
            for what, value in outcome.rows():
                table.writerow([origin, what, value, files, _machine(), _commit()])
    for origin, outcome in found.items():
        sys.stdout.write(f"{origin} {dict(outcome.rows())} {outcome.lost}\n")


def fuzz(seeds: list[bytes], count: int) -> Outcome:
    """Make mutants of the files and ingest them, batch by batch."""
    generator = np.random.default_rng(SEED)
    outcome = Outcome()
    for start in range(0, count, BATCH):
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            (root / "in").mkdir()
            for place in range(min(BATCH, count - start)):
                name, data = mutant(seeds, generator)
                (root / "in" / f"{place:04d}-{name}.dcm").write_bytes(data)
            _ingest_all(root, outcome)
    return outcome


def _ingest_all(root: Path, outcome: Outcome) -> None:
    """Ingest a folder; a file that kills the child is counted, taken out, and the rest goes on."""
    while True:
        files = sorted((root / "in").iterdir())
        if not files:
            return
        context = multiprocessing.get_context("spawn")
        parent, child = context.Pipe()
        process = context.Process(target=_child, args=(root, child))
        process.start()
        child.close()
        num_done, report = _watch(parent, outcome)
        process.kill()
        process.join()
        if report is not None:
            outcome.codes.update(report["codes"])
            outcome.partial += report["partial"]
            outcome.peak_mib = max(outcome.peak_mib, report["peak_mib"])
            return
        outcome.lost.append(files[num_done].stem)
        files[num_done].unlink()


def _watch(parent: Connection, outcome: Outcome) -> tuple[int, dict | None]:
    """How many files the child finished, and its report; None where it died or fell silent."""
    num_done, patience_s = 0, 60.0  # the first sign comes after its imports
    try:
        while parent.poll(patience_s):
            message = parent.recv()
            if isinstance(message, dict):
                return num_done, message
            num_done, patience_s = num_done + 1, LIMIT_S
            outcome.slowest_ms = max(outcome.slowest_ms, message)
    except EOFError:
        pass
    return num_done, None


def _child(root: Path, connection: Connection) -> None:
    store = SiteStore(root / "site")
    store.create_key()
    settings = IngestSettings(modes=("b_mode", "colour", "spectral", "m_mode"))
    request = IngestRequest(dataset="fuzz", site="north", origin="real")
    last = time.perf_counter()

    def advance(units: int, note: str) -> None:
        nonlocal last
        now = time.perf_counter()
        connection.send((now - last) * 1000)
        last = now

    def show(num_files: int) -> AbstractContextManager[Callable[[int, str], None]]:
        return nullcontext(advance)

    files = sorted((root / "in").iterdir())
    try:
        report = ingest(root / "in", store, request, settings, now=datetime.now(UTC), show=show)
        codes = Counter(drop.code for drop in report.dropped)
        codes["ingested"] = len(report.manifest.clips)
        partial = _num_partial(store)
    except EchoFedError as error:  # not one of the files was good
        codes, partial = Counter({error.code.name: len(files)}), len(store.datasets())
    connection.send({"codes": codes, "partial": partial, "peak_mib": _peak_mib()})


def _num_partial(store: SiteStore) -> int:
    """Clips on disk beside those of the manifest, and those of the manifest that do not load."""
    manifest = store.manifest("fuzz")
    named = {store.dataset_folder("fuzz") / record.file for record in manifest.clips}
    on_disk = {
        path for path in (store.dataset_folder("fuzz") / "clips").rglob("*") if path.is_file()
    }
    num_bad = 0
    for record in manifest.clips:
        clip = store.clip("fuzz", record)
        num_bad += len(clip.pixels_THW) != record.num_frames
    return len(on_disk ^ named) + num_bad


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
