"""Label maps from which images are drawn: made of masks or phantoms, warped, and looked over."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from shared.echo.mask import OUTSIDE, STRUCTURES, Mask
from shared.errors import Code, EchoFedError
from shared.files import sha256_hex
from shared.phantom.labels import draw_labels
from shared.seeding import numpy_generator
from shared.shapes import expect

Labels = NDArray[np.uint8]
Booleans = NDArray[np.bool_]
_ATTEMPTS = 20  # of a warp before its map is given up; next to all are plausible
_LV, _MYOCARDIUM, _LA = "lv", "myocardium", "la"
# Real and phantom apical maps, as `tests/shared/synthesis/test_maps.py` tries them, lie far within.
_LV_SHARE = (0.01, 0.45)  # of the sector
_LEAST_SECTOR_SHARE = 0.05  # of the square
_LEAST_ENCLOSED = 0.5  # of the cavity's edge, what the sector cuts off left aside
_MOST_GAPS = 2  # long-axis views show the mitral valve and the outflow with wall between them
_LARGEST_REST = 0.02  # of a region, in specks apart from its largest part
_NEAR_SHARE = 0.03  # of the side; how far an annotator's atrium may end behind the ventricle's base


@dataclass(frozen=True, slots=True)
class MapReach:
    """How far a warp of a label map may go.

    The defaults are those of "Echo from noise" (Stojanovski et al. 2023, arXiv 2305.05424).

    Args:
        rotation_deg: uniform in plus and minus this angle.
        shift: share of the side by which the heart moves at most, in either direction.
        scale: smallest and largest zoom.
        shear_deg: uniform in plus and minus this angle.
        num_knots: of the grid on a side, between which a displacement is smooth.
        bend: largest displacement of a knot, as a share of the side; those at the edge stay.
    """

    rotation_deg: float = 5.0
    shift: float = 0.05
    scale: tuple[float, float] = (0.8, 1.05)
    shear_deg: float = 5.0
    num_knots: int = 10
    bend: float = 30 / 256


ECHO_FROM_NOISE = MapReach()
ANATOMICAL = MapReach(
    rotation_deg=8.0, shift=0.04, scale=(0.85, 1.1), shear_deg=4.0, num_knots=6, bend=0.025
)
"""What our own maps go by: knots that move by an eighth of the side, as published, fold walls and
tie off cavities; these hearts stay such as are met."""


@dataclass(frozen=True, slots=True, eq=False)
class PhantomMaps:
    """Label maps of phantom hearts; S is the side of the squares.

    Args:
        labels_NSS: places in ``structures``.
        view_N: places in ``views``.
        mm_per_pixel_N: of rows and of columns.
    """

    labels_NSS: Labels
    view_N: NDArray[np.int64]
    mm_per_pixel_N: NDArray[np.float64]
    structures: tuple[str, ...]
    views: tuple[str, ...]


def with_outside(labels: Labels, sector: Booleans) -> Labels:
    """Labels one place further where the sector is, 0 (outside) elsewhere; any equal shapes."""
    return np.where(sector, labels + np.uint8(1), np.uint8(0)).astype(np.uint8)


def map_of(mask: Mask, sector_HW: Booleans, structures: Sequence[str]) -> Labels:
    """The label map of a mask, uint8 places in a synthesizer's structures, (H, W).

    Args:
        mask: a structure that the synthesizer does not draw joins the background.
        sector_HW: True inside the sector; what is annotated elsewhere is cut off.
        structures: ``outside``, then the background.

    Raises:
        EchoFedError: SHAPE_MISMATCH, LABEL_MAP_INVALID for structures that begin otherwise.
    """
    height, width = mask.labels_HW.shape
    expect(sector_HW, "H W", H=height, W=width)
    if tuple(structures[:2]) != (OUTSIDE, STRUCTURES[0]):
        raise EchoFedError(
            Code.LABEL_MAP_INVALID,
            f"the structures of a label map begin with {tuple(structures[:2])}",
            f"begin them with {OUTSIDE!r} and {STRUCTURES[0]!r}",
        )
    return with_outside(mask.renamed(tuple(structures[1:])).labels_HW, sector_HW)


def map_hash(labels_HW: Labels, structures: Sequence[str]) -> str:
    """SHA-256 of a label map's names, size and values: who it is, in ledgers and provenance."""
    head = "\x1f".join([*structures, *map(str, labels_HW.shape)])
    return sha256_hex(head.encode() + b"\0" + np.ascontiguousarray(labels_HW).tobytes())


def one_hot_maps(labels_NHW: Labels, num_structures: int) -> Tensor:
    """Float32 (N, L, H, W), 1 where a pixel shows the structure."""
    index_NHW = torch.from_numpy(labels_NHW.astype(np.int64))
    one_hot_NHWL = torch.nn.functional.one_hot(index_NHW, num_structures)
    return one_hot_NHWL.permute(0, 3, 1, 2).float()


