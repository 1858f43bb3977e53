"""What a site needs before it hosts: an authority of its own, and models it trusts."""

import urllib.request
from datetime import UTC, datetime
from pathlib import Path

import pytest

from shared.echo.model_name import ModelName
from shared.echo.segmenter import save_segmenter
from shared.echo.synthesizer import save_synthesizer
from shared.errors import Code, EchoFedError
from shared.rpc.deadline import Deadline
from shared.rpc.peer import Peer
from shared.services.remote_synthesis import synthesize_remotely
from shared.services.segmenters import RunningSegmenters
from shared.services.synthesizers import SYNTHESIS
from shared.synthesis.order import Drawing, Order, Variation
from shared.testing.segmenters import untrained_segmenter
from shared.testing.synthesizers import untrained_synthesizer
from site_client.federate import free_port
from site_client.hosting import (
    ensure_hospital,
    hospital_of,
    open_own_services,
    running_services,
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


@pytest.mark.slow
def test_a_site_draws_for_its_own_commands_and_its_metrics_count_the_images(
    store: SiteStore,
) -> None:
    card, weights = untrained_synthesizer(1)
    save_synthesizer(store.synthesizer_folder(card.id), card, weights)
    store.set_alias(SYNTHESIS, card.id)
    settings = ServicesSettings(port=free_port(), metrics_port=free_port())
    ensure_hospital(store, settings, site="north", now=NOW)
    order = Order("A4C", variation=Variation(3, seed=5), seed=7)
    with (
        running_services(store, settings, ["segmentation", "synthesis"], site="north"),
        open_own_services(store, settings, deadline_s=120.0) as channel,
    ):
        model, *drawings = synthesize_remotely(channel, order)
        url = f"http://127.0.0.1:{settings.metrics_port}/metrics"
        with urllib.request.urlopen(url, timeout=10) as page:
            lines = page.read().decode().splitlines()
    assert isinstance(model, ModelName)
    assert (model.id, model.sha256) == (card.id, card.weights_sha256)
    assert [one.place for one in drawings if isinstance(one, Drawing)] == [0, 1, 2]
    (rows,) = [line for line in lines if "rows_total" in line and SYNTHESIS in line]
    assert float(rows.split()[-1]) >= 3
