"""The centre sends what serves and what that needs to admitted sites, and notes who fetched it."""

import json
import os
import signal
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml
from typer.testing import CliRunner

from aggregator.admission import register_model
from aggregator.centre import Centre, open_centre
from aggregator.cli import build_app
from aggregator.enrolment import approve, invite, revoke
from aggregator.hosting import SERVING, running_services
from aggregator.serving import PROMOTED, WITHDRAWAL_BEGUN
from shared.echo.expert import (
    Block,
    FusionCard,
    read_expert_card,
    read_fusion_card,
    save_checkpoint,
)
from shared.echo.model_name import ModelName
from shared.echo.synthesizer import save_synthesizer
from shared.errors import Code, EchoFedError
from shared.files import sha256_hex
from shared.rpc.authority import create_authority, ensure_server_certificate
from shared.rpc.channel import Channel, open_channel
from shared.rpc.peer import Credentials
from shared.services.models import FetchedModel, fetch_model
from shared.services.remote_synthesis import submit_synthesis, synthesize_remotely
from shared.synthesis.order import Order, Variation
from shared.testing.exports import GaussianWorld
from shared.testing.synthesizers import untrained_synthesizer
from site_client.federate import free_port
from site_client.identity import Identity, accept_certificate, join

NOW = datetime.now(UTC)
WORLD = GaussianWorld({"north": ["A4C", "A2C"], "south": ["A4C", "PLAX"], "east": ["A4C", "A2C"]})
LIMIT = 10_000
Fetch = Callable[[str], FetchedModel]


def weights_of(site: str) -> bytes:
    """What the hash in the card of a site's expert is of."""
    return f"weights {site} 0".encode()


def fusion_of(*sites: str) -> tuple[FusionCard, bytes]:
    """A fusion whose weights nobody reads here."""
    cards = [WORLD.expert(site) for site in sites]
    weights = " ".join(sites).encode()
    blocks = tuple(Block(card.id, card.views, card.feature_width, 1) for card in cards)
    sha256 = sha256_hex(weights)
    return FusionCard(
        id=f"fusion-{sha256[:8]}",
        variant="sum",
        views=("A2C", "A4C"),
        blocks=blocks,
        weights_sha256=sha256,
        parent="",
        exports=(),
        fresh=(),
        cached=(),
        missing=(),
        seed=1,
        settings_hash="",
        settings={},
        metrics={},
        abstain_below=0.0,
        created=NOW.isoformat(),
    ), weights


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Settings of a centre that holds three experts, two of which serve."""
    path = tmp_path / "aggregator.yaml"
    path.write_text(yaml.safe_dump({"services": {"port": free_port()}}))
    made = open_centre(path)
    create_authority(made.authority.folder, "test", now=NOW)
    ensure_server_certificate(made.authority, ["127.0.0.1"], now=NOW)
    for card in WORLD.experts().values():
        made.state.add_expert(card, now=NOW)
        save_checkpoint(made.expert_folder(card.id), card, weights_of(card.site))
    made.state.close()
    return path


@pytest.fixture
def centre(config: Path) -> Iterator[Centre]:
    opened = open_centre(config)
    yield opened
    opened.state.close()


def serve_fusion(centre: Centre, *experts: str) -> FusionCard:
    card, weights = fusion_of(*experts)
    save_checkpoint(centre.fusion_folder(card.id), card, weights)
    centre.ledger.append(PROMOTED, {"fusion": card.id}, actor="ada")
    return card


@pytest.fixture
def site(centre: Centre, tmp_path: Path) -> Credentials:
    """A site that was enrolled as sites are."""
    kit = invite(centre.authority, "north", address="", federation="test", now=NOW)
    request = join(tmp_path / "north", kit, now=NOW)
    _, document = approve(
        centre.authority, request, federation="test", now=NOW, valid=timedelta(days=9)
    )
    accept_certificate(tmp_path / "north", document)
    identity = Identity(tmp_path / "north")
    return Credentials(identity.ca, identity.certificate, identity.tls_key)


@pytest.fixture
def channel(centre: Centre, site: Credentials) -> Iterator[Channel]:
    with (
        running_services(centre, ["models"], host="127.0.0.1") as port,
        open_channel(f"127.0.0.1:{port}", site) as opened,
    ):
        yield opened


@pytest.fixture
def fetch(channel: Channel, site: Credentials) -> Fetch:
    """Fetches by the service, trusting the authority of the site's kit."""
    ca_pem = site.ca.read_bytes()
    return lambda alias: fetch_model(channel, alias, ca_pem=ca_pem, limit_bytes=LIMIT)


def refusal(fetch: Fetch, alias: str) -> Code:
    with pytest.raises(EchoFedError) as refused:
        fetch(alias)
    return refused.value.code


def test_a_site_gets_what_serves_and_its_experts_and_the_ledger_says_so(
    centre: Centre, fetch: Fetch
) -> None:
    fusion = serve_fusion(centre, "north", "south")
    model = fetch(SERVING)
    assert (read_fusion_card(json.loads(model.card)), model.weights) == (fusion, b"north south")
    for block, name in zip(fusion.blocks, ("north", "south"), strict=True):
        model = fetch(block.expert)
        card = read_expert_card(json.loads(model.card))
        assert (card.id, model.weights) == (block.expert, weights_of(name))
    entries = [one.body for one in centre.ledger.entries() if one.kind == "model.fetched"]
    assert [one["model"] for one in entries] == [fusion.id, *(b.expert for b in fusion.blocks)]
    assert {(one["caller"], one["role"]) for one in entries} == {("north", "site")}


