"""Maps of patients leave by the policy alone; drawn elsewhere, the dataset is as if drawn here."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aggregator.centre import open_centre
from aggregator.enrolment import approve, invite
from shared.errors import Code, EchoFedError
from shared.ledger import Ledger
from shared.rpc.authority import Authority, create_authority, ensure_server_certificate
from shared.rpc.deadline import Call
from shared.rpc.gate import Limits
from shared.rpc.peer import Credentials, Peer
from shared.rpc.server import running_server
from shared.services import SERVICES
from shared.services.host import Host
from shared.synthesis.answer import Drawer
from shared.testing.drawers import DRAWER_CARD, ShowingDrawer
from site_client.egress import Egress
from site_client.hosting import ensure_hospital, hospital_of
from site_client.identity import accept_certificate, join
from site_client.policy import DatasetPolicy, Policy
from site_client.segment.away import FULL_NAME as SEGMENTATION
from site_client.segment.away import is_served_at_site
from site_client.settings import CentreSettings, ServicesSettings
from site_client.synthesize.away import FULL_NAME, SERVICE, draw_at_centre, draw_at_site, release_of
from site_client.synthesize.maps import MapShape, MapSource, open_maps, open_maps_for_host
from site_client.synthesize.request import SynthesisReport, SynthesisRequest
from site_client.synthesize.run import synthesize

NOW = datetime.now(UTC)
CONSENT = DatasetPolicy(
    purposes=("synthesis",), recipients=("echofed",), artefacts=("masks",),
    minimum_patients_per_view=3,
)  # fmt: skip
MAPS = np.ones((2, 16, 16), np.uint8)


class OneAlias:
    """A drawer by its alias."""

    def find(self, alias: str, *, caller: Peer, call: Call) -> Drawer:
        if alias != "synthesis":
            raise EchoFedError(Code.MODEL_UNKNOWN, f"no model is called {alias!r}")
        return ShowingDrawer(replace(DRAWER_CARD, image_size=128))


@contextmanager
def hospital(store: Any, folder: Path) -> Iterator[ServicesSettings]:
    """The site's own service of synthesis, in this process."""
    settings = ServicesSettings()
    ensure_hospital(store, settings, site="north", now=NOW)
    with serving(hospital_of(store).authority, folder) as port:
        yield ServicesSettings(port=port)


@contextmanager
def centre(store: Any, folder: Path) -> Iterator[CentreSettings]:
    """A centre's service of synthesis, at which the site is enrolled."""
    config = folder / "centre" / "aggregator.yaml"
    config.parent.mkdir(parents=True)
    config.write_text("{}")
    opened = open_centre(config)
    authority = opened.authority
    create_authority(authority.folder, "echofed", now=NOW)
    ensure_server_certificate(authority, [], now=NOW)
    kit = invite(authority, "north", address="127.0.0.1:1", federation="echofed", now=NOW)
    request = join(store.identity_folder, kit, now=NOW)
    _, document = approve(authority, request, federation="echofed", now=NOW)
    accept_certificate(store.identity_folder, document)
    with serving(authority, folder) as port:
        yield CentreSettings(
            address="127.0.0.1:1", federation="echofed", services=f"127.0.0.1:{port}"
        )
    opened.state.close()


@contextmanager
def serving(authority: Authority, folder: Path) -> Iterator[int]:
    shown = Credentials(authority.ca_pem, authority.server_pem, authority.server_key)
    service = SERVICES["synthesis"](Host(folder / "jobs", synthesizers=OneAlias()))
    limits = Limits(num_calls=4, num_per_caller=4)
    with running_server(
        [service], shown, address="127.0.0.1:0", limits=limits, revoked_keys=frozenset
    ) as port:
        yield port


def asked(dataset: str, num: int = 12, at: str = "site") -> SynthesisRequest:
    return SynthesisRequest(dataset, "north", "synthesis", "A4C", num, 1, 0.25, at)


def maps_of(store: Any, name: str) -> MapSource:
    return open_maps(store, name, MapShape("A4C", 32, DRAWER_CARD.structures), seed=1)


def release(store: Any, maps: str, policy: Policy, num: int = 12) -> None:
    ledger = Ledger(store.ledger_path)
    egress = Egress(policy, ledger, site="north", recipient="echofed")
    release_of(egress, maps_of(store, maps), num=num)(MAPS)


def kinds(store: Any) -> list[str]:
    return [entry.kind for entry in Ledger(store.ledger_path).entries()]


