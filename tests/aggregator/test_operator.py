"""One registration at a time: a site registered meanwhile is not registered twice."""

from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYetError
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from aggregator.centre import Centre, open_centre
from aggregator.enrolment import Enrolment, approve, invite, note_node
from aggregator.operator import one_registration, register_site
from shared.rpc.authority import create_authority
from site_client.identity import join


@pytest.fixture
def centre(tmp_path: Path) -> Centre:
    config = tmp_path / "aggregator.yaml"
    config.write_text(
        yaml.safe_dump({"federation": {"superlink_port": 1}})
    )  # nothing listens there
    create_authority(tmp_path / "ca", "echofed", now=datetime.now(UTC))
    return open_centre(config)


@pytest.fixture
def approved(centre: Centre, tmp_path: Path) -> Enrolment:
    now = datetime.now(UTC)
    address = "127.0.0.1:1"
    kit = invite(centre.authority, "north", address=address, federation="echofed", now=now)
    request = join(tmp_path / "north", kit, now=now)
    return approve(centre.authority, request, federation="echofed", now=now)[0]


def test_a_site_registered_meanwhile_is_not_registered_twice(
    centre: Centre, approved: Enrolment
) -> None:
    with ThreadPoolExecutor(1) as pool:
        with one_registration(centre):
            waiting = pool.submit(register_site, centre, approved)
            with pytest.raises(NotYetError):
                waiting.result(timeout=0.3)
            note_node(centre.authority, "north", "17")
        assert waiting.result(timeout=30)  # no SuperLink runs: asking it would have given False
    centre.state.close()


def test_without_a_superlink_registration_waits_for_federate(
    centre: Centre, approved: Enrolment
) -> None:
    assert not register_site(centre, approved)
    centre.state.close()
