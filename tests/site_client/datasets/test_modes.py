"""What a clip shows is told by its regions, else by its pixels; the operator's choice is kept."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from shared.echo.detection import detect_sector
from shared.phantom.hospital import HospitalSpec, write_hospital
from shared.phantom.scanner import SCANNERS
from shared.testing.dicom import build_dicom, build_region, speckled_fan
from site_client.datasets import SOURCES
from site_client.datasets.dicom import SOURCE
from site_client.datasets.modes import mode_of
from site_client.datasets.raw import Mode, RawClip

SIZE = (120, 160)


def seen_in(clip: RawClip) -> Mode:
    return mode_of(clip, detect_sector(clip.pixels_THW, clip.regions[0] if clip.regions else None))


def coloured(seed: int, patch: tuple[int, int, int] | None, tint: tuple[float, ...]) -> bytes:
    """A fan in RGB on a tinted grey map, with a coloured patch or without, untold by tags."""
    rgb = speckled_fan(SIZE, 2, seed)[..., None] * np.array(tint)
    if patch:
        rgb[:, 50:70, 70:90] = patch
    return build_dicom(rgb.astype(np.uint8), colour="RGB")


@pytest.mark.parametrize("tint", [(1, 1, 1), (1, 0.85, 0.45), (0.6, 0.9, 1)])
def test_flow_is_seen_on_every_grey_map_and_a_tint_is_no_flow(
    seed: int, tint: tuple[float, ...]
) -> None:
    assert seen_in(SOURCE.open(coloured(seed, None, tint)).clip()) == "b_mode"
    for patch in ((220, 40, 0), (0, 60, 230)):
        assert seen_in(SOURCE.open(coloured(seed, patch, tint)).clip()) == "colour"


def test_flow_is_seen_in_a_late_frame(seed: int) -> None:
    rgb = np.repeat(speckled_fan(SIZE, 8, seed)[..., None], 3, axis=-1)
    rgb[4:, 50:70, 70:90] = (220, 40, 0)
    assert seen_in(SOURCE.open(build_dicom(rgb, colour="RGB")).clip()) == "colour"


def test_coloured_furniture_is_no_flow(seed: int) -> None:
    rgb = np.repeat(speckled_fan(SIZE, 1, seed)[..., None], 3, axis=-1)
    rgb[:, 60, 60:100] = (0, 255, 0)
    rgb[:, 5:20, 140:158] = (255, 0, 0)
    assert seen_in(SOURCE.open(build_dicom(rgb, colour="RGB")).clip()) == "b_mode"


@pytest.mark.parametrize(
    ("spatial", "kind", "mode"),
    [(1, 1, "b_mode"), (1, 2, "colour"), (3, 3, "spectral"), (3, 4, "spectral"), (2, 1, "m_mode"),
     (2, 2, "m_mode"), (4, 10, "b_mode"), (0, 13, "b_mode"), (5, 0, "b_mode")],
)  # fmt: skip
def test_regions_tell_what_is_shown(seed: int, spatial: int, kind: int, mode: Mode) -> None:
    regions = [
        build_region((10, 5, 110, 155)),
        build_region((100, 5, 118, 155), spatial=spatial, kind=kind),
    ]
    data = build_dicom(
        speckled_fan(SIZE, 2, seed), elements={"SequenceOfUltrasoundRegions": regions}
    )
    clip = SOURCE.open(data).clip()
    assert seen_in(clip) == mode
    assert len(clip.traces) == (mode in {"spectral", "m_mode"})
    assert clip.mm_per_pixel == (0.5, 0.3)


def screen_with_trace(seed: int, mode: Mode) -> NDArray[np.uint8]:
    """A small fan above a wide trace: a spectrum changes in time, M-mode in depth."""
    screen = np.zeros((240, 320), np.uint8)
    screen[:80, 110:210] = speckled_fan((80, 100), 1, seed)[0]
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:100, 0:280]
    if mode == "spectral":
        envelope = 15 + 60 * np.abs(np.sin(columns / 14.0))
        beats = rng.integers(20, 250, 280) + rng.integers(-20, 5, rows.shape)
        trace = np.where((rows < 85) & (85 - rows < envelope), beats, 0)
    else:
        trace = 110 + 90 * np.sin(rows / 3.0 + np.sin(columns / 40.0))
        trace += rng.integers(-15, 15, rows.shape)
    screen[120:220, 20:300] = trace
    return screen[None]


@pytest.mark.parametrize("mode", ["spectral", "m_mode"])
def test_a_trace_is_seen_without_tags(seed: int, mode: Mode) -> None:
    assert seen_in(RawClip(screen_with_trace(seed, mode), (), None, None)) == mode


@pytest.mark.parametrize("size", [(120, 160), (240, 320), (600, 800)])
def test_a_fan_on_a_screen_with_an_ecg_is_no_trace(seed: int, size: tuple[int, int]) -> None:
    pixels = speckled_fan(size, 1, seed)
    columns = np.arange(size[1])
    pixels[0, (size[0] * (0.95 - 0.03 * np.sin(columns / 9.0) ** 8)).astype(int), columns] = 255
    pixels[0, : size[0] // 20, ::2] = 200
    assert seen_in(RawClip(pixels, (), None, None)) == "b_mode"


@pytest.mark.parametrize("size", [(120, 160), (240, 320)])
@pytest.mark.parametrize("scanner", SCANNERS)
def test_a_phantom_on_any_coloured_screen_is_plain(
    scanner: str, size: tuple[int, int], tmp_path: Path
) -> None:
    spec = HospitalSpec(
        name="north", scanner=scanner, labels={"AP4": "A4C"}, num_patients=1, clips_per_view=1,
        frames_per_clip=2, size_HW=size, screen_correlation=0.0, seed=3, is_colour=True,
    )  # fmt: skip
    (path,) = (write_hospital(spec, tmp_path).folder / "dicom").rglob("*.dcm")
    clip = SOURCE.open(path.read_bytes()).clip()
    assert seen_in(clip) == "b_mode"
    assert seen_in(replace(clip, regions=(), declared=frozenset())) == "b_mode"


def test_every_real_still_is_what_its_name_says(real_data: Path) -> None:
    """Eye's judgement: stills with a colour box, spectra and M-mode; all others are plain."""
    colour = {"05", "07", "09", "15", "27", "29"}
    traces = {"17": "spectral", "19": "spectral", "21": "spectral", "23": "spectral",
              "41": "m_mode", "43": "m_mode"}  # fmt: skip
    source = SOURCES["images"]
    for path in sorted((real_data / "tte47").glob("*.png")):
        number = path.name[:2]
        expected = "colour" if number in colour else traces.get(number, "b_mode")
        assert seen_in(source.open(source.read(path)).clip()) == expected, number


@pytest.mark.parametrize(
    ("name", "mode"),
    [("US-YBR_FULL_422-EVRLE", "b_mode"), ("US-RGB-8-epicard", "colour"), ("US1_J2KR", "colour"),
     ("US1_UNCI", "colour"), ("US-ALOKA-16", "b_mode"), ("ybr_color", "b_mode")],
)  # fmt: skip
def test_real_files_show_what_the_eye_sees(real_data: Path, name: str, mode: Mode) -> None:
    (path,) = (real_data / "dicom_us").glob(f"*{name}.dcm")
    assert seen_in(SOURCE.open(path.read_bytes()).clip()) == mode
