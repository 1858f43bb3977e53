"""Pixels leave for the centre's service only where the policy names it, and the ledger is first."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from aggregator.centre import open_centre
from aggregator.enrolment import approve, invite
from shared.echo.frame import Clip
from shared.errors import Code, EchoFedError
from shared.files import sha256_hex
from shared.ledger import Ledger
from shared.rpc.authority import create_authority, ensure_server_certificate
from shared.rpc.deadline import Call
from shared.rpc.gate import Limits
from shared.rpc.peer import Credentials, Peer
from shared.rpc.server import running_server
from shared.rpc.settings import WorkerSettings
from shared.segmentation.answer import Segmenters
from shared.services.host import Host
from shared.services.segmentation import build
from shared.testing.beating import beating_clip, reading_segmenters
from site_client.egress import Egress
from site_client.federate import free_port
from site_client.hosting import ensure_hospital, running_services
from site_client.identity import accept_certificate, join
from site_client.policy import Policy
from site_client.segment.away import (
    FULL_NAME,
    SERVICE,
    is_served_at_site,
    segment_at_centre,
    segment_at_site,
)
from site_client.segment.models import open_segmenters
from site_client.segment.run import examine, gather, question_for, segment_here
from site_client.segment.source import open_source
from site_client.settings import CentreSettings, ServicesSettings
from site_client.store import SiteStore

NOW = datetime.now(UTC)


@dataclass
class WatchfulStore:
    """Segmenters that note what the site's ledger said when they were asked."""

    ledger: Ledger
    seen: list[str] = field(default_factory=list)

    def find(self, alias: str, *, caller: Peer, call: Call) -> Segmenters:
        self.seen += [entry.kind for entry in self.ledger.entries()]
        return reading_segmenters()


@dataclass
class House:
    """A centre that segments, and the site north, which was enrolled there."""

    store: SiteStore
    centre: CentreSettings
    segmenters: WatchfulStore

    def ask(self, clip: Clip, *services: str) -> Iterator[object]:
        policy, ledger = Policy(services=services), self.segmenters.ledger
        egress = Egress(policy, ledger, site="north", recipient="test")
        question = question_for(clip, "A4C")
        return segment_at_centre(self.store, self.centre, egress, clip, question, now=NOW)


@contextmanager
def built_house(folder: Path) -> Iterator[House]:
    config = folder / "centre" / "aggregator.yaml"
    config.parent.mkdir(parents=True)
    config.write_text("{}")
    centre = open_centre(config)
    authority = centre.authority
    create_authority(authority.folder, "test", now=NOW)
    ensure_server_certificate(authority, [], now=NOW)
    store = SiteStore(folder / "north")
    kit = invite(authority, "north", address="127.0.0.1:1", federation="test", now=NOW)
    request = join(store.identity_folder, kit, now=NOW)
    _, document = approve(authority, request, federation="test", now=NOW)
    accept_certificate(store.identity_folder, document)
    segmenters = WatchfulStore(Ledger(store.ledger_path))
    service = build(Host(folder / "jobs", segmenters=segmenters))
    shown = Credentials(authority.ca_pem, authority.server_pem, authority.server_key)
    limits = Limits(num_calls=4, num_per_caller=4)
    with running_server(
        [service], shown, address="127.0.0.1:0", limits=limits, revoked_keys=frozenset
    ) as port:
        address = f"127.0.0.1:{port}"
        settings = CentreSettings(address="127.0.0.1:1", federation="test", services=address)
        yield House(store, settings, segmenters)
    centre.state.close()


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with built_house(tmp_path_factory.mktemp("house")) as built:
        yield built


def test_pixels_are_refused_by_default_and_the_refusal_is_recorded(house: House) -> None:
    clip = beating_clip()
    before = len(house.segmenters.seen)
    with pytest.raises(EchoFedError) as caught:
        list(house.ask(clip, "synthesis"))
    assert caught.value.code is Code.EGRESS_DENIED
    assert "policy.yaml" in caught.value.hint
    *_, entry = house.segmenters.ledger.entries()
    assert entry.kind == "egress.refused"
    assert (entry.body["artefact"], entry.body["subject"]) == ("pixels", clip.key)
    assert len(house.segmenters.seen) == before


def test_the_centre_answers_as_this_process_would_and_the_ledger_knew_before(house: House) -> None:
    clip = beating_clip()
    there = gather(clip, "A4C", house.ask(clip, SERVICE))  # type: ignore[arg-type]
    assert house.segmenters.seen[-1] == "egress.sent"
    *_, entry = house.segmenters.ledger.entries()
    assert entry.body["sha256"] == sha256_hex(clip.pixels_THW.tobytes())
    assert clip.patient not in str(entry.body)
    own = segment_here(reading_segmenters(), clip, question_for(clip, "A4C"))
    here = gather(clip, "A4C", own)
    assert there.models == here.models
    for mine, theirs in zip(here.frames, there.frames, strict=True):
        assert mine.mask is not None
        assert theirs.mask is not None
        np.testing.assert_array_equal(mine.mask.mask.labels_HW, theirs.mask.mask.labels_HW)
    assert examine([there]).measurements.keys() == examine([here]).measurements.keys()


@pytest.mark.slow
def test_the_hospitals_own_service_answers_and_nothing_is_recorded_as_leaving(
    trained_site: Path, two_views: tuple[Path, Path], tmp_path: Path
) -> None:
    store = SiteStore(trained_site.parent)
    settings = ServicesSettings(port=free_port(), worker=WorkerSettings(threads=1))
    ensure_hospital(store, settings, site="north", now=NOW)
    clip = open_source(two_views[0], store).clip
    question = question_for(clip, "A4C")
    with running_services(store, settings, ["segmentation"], site="north"):
        there = gather(clip, "A4C", segment_at_site(store, settings, clip, question))
    own = segment_here(open_segmenters(store, (), site="north"), clip, question)
    assert there.models == gather(clip, "A4C", own).models
    kinds = {entry.kind for entry in Ledger(store.ledger_path).entries()}
    assert not any(kind.startswith("egress") for kind in kinds)
    with pytest.raises(EchoFedError) as caught:
        list(segment_at_site(store, settings, clip, question))
    assert caught.value.code is Code.CENTRE_UNREACHABLE


def test_a_site_asks_its_own_service_only_where_that_runs(tmp_path: Path) -> None:
    store, settings = SiteStore(tmp_path), ServicesSettings(port=free_port())
    assert not is_served_at_site(store, settings, FULL_NAME)
    ensure_hospital(store, settings, site="north", now=NOW)
    assert not is_served_at_site(store, settings, FULL_NAME)
    with running_services(store, settings, ["segmentation"], site="north"):
        assert is_served_at_site(store, settings, FULL_NAME)
        elsewhere = SiteStore(tmp_path / "other")
        ensure_hospital(elsewhere, settings, site="south", now=NOW)
        assert not is_served_at_site(elsewhere, settings, FULL_NAME)  # another hospital's authority
    assert not is_served_at_site(store, settings, FULL_NAME)
