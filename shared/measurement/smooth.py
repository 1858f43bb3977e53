"""A cine's contours, smoothed in time: each frame alone errs by a millimetre or two.

Contours become points at equal shares of their length, are freed of the probe's motion (Procrustes)
and fitted by local quadratics over time; equal beats are folded onto one, so that all of them tell
of each phase. On the phantom's volume curves (50 to 100 beats a minute, frames of 25 to 40 ms) the
fit adds 0.4 points to EF (0.7 at most) and leaves 0.55 of a frame's independent noise, folded 0.36.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from shared.echo.contour import Contour, Points
from shared.errors import Code, EchoFedError
from shared.measurement.local_fit import LocalFit, find_period, left_out, local_fit

Shapes = npt.NDArray[np.complex128]
"""Points x + iy: a turn is a factor."""

NUM_POINTS = 61
"""Of a smoothed contour: 3 to 4 mm apart on an adult's heart."""
MIN_FRAMES = 5
"""Contours that can be smoothed."""
REACH_MS = 150.0
"""Half width of the window; wider ones flatten the ends of systole and diastole."""
_REACH_FRAMES = 5.0  # where the time between frames is unknown: it is 30 ms more often than not
_MIN_REACH_FRAMES = 2.6  # five frames for three coefficients
_SHORTEST_MS, _SHORTEST_FRAMES = 300.0, 10.0  # beat: 200 a minute
_FAR_MM, _FAR = 3.0, 4.0  # a frame is rejected beyond both, the second times the median distance
_MAX_REJECTED = 0.3  # of the frames; the rest stands out against nothing
_TURNS = 3  # of Procrustes
_MOST_GAIN = 1.001  # a lone frame is its own fit, but for rounding
_OFF = 1e-3  # of a constant: too few neighbours do not tell even that
_SPARE = 1e-3  # of the largest variance
_SIGMA = 1.4826  # of a normal law, by its median distance from the mean


@dataclass(frozen=True, slots=True, eq=False)
class SmoothCine:
    """What smoothing made of a cine.

    Args:
        contours: of each frame, without covariance; None where the fit is less sure than a frame.
        filled: frames that had none before.
        rejected: frames whose contour was far from the fit of the others.
        period: in ms, or in frames where their time is unknown; None where nothing was folded.
        sources: accepted contours, and the fit of each frame to them.
        independent: share of the sources' variance that changes from frame to frame.
        area_noise: standard deviation of a frame's area about the fit, as a share of it.
        mean: contour of all sources.
        is_tracked: whether point i is the same tissue in each frame.
    """

    contours: tuple[Contour | None, ...]
    filled: tuple[int, ...]
    rejected: tuple[int, ...]
    period: float | None
    sources: tuple[Contour, ...]
    fit: LocalFit
    independent: float
    area_noise: float
    mean: Contour
    is_tracked: bool

    def sure(self, place: int) -> Contour:
        """The contour of a frame with its covariance, where all sources have one.

        What changes from frame to frame shrinks as the fit's variance does; what all frames share
        stays as large as in each of them.
        """
        contour = self.contours[place]
        assert contour is not None
        shrink = 1 - self.independent * (1 - float(self.fit.gain[place]))
        return self._covered(contour, self.fit.kernel_ST[place] * shrink)

    def sure_mean(self) -> Contour:
        """The mean with its covariance."""
        num = len(self.sources)
        return self._covered(self.mean, np.full(num, 1 / num))

    def _covered(self, contour: Contour, shares_T: Points) -> Contour:
        total = np.zeros((2 * len(contour.points_xy_mm),) * 2)
        for share, source in zip(shares_T, self.sources, strict=True):
            if source.covariance is None:
                return contour
            if share > 0:
                total += share * _carried(source, is_tracked=self.is_tracked)
        variances, directions = np.linalg.eigh(total)
        # each frame's covariance was carried by another map: what they do not share is not worth
        # a thousandth of the whole, and an interval costs two formulas a direction
        directions = directions * np.sqrt(
            np.where(variances > _SPARE * variances[-1], variances, 0)
        )
        return replace(contour, covariance=directions @ directions.T)


@dataclass(frozen=True, slots=True, eq=False)
class _Motion:
    """Shapes (T, N) about their middles, turned onto their mean, and the poses (T,) taken off."""

    shapes: Shapes
    centres: Shapes
    turns: Shapes

    def __getitem__(self, places: npt.NDArray[np.int64]) -> "_Motion":
        return _Motion(self.shapes[places], self.centres[places], self.turns[places])


