"""Which of a site's segmenters answer."""

from pathlib import Path

import pytest

from shared.echo.segmenter import save_segmenter
from shared.errors import Code, EchoFedError
from shared.services.segmenters import PARTS
from shared.testing.segmenters import untrained_segmenter
from site_client.segment.models import open_segmenters
from site_client.store import SiteStore


@pytest.fixture
def store(tmp_path: Path) -> SiteStore:
    return SiteStore(tmp_path)


def add(store: SiteStore, seed: int, *, site: str = "north") -> str:
    card, weights = untrained_segmenter(seed, site=site)
    save_segmenter(store.segmenter_folder(card.id), card, weights)
    return card.id


def refusal(store: SiteStore, *names: str) -> EchoFedError:
    with pytest.raises(EchoFedError) as caught:
        open_segmenters(store, names, site="north")
    return caught.value


def test_the_usual_alias_is_taken_and_another_may_be_named(store: SiteStore) -> None:
    usual, other = add(store, 1), add(store, 2)
    store.set_alias(PARTS[0], usual)
    for names, expected in (((), usual), ((other,), other), ((PARTS[0],), usual)):
        opened = open_segmenters(store, names, site="north")
        assert opened.contours is None
        assert opened.masks is not None
        assert opened.masks.card.id == expected


def test_a_site_without_segmenters_is_told_how_to_get_one(store: SiteStore) -> None:
    error = refusal(store)
    assert error.code is Code.MODEL_UNKNOWN
    assert "fetch-model segmentation-masks" in error.hint
    assert "task=segmentation" in error.hint
    name = add(store, 1)
    assert f"--segmenter: {name}" in refusal(store).hint


def test_two_segmenters_of_masks_are_one_too_many(store: SiteStore) -> None:
    error = refusal(store, add(store, 1), add(store, 2))
    assert error.code is Code.CONFIG_INVALID


def test_a_segmenter_of_elsewhere_that_nobody_signed_is_refused(store: SiteStore) -> None:
    assert refusal(store, add(store, 1, site="south")).code is Code.SIGNATURE_INVALID
    assert refusal(store, "nobody").code is Code.MODEL_UNKNOWN