@pytest.mark.parametrize("maps", ["phantom", "traced"])
def test_what_the_hospitals_service_draws_is_a_dataset_as_if_drawn_here(
    yard: Any, tmp_path: Path, maps: str
) -> None:
    with hospital(yard.store, tmp_path) as settings:
        ask = partial(draw_at_site, yard.store, settings)
        source = open_maps_for_host(yard.store, maps, asked("away"))
        report = synthesize(yard.store, asked("away"), source, ask, now=NOW)
    manifest = yard.store.manifest("away")
    assert (manifest.source, len(manifest.clips)) == (DRAWER_CARD.id, 12)
    assert report.document()["at"] == "site"
    for record in manifest.clips:
        clip = yard.store.clip("away", record)
        assert clip.pixels_THW.shape == (1, 128, 128)
        assert clip.annotation.structures == DRAWER_CARD.structures[1:]
        assert clip.synthesis.weights_sha256 == DRAWER_CARD.weights_sha256
    assert not [kind for kind in kinds(yard.store) if kind.startswith("egress")]


def test_a_site_knows_whether_it_hosts_synthesis(yard: Any, tmp_path: Path) -> None:
    with hospital(yard.store, tmp_path) as settings:
        assert is_served_at_site(yard.store, settings, FULL_NAME)
        assert not is_served_at_site(yard.store, settings, SEGMENTATION)
    assert not is_served_at_site(yard.store, settings, FULL_NAME)


def test_a_host_that_lacks_the_model_leaves_no_dataset(yard: Any, tmp_path: Path) -> None:
    request = SynthesisRequest("away", "north", "other", "A4C", 4, 1, 0.25, "site")
    with hospital(yard.store, tmp_path) as settings:
        ask = partial(draw_at_site, yard.store, settings)
        with pytest.raises(EchoFedError) as caught:
            synthesize(yard.store, request, maps_of(yard.store, "phantom"), ask, now=NOW)
    assert caught.value.code is Code.MODEL_UNKNOWN
    assert "away" not in yard.store.datasets()


def test_maps_of_the_phantom_need_no_consent(yard: Any) -> None:
    release(yard.store, "phantom", Policy())
    assert kinds(yard.store) == []


def test_maps_of_patients_go_only_by_the_policy_and_the_ledger_knows(yard: Any) -> None:
    release(yard.store, "traced", Policy(services=(SERVICE,), datasets={"traced": CONSENT}))
    (entry,) = Ledger(yard.store.ledger_path).entries()
    assert (entry.kind, entry.body["artefact"]) == ("egress.sent", "masks")


@pytest.mark.parametrize(
    ("policy", "num", "code"),
    [
        (Policy(), 12, Code.EGRESS_DENIED),
        (Policy(services=(SERVICE,)), 12, Code.EGRESS_DENIED),
        (Policy(datasets={"traced": CONSENT}), 12, Code.EGRESS_DENIED),
        (Policy(services=(SERVICE,), datasets={"traced": CONSENT}), 2, Code.TOO_FEW_PATIENTS),
    ],
)
def test_they_are_refused_otherwise(yard: Any, policy: Policy, num: int, code: Code) -> None:
    with pytest.raises(EchoFedError) as caught:
        release(yard.store, "traced", policy, num)
    assert caught.value.code is code
    assert kinds(yard.store) == ["egress.refused"]


def draw_there(store: Any, centre: CentreSettings, maps: str, policy: Policy) -> SynthesisReport:
    request = asked("away", at="centre")
    source = open_maps_for_host(store, maps, request)
    egress = Egress(policy, Ledger(store.ledger_path), site="north", recipient="echofed")
    release = release_of(egress, source, num=request.num)
    ask = partial(draw_at_centre, store, centre, release, now=NOW)
    return synthesize(store, request, source, ask, now=NOW)


@pytest.mark.parametrize(
    ("maps", "policy", "sent"),
    [
        ("phantom", Policy(), []),
        ("traced", Policy(services=(SERVICE,), datasets={"traced": CONSENT}), ["masks"] * 2),
    ],
)
def test_what_the_centre_draws_is_a_dataset_as_well(
    yard: Any, tmp_path: Path, maps: str, policy: Policy, sent: list[str]
) -> None:
    with centre(yard.store, tmp_path) as settings:
        report = draw_there(yard.store, settings, maps, policy)
    assert len(report.manifest.clips) == report.document()["drawn"] == 12
    entries = list(Ledger(yard.store.ledger_path).entries())
    left = [entry.body["artefact"] for entry in entries if entry.kind == "egress.sent"]
    assert left == sent
    assert entries[-1].kind == "synthesized"


def test_without_consent_no_map_reaches_the_centre(yard: Any, tmp_path: Path) -> None:
    with centre(yard.store, tmp_path) as settings:
        with pytest.raises(EchoFedError) as caught:
            draw_there(yard.store, settings, "traced", Policy(services=(SERVICE,)))
        assert not list((tmp_path / "jobs").rglob("*.safetensors"))
    assert caught.value.code is Code.EGRESS_DENIED
    assert kinds(yard.store) == ["egress.refused"]
    assert "away" not in yard.store.datasets()
