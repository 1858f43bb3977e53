import numpy as np
import pytest

from shared.echo.mask import STRUCTURES, Mask
from shared.errors import Code, EchoFedError


def mask_of(values: list[list[int]], names: tuple[str, ...] = STRUCTURES) -> Mask:
    return Mask(np.array(values, np.uint8), names, (0.5, 0.4), "frame")


def test_regions_cover_the_picture_once() -> None:
    mask = mask_of([[0, 1, 2], [3, 1, 0]])
    regions = np.stack([mask.region(name) for name in mask.names])
    assert np.array_equal(regions.sum(axis=0), np.ones((2, 3)))
    assert np.array_equal(mask.region("lv"), [[False, True, False], [False, True, False]])


def test_renamed_mask_shows_the_same_structures() -> None:
    mask = mask_of([[0, 1, 2], [3, 1, 0]])
    fewer = mask.renamed(("background", "la", "lv"))
    assert np.array_equal(fewer.region("lv"), mask.region("lv"))
    assert np.array_equal(fewer.region("la"), mask.region("la"))
    gone = mask.region("myocardium") | mask.region("background")
    assert np.array_equal(fewer.region("background"), gone)
    assert fewer.mm_per_pixel == mask.mm_per_pixel


def test_value_without_a_name_is_refused() -> None:
    with pytest.raises(EchoFedError) as caught:
        mask_of([[0, 3]], ("background", "lv"))
    assert caught.value.code is Code.LABEL_UNMAPPED


@pytest.mark.parametrize("names", [(), ("background", "lv", "lv", "la")])
def test_names_must_be_distinct(names: tuple[str, ...]) -> None:
    with pytest.raises(EchoFedError) as caught:
        mask_of([[0, 1]], names)
    assert caught.value.code is Code.LABEL_MAP_INVALID


def test_unknown_structure_is_refused() -> None:
    with pytest.raises(EchoFedError) as caught:
        mask_of([[0, 1]], ("background", "lv")).region("la")
    assert caught.value.code is Code.NAME_UNKNOWN


def test_mask_is_a_picture() -> None:
    with pytest.raises(EchoFedError) as caught:
        Mask(np.zeros((2, 3, 4), np.uint8), STRUCTURES, None, "frame")
    assert caught.value.code is Code.SHAPE_MISMATCH
