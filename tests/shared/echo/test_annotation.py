"""An annotation is whole, or it is refused."""

import numpy as np
import pytest

from shared.echo.annotation import Annotation
from shared.errors import Code, EchoFedError

LABELS = np.zeros((2, 4, 5), np.uint8)


@pytest.mark.parametrize("frames", [(1, 0), (0, 0), (-1, 0)])
def test_frames_are_named_once_and_in_order(frames: tuple[int, ...]) -> None:
    with pytest.raises(EchoFedError) as refused:
        Annotation(frames, LABELS, ("background", "lv"))
    assert refused.value.code is Code.LABEL_MAP_INVALID


@pytest.mark.parametrize("names", [("lv",), ("background", "spleen"), ("background", "lv", "lv")])
def test_structures_are_those_of_the_house_background_first(names: tuple[str, ...]) -> None:
    with pytest.raises(EchoFedError) as refused:
        Annotation((0, 1), LABELS, names)
    assert refused.value.code is Code.LABEL_MAP_INVALID


def test_a_value_without_a_name_is_refused() -> None:
    with pytest.raises(EchoFedError) as refused:
        Annotation((0, 1), LABELS + 2, ("background", "lv"))
    assert refused.value.code is Code.LABEL_UNMAPPED


def test_labels_and_landmarks_are_as_many_as_frames() -> None:
    for labels, landmarks in ((LABELS[:1], None), (LABELS, np.zeros((1, 3, 2)))):
        with pytest.raises(EchoFedError) as refused:
            Annotation((0, 1), labels, ("background", "lv"), landmarks)
        assert refused.value.code is Code.SHAPE_MISMATCH