def smooth_cine(
    contours: Sequence[Contour | None], frame_time_ms: float | None, *, is_tracked: bool = False
) -> SmoothCine:
    """Smooth the contours of one cine over time.

    Args:
        contours: of each frame in order, MIN_FRAMES of them at least.
        frame_time_ms: between frames, None where unknown.
        is_tracked: whether point i is the same tissue in each frame; else points at the same share
            of the length correspond.
    """
    given = [contour for contour in contours if contour is not None]
    assert len(given) >= MIN_FRAMES
    shown = np.array([place for place, contour in enumerate(contours) if contour is not None])
    step, reach, shortest = _units(frame_time_ms)
    areas = np.array([contour.area_mm2 for contour in given])
    period = find_period(areas, shown * step, reach, shortest)
    motion = _freed(np.stack([_shape(c, is_tracked=is_tracked) for c in given]))
    kept = _accepted(motion.shapes, shown * step, reach, period)
    sources = tuple(given[place] for place in kept)
    motion, at = motion[kept], np.arange(len(contours), dtype=np.float64) * step
    fit = local_fit(at, at[shown[kept]], reach, period)
    own = fit.weights_ST[shown[kept]]
    shapes, is_sure = _restored(motion, fit, local_fit(at, at[shown[kept]], reach, None))
    made = tuple(
        _valid(shape, replace(given[0], frame=frame), is_tracked=is_tracked) if sure else None
        for shape, frame, sure in zip(shapes, _frames(contours), is_sure, strict=True)
    )
    return SmoothCine(
        contours=made,
        filled=tuple(p for p, c in enumerate(contours) if c is None and made[p] is not None),
        rejected=tuple(int(place) for place in np.setdiff1d(shown, shown[kept])),
        period=period,
        sources=sources,
        fit=fit,
        independent=_independent(motion.shapes, own, sources),
        area_noise=_noise(areas[kept], own),
        mean=_contour(_upright(motion), sources[0], is_tracked=is_tracked),
        is_tracked=is_tracked,
    )


def _frames(contours: Sequence[Contour | None]) -> list[int]:
    """Index in the clip of each frame; one without a contour follows the one before it."""
    frames: list[int] = []
    for place, contour in enumerate(contours):
        before = frames[-1] + 1 if frames else place
        frames.append(before if contour is None else contour.frame)
    return frames


def _units(frame_time_ms: float | None) -> tuple[float, float, float]:
    """Step, reach and shortest beat, in ms or in frames."""
    if frame_time_ms is None:
        return 1.0, _REACH_FRAMES, _SHORTEST_FRAMES
    reach = max(REACH_MS, _MIN_REACH_FRAMES * frame_time_ms)
    return frame_time_ms, reach, max(_SHORTEST_MS, _SHORTEST_FRAMES / 2 * frame_time_ms)


def _shape(contour: Contour, *, is_tracked: bool) -> Shapes:
    """Corresponding points of a contour, (N,)."""
    points: Points = contour.points_xy_mm
    if not is_tracked:
        points = _resampling(points) @ points
    shape: Shapes = points[:, 0] + 1j * points[:, 1]
    return shape


def _resampling(points_P2: Points) -> Points:
    """Linear interpolation to points at equal shares of the length, (N, P)."""
    steps = np.hypot(*np.diff(points_P2, axis=0).T)
    travelled = np.concatenate([[0.0], np.cumsum(steps)])
    places = np.linspace(0.0, travelled[-1], NUM_POINTS)
    after = np.clip(np.searchsorted(travelled, places), 1, len(points_P2) - 1)
    share = (places - travelled[after - 1]) / (travelled[after] - travelled[after - 1])
    weights = np.zeros((NUM_POINTS, len(points_P2)))
    rows = np.arange(NUM_POINTS)
    weights[rows, after - 1], weights[rows, after] = 1 - share, share
    return weights


def _freed(shapes_TN: Shapes) -> _Motion:
    """Shapes without the motion of the whole picture."""
    centres: Shapes = shapes_TN.mean(axis=1)
    about = shapes_TN - centres[:, None]
    mean = about[0]
    turns = np.ones(len(about), np.complex128)
    for _ in range(_TURNS):
        turns = about @ mean.conj()
        turns = turns / np.abs(turns)
        mean = (about * turns.conj()[:, None]).mean(axis=0)
    return _Motion(about * turns.conj()[:, None], centres, turns)


def _restored(motion: _Motion, fit: LocalFit, in_time: LocalFit) -> tuple[Shapes, np.ndarray]:
    """The fitted shapes in their fitted poses (S, N), and whether enough frames stand behind each.

    A probe's motion is no part of the beat, so poses are not folded.
    """
    turns = in_time.weights_ST @ motion.turns
    turns = turns / np.maximum(np.abs(turns), np.finfo(float).tiny)
    centres = in_time.weights_ST @ motion.centres
    shapes = (fit.weights_ST @ motion.shapes) * turns[:, None] + centres[:, None]
    gains = np.stack([fit.gain, in_time.gain])
    totals = np.stack([fit.weights_ST.sum(axis=1), in_time.weights_ST.sum(axis=1)])
    return shapes, ((gains <= _MOST_GAIN) & (np.abs(totals - 1) < _OFF)).all(axis=0)


