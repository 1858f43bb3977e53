"""B-mode physics on a polar grid: speckle, beam, attenuation, shadow, clutter, log compression."""

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter1d
from scipy.spatial.transform import Rotation

from shared.phantom.anatomy import Array
from shared.phantom.shapes import Points
from shared.phantom.tissue import Section

Levels = npt.NDArray[np.float32]

_VOXEL_MM = 0.42
# rotation by (0.61, 1.13, 0.37) rad about x, y, z, in voxels per mm
_TURN = (
    Rotation.from_euler("xyz", (0.61, 1.13, 0.37)).as_matrix().astype(np.float32) / _VOXEL_MM
).astype(np.float32)
_BLOOD_LOSS_DB_MM, _TISSUE_LOSS_DB_MM = 0.04, 0.14  # two-way, against the average that TGC expects


@dataclass(frozen=True, slots=True)
class Optics:
    """What the transducer and the signal path of a scanner do to the echo.

    Attributes:
        axial_mm: standard deviation of the pulse.
        lateral_deg: standard deviation of the beam at the focus.
        focus_mm: depth of the narrowest beam.
        gain_db: overall gain.
        dynamic_range_db: echo range shown between black and white.
        gamma, contrast: grey curve; contrast bends it into an S.
        smoothing: speckle reduction after detection, in samples.
        clutter_db: level of the near-field clutter at the probe.
        haze_db: level of the stationary haze over the picture.
        noise_db: level of the electronic noise at full depth.
    """

    axial_mm: float
    lateral_deg: float
    focus_mm: float
    gain_db: float
    dynamic_range_db: float
    gamma: float
    contrast: float
    smoothing: float
    clutter_db: float
    haze_db: float
    noise_db: float


@dataclass(frozen=True, slots=True)
class Grid:
    """Samples (rows, by depth) times lines (columns, by angle) of one fan."""

    radii_mm: Array
    angles_rad: Array

    @property
    def step_mm(self) -> float:
        """Distance between samples."""
        return float(self.radii_mm[1] - self.radii_mm[0])

    @property
    def step_deg(self) -> float:
        """Angle between lines."""
        return math.degrees(float(self.angles_rad[1] - self.angles_rad[0]))

    @property
    def shape(self) -> tuple[int, int]:
        """(samples, lines)."""
        return len(self.radii_mm), len(self.angles_rad)


@dataclass(frozen=True, slots=True)
class Window:
    """What this examination's acoustic window does, the same for every frame of a clip.

    Attributes:
        gain_db_SL: shadows, patchy contact, TGC setting (samples, lines).
        clutter_2SL: stationary complex clutter, as two planes (2, samples, lines).
        noise_2RL: electronic noise for longer than one frame; each frame takes a stretch of it.
    """

    gain_db_SL: Array
    clutter_2SL: Array
    noise_2RL: Array


def draw_window(rng: np.random.Generator, grid: Grid, optics: Optics, haze_db: float) -> Window:
    """Draw shadows, contact, TGC and stationary clutter of one clip."""
    samples, lines = grid.shape
    depth = (grid.radii_mm / grid.radii_mm[-1])[:, None]
    across = np.linspace(-1.0, 1.0, lines, dtype=np.float32)[None, :]
    gain = _contact_db(rng, lines) + _shadow_db(rng, across, depth)
    knobs = gaussian_filter1d(rng.normal(0.0, 6.0, 40), 5.0, mode="nearest")
    gain = gain + np.interp(depth, np.linspace(0, 1, 40), knobs)
    near = np.exp(-grid.radii_mm / np.float32(9.0))[:, None]
    bands = 1.0 + 0.6 * np.cos(grid.radii_mm * np.float32(2 * math.pi / 5.5))[:, None]
    haze = np.float32(10 ** ((optics.haze_db + haze_db) / 20)) * (1.0 - 0.6 * depth)
    level = np.float32(10 ** (optics.clutter_db / 20)) * near * bands + haze
    clutter = _white(rng, samples, lines, optics.axial_mm / grid.step_mm)
    clutter = _blur(clutter, 1.2, axis=2)
    noise = _white(rng, 3 * samples, lines, optics.axial_mm / grid.step_mm)
    return Window(gain.astype(np.float32), (clutter * level).astype(np.float32), noise)


def _white(rng: np.random.Generator, samples: int, lines: int, sigma: float) -> Array:
    """Complex noise as the receiver passes it: narrower than the beam's speckle (2, ...)."""
    noise = rng.standard_normal((2, samples, lines), dtype=np.float32)
    return _blur(_blur(noise, sigma, axis=1), 0.9, axis=2)


def scatter(material: Points) -> Array:
    """Complex scatterer field of the tissue, as two planes (2, ...); unit variance each.

    The field is fixed in the material, so speckle moves and deforms with the wall. It is looked up
    in a smooth periodic tile whose lattice is turned against all planes, so no repeat shows.
    """
    index = np.zeros(material[0].shape, np.int32)
    for row in _TURN:
        place = material[0] * row[0] + material[1] * row[1] + material[2] * row[2]
        index = (index << 6) + (np.floor(place).astype(np.int32) & 63)
    field = _tile().take(index)
    return np.stack([field.real, field.imag])