def phantom_maps(
    num: int,
    seed: int,
    size: int,
    *,
    views: Sequence[str] = ("A4C", "A2C"),
    structures: Sequence[str] = (OUTSIDE, *STRUCTURES),
) -> PhantomMaps:
    """So many phantom hearts, each in one of the views in turn; the same seed gives the same maps.

    Only plausible ones: where the probe has missed the ventricle, another heart is drawn.

    Raises:
        EchoFedError: VIEW_UNKNOWN, LABEL_MAP_INVALID, MAP_IMPLAUSIBLE for a view that does not
            show the structures.
    """
    names = tuple(structures)
    maps, spacings = [], []
    for number in range(num):
        generator = numpy_generator(seed, "map", number)
        for _ in range(_ATTEMPTS):
            seen = draw_labels(views[number % len(views)], (size, size), generator)
            mask = Mask(seen.labels_HW, STRUCTURES, None, "")
            labels_SS = map_of(mask, seen.sector_HW, names)
            if is_plausible(labels_SS, names):
                break
        expect_plausible(labels_SS, names)
        maps.append(labels_SS)
        spacings.append(seen.mm_per_pixel)
    view_N = np.arange(num) % len(views)
    return PhantomMaps(np.stack(maps), view_N, np.array(spacings), names, tuple(views))


def warped(labels_HW: Labels, generator: np.random.Generator, reach: MapReach) -> Labels:
    """The heart turned, moved, zoomed, sheared and bent inside its sector, which stays.

    The displacement is a cubic B-spline between random knots and 0 at the picture's edge; labels
    are those of the nearest pixel, and what leaves the sector is cut off.
    """
    height, width = labels_HW.shape
    places = warp_sources((height, width), generator, reach)
    tissue_HW = np.maximum(labels_HW, 1)  # what comes from outside the sector is background
    moved_HW = ndimage.map_coordinates(tissue_HW, places, order=0, mode="grid-constant", cval=1)
    return np.where(labels_HW == 0, np.uint8(0), moved_HW.astype(np.uint8))


def warp_sources(
    size_HW: tuple[int, int], generator: np.random.Generator, reach: MapReach
) -> NDArray[np.float64]:
    """Where each pixel of a warped map comes from, (2, H, W) as (row, column).

    What ``warped`` moves a map by with a generator in the same state.
    """
    side = np.array(size_HW, np.float64)[:, None, None]
    place_2HW = np.indices(size_HW).astype(np.float64)
    angle, shear = np.radians(generator.uniform(-1, 1, 2) * (reach.rotation_deg, reach.shear_deg))
    shift_2 = generator.uniform(-reach.shift, reach.shift, 2)[:, None, None] * side
    zoom = generator.uniform(*reach.scale)
    turn_22 = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    back_22 = np.linalg.inv(zoom * turn_22 @ np.array([[1.0, 0.0], [np.tan(shear), 1.0]]))
    middle = (side - 1) / 2
    straight_2HW = np.einsum("ij,jhw->ihw", back_22, place_2HW - middle - shift_2) + middle
    bent_2HW: NDArray[np.float64] = straight_2HW + _bends(size_HW, generator, reach) * side
    return bent_2HW


def plausibly_warped(
    labels_HW: Labels,
    structures: Sequence[str],
    generator: np.random.Generator,
    reach: MapReach,
) -> Labels:
    """The first of some warps that is plausible.

    Raises:
        EchoFedError: MAP_IMPLAUSIBLE where none is.
    """
    for _ in range(_ATTEMPTS):
        candidate_HW = warped(labels_HW, generator, reach)
        if is_plausible(candidate_HW, structures):
            break
    expect_plausible(candidate_HW, structures)
    return candidate_HW


def is_plausible(labels_HW: Labels, structures: Sequence[str]) -> bool:
    """Whether ``expect_plausible`` would let a label map pass."""
    try:
        expect_plausible(labels_HW, structures)
    except EchoFedError as error:
        if error.code not in {Code.MAP_IMPLAUSIBLE, Code.SECTOR_EMPTY}:
            raise
        return False
    return True


