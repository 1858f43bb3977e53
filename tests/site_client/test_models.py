"""A site takes a model only as its centre signed it, and keeps what it had otherwise."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from aggregator.centre import Centre, open_centre
from aggregator.enrolment import approve, invite, revoke
from aggregator.hosting import running_services
from aggregator.serving import MODEL_PROMOTED, MODEL_REGISTERED
from shared.echo.expert import CARD_FILE, WEIGHTS_FILE
from shared.echo.manifest import DatasetManifest
from shared.echo.model_card import ModelCard, ModelKind, load_model_files, save_model
from shared.echo.segmenter import SegmenterCard, load_segmenter_files, save_segmenter
from shared.errors import Code, EchoFedError
from shared.files import read_json, write_json
from shared.ledger import Ledger
from shared.rpc.authority import create_authority, ensure_server_certificate
from shared.signature import SIGNATURE_FILE
from shared.testing.segmenters import untrained_segmenter
from shared.testing.synthesizers import untrained_synthesizer
from site_client.cli import build_app
from site_client.connection import open_services
from site_client.doctor.finding import Premises
from site_client.doctor.models import check
from site_client.federate import free_port
from site_client.identity import accept_certificate, join
from site_client.models import fetch_from_centre, load_trusted, load_trusted_synthesizer
from site_client.policy import DatasetPolicy, Policy, save_policy
from site_client.settings import CentreSettings
from site_client.store import SiteStore

NOW = datetime.now(UTC)
MASKS = "segmentation-masks"


@dataclass
class House:
    """A centre with its services, and the site north, which was enrolled there."""

    centre: Centre
    store: SiteStore
    settings: CentreSettings

    def serve(self, card: ModelCard, weights: bytes, *, alias: str = MASKS) -> None:
        """As ``register`` leaves it."""
        save_model(self.centre.model_folder(card.kind, card.id), card, weights)
        body = {card.kind: card.id, "sha256": card.weights_sha256, "site": card.site}
        more: dict[str, Any] = {"origin": "phantom", "parent": "", "datasets": []}
        ledger = self.centre.ledger
        ledger.append(MODEL_REGISTERED[card.kind], {**body, **more}, actor="ada")
        promoted = {"alias": alias, card.kind: card.id}
        ledger.append(MODEL_PROMOTED[card.kind], promoted, actor="ada")

    def fetch(self, alias: str = MASKS) -> ModelCard:
        return fetch_from_centre(self.store, self.settings, alias, site="north", now=NOW)

    def refusal(self, alias: str = MASKS) -> Code:
        with pytest.raises(EchoFedError) as caught:
            self.fetch(alias)
        return caught.value.code


@contextmanager
def built_house(folder: Path) -> Iterator[House]:
    config = folder / "centre" / "aggregator.yaml"
    config.parent.mkdir(parents=True)
    config.write_text(yaml.safe_dump({"services": {"port": free_port()}}))
    centre = open_centre(config)
    create_authority(centre.authority.folder, "test", now=NOW)
    ensure_server_certificate(centre.authority, [], now=NOW)
    store = SiteStore(folder / "north")
    kit = invite(centre.authority, "north", address="127.0.0.1:1", federation="test", now=NOW)
    request = join(store.identity_folder, kit, now=NOW)
    _, document = approve(centre.authority, request, federation="test", now=NOW)
    accept_certificate(store.identity_folder, document)
    with running_services(centre, ["models"], host="127.0.0.1") as port:
        address = f"127.0.0.1:{port}"
        settings = CentreSettings(address="127.0.0.1:1", federation="test", services=address)
        yield House(centre, store, settings)
    centre.state.close()


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with built_house(tmp_path) as built:
        yield built


def states(store: SiteStore) -> list[tuple[str, Code | None]]:
    premises = Premises(store, Path(), None, NOW, is_full=False, site="north")
    return [(finding.state, finding.code) for finding in check(premises)]


def test_a_segmenter_comes_under_its_alias_and_can_be_checked_again(house: House) -> None:
    card, weights = untrained_segmenter(1, site="south")
    house.serve(card, weights)
    assert house.fetch() == card
    assert house.store.aliased(MASKS) == card.id
    assert load_trusted(house.store, card.id, site="north") == (card, weights)
    assert states(house.store) == [("ok", None)]
    (entry,) = Ledger(house.store.ledger_path).entries()
    assert (entry.kind, entry.body["subject"]) == ("segmenter.received", card.id)
    (fetched,) = [e.body for e in house.centre.ledger.entries() if e.kind == "model.fetched"]
    assert (fetched["model"], fetched["caller"]) == (card.id, "north")


def test_a_synthesizer_comes_the_same_way_into_its_own_folder(house: House) -> None:
    card, weights = untrained_synthesizer(1, site="south")
    house.serve(card, weights, alias="synthesis")
    assert house.fetch("synthesis") == card
    assert house.store.aliases() == {"synthesis": card.id}
    assert (house.store.synthesizers(), house.store.segmenters()) == ((card.id,), ())
    assert load_trusted_synthesizer(house.store, card.id, site="north") == (card, weights)
    assert states(house.store) == [("ok", None)]
    (entry,) = Ledger(house.store.ledger_path).entries()
    assert (entry.kind, entry.body["subject"]) == ("synthesizer.received", card.id)
    drop_signature(house.store.synthesizer_folder(card.id))
    with pytest.raises(EchoFedError) as caught:
        load_trusted_synthesizer(house.store, card.id, site="north")
    assert caught.value.code is Code.SIGNATURE_INVALID
    assert states(house.store) == [("fault", Code.SIGNATURE_INVALID)]


def test_the_id_of_a_segmenter_here_is_not_taken_by_a_synthesizer(house: House) -> None:
    card, weights = untrained_segmenter(1)
    save_segmenter(house.store.segmenter_folder(card.id), card, weights)
    other, others = untrained_synthesizer(2, site="south")
    house.serve(replace(other, id=card.id), others, alias="synthesis")
    assert house.refusal("synthesis") is Code.IDENTITY_MISMATCH
    assert house.store.synthesizers() == ()


def test_the_next_fetch_brings_what_the_alias_stands_for_then(house: House) -> None:
    old, new = untrained_segmenter(1), untrained_segmenter(2)
    for made in (old, new):
        house.serve(*made)
        house.fetch()
        assert house.store.aliased(MASKS) == made[0].id
    assert set(house.store.segmenters()) == {old[0].id, new[0].id}
    house.fetch(old[0].id)
    assert house.store.aliases() == {MASKS: new[0].id}


def alter_weights(house: House, card: SegmenterCard) -> None:
    (house.centre.model_folder("segmenter", card.id) / WEIGHTS_FILE).write_bytes(b"altered")


def call_it_a_fusion(house: House, card: SegmenterCard) -> None:
    path = house.centre.model_folder("segmenter", card.id) / CARD_FILE
    write_json(path, {k: v for k, v in read_json(path).items() if k != "kind"})


def name_it_outside(house: House, card: SegmenterCard) -> None:
    path = house.centre.model_folder("segmenter", card.id) / CARD_FILE
    write_json(path, read_json(path) | {"id": "../../identity"})


def shut_the_site_out(house: House, card: SegmenterCard) -> None:
    revoke(house.centre.authority, "north")


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (alter_weights, Code.CHECKPOINT_CORRUPT),
        (call_it_a_fusion, Code.MODEL_UNKNOWN),
        (name_it_outside, Code.WIRE_INVALID),
        (shut_the_site_out, Code.NODE_REFUSED),
    ],
)
def test_a_refused_fetch_leaves_what_was_here(
    house: House, spoil: Callable[[House, SegmenterCard], None], code: Code
) -> None:
    old, new = untrained_segmenter(1), untrained_segmenter(2)
    house.serve(*old)
    house.fetch()
    house.serve(*new)
    spoil(house, new[0])
    assert house.refusal() is code
    assert house.store.segmenters() == (old[0].id,)
    assert house.store.aliased(MASKS) == old[0].id
    assert states(house.store) == [("ok", None)]


def test_a_segmenter_of_this_site_is_not_overwritten_by_one_of_its_name(house: House) -> None:
    card, weights = untrained_segmenter(1)
    save_segmenter(house.store.segmenter_folder(card.id), card, weights)
    other, others = untrained_segmenter(2, site="south")
    house.serve(replace(other, id=card.id), others)
    assert house.refusal() is Code.IDENTITY_MISMATCH
    assert load_trusted(house.store, card.id, site="north") == (card, weights)


def test_an_alias_that_the_centre_does_not_know_is_refused(house: House) -> None:
    assert house.refusal("segmentation-mask") is Code.MODEL_UNKNOWN


def test_a_site_trusts_the_authority_of_its_kit_alone(house: House, tmp_path: Path) -> None:
    """The connection is another centre's, the kit's authority signed nothing of it."""
    house.serve(*untrained_segmenter(1, site="south"))
    house.fetch()
    with built_house(tmp_path / "other") as other:
        stranger = replace(other, store=house.store, settings=other.settings)
        assert stranger.refusal() is Code.CENTRE_UNREACHABLE
        theirs = other.centre.authority.ca_pem.read_bytes()
    (house.store.identity_folder / "ca.pem").write_bytes(theirs)
    assert states(house.store) == [("fault", Code.SIGNATURE_INVALID)]


def alter_card(folder: Path) -> None:
    write_json(folder / CARD_FILE, read_json(folder / CARD_FILE) | {"views": ["PLAX"]})


def drop_signature(folder: Path) -> None:
    (folder / SIGNATURE_FILE).unlink()


@pytest.mark.parametrize("spoil", [alter_card, drop_signature])
def test_what_is_altered_later_is_found(house: House, spoil: Callable[[Path], None]) -> None:
    card, weights = untrained_segmenter(1, site="south")
    house.serve(card, weights)
    house.fetch()
    spoil(house.store.segmenter_folder(card.id))
    with pytest.raises(EchoFedError) as caught:
        load_trusted(house.store, card.id, site="north")
    assert caught.value.code is Code.SIGNATURE_INVALID
    assert states(house.store) == [("fault", Code.SIGNATURE_INVALID)]
    house.fetch()
    assert states(house.store) == [("ok", None)]


def test_what_a_site_trained_itself_needs_no_signature(tmp_path: Path) -> None:
    store = SiteStore(tmp_path)
    card, weights = untrained_segmenter(1)
    save_segmenter(store.segmenter_folder(card.id), card, weights)
    assert load_trusted(store, card.id, site="north") == (card, weights)
    with pytest.raises(EchoFedError) as caught:
        load_trusted(store, card.id, site="south")
    assert caught.value.code is Code.SIGNATURE_INVALID


def connection(store: SiteStore, settings: CentreSettings | None) -> AbstractContextManager[Any]:
    return open_services(store, settings, now=NOW)


def test_without_kit_address_or_certificate_the_way_out_is_told(tmp_path: Path) -> None:
    store = SiteStore(tmp_path)
    old_kit = CentreSettings(address="127.0.0.1:1", federation="test")
    known = old_kit.model_copy(update={"services": "127.0.0.1:2"})
    for settings, code, hint in (
        (None, Code.CONFIG_INVALID, "kit"),
        (old_kit, Code.CONFIG_MISSING, "centre.services"),
        (known, Code.CONFIG_MISSING, "init"),
    ):
        with pytest.raises(EchoFedError) as caught, connection(store, settings):
            pass
        assert (caught.value.code, hint in caught.value.hint) == (code, True)


def test_the_command_fetches_from_another_process(house: House, tmp_path: Path) -> None:
    card, weights = untrained_segmenter(1, site="south")
    house.serve(card, weights)
    config = tmp_path / "north" / "site.yaml"
    centre = house.settings.model_dump(include={"address", "federation", "services"})
    config.write_text(yaml.safe_dump({"site": "north", "centre": centre}))
    words = ["fetch-model", MASKS, "--json", "--config", str(config)]
    done = subprocess.run(
        [sys.executable, "-c", "from site_client.cli import main; main()", *words],
        capture_output=True,
        text=True,
        env=os.environ,
        timeout=60,
        check=True,
    )
    told = json.loads(done.stdout)
    assert (told["segmenter"], told["trained_at"], told["before"]) == (card.id, "south", None)
    assert load_segmenter_files(house.store.segmenter_folder(card.id)) == (card, weights)


@pytest.mark.parametrize("kind", ["segmenter", "synthesizer"])
def test_a_model_leaves_by_hand_and_the_centre_can_read_it(
    tmp_path: Path, manifest: DatasetManifest, kind: ModelKind
) -> None:
    store, out = SiteStore(tmp_path / "north"), tmp_path / "out"
    clips = tuple(replace(one, structures=("background", "lv")) for one in manifest.clips)
    store.save_manifest(replace(manifest, clips=clips))
    make: Any = untrained_segmenter if kind == "segmenter" else untrained_synthesizer
    card, weights = make(1, dataset=manifest.id)
    stranger, theirs = make(2, site="south")
    save_model(store.model_folder(kind, card.id), card, weights)
    save_model(store.model_folder(kind, stranger.id), stranger, theirs)
    consent = DatasetPolicy.model_validate(
        {
            "purposes": ["segmentation" if kind == "segmenter" else "synthesis"],
            "recipients": ["echofed"],
            "artefacts": [f"{kind}_weights"],
        }
    )
    (store.root / "site.yaml").write_text("site: north\n")
    words = ["--recipient", "echofed", "--config", str(store.root / "site.yaml")]
    for allowed, name, code in (
        (Policy(), card.id, Code.EGRESS_DENIED),
        (Policy(datasets={manifest.id: consent}), stranger.id, Code.EGRESS_DENIED),
        (Policy(datasets={manifest.id: consent}), "nobody", Code.MODEL_UNKNOWN),
        (Policy(datasets={manifest.id: consent}), card.id, 0),
    ):
        assert not out.exists()
        save_policy(allowed, store.root / "policy.yaml")
        result = CliRunner().invoke(build_app(), ["export", str(out), f"--{kind}", name, *words])
        assert result.exit_code == code, result.output
    assert load_model_files(out / f"{kind}s" / card.id) == (card, weights)
    kinds = [entry.kind for entry in Ledger(store.ledger_path).entries()]
    assert kinds == ["egress.refused", "egress.sent"]


def test_status_says_what_each_alias_stands_for(tmp_path: Path) -> None:
    store = SiteStore(tmp_path)
    card, weights = untrained_segmenter(1)
    save_segmenter(store.segmenter_folder(card.id), card, weights)
    store.set_alias(MASKS, card.id)
    drawing = untrained_synthesizer(1)
    save_model(store.synthesizer_folder(drawing[0].id), *drawing)
    (tmp_path / "site.yaml").write_text("site: north\n")
    words = ["status", "--json", "--config", str(tmp_path / "site.yaml")]
    told = json.loads(CliRunner().invoke(build_app(), words).stdout)
    assert [(one["synthesizer"], one["aliases"]) for one in told["synthesizers"]] == [
        (drawing[0].id, "")
    ]
    (line,) = told["segmenters"]
    assert (line["segmenter"], line["origin"], line["aliases"]) == (card.id, "phantom", MASKS)