def test_an_expert_that_does_not_serve_stays(centre: Centre, fetch: Fetch) -> None:
    serve_fusion(centre, "north", "south")
    assert refusal(fetch, WORLD.expert("east").id) is Code.MODEL_UNKNOWN
    assert refusal(fetch, "../ca/ca.key") is Code.MODEL_UNKNOWN
    assert "model.fetched" not in {one.kind for one in centre.ledger.entries()}


def test_nothing_serves_before_a_promotion_and_after_a_withdrawal(
    centre: Centre, fetch: Fetch
) -> None:
    assert refusal(fetch, SERVING) is Code.MODEL_UNKNOWN
    fusion = serve_fusion(centre, "north")
    fetch(SERVING)
    body = {"dataset": "north/echo", "fusions": [fusion.id]}
    centre.ledger.append(WITHDRAWAL_BEGUN, body, actor="ada")
    assert refusal(fetch, SERVING) is Code.MODEL_UNKNOWN


def test_a_promotion_shows_without_a_restart(centre: Centre, fetch: Fetch) -> None:
    for experts in (("north",), ("north", "south")):
        serve_fusion(centre, *experts)
        assert fetch(SERVING).weights == " ".join(experts).encode()


def test_a_revoked_site_is_refused_on_the_connection_it_holds(centre: Centre, fetch: Fetch) -> None:
    serve_fusion(centre, "north")
    fetch(SERVING)
    revoke(centre.authority, "north")
    assert refusal(fetch, SERVING) is Code.NODE_REFUSED


def test_an_unknown_service_is_named(centre: Centre) -> None:
    with (
        pytest.raises(EchoFedError) as refused,
        running_services(centre, ["model"], host="127.0.0.1"),
    ):
        pass
    assert (refused.value.code, "models" in refused.value.hint) == (Code.NAME_UNKNOWN, True)


def test_the_command_serves_until_sigterm(config: Path, centre: Centre, site: Credentials) -> None:
    serve_fusion(centre, "north")
    fetched: list[bytes] = []
    counted: list[str] = []
    metrics = f"http://127.0.0.1:{free_port()}/metrics"

    def fetch_and_stop() -> None:
        try:
            with open_channel(f"127.0.0.1:{centre.settings.services.port}", site) as channel:
                give_up = time.monotonic() + 20.0
                while not fetched and time.monotonic() < give_up:
                    try:
                        ca_pem = site.ca.read_bytes()
                        model = fetch_model(channel, SERVING, ca_pem=ca_pem, limit_bytes=LIMIT)
                        fetched.append(model.weights)
                    except EchoFedError:  # not up yet
                        time.sleep(0.1)
            with urllib.request.urlopen(metrics, timeout=10) as page:
                counted.extend(page.read().decode().splitlines())
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, lambda *_: None)
    caller = threading.Thread(target=fetch_and_stop)
    caller.start()
    words = ["serve", "--services", "models", "--json", "--config", str(config)]
    words += ["--set", f"services.metrics_port={urlsplit(metrics).port}"]
    result = CliRunner().invoke(build_app(), words)
    caller.join(5.0)
    signal.signal(signal.SIGTERM, before)
    assert result.exit_code == 0, result.output
    port = centre.settings.services.port
    assert json.loads(result.stdout) == {
        "address": f"127.0.0.1:{port}",
        "services": ["models"],
        "metrics": metrics,
    }
    assert fetched == [b"north"]
    assert any(line.startswith("echofed_sent_bytes_total") for line in counted)


@pytest.mark.slow
def test_a_registered_synthesizer_draws_for_sites_until_its_dataset_is_withdrawn(
    centre: Centre, site: Credentials, tmp_path: Path
) -> None:
    card, weights = untrained_synthesizer(1)
    save_synthesizer(tmp_path / card.id, card, weights)
    register_model(centre, tmp_path / card.id, alias="", actor="ada", reason="")
    order = Order("A4C", variation=Variation(2, seed=5))
    with (
        running_services(centre, ["synthesis"], host="127.0.0.1") as port,
        open_channel(f"127.0.0.1:{port}", site, deadline_s=120.0) as channel,
    ):
        model, *drawings = synthesize_remotely(channel, order)
        assert isinstance(model, ModelName)
        assert (model.id, len(drawings)) == (card.id, 2)
        centre.ledger.append(
            WITHDRAWAL_BEGUN, {"dataset": "north/echo", "fusions": []}, actor="ada"
        )
        deadline, refused = time.monotonic() + 60.0, None
        while refused is None and time.monotonic() < deadline:
            time.sleep(0.3)
            try:
                submit_synthesis(channel, order)
            except EchoFedError as error:
                refused = error.code if error.code is not Code.SERVICE_BUSY else None
    assert refused is Code.MODEL_UNKNOWN
