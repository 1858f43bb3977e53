from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from shared.phantom.anatomy import draw_heart
from shared.phantom.realism import (
    Still,
    appearance,
    compare,
    envelope_snr,
    read_stills,
    stills_of,
)
from shared.phantom.scanner import SCANNERS, PhantomClip, render_clip


def clip_of(seed: int) -> PhantomClip:
    return render_clip(
        draw_heart(np.random.default_rng(seed)),
        "A4C",
        SCANNERS["aurora"],
        num_frames=2,
        size_HW=(240, 320),
        rng=np.random.default_rng(seed),
    )


def test_an_appearance_equals_itself() -> None:
    looks = appearance(stills_of(clip_of(0)))
    figures = compare(looks, looks)
    assert figures["histogram_intersection"] == pytest.approx(1.0)
    assert figures["histogram_wasserstein"] == 0.0


def test_speckle_width_is_that_of_the_smoothing() -> None:
    noise = gaussian_filter(np.random.default_rng(0).normal(size=(200, 200)), (1.0, 2.0))
    grey = np.clip(128 + 40 * noise / noise.std(), 0, 255).astype(np.uint8)
    ones = np.ones((200, 200), np.uint8)
    numbers = appearance([Still(grey, ones, ones > 0, 1.0)]).numbers
    # white noise smoothed by sigma has a Gaussian autocorrelation of sigma sqrt(2);
    # removing shading takes the slowest part of it, so the width found is a little smaller
    full_width = 2 * np.sqrt(2 * np.log(2)) * np.sqrt(2)
    assert 0.8 * full_width < numbers["cavity speckle axial mm"] < full_width
    assert 1.6 * full_width < numbers["cavity speckle lateral mm"] < 2 * full_width


def test_rayleigh_amplitudes_have_the_known_ratio() -> None:
    amplitude = np.random.default_rng(0).rayleigh(size=200_000)
    assert envelope_snr(amplitude) == pytest.approx(1.913, abs=0.02)


def test_only_the_named_patients_are_read(tmp_path: Path) -> None:
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
        for number, grey in ((1, 10), (2, 200)):
            Image.new("L", (30, 30), grey).save(tmp_path / folder / f"{number}.png")
    rows = "file,patient,spacing_mm\n1.png,patient0001,1.0\n2.png,patient0002,1.0\n"
    (tmp_path / "manifest.csv").write_text(rows)
    stills = list(read_stills(tmp_path, patients=range(1, 2), limit=10))
    assert [int(still.pixels_HW.max()) for still in stills] == [10]


def test_phantom_resembles_real_stills(real_data: Path) -> None:
    real = appearance(read_stills(real_data / "camus_a4c", patients=range(1, 201), limit=30))
    phantom = appearance(still for seed in range(12) for still in stills_of(clip_of(seed)))
    figures = compare(phantom, real)
    assert figures["histogram_intersection"] > 0.7
    for name in ("cavity speckle axial mm", "muscle speckle lateral mm"):
        ratio = figures[f"phantom {name}"] / figures[f"real {name}"]
        assert 0.5 < ratio < 2.0, name
