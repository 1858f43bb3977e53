from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from shared.echo.mask import OUTSIDE, STRUCTURES, Mask
from shared.errors import Code, EchoFedError
from shared.synthesis.maps import (
    ECHO_FROM_NOISE,
    Labels,
    MapReach,
    expect_plausible,
    is_plausible,
    map_hash,
    map_of,
    one_hot_maps,
    phantom_maps,
    plausibly_warped,
    warp_sources,
    warped,
)

NAMES = (OUTSIDE, "background", "lv", "myocardium", "la")
STILL = MapReach(0.0, 0.0, (1.0, 1.0), 0.0, 10, 0.0)
SIZE = 64


@pytest.fixture(scope="module")
def apical() -> Labels:
    """A four-chamber map of a phantom."""
    return phantom_maps(1, 8, SIZE, views=("A4C",), structures=NAMES).labels_NSS[0]


def refused(labels_HW: Labels, structures: tuple[str, ...] = NAMES) -> Code:
    with pytest.raises(EchoFedError) as caught:
        expect_plausible(labels_HW, structures, size=SIZE)
    return caught.value.code


def changed(labels_HW: Labels, region_HW: np.ndarray, name: str) -> Labels:
    out = labels_HW.copy()
    out[region_HW] = NAMES.index(name)
    return out


def test_map_of_a_mask_cuts_off_what_lies_outside_the_sector() -> None:
    mask = Mask(np.array([[0, 1], [2, 4]], np.uint8), STRUCTURES, None, "")
    sector_HW = np.array([[True, False], [True, True]])
    # the right ventricle (4) is no structure of this synthesizer
    assert np.array_equal(map_of(mask, sector_HW, NAMES), [[1, 0], [3, 1]])


def test_map_needs_the_outside_first() -> None:
    mask = Mask(np.zeros((2, 2), np.uint8), STRUCTURES, None, "")
    with pytest.raises(EchoFedError) as caught:
        map_of(mask, np.ones((2, 2), bool), STRUCTURES)
    assert caught.value.code is Code.LABEL_MAP_INVALID


def test_one_hot_channels_sum_to_one_and_name_the_label(apical: Labels) -> None:
    maps_NLHW = one_hot_maps(apical[None], len(NAMES))
    assert (maps_NLHW.sum(dim=1) == 1).all()
    assert np.array_equal(maps_NLHW.argmax(dim=1).numpy()[0], apical)


def test_hash_tells_values_names_and_shapes_apart(apical: Labels) -> None:
    other = apical.copy()
    other[0, 0] += 1
    hashes = {
        map_hash(apical, NAMES),
        map_hash(other, NAMES),
        map_hash(apical, NAMES[::-1]),
        map_hash(apical.reshape(32, 128), NAMES),
    }
    assert len(hashes) == 4
    assert map_hash(np.asfortranarray(apical), NAMES) == map_hash(apical, NAMES)


def test_phantom_maps_are_plausible_and_repeat_under_a_seed(seed: int) -> None:
    maps, again = (phantom_maps(6, seed, SIZE, views=("A4C", "PLAX")) for _ in range(2))
    assert np.array_equal(maps.labels_NSS, again.labels_NSS)
    assert maps.structures == (OUTSIDE, *STRUCTURES)
    assert maps.view_N.tolist() == [0, 1, 0, 1, 0, 1]
    for labels_SS in maps.labels_NSS:
        expect_plausible(labels_SS, maps.structures, size=SIZE)


def test_a_warp_without_reach_changes_nothing(apical: Labels, seed: int) -> None:
    assert np.array_equal(warped(apical, np.random.default_rng(seed), STILL), apical)


@pytest.mark.parametrize("seed", range(3))
def test_a_warp_keeps_the_sector_and_invents_no_label(apical: Labels, seed: int) -> None:
    moved = warped(apical, np.random.default_rng(seed), ECHO_FROM_NOISE)
    assert np.array_equal(moved == 0, apical == 0)
    assert set(np.unique(moved)) <= set(np.unique(apical))
    assert (moved != apical).mean() > 0.02
    assert np.array_equal(moved, warped(apical, np.random.default_rng(seed), ECHO_FROM_NOISE))


def test_pixels_can_be_moved_with_their_map(apical: Labels, seed: int) -> None:
    moved = warped(apical, np.random.default_rng(seed), ECHO_FROM_NOISE)
    places = warp_sources(apical.shape, np.random.default_rng(seed), ECHO_FROM_NOISE)
    lv = ndimage.map_coordinates(np.where(apical == 2, 255, 0), places, order=0)
    assert np.array_equal((lv > 0) & (apical > 0), moved == 2)


def test_a_zoom_scales_areas_by_its_square(apical: Labels, seed: int) -> None:
    zoomed = warped(apical, np.random.default_rng(seed), replace(STILL, scale=(0.8, 0.8)))
    area, before = (zoomed > 1).sum(), (apical > 1).sum()
    assert area / before == pytest.approx(0.64, abs=0.03)