def _upright(motion: _Motion) -> Shapes:
    """The mean shape in the first frame's pose."""
    mean: Shapes = motion.shapes.mean(axis=0) * motion.turns[0] + motion.centres[0]
    return mean


def _accepted(
    shapes_TN: Shapes, times_T: Points, reach: float, period: float | None
) -> npt.NDArray[np.int64]:
    """Places of the frames that agree with their neighbours; the worst goes first.

    Only what stands out among all frames can go: beside a gap, what beats stands out as well.
    """
    kept, suspects = np.arange(len(times_T)), np.arange(len(times_T))
    fewest = max(MIN_FRAMES, int(np.ceil((1 - _MAX_REJECTED) * len(kept))))
    while True:
        weights = local_fit(times_T[kept], times_T[kept], reach, period).weights_ST
        apart = np.abs(left_out(shapes_TN[kept], weights))
        # one that few others tell of is told less well
        sure = np.sqrt(np.clip(1 - np.diag(weights), 0.0, None))
        distances: Points = np.sqrt((apart**2).mean(axis=1)) * sure
        limit = max(_FAR_MM, _FAR * float(np.median(distances)))
        suspects = np.intersect1d(suspects, kept[distances > limit])
        if not len(suspects) or len(kept) == fewest:
            return kept
        worst = int(np.where(np.isin(kept, suspects), distances, 0.0).argmax())
        kept = np.delete(kept, worst)


def _independent(shapes_TN: Shapes, own_TT: Points, sources: Sequence[Contour]) -> float:
    """Share of the sources' variance that is seen to change from frame to frame, 0 to 1.

    Variance across the contour: points at equal shares of the length do not err along it.
    """
    stated = [_variance_across(contour) for contour in sources if contour.covariance is not None]
    if not stated or not np.mean(stated) > 0:
        return 1.0
    misses = (shapes_TN - own_TT @ shapes_TN) * _normals(shapes_TN.mean(axis=0)).conj()
    # of noise I the residuals keep (I - H)(I - H)^T
    left = float(((np.eye(len(own_TT)) - own_TT) ** 2).sum()) / len(own_TT)
    # the median bears a few bad frames
    seen = float(np.median((misses.real**2).mean(axis=1))) / left
    return min(1.0, seen / float(np.mean(stated)))


def _variance_across(contour: Contour) -> float:
    """Mean variance of a contour's points at right angles to it."""
    assert contour.covariance is not None
    points = contour.points_xy_mm
    normals = _normals(points[:, 0] + 1j * points[:, 1])
    ways = np.stack([normals.real, normals.imag], axis=1)
    num = np.arange(len(points))
    blocks = contour.covariance.reshape(len(num), 2, len(num), 2)[num, :, num]
    return float(np.einsum("pi,pij,pj->p", ways, blocks, ways).mean())


def _normals(shape_N: Shapes) -> Shapes:
    """Unit normals of a curve, (N,)."""
    along = np.gradient(shape_N)
    normals: Shapes = 1j * along / np.abs(along)
    return normals


def _noise(areas_T: Points, own_TT: Points) -> float:
    misses = left_out(areas_T[:, None], own_TT)
    return _SIGMA * float(np.median(np.abs(misses))) / float(areas_T.mean())


def _carried(source: Contour, *, is_tracked: bool) -> Points:
    """Covariance of a source's corresponding points."""
    assert source.covariance is not None
    if is_tracked:
        return source.covariance
    weights = np.kron(_resampling(source.points_xy_mm), np.eye(2))
    carried: Points = weights @ source.covariance @ weights.T
    return carried


def _valid(shape_N: Shapes, like: Contour, *, is_tracked: bool) -> Contour | None:
    """The contour, None where the fit crosses itself."""
    try:
        return _contour(shape_N, like, is_tracked=is_tracked)
    except EchoFedError as error:
        if error.code is not Code.CONTOUR_INVALID:
            raise
        return None


def _contour(shape_N: Shapes, like: Contour, *, is_tracked: bool) -> Contour:
    """A shape as a contour of that view and frame; its apex is farthest from the base's middle."""
    points = np.stack([shape_N.real, shape_N.imag], axis=1)
    apex = like.apex
    if not is_tracked:
        apex = int(np.hypot(*(points - (points[0] + points[-1]) / 2).T)[1:-1].argmax()) + 1
    return replace(like, points_xy_mm=points, apex=apex, covariance=None)
