"""Damaged files end in a code, whatever they are: no crash, no hang, no partial record."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "bench" / "measure_fuzz.py"
REFUSED = {
    "DATA_UNREADABLE", "PIXELS_MISSING", "FRAMES_MISSING", "SECTOR_EMPTY", "ALREADY_EXISTS",
    "NOTHING_INGESTED", "TEXT_FOUND",
}  # fmt: skip
MAX_MIB = 1024


def fuzz(tmp_path: Path, count: int) -> dict[str, dict[str, float]]:
    """What the script that measures the figures writes, by origin."""
    command = [sys.executable, str(SCRIPT), "--count", str(count), "--out", str(tmp_path / "f.csv")]
    subprocess.run(command, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    found: dict[str, dict[str, float]] = {}
    with (tmp_path / "f.csv").open() as file:
        for row in csv.DictReader(file):
            found.setdefault(row["origin"], {})[row["what"]] = float(row["value"])
    return found


def assert_refused_or_read(found: dict[str, float]) -> None:
    assert found.pop("crashed or hung") == 0
    assert found.pop("partial records") == 0
    assert found.pop("peak memory MiB") < MAX_MIB
    assert found.pop("slowest file ms") < 20_000
    assert set(found) <= REFUSED | {"ingested"}
    assert sum(count for name, count in found.items() if name != "ingested") > found["ingested"]


def test_a_few_damaged_files_are_refused_with_a_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ECHOFED_REAL_DATA", raising=False)
    assert_refused_or_read(fuzz(tmp_path, 150)["phantom"])


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_five_thousand_damaged_files_are_refused_with_a_code(tmp_path: Path) -> None:
    found = fuzz(tmp_path, 5000)
    assert set(found) == {"phantom"} | ({"real"} if os.environ.get("ECHOFED_REAL_DATA") else set())
    for counts in found.values():
        assert_refused_or_read(counts)
