"""Local quadratics over time, plain or folded onto one beat, and the beat's length.

Cleveland, J Am Stat Assoc 1979;74:829: tricube weights; float64.
"""

from typing import NamedTuple

import numpy as np

from shared.echo.contour import Points

_DEGREE = 2
_HARMONICS = 3  # of the curve whose period is sought
_MIN_BEATS = 1.6  # fewer are no repetition
_NUM_PERIODS = 400
_FOLD_LOSS = 1.2  # how much worse the folded fit may tell a frame that it has not seen
_RIDGE = 1e-9


class LocalFit(NamedTuple):
    """A linear smoother: values at the asked times are ``weights_ST @ values_T``.

    ``kernel_ST`` is what each frame counts for, none negative, each row's sum one.
    """

    weights_ST: Points
    kernel_ST: Points

    @property
    def gain(self) -> Points:
        """Variance of the fit at each asked time (S,) where every value's is one."""
        gain: Points = (self.weights_ST**2).sum(axis=1)
        return gain


def local_fit(at_S: Points, times_T: Points, reach: float, period: float | None) -> LocalFit:
    """Weights of a quadratic fitted to the values within reach of each asked time.

    Args:
        at_S: where the fit is asked.
        times_T: of the values, in any unit.
        reach: half width of the window in that unit.
        period: times this far apart are the same instant; None where nothing repeats.
    """
    apart = times_T[None] - at_S[:, None]
    if period is not None:
        apart = (apart + period / 2) % period - period / 2
    kernel = np.clip(1 - np.abs(apart / reach) ** 3, 0.0, None) ** 3
    powers = (apart / reach)[..., None] ** np.arange(_DEGREE + 1)
    normal = np.einsum("sti,st,stj->sij", powers, kernel, powers) + _RIDGE * np.eye(_DEGREE + 1)
    weights = np.linalg.solve(normal, np.einsum("sti,st->sit", powers, kernel))[:, 0]
    return LocalFit(weights, kernel / np.maximum(kernel.sum(axis=1, keepdims=True), _RIDGE))


def left_out(values_TN: np.ndarray, weights_TT: Points) -> np.ndarray:
    """How far each value is from the fit to all others, (T, N): residuals over 1 - H_tt."""
    own = np.clip(1 - np.diag(weights_TT), 0.05, None)
    apart: np.ndarray = (values_TN - weights_TT @ values_TN) / own[:, None]
    return apart


def find_period(curve_T: Points, times_T: Points, reach: float, shortest: float) -> float | None:
    """Length of the beat, None where the curve shows none twice or not the same one.

    It is the period by which three harmonics explain the curve best. It counts only if the curve
    folded by it tells a frame that was left out about as well as that frame's neighbours do.

    Args:
        curve_T: an area or a volume.
        times_T: of its values.
        reach: half width of the fit's window.
        shortest: beat that is possible.
    """
    longest = float(times_T[-1] - times_T[0]) / _MIN_BEATS if len(times_T) else 0.0
    if longest <= shortest or len(curve_T) <= 2 * _HARMONICS + 2:
        return None
    periods = np.geomspace(shortest, longest, _NUM_PERIODS)
    angles = 2 * np.pi * times_T[None, :, None] / periods[:, None, None]
    angles = angles * np.arange(1, _HARMONICS + 1)
    waves = np.concatenate([np.cos(angles), np.sin(angles), np.ones_like(angles[..., :1])], axis=2)
    centred = curve_T - curve_T.mean()
    normal = np.einsum("ptk,ptl->pkl", waves, waves) + _RIDGE * np.eye(waves.shape[2])
    targets = np.einsum("ptk,t->pk", waves, centred)
    explained = (np.linalg.solve(normal, targets[..., None])[..., 0] * targets).sum(axis=1)
    period = float(periods[explained.argmax()])
    misses = [
        float((left_out(centred[:, None], fit.weights_ST) ** 2).sum())
        for fit in (local_fit(times_T, times_T, reach, p) for p in (period, None))
    ]
    return period if misses[0] <= _FOLD_LOSS * misses[1] else None
