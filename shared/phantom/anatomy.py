"""A beating parametric heart: its shape at end diastole, volume curve, and how patients differ.

Heart frame, millimetres: the origin is the centre of the left ventricular base, +z runs along the
long axis from base to apex, +x towards the lateral wall, +y towards the anterior wall. Looking from
the apex, wall angles run counter-clockwise from lateral: 30 anterolateral, 90 anterior, 150
anteroseptal, 210 inferoseptal, 270 inferior, 330 inferolateral (the centres of the six basal
segments of the 17-segment model).
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.interpolate import PchipInterpolator

Array = npt.NDArray[np.floating[Any]]

# the widest section of the cavity lies at this share of the long axis below the base
CENTRE_FRACTION = 0.3
# times pi a^2 L: volume of an ellipsoid cut at its base, its centre at CENTRE_FRACTION
_FILL = 1.0 - ((1 - CENTRE_FRACTION) ** 3 + CENTRE_FRACTION**3) / (3 * (1 - CENTRE_FRACTION) ** 2)


@dataclass(frozen=True, slots=True)
class Heart:
    """One patient's heart; lengths at end diastole.

    Attributes:
        edv_ml: cavity volume at end diastole (phase 0).
        ejection_fraction: (EDV - ESV) / EDV.
        long_axis_mm: base to endocardial apex.
        radius_mm: largest endocardial radius; follows from the volume and the long axis.
        wall_mm: myocardial thickness at mid level.
        ellipticity: x:y ratio of a short-axis section, area kept.
        bend_mm: sideways shift (x, y) of the apex by a shear that keeps every section's area.
        descent_mm: how far the base moves towards the apex at end systole.
        rotation_deg: how far this heart is turned about its axis against the chest wall.
        rv_scale, la_scale, ra_scale, aorta_scale: sizes relative to the average.
        roughness_seed: names the patient's own texture.
        echogenicity_db: brightness of this patient's myocardium against the average.
        haze_db: how poor the acoustic window is (level of stationary clutter).
    """

    edv_ml: float
    ejection_fraction: float
    heart_rate_bpm: float
    long_axis_mm: float
    radius_mm: float
    wall_mm: float
    ellipticity: float
    bend_mm: tuple[float, float]
    descent_mm: float
    rotation_deg: float
    rv_scale: float
    la_scale: float
    ra_scale: float
    aorta_scale: float
    roughness_seed: int
    echogenicity_db: float
    haze_db: float

    @property
    def esv_ml(self) -> float:
        """Cavity volume at end systole."""
        return self.edv_ml * (1.0 - self.ejection_fraction)

    @property
    def end_systole(self) -> float:
        """Phase of the smallest volume; systole takes a larger share of a fast beat."""
        return 0.31 + 0.0016 * (self.heart_rate_bpm - 50.0)

    @property
    def cycle_ms(self) -> float:
        """Length of one beat."""
        return 60_000.0 / self.heart_rate_bpm

    @property
    def centre_mm(self) -> float:
        """Height of the widest cavity section above the base."""
        return CENTRE_FRACTION * self.long_axis_mm

    @property
    def outer_mm(self) -> float:
        """Largest epicardial radius."""
        return self.radius_mm + self.wall_mm


def cavity_radius_mm(edv_ml: float, long_axis_mm: float) -> float:
    """Largest radius of the truncated ellipsoid with this volume and length (closed form)."""
    return float(np.sqrt(edv_ml * 1000.0 / (np.pi * long_axis_mm * _FILL)))


def cavity_volume_ml(radius_mm: float, long_axis_mm: float) -> float:
    """Volume of the truncated ellipsoid (closed form)."""
    return float(np.pi * radius_mm**2 * long_axis_mm * _FILL / 1000.0)


def draw_heart(rng: np.random.Generator) -> Heart:
    """Draw a patient: EF 25-70 %, heart rate 50-100, weaker hearts larger and rounder."""
    ejection_fraction = _draw_ejection_fraction(rng)
    weakness = max(0.0, 0.55 - ejection_fraction)
    edv_ml = float(
        np.clip(rng.lognormal(np.log(108.0), 0.22) * (1.0 + 1.8 * weakness), 60.0, 260.0)
    )
    slenderness = float(np.clip(rng.normal(1.78 - 0.9 * weakness, 0.14), 1.35, 2.15))
    # length from L = 2 a s and V = pi a^2 L fill
    long_axis_mm = float(
        2 * slenderness * (edv_ml * 1000.0 / (2 * np.pi * slenderness * _FILL)) ** (1 / 3)
    )
    return Heart(
        edv_ml=edv_ml,
        ejection_fraction=ejection_fraction,
        heart_rate_bpm=float(rng.uniform(50.0, 100.0)),
        long_axis_mm=long_axis_mm,
        radius_mm=cavity_radius_mm(edv_ml, long_axis_mm),
        wall_mm=float(np.clip(rng.normal(9.5, 1.6), 6.5, 14.0)),
        ellipticity=float(rng.uniform(0.92, 1.08)),
        bend_mm=(float(rng.normal(0.0, 3.0)), float(rng.normal(0.0, 3.0))),
        descent_mm=float(0.2 * long_axis_mm * ejection_fraction * rng.uniform(0.85, 1.15)),
        rotation_deg=float(rng.normal(0.0, 7.0)),
        rv_scale=float(np.clip(rng.normal(1.0, 0.09), 0.8, 1.25)),
        la_scale=float(np.clip(rng.normal(1.0 + 0.4 * weakness, 0.10), 0.75, 1.35)),
        ra_scale=float(np.clip(rng.normal(1.0, 0.10), 0.75, 1.3)),
        aorta_scale=float(np.clip(rng.normal(1.0, 0.08), 0.8, 1.25)),
        roughness_seed=int(rng.integers(2**31)),
        echogenicity_db=float(rng.normal(0.0, 2.0)),
        haze_db=float(rng.normal(0.0, 3.0)),
    )


def contraction(heart: Heart, phase: float) -> float:
    """Share of the stroke volume that has left: 0 at end diastole (phase 0), 1 at end systole."""
    return float(_stroke_curve(heart.end_systole)(phase % 1.0))


def volume_ml(heart: Heart, phase: float) -> float:
    """Cavity volume at a phase of the beat in [0, 1)."""
    return heart.edv_ml - (heart.edv_ml - heart.esv_ml) * contraction(heart, phase)


def mitral_opening(heart: Heart, phase: float) -> float:
    """0 closed to 1 wide open: an early wave, half-closed diastasis, an atrial wave."""
    end = heart.end_systole + 0.04
    rest = 1.0 - end
    phases = (
        0.0,
        end,
        end + 0.16 * rest,
        end + 0.42 * rest,
        end + 0.70 * rest,
        end + 0.84 * rest,
        0.985,
        1.0,
    )
    return float(np.interp(phase % 1.0, phases, (0.0, 0.0, 1.0, 0.45, 0.40, 0.75, 0.0, 0.0)))


def aortic_opening(heart: Heart, phase: float) -> float:
    """0 closed to 1 open during ejection."""
    end = heart.end_systole
    return float(
        np.interp(
            phase % 1.0, (0.0, 0.04, 0.08, end - 0.04, end, 1.0), (0.0, 0.0, 1.0, 0.9, 0.0, 0.0)
        )
    )


@lru_cache(maxsize=64)
def _stroke_curve(end: float) -> PchipInterpolator:
    """Textbook volume curve: isovolumic, ejection, isovolumic, early filling, diastasis, kick."""
    rest = 1.0 - end
    phases = (0.0, 0.05, 0.55 * end, end, end + 0.05, end + 0.42 * rest, end + 0.72 * rest, 0.98, 1)
    shares = (0.0, 0.01, 0.62, 1.0, 0.985, 0.27, 0.22, 0.0, 0.0)
    return PchipInterpolator(phases, shares)


def _draw_ejection_fraction(rng: np.random.Generator) -> float:
    """Two thirds normal, the rest mildly or clearly reduced."""
    low, high = (
        (0.25, 0.40),
        (0.40, 0.54),
        (0.54, 0.70),
        (0.54, 0.70),
        (0.54, 0.70),
        (0.54, 0.70),
    )[rng.integers(6)]
    return float(rng.uniform(low, high))