def envelope(
    section: Section, grid: Grid, optics: Optics, window: Window, rng: np.random.Generator
) -> Array:
    """Detected echo amplitude before compression (samples, lines)."""
    echo_db = section.echo_db + _path_gain_db(section, grid) + window.gain_db_SL
    slope = np.abs(np.gradient(section.echo_db, axis=0)) / np.float32(grid.step_mm)
    facing = np.clip(slope * np.float32(1 / 9.0), 0.0, 1.0)
    echo_db += np.float32(7.0) * facing - section.mirror * np.float32(13.0) * (1.0 - facing)
    amplitude = np.exp(echo_db * np.float32(math.log(10) / 20))
    field_2SL = scatter(section.material_xyz) * amplitude
    field_2SL[0] += amplitude * section.mirror * facing * np.float32(0.5)
    field_2SL = _through_beam(field_2SL, grid, optics)
    field_2SL += window.clutter_2SL
    depth = (grid.radii_mm / grid.radii_mm[-1])[:, None]
    floor = np.float32(10 ** (optics.noise_db / 20)) * (0.25 + 0.75 * depth**2)
    start = int(rng.integers(2 * len(depth)))
    field_2SL += window.noise_2RL[:, start : start + len(depth)] * floor
    amplitude_SL: Array = np.sqrt(field_2SL[0] ** 2 + field_2SL[1] ** 2)
    return amplitude_SL


def compress(envelope_SL: Array, optics: Optics) -> Levels:
    """Envelope -> grey levels 0 to 255 (float): log compression and the scanner's grey curve."""
    decibel = np.float32(20 / math.log(10)) * np.log(envelope_SL + np.float32(1e-7))
    if optics.smoothing:
        decibel = gaussian_filter1d(decibel, optics.smoothing, axis=0, mode="nearest")
        decibel = gaussian_filter1d(decibel, optics.smoothing, axis=1, mode="nearest")
    level = (decibel + np.float32(optics.gain_db)) * np.float32(1 / optics.dynamic_range_db) + 1
    level = np.clip(level, 0.0, 1.0) ** np.float32(optics.gamma)
    curve = level * level * (3.0 - 2.0 * level)
    out: Levels = (level + np.float32(optics.contrast) * (curve - level)) * np.float32(255.0)
    return out


@cache
def _tile() -> npt.NDArray[np.complex64]:
    """A periodic complex field, smoothed over 1.3 voxels, unit variance per part (flat)."""
    rng = np.random.default_rng(64)
    field = rng.standard_normal((2, 64, 64, 64), dtype=np.float32)
    for axis in (1, 2, 3):
        field = gaussian_filter1d(field, 1.3, axis=axis, mode="wrap")
    field /= field.std()
    out: npt.NDArray[np.complex64] = (field[0] + 1j * field[1]).astype(np.complex64).ravel()
    return out


def _path_gain_db(section: Section, grid: Grid) -> Array:
    """Extra brightness behind blood and loss behind bright tissue, after average TGC."""
    share = np.clip((section.echo_db + 40.0) * np.float32(1 / 26.0), 0.0, 1.3)
    loss = np.float32(_BLOOD_LOSS_DB_MM) + share * np.float32(
        _TISSUE_LOSS_DB_MM - _BLOOD_LOSS_DB_MM
    )
    total = np.cumsum(loss, axis=0) * np.float32(grid.step_mm)
    expected = (grid.radii_mm - grid.radii_mm[0]) * np.float32(0.095)
    out: Array = expected[:, None] - total
    return out


def _through_beam(field_2SL: Array, grid: Grid, optics: Optics) -> Array:
    """Convolve with the pulse and with a beam that widens away from the focus.

    Two widths are blended by depth; each keeps the power of speckle.
    """
    axial = optics.axial_mm / grid.step_mm
    lateral = optics.lateral_deg / grid.step_deg
    field_2SL = _blur(field_2SL, axial, axis=1)
    narrow = _blur(field_2SL, lateral, axis=2)
    wide = _blur(field_2SL, 1.9 * lateral, axis=2)
    away = np.abs(np.log(grid.radii_mm / np.float32(optics.focus_mm)))[:, None]
    share = np.clip(away * np.float32(0.9), 0.0, 1.0)
    share = share * share
    norm = 1.0 / np.sqrt(share**2 + (1 - share) ** 2 + 1.5 * share * (1 - share))
    out: Array = (narrow + share * (wide - narrow)) * norm
    return out


def _blur(field: Array, sigma: float, *, axis: int) -> Array:
    """Gaussian smoothing that keeps the variance of white noise."""
    if sigma < 0.3:
        return field
    kernel = np.exp(-0.5 * (np.arange(-9, 10) / sigma) ** 2)
    power = float(np.sqrt(np.sum((kernel / kernel.sum()) ** 2)))
    out: Array = gaussian_filter1d(field, sigma, axis=axis, mode="nearest", truncate=3.0)
    return out * np.float32(1.0 / power)


def _contact_db(rng: np.random.Generator, lines: int) -> Array:
    """Slow sideways change of gain from patchy contact (1, lines)."""
    knots = rng.normal(0.0, 5.0, size=7)
    smooth = np.interp(np.linspace(0, 6, lines), np.arange(7), knots)
    out: Array = gaussian_filter1d(smooth, lines / 16, mode="nearest")[None, :].astype(np.float32)
    return out


def _shadow_db(rng: np.random.Generator, across: Array, depth: Array) -> Array:
    """Lung or rib at one edge, and sometimes a narrow shadow inside the fan (samples, lines)."""
    total = np.zeros((len(depth), across.shape[1]), np.float32)
    if rng.random() < 0.7:
        side = 1.0 if rng.random() < 0.6 else -1.0
        edge = rng.uniform(0.45, 0.95)
        strength = rng.uniform(8.0, 30.0)
        total -= strength / (1.0 + np.exp(-(side * across - edge) / 0.06))
    if rng.random() < 0.25:
        middle, width = rng.uniform(-0.8, 0.8), rng.uniform(0.05, 0.12)
        strength = rng.uniform(5.0, 16.0) * np.clip(depth / 0.15, 0, 1)
        total = total - strength * np.exp(-0.5 * ((across - middle) / width) ** 2)
    return total
