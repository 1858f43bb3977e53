import numpy as np
import pytest

from shared.echo.ontology import load_ontology
from shared.phantom.anatomy import Heart, draw_heart
from shared.phantom.planes import PLANES, VIEWS, jittered, pose_of
from shared.phantom.tissue import LABELS, cut, label_map


def heart_of(seed: int) -> Heart:
    return draw_heart(np.random.default_rng(seed))


def areas_cm2(seed: int, view: str, phase: float = 0.0) -> dict[str, float]:
    heart = heart_of(seed)
    pose = pose_of(PLANES[view], heart)
    right, down = np.meshgrid(np.arange(-80.0, 80.0), np.arange(0.0, 165.0))
    points = tuple(
        pose.origin_mm[k] + right * pose.right[k] + down * pose.down[k] for k in range(3)
    )
    labels = label_map(cut(heart, phase, points).chambers)
    return {name: float((labels == code).sum()) / 100 for code, name in enumerate(LABELS)}


def test_every_view_is_known_to_the_ontology() -> None:
    assert set(VIEWS) <= set(load_ontology().views)


@pytest.mark.parametrize("view", VIEWS)
def test_pose_is_a_right_angled_frame(view: str) -> None:
    pose = pose_of(jittered(PLANES[view], np.random.default_rng(0), 1.0), heart_of(0))
    frame = np.stack([pose.down, pose.right, pose.normal])
    assert np.allclose(frame @ frame.T, np.eye(3))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("view", "shows", "hides"),
    [
        ("A4C", ("LV", "LA", "RV", "RA"), ("aorta",)),
        ("A2C", ("LV", "LA"), ("RA",)),
        ("A3C", ("LV", "LA", "aorta"), ("RA",)),
        ("A5C", ("LV", "RV", "aorta"), ()),
        ("PLAX", ("LV", "LA", "RV", "aorta"), ("RA",)),
        ("PSAX-AV", ("LA", "RV", "RA", "aorta"), ("LV",)),
        ("PSAX-MV", ("LV", "RV"), ("LA", "aorta")),
        ("PSAX-PM", ("LV", "RV"), ("LA", "RA", "aorta")),
        ("PSAX-apex", ("LV",), ("LA", "RA", "aorta")),
        ("SC-4C", ("LV", "LA", "RV", "RA"), ()),
    ],
)
def test_textbook_planes_show_their_chambers(
    seed: int, view: str, shows: tuple[str, ...], hides: tuple[str, ...]
) -> None:
    areas = areas_cm2(seed, view)
    for name in shows:
        assert areas[name] > 1.0, name
    for name in hides:
        assert areas[name] < 1.0, name


def test_no_jitter_is_the_textbook_plane() -> None:
    assert jittered(PLANES["A4C"], np.random.default_rng(0), 0.0) == PLANES["A4C"]


def test_short_axis_shrinks_towards_the_apex() -> None:
    levels = [areas_cm2(1, view)["LV"] for view in ("PSAX-PM", "PSAX-apex")]
    assert levels[0] > levels[1]