def test_bending_leaves_the_edge_of_the_picture(seed: int) -> None:
    striped = np.tile(np.array([1, 2], np.uint8), (SIZE, SIZE // 2))
    bent = warped(striped, np.random.default_rng(seed), replace(STILL, bend=0.1))
    for edge, before in ((bent[0], striped[0]), (bent[:, -1], striped[:, -1])):
        assert np.array_equal(edge, before)
    assert (bent != striped).mean() > 0.2


def test_a_shift_stays_within_its_reach(apical: Labels) -> None:
    reach = replace(STILL, shift=0.05)
    middle = np.array(ndimage.center_of_mass(apical == 2))
    moves = [
        np.array(ndimage.center_of_mass(warped(apical, np.random.default_rng(n), reach) == 2))
        - middle
        for n in range(20)
    ]
    assert 1.0 < np.abs(moves).max() <= 0.05 * SIZE + 1.0


def test_implausible_warps_are_drawn_again(apical: Labels, seed: int) -> None:
    rough = replace(ECHO_FROM_NOISE, bend=0.3)
    generator = np.random.default_rng(seed)
    plain = [is_plausible(warped(apical, generator, rough), NAMES) for _ in range(20)]
    assert not all(plain)
    drawn = plausibly_warped(apical, NAMES, np.random.default_rng(seed), rough)
    expect_plausible(drawn, NAMES)


def test_a_map_that_no_warp_mends_is_refused(apical: Labels, seed: int) -> None:
    empty = np.minimum(apical, 1)
    with pytest.raises(EchoFedError) as caught:
        plausibly_warped(empty, NAMES, np.random.default_rng(seed), STILL)
    assert caught.value.code is Code.MAP_IMPLAUSIBLE


def test_size_type_values_and_sector_have_codes_of_their_own(apical: Labels) -> None:
    assert refused(apical[:32, :32]) is Code.SHAPE_MISMATCH
    assert refused(apical.astype(np.int64)) is Code.LABEL_UNMAPPED  # type: ignore[arg-type]
    assert refused(apical, NAMES[:4]) is Code.LABEL_UNMAPPED
    assert refused(np.zeros_like(apical)) is Code.SECTOR_EMPTY


def test_a_sector_in_pieces_is_refused(apical: Labels) -> None:
    corner = np.zeros(apical.shape, bool)
    corner[:2, :2] = True
    assert refused(changed(apical, corner, "background")) is Code.MAP_IMPLAUSIBLE


@pytest.mark.parametrize("gone", ["lv", "myocardium"])
def test_a_heart_without_cavity_or_wall_is_refused(apical: Labels, gone: str) -> None:
    bare = changed(apical, apical == NAMES.index(gone), "background")
    assert refused(bare) is Code.MAP_IMPLAUSIBLE


def test_a_cavity_in_two_pieces_is_refused(apical: Labels) -> None:
    rows = np.flatnonzero((apical == 2).any(axis=1))
    band = np.zeros(apical.shape, bool)
    band[int(rows.mean()) - 1 : int(rows.mean()) + 2] = True
    split = changed(apical, band & (apical == 2), "myocardium")
    assert refused(split) is Code.MAP_IMPLAUSIBLE


def test_an_atrium_far_from_the_ventricle_is_refused(apical: Labels) -> None:
    atrium = apical == 4
    distance = ndimage.distance_transform_edt(apical != 2) * (apical > 0)
    apart = changed(changed(apical, atrium, "background"), distance > distance.max() - 3, "la")
    assert refused(apart) is Code.MAP_IMPLAUSIBLE


def test_a_wall_with_many_gaps_is_refused(apical: Labels) -> None:
    rows = np.flatnonzero((apical == 3).any(axis=1))
    holes = np.zeros(apical.shape, bool)
    for row in (rows[len(rows) // 4], rows[len(rows) // 2]):
        holes[row : row + 5] = True
    assert refused(changed(apical, holes & (apical == 3), "background")) is Code.MAP_IMPLAUSIBLE


def test_structures_that_a_synthesizer_does_not_know_are_not_asked_for() -> None:
    skull = np.ones((SIZE, SIZE), np.uint8)
    skull[20:40, 20:40] = 2
    expect_plausible(skull, (OUTSIDE, "background", "skull"))


def test_real_maps_and_their_warps_are_plausible(real_data: Path, seed: int) -> None:
    generator = np.random.default_rng(seed)
    for path in sorted((real_data / "camus_a4c" / "masks").iterdir())[:80:4]:
        small = Image.open(path).resize((SIZE, SIZE), Image.Resampling.NEAREST)
        mask = Mask(np.array(small), ("background", "lv", "myocardium", "la"), None, "")
        labels_HW = map_of(mask, np.ones((SIZE, SIZE), bool), NAMES)
        expect_plausible(labels_HW, NAMES, size=SIZE)
        expect_plausible(plausibly_warped(labels_HW, NAMES, generator, ECHO_FROM_NOISE), NAMES)