def expect_plausible(
    labels_HW: Labels, structures: Sequence[str], *, size: int | None = None
) -> None:
    """Refuse a label map that no frame of a heart could have.

    The sector is in one piece. Where the structures name them: the ventricle is there, in one
    piece, of a sensible size, and enclosed by myocardium but for its inflow and outflow, and where
    the sector cuts it; an atrium that is there lies at the ventricle.

    Args:
        labels_HW: uint8 places in ``structures``.
        structures: ``outside``, then the background, then others.
        size: rows and columns, if they must be so many.

    Raises:
        EchoFedError: SHAPE_MISMATCH, LABEL_UNMAPPED, SECTOR_EMPTY, MAP_IMPLAUSIBLE.
    """
    expect(labels_HW, "H W", **({} if size is None else {"H": size, "W": size}))
    highest = int(labels_HW.max(initial=0))
    if labels_HW.dtype != np.uint8 or highest >= len(structures):
        raise EchoFedError(
            Code.LABEL_UNMAPPED,
            f"value {highest} ({labels_HW.dtype}) of a label map has no structure; it knows "
            f"{len(structures)}",
            "send uint8 places in the synthesizer's structures",
        )
    sector_HW = labels_HW > 0
    if not sector_HW.any():
        raise EchoFedError(
            Code.SECTOR_EMPTY, "a label map is outside everywhere", "mark the sector as background"
        )
    if sector_HW.mean() < _LEAST_SECTOR_SHARE or _rest_share(sector_HW) > 0:
        raise _implausible("its sector is in pieces or next to nothing")
    if not (labels_HW > 1).any():
        raise _implausible("it shows background only")
    regions = {name: labels_HW == place for place, name in enumerate(structures)}
    if _LV in regions:
        _expect_ventricle(regions, sector_HW)


def _expect_ventricle(regions: dict[str, Booleans], sector_HW: Booleans) -> None:
    cavity_HW = regions[_LV]
    share = cavity_HW.sum() / sector_HW.sum()
    if not _LV_SHARE[0] <= share <= _LV_SHARE[1]:
        raise _implausible(f"its ventricle fills {share:.1%} of the sector")
    if _rest_share(cavity_HW) > _LARGEST_REST:
        raise _implausible("its ventricle is in pieces")
    near = max(2, round(_NEAR_SHARE * len(cavity_HW)))
    if _MYOCARDIUM in regions:
        _expect_enclosed(cavity_HW, regions[_MYOCARDIUM], sector_HW, near)
    atrium_HW = regions.get(_LA, np.zeros_like(cavity_HW))
    if atrium_HW.any() and not (_grown(atrium_HW, near) & cavity_HW).any():
        raise _implausible("its atrium lies apart from the ventricle")


def _expect_enclosed(
    cavity_HW: Booleans, wall_HW: Booleans, sector_HW: Booleans, near: int
) -> None:
    """The cavity's edge is wall, but for the valves; what the sector cuts off counts as nothing."""
    edge_HW = _grown(cavity_HW, 1) & ~cavity_HW & sector_HW
    if (edge_HW & wall_HW).sum() < _LEAST_ENCLOSED * max(edge_HW.sum(), 1):
        raise _implausible("its ventricle is not enclosed by myocardium")
    gap_HW = edge_HW & ~_grown(wall_HW, max(near // 2, 1))
    _, num_gaps = ndimage.label(_grown(gap_HW, near), np.ones((3, 3)))
    if num_gaps > _MOST_GAPS:
        raise _implausible(f"its myocardium has {num_gaps} gaps")


def _rest_share(region_HW: Booleans) -> float:
    """Share of a region that is not in its largest connected part."""
    parts_HW, _ = ndimage.label(region_HW, np.ones((3, 3)))
    counts = np.bincount(parts_HW.ravel())[1:]
    return 1.0 - float(counts.max() / counts.sum()) if len(counts) else 0.0


def _grown(region_HW: Booleans, pixels: int) -> Booleans:
    out: Booleans = ndimage.binary_dilation(region_HW, np.ones((3, 3)), iterations=pixels)
    return out


def _bends(
    size_HW: tuple[int, int], generator: np.random.Generator, reach: MapReach
) -> NDArray[np.float64]:
    """Displacements as shares of the side (2, H, W), 0 at the edge."""
    knots = reach.num_knots
    weight_2KK = np.zeros((2, knots + 2, knots + 2))
    weight_2KK[:, 2:-2, 2:-2] = generator.uniform(
        -reach.bend, reach.bend, (2, knots - 2, knots - 2)
    )
    # odd about the edge, so that the spline is 0 there
    weight_2KK[:, 0], weight_2KK[:, -1] = -weight_2KK[:, 2], -weight_2KK[:, -3]
    weight_2KK[:, :, 0], weight_2KK[:, :, -1] = -weight_2KK[:, :, 2], -weight_2KK[:, :, -3]
    axes = [1 + np.arange(length) / max(length - 1, 1) * (knots - 1) for length in size_HW]
    grid_2HW = np.stack(np.meshgrid(*axes, indexing="ij"))
    return np.stack(
        [ndimage.map_coordinates(one, grid_2HW, order=3, prefilter=False) for one in weight_2KK]
    )


def _implausible(why: str) -> EchoFedError:
    return EchoFedError(
        Code.MAP_IMPLAUSIBLE,
        f"no frame of a heart has this label map: {why}",
        "check the map beside one that was annotated by hand, or warp it less",
    )
