"""The two commands on every real set: taken in, described, and pictures that show ultrasound."""

import base64
import io
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from site_client.cli import build_app
from site_client.store import SiteStore

RUNNER = CliRunner()
EXPECTED_DROPS = {"SECTOR_EMPTY", "TEXT_FOUND", "ALREADY_EXISTS", "MODE_UNWANTED"}
"""Some stills are spectra, some show words; a picture of CAMUS stands there twice."""
MODES = ["--set", "ingest.modes=[b_mode, colour]"]


@dataclass(frozen=True)
class RealSet:
    """What must come out.

    Args:
        layout: empty for DICOM.
        sample: files taken where not all are, and how many of them must become clips.
        num_files: files of the whole set.
        num_clips: that must come of them, of so many ``patients``.
        views: of all labels; None where they are many.
    """

    layout: str
    sample: tuple[int, int]
    num_files: int
    num_clips: int
    patients: int
    views: frozenset[str] | None


SETS = {
    "camus_a4c": RealSet("camus", (6, 6), 500, 480, 245, frozenset({"A4C"})),
    "camus_biplane": RealSet("camus", (4, 4), 8, 8, 2, frozenset({"A2C", "A4C"})),
    "tte47": RealSet("tte47", (8, 3), 24, 10, 10, None),
    "lung_pocus": RealSet("lung_pocus", (8, 6), 335, 310, 55, frozenset({"lung"})),
    "muscle_timtrack": RealSet("muscle_timtrack", (6, 4), 209, 190, 10, frozenset({"muscle"})),
    "fetal_hc18": RealSet("fetal_hc18", (6, 5), 125, 118, 118, frozenset({"fetal-head"})),
    "dicom_us": RealSet("", (11, 3), 11, 3, 2, frozenset()),
}


def thinned(folder: Path, target: Path, num_files: int) -> Path:
    """Links to evenly chosen pictures of a real set, and to its tables."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    pictures = [p for p in files if p.suffix != ".csv" and p.parent.name != "masks"]
    pictures = [path for path in pictures if "_gt" not in path.name]
    step = max(1, len(pictures) // num_files)
    beside = [path for path in files if path.parent.name == "masks"][:2]
    for path in [*pictures[::step][:num_files], *beside, *folder.glob("*.csv")]:
        link = target / path.relative_to(folder)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(path)
    return target


def document_of(*words: object) -> dict[str, Any]:
    result = RUNNER.invoke(build_app(), [*map(str, words), "--json"])
    assert result.exit_code == 0, result.output
    document: dict[str, Any] = json.loads(result.stdout)
    return document


def ingest_and_describe(
    folder: Path, name: str, home: Path
) -> tuple[dict[str, Any], dict[str, Any], str]:
    """What both commands tell, and the page."""
    document_of("init", "--standalone", home)
    layout = ["--layout", SETS[name].layout] if SETS[name].layout else []
    config = ["--config", home / "site.yaml"]
    report = document_of("ingest", folder, "--dataset", name, *layout, *MODES, *config)
    sheet = document_of("describe", name, "--html", home / "sheet.html", *config)
    return report, sheet, (home / "sheet.html").read_text("utf-8")


def assert_told_right(name: str, report: dict[str, Any], sheet: dict[str, Any]) -> None:
    """Counts fit together; no count of few patients is told; labels mean what they should."""
    real = SETS[name]
    assert report["dropped"].keys() <= EXPECTED_DROPS
    assert report["ingested"] + sum(report["dropped"].values()) == report["files"]
    assert sum(report["clips"].values()) == report["ingested"]
    total, minimum = sheet["total"], sheet["minimum_patients"]
    if total["clips"] is not None:
        assert (total["clips"], total["frames"]) == (report["ingested"], report["frames"])
    for kind in ("splits", "labels", "views", "picture_sizes", "sectors", "fan_shapes"):
        for row in sheet[kind].values():
            assert row["clips"] is None or row["patients"] == 0 or row["patients"] >= minimum
    views = {view for row in sheet["labels"].values() for view in row["views"]}
    assert real.views in (None, views)
    assert sheet["licence"] or not real.layout


def assert_pictures_are_right(store: SiteStore, name: str) -> None:
    """Tissue inside the mask and nothing outside, the mask inside the picture, in every clip."""
    for record in store.manifest(name).clips:
        clip = store.clip(name, record)
        assert clip.mask_HW is not None
        assert clip.mask_HW.shape == clip.pixels_THW.shape[1:]
        assert not clip.pixels_THW[:, ~clip.mask_HW].any()
        assert clip.pixels_THW[:, clip.mask_HW].mean() > 10
        assert clip.mask_HW.mean() > 0.04
        if clip.fan is not None:
            middle_deg = (clip.fan.angle_min_deg + clip.fan.angle_max_deg) / 2
            depth_px = (clip.fan.radius_min_px + clip.fan.radius_max_px) / 2
            row = clip.fan.apex_rc[0] + depth_px * np.cos(np.radians(middle_deg))
            column = clip.fan.apex_rc[1] + depth_px * np.sin(np.radians(middle_deg))
            assert clip.mask_HW[round(row), round(column)]


def assert_page_shows_them(store: SiteStore, name: str, page: str) -> None:
    """A thumbnail of up to three patients of each label, none of them blank or without detail."""
    patients: dict[str, set[str]] = {}
    for record in store.manifest(name).clips:
        patients.setdefault(record.label, set()).add(record.patient)
    pictures = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    assert len(pictures) == sum(min(3, len(keys)) for keys in patients.values())
    for picture in pictures:
        shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(picture))), dtype=np.float64)
        assert max(shown.shape) <= 180
        assert shown.std() > 5
        assert len(np.unique(shown)) > 30
        assert (shown > 16).mean() > 0.02


@pytest.mark.parametrize("name", SETS)
def test_some_of_every_real_set_are_ingested_and_described(
    name: str, tmp_path: Path, real_data: Path
) -> None:
    num_files, num_clips = SETS[name].sample
    folder = thinned(real_data / name, tmp_path / "real", num_files)
    report, sheet, page = ingest_and_describe(folder, name, tmp_path / "site")
    assert report["files"] == num_files
    assert report["ingested"] >= num_clips
    assert_told_right(name, report, sheet)
    store = SiteStore(tmp_path / "site")
    assert_pictures_are_right(store, name)
    assert_page_shows_them(store, name, page)


@pytest.mark.slow
@pytest.mark.parametrize("name", SETS)
def test_every_real_set_is_ingested_and_described(
    name: str, tmp_path: Path, real_data: Path
) -> None:
    real, home = SETS[name], tmp_path / "site"
    report, sheet, page = ingest_and_describe(real_data / name, name, home)
    assert report["files"] == real.num_files
    assert report["ingested"] >= real.num_clips
    assert sum(report["patients"].values()) >= real.patients
    assert_told_right(name, report, sheet)
    assert_pictures_are_right(SiteStore(home), name)
    assert_page_shows_them(SiteStore(home), name, page)
    layout = ["--layout", real.layout] if real.layout else []
    config = ["--config", home / "site.yaml"]
    again = document_of("ingest", real_data / name, "--dataset", name, *layout, *MODES, *config)
    assert not again["changed"]
    assert again["known"] == report["ingested"] + report["copies"]
