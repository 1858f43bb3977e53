"""What a site needs before it hosts: an authority of its own, and segmenters it trusts."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from shared.echo.segmenter import save_segmenter
from shared.errors import Code, EchoFedError
from shared.rpc.deadline import Deadline
from shared.rpc.peer import Peer
from shared.services.segmenters import RunningSegmenters
from shared.testing.segmenters import untrained_segmenter
from site_client.hosting import (
    ensure_hospital,
    hospital_of,
    open_own_services,
    trusted_models,
)
from site_client.settings import ServicesSettings
from site_client.store import SiteStore

NOW = datetime.now(UTC)
SETTINGS = ServicesSettings(port=0)


@pytest.fixture
def store(tmp_path: Path) -> SiteStore:
    return SiteStore(tmp_path)


def test_the_authority_is_made_once_and_its_keys_are_the_owners(store: SiteStore) -> None:
    ensure_hospital(store, SETTINGS, site="north", now=NOW)
    hospital = hospital_of(store)
    before = {path.name: path.read_bytes() for path in hospital.folder.iterdir()}
    ensure_hospital(store, SETTINGS, site="north", now=NOW)
    assert {path.name: path.read_bytes() for path in hospital.folder.iterdir()} == before
    keys = list(hospital.folder.glob("*.key"))
    assert {path.stat().st_mode & 0o777 for path in keys} == {0o600}
    assert {path.stem for path in keys} == {"ca", "server", "caller"}


def test_a_site_that_never_hosted_says_so(store: SiteStore) -> None:
    with pytest.raises(EchoFedError) as refused, open_own_services(store, SETTINGS):
        pass
    assert refused.value.code is Code.CONFIG_MISSING


def test_a_segmenter_from_elsewhere_that_nobody_signed_does_not_serve(store: SiteStore) -> None:
    card, weights = untrained_segmenter(1, site="south")
    save_segmenter(store.segmenter_folder(card.id), card, weights)
    caller, call = Peer("north", "site"), Deadline(10.0)
    with (
        trusted_models(store, SETTINGS, site="north").running() as models,
        pytest.raises(EchoFedError) as refused,
    ):
        RunningSegmenters(models).find(card.id, caller=caller, call=call)
    assert refused.value.code is Code.SIGNATURE_INVALID
